//! A line as small as a word.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::scale::{clean, coordinate, number};

/// How a number went, oldest first, `None` as a gap. A flat line stands in the middle; there is no axis, so it shows shape,
/// not size.
pub fn sparkline(label: &str, values: &[Option<f64>]) -> Markup {
    let values: Vec<_> = values.iter().map(|v| clean(*v)).collect();
    let known = || values.iter().flatten();
    let (low, high) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let step = 100.0 / number(values.len().saturating_sub(1).max(1));
    let y = |v: f64| if high > low { 22.0 - (v - low) / (high - low) * 20.0 } else { 12.0 };
    let mut path = String::new();
    let mut drawing = false;
    for (i, value) in values.iter().enumerate() {
        if let Some(v) = value {
            let at = format!("{} {}", coordinate(number(i) * step), coordinate(y(*v)));
            // A point alone between gaps is a line of no length, which the round cap makes a dot.
            _ = if drawing { write!(path, "L{at}") } else { write!(path, "M{at}L{at}") };
        }
        drawing = value.is_some();
    }
    html! {
        svg.sparkline viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={ (label) ", recent course" } {
            path d=(path) vector-effect="non-scaling-stroke" {}
        }
    }
}
