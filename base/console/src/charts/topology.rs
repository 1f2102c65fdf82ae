//! What talks to what.

use std::collections::BTreeMap;

use maud::{Markup, Render, html};

use super::scale::{coordinate, number};
use crate::{Status, safe_href};

/// The most nodes that are drawn.
pub const MAX_NODES: usize = 40;

const NODE_WIDTH: f64 = 152.0;
const NODE_HEIGHT: f64 = 44.0;
const GAP_X: f64 = 128.0;
const GAP_Y: f64 = 20.0;
const EDGE: f64 = 4.0;

#[derive(Debug, Clone)]
struct Node {
    id: String,
    name: String,
    note: String,
    status: Status,
    href: Option<String>,
}

/// A graph from left to right: callers before what they call. An edge back (a cycle) is drawn and does not move its nodes.
#[derive(Debug, Clone)]
pub struct Topology {
    title: String,
    nodes: Vec<Node>,
    edges: Vec<(String, String, String, Status)>,
}

impl Topology {
    /// An empty graph.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), nodes: Vec::new(), edges: Vec::new() }
    }

    /// A node: its id, its name, a note below it (`340/s`), its status. An id that is there already is ignored.
    #[must_use]
    pub fn node(
        mut self,
        id: impl Into<String>,
        name: impl Into<String>,
        note: impl Into<String>,
        status: Status,
    ) -> Self {
        let id = id.into();
        if self.nodes.len() < MAX_NODES && self.nodes.iter().all(|n| n.id != id) {
            self.nodes.push(Node { id, name: name.into(), note: note.into(), status, href: None });
        }
        self
    }

    /// Where a click on the newest node leads.
    #[must_use]
    pub fn href(mut self, to: impl Into<String>) -> Self {
        if let Some(node) = self.nodes.last_mut() {
            node.href = Some(to.into());
        }
        self
    }

    /// An edge between two ids, with a label (`1.2k/s`) and how it is. Edges to unknown nodes are left out.
    #[must_use]
    pub fn edge(
        mut self,
        from: impl Into<String>,
        to: impl Into<String>,
        label: impl Into<String>,
        status: Status,
    ) -> Self {
        self.edges.push((from.into(), to.into(), label.into(), status));
        self
    }

    /// The edges by index of their nodes.
    fn links(&self) -> Vec<(usize, usize, &str, Status)> {
        let index: BTreeMap<_, _> = self.nodes.iter().enumerate().map(|(i, n)| (n.id.as_str(), i)).collect();
        self.edges
            .iter()
            .filter_map(|(from, to, label, status)| {
                let (from, to) = (*index.get(from.as_str())?, *index.get(to.as_str())?);
                (from != to).then_some((from, to, label.as_str(), *status))
            })
            .collect()
    }

    /// The column of each node: one after the furthest of its callers. Edges that close a cycle do not count.
    fn layers(count: usize, links: &[(usize, usize, &str, Status)]) -> Vec<usize> {
        // Depth first with an explicit stack; an edge to a node that is still open closes a cycle.
        let mut state = vec![0_u8; count];
        let mut order = Vec::with_capacity(count);
        let mut back = vec![false; links.len()];
        for start in 0..count {
            let mut stack = vec![(start, 0_usize)];
            if state[start] != 0 {
                continue;
            }
            state[start] = 1;
            while let Some((node, next)) = stack.pop() {
                let Some((at, link)) = links.iter().enumerate().skip(next).find(|(_, l)| l.0 == node) else {
                    state[node] = 2;
                    order.push(node);
                    continue;
                };
                stack.push((node, at + 1));
                match state[link.1] {
                    0 => {
                        state[link.1] = 1;
                        stack.push((link.1, 0));
                    }
                    1 => back[at] = true,
                    _ => {}
                }
            }
        }
        let mut layer = vec![0; count];
        for node in order.into_iter().rev() {
            for (_, link) in links.iter().enumerate().filter(|(at, l)| l.0 == node && !back[*at]) {
                layer[link.1] = layer[link.1].max(layer[node] + 1);
            }
        }
        layer
    }
}

impl Render for Topology {
    fn render(&self) -> Markup {
        let links = self.links();
        let layers = Self::layers(self.nodes.len(), &links);
        let columns = layers.iter().max().map_or(1, |m| m + 1);
        let mut filled = vec![0_usize; columns];
        let slots: Vec<usize> = layers
            .iter()
            .map(|layer| {
                filled[*layer] += 1;
                filled[*layer] - 1
            })
            .collect();
        let tallest = filled.iter().copied().max().unwrap_or(1).max(1);
        let width = number(columns) * (NODE_WIDTH + GAP_X) - GAP_X + 2.0 * EDGE;
        let height = number(tallest) * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2.0 * EDGE;
        let place = |i: usize| {
            // Each column stands in the middle of the height.
            let free = number(tallest - filled[layers[i]]) * (NODE_HEIGHT + GAP_Y) / 2.0;
            (EDGE + number(layers[i]) * (NODE_WIDTH + GAP_X), EDGE + free + number(slots[i]) * (NODE_HEIGHT + GAP_Y))
        };
        let curves: Vec<_> = links.iter().map(|(from, to, _, _)| Curve::between(place(*from), place(*to))).collect();
        html! {
            figure.chart.topology {
                figcaption { span.chart-title { (self.title) } }
                div.scroll tabindex="0" {
                    svg role="group" aria-label=(self.title) width=(coordinate(width)) height=(coordinate(height))
                        viewBox={ "0 0 " (coordinate(width)) " " (coordinate(height)) } {
                        @for ((from, to, _, status), curve) in links.iter().zip(&curves) {
                            path.edge.(status.class()) d=(curve.path()) { title { (self.nodes[*from].name) " to " (self.nodes[*to].name) ": " (status.word()) } }
                        }
                        @for (text, x, y) in labels(&links, &curves) {
                            text.edge-label x=(coordinate(x)) y=(coordinate(y)) text-anchor="middle" { (text) }
                        }
                        @for (i, node) in self.nodes.iter().enumerate() {
                            @let (x, y) = place(i);
                            g.node.(node.status.class()) {
                                title { (node.name) ": " (node.status.word()) }
                                @if let Some(href) = &node.href {
                                    a href=(safe_href(href)) { (face(node, x, y)) }
                                } @else { (face(node, x, y)) }
                            }
                        }
                    }
                }
                details.numbers {
                    summary { "Show the numbers" }
                    div.scroll tabindex="0" {
                        table {
                            thead { tr { th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "Rate" } th scope="col" { "State" } } }
                            tbody {
                                @for (from, to, label, status) in &links {
                                    tr { th scope="row" { (self.nodes[*from].name) } td { (self.nodes[*to].name) } td { (label) } td { (status.word()) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn face(node: &Node, x: f64, y: f64) -> Markup {
    let shape_at = format!("translate({} {})", coordinate(x + 12.0), coordinate(y + NODE_HEIGHT / 2.0 - 5.0));
    let name_y = if node.note.is_empty() { 26.0 } else { 19.0 };
    html! {
        rect x=(coordinate(x)) y=(coordinate(y)) width=(coordinate(NODE_WIDTH)) height=(coordinate(NODE_HEIGHT)) rx="6" {}
        g transform=(shape_at) { (node.status.shape()) }
        text.name x=(coordinate(x + 30.0)) y=(coordinate(y + name_y)) { (shortened(&node.name, 16)) }
        @if !node.note.is_empty() { text.note x=(coordinate(x + 30.0)) y=(coordinate(y + 34.0)) { (shortened(&node.note, 18)) } }
    }
}

/// An edge: from one side of a node to the side of another, level at both ends.
struct Curve {
    from: (f64, f64),
    to: (f64, f64),
}

impl Curve {
    /// From the right side to the left side; an edge back goes from the left side to the right.
    fn between((x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> Self {
        let (x0, x1) = if x1 > x0 { (x0 + NODE_WIDTH, x1) } else { (x0, x1 + NODE_WIDTH) };
        Self { from: (x0, y0 + NODE_HEIGHT / 2.0), to: (x1, y1 + NODE_HEIGHT / 2.0) }
    }

    fn path(&self) -> String {
        let middle = f64::midpoint(self.from.0, self.to.0);
        let [ax, ay, bx, by, mx] = [self.from.0, self.from.1, self.to.0, self.to.1, middle].map(coordinate);
        format!("M{ax} {ay}C{mx} {ay} {mx} {by} {bx} {by}")
    }

    /// The point at `t` from 0 to 1 (a cubic Bézier curve whose inner points stand in the middle).
    fn at(&self, t: f64) -> (f64, f64) {
        let u = 1.0 - t;
        let middle = f64::midpoint(self.from.0, self.to.0);
        let inner = 3.0 * u * u * t + 3.0 * u * t * t;
        let start = u * u * u + 3.0 * u * u * t;
        (
            u * u * u * self.from.0 + inner * middle + t * t * t * self.to.0,
            start * self.from.1 + (1.0 - start) * self.to.1,
        )
    }
}

/// The text and place of each label: at the middle of its edge, or moved along it until it covers no earlier one.
fn labels(links: &[(usize, usize, &str, Status)], curves: &[Curve]) -> Vec<(String, f64, f64)> {
    let mut placed: Vec<(String, f64, f64)> = Vec::new();
    for ((_, _, label, _), curve) in links.iter().zip(curves).filter(|(link, _)| !link.2.is_empty()) {
        let text = shortened(label, 10);
        let free = |(x, y): (f64, f64)| {
            placed.iter().all(|(other, ox, oy)| {
                let reach = number(text.chars().count() + other.chars().count()) * 3.3 + 4.0;
                (x - ox).abs() > reach || (y - oy).abs() > 13.0
            })
        };
        let (x, y) = [0.5, 0.35, 0.65, 0.25, 0.75, 0.15, 0.85]
            .map(|t| curve.at(t))
            .into_iter()
            .find(|at| free((at.0, at.1 + 4.0)))
            .unwrap_or(curve.at(0.5));
        placed.push((text, x, y + 4.0));
    }
    placed
}

/// The text, or as many characters of it as fit with an ellipsis.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_stand_before_what_they_call_even_in_a_cycle() {
        let ok = Status::Ok;
        let chain = [(0, 1, "", ok), (1, 2, "", ok), (0, 2, "", ok)];
        assert_eq!(Topology::layers(3, &chain), [0, 1, 2]);
        let cycle = [(0, 1, "", ok), (1, 2, "", ok), (2, 0, "", ok)];
        assert_eq!(Topology::layers(3, &cycle), [0, 1, 2]);
    }
}
