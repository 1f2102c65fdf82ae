//! How values are spread.

use std::fmt::Write as _;

use maud::{Markup, Render, html};

use super::{
    frame::{Frame, Mark, NumberRow, Numbers},
    scale::{HEIGHT, Scale, TimeTick, WIDTH, clean, coordinate, number},
};
use crate::{Unit, format};

/// The most buckets that are drawn.
pub const MAX_BUCKETS: usize = 64;

/// A histogram: a bar for each bucket of value, all of the same width whatever the bucket's (latency buckets grow
/// geometrically), with marks such as p50 and p99.
#[derive(Debug, Clone)]
pub struct Histogram {
    title: String,
    unit: Unit,
    low: f64,
    buckets: Vec<(f64, u64)>,
    marks: Vec<(String, f64)>,
}

impl Histogram {
    /// A histogram of values of this unit from `low` upwards.
    pub fn new(title: impl Into<String>, unit: Unit, low: f64) -> Self {
        Self { title: title.into(), unit, low: clean(Some(low)).unwrap_or(0.0), buckets: Vec::new(), marks: Vec::new() }
    }

    /// The next bucket: its upper bound (above the one before) and its count. Bounds that do not ascend are left out.
    #[must_use]
    pub fn bucket(mut self, up_to: f64, count: u64) -> Self {
        let before = self.buckets.last().map_or(self.low, |b| b.0);
        if let Some(bound) = clean(Some(up_to)).filter(|b| *b > before)
            && self.buckets.len() < MAX_BUCKETS
        {
            self.buckets.push((bound, count));
        }
        self
    }

    /// A line at a value, with its name: `("p99", 140.0)`.
    #[must_use]
    pub fn mark(mut self, name: impl Into<String>, value: f64) -> Self {
        if let Some(value) = clean(Some(value)) {
            self.marks.push((name.into(), value));
        }
        self
    }

    /// Where a value stands: by its bucket, and in proportion inside it.
    fn x(&self, value: f64) -> f64 {
        let width = WIDTH / number(self.buckets.len().max(1));
        let mut low = self.low;
        for (i, (high, _)) in self.buckets.iter().enumerate() {
            if value <= *high {
                return (number(i) + ((value - low) / (high - low)).clamp(0.0, 1.0)) * width;
            }
            low = *high;
        }
        WIDTH
    }
}

impl Render for Histogram {
    fn render(&self) -> Markup {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        #[expect(clippy::cast_precision_loss, reason = "the height of a bar on a screen")]
        let heights: Vec<f64> = self.buckets.iter().map(|b| b.1 as f64).collect();
        let scale = Scale::of(heights.iter().copied(), Unit::Count, true);
        let width = WIDTH / number(self.buckets.len().max(1));
        let mut path = String::new();
        for (i, height) in heights.iter().enumerate().filter(|(_, h)| **h > 0.0) {
            let [x0, x1, y] =
                [number(i) * width + width * 0.06, number(i + 1) * width - width * 0.06, scale.y(*height)]
                    .map(coordinate);
            _ = write!(path, "M{x0} {0}V{y}H{x1}V{0}z", coordinate(HEIGHT));
        }
        let every = self.buckets.len().div_ceil(6).max(1);
        let mut ticks = vec![TimeTick { at: 0.0, text: self.unit.format(self.low) }];
        ticks.extend(
            (1..=self.buckets.len())
                .filter(|i| i.is_multiple_of(every))
                .map(|i| TimeTick { at: number(i) * width, text: self.unit.format(self.buckets[i - 1].0) }),
        );
        let mut low = self.low;
        let rows = self
            .buckets
            .iter()
            .enumerate()
            .map(|(i, (high, n))| {
                let head = format!("{} to {}", self.unit.format(low), self.unit.format(*high));
                low = *high;
                NumberRow { x: (number(i) + 0.5) * width, head, cells: vec![(format::full(count(*n)), None)] }
            })
            .collect();
        let total = self.buckets.iter().fold(0_u64, |a, b| a.saturating_add(b.1));
        let mut description =
            format!("Histogram of {} values in {} buckets", format::full(count(total)), self.buckets.len());
        for (name, value) in &self.marks {
            _ = write!(description, "; {name} at {}", self.unit.format(*value));
        }
        Frame {
            title: &self.title,
            description,
            keys: self
                .marks
                .iter()
                .enumerate()
                .map(|(i, (name, value))| super::frame::Key {
                    class: format!("s{}", i + 1), opacity: "1",
                    name: name.clone(),
                    value: self.unit.format(*value),
                })
                .collect(),
            marks: scale.ticks.iter().map(|t| Mark { y: scale.y(*t), text: Unit::Count.format(*t) }).collect(),
            ticks,
            shapes: html! {
                path.bar.s0 d=(path) {}
                @for (i, (_, value)) in self.marks.iter().enumerate() {
                    path.mark.{ "s" (i + 1) } d={ "M" (coordinate(self.x(*value))) " 0V" (coordinate(HEIGHT)) } vector-effect="non-scaling-stroke" {}
                }
            },
            numbers: Numbers { heads: vec![self.unit.word().to_owned(), "Count".to_owned()], rows },
            nothing: total == 0,
        }
        .draw()
    }
}
