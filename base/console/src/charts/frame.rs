//! What all plots share: the figure, the axes as text beside the stretched plot, the table behind it.
//!
//! The plot's SVG is stretched to the width there is, its strokes are not; the labels stand in SVGs of their own that are not
//! stretched, therefore text is 12 px at any width.

use maud::{Markup, html};

use super::scale::{HEIGHT, TimeTick, WIDTH, coordinate};

/// A name in the legend: the class of its colour, its words, its newest value.
pub(crate) struct Key {
    pub(crate) class: String,
    pub(crate) opacity: &'static str,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A label of the y axis: from the top of the plot in pixels, and its text.
pub(crate) struct Mark {
    pub(crate) y: f64,
    pub(crate) text: String,
}

/// The numbers behind a chart.
pub(crate) struct Numbers {
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<NumberRow>,
}

/// A row of them; `x` is where the row stands in the plot, each cell has its text and, for lines, where its point stands.
pub(crate) struct NumberRow {
    pub(crate) x: f64,
    pub(crate) head: String,
    pub(crate) cells: Vec<(String, Option<f64>)>,
}

pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    /// The kind of chart and what it says in words, for screen readers.
    pub(crate) description: String,
    pub(crate) keys: Vec<Key>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) ticks: Vec<TimeTick>,
    /// The shapes inside the plot.
    pub(crate) shapes: Markup,
    pub(crate) numbers: Numbers,
    /// Said over the plot when there is nothing to draw.
    pub(crate) nothing: bool,
}

impl Frame<'_> {
    pub(crate) fn draw(self) -> Markup {
        let plot_box = format!("0 0 {} {}", coordinate(WIDTH), coordinate(HEIGHT));
        html! {
            figure.chart data-chart="" {
                figcaption {
                    span.chart-title { (self.title) }
                    span.legend {
                        @for key in &self.keys {
                            span { svg.key.(key.class) viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" { rect width="10" height="10" rx="2" fill-opacity=(key.opacity) {} }
                                (key.name) @if !key.value.is_empty() { b { (key.value) } } }
                        }
                    }
                }
                div.plot {
                    svg.y width="56" height=(HEIGHT + 16.0) aria-hidden="true" {
                        @for mark in &self.marks {
                            text x="48" y=(coordinate(mark.y + 12.0)) text-anchor="end" { (mark.text) }
                        }
                    }
                    div.area {
                        svg.shapes role="img" viewBox=(plot_box) preserveAspectRatio="none" {
                            title { (self.title) }
                            desc { (self.description) }
                            g.grid {
                                @for mark in &self.marks {
                                    path d={ "M0 " (coordinate(mark.y)) "H1000" } vector-effect="non-scaling-stroke" {}
                                }
                            }
                            (self.shapes)
                        }
                        @if self.nothing { p.no-data { "No data in this time range" } }
                        div.hit data-hit="" {}
                    }
                    svg.x height="20" width="100%" aria-hidden="true" {
                        @for tick in &self.ticks {
                            @let anchor = if tick.at < 30.0 { "start" } else if tick.at > 970.0 { "end" } else { "middle" };
                            text x={ (coordinate(tick.at / 10.0)) "%" } y="15" text-anchor=(anchor) { (tick.text) }
                        }
                    }
                }
                details.numbers {
                    summary { "Show the numbers" }
                    div.scroll tabindex="0" {
                        table {
                            thead { tr { @for head in &self.numbers.heads { th scope="col" { (head) } } } }
                            tbody {
                                @for row in &self.numbers.rows {
                                    tr data-x=(coordinate(row.x)) {
                                        th scope="row" { (row.head) }
                                        @for (text, y) in &row.cells { td data-y=[y.map(coordinate)] { (text) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
