//! Values over time: lines, stacked areas, bars.

use std::fmt::Write as _;

use kernel::Timestamp;
use maud::{Markup, PreEscaped, Render, html};

use super::{
    frame::{Frame, Key, Mark, NumberRow, Numbers},
    scale::{HEIGHT, Scale, WIDTH, clean, coordinate, fraction, number, time_ticks},
};
use crate::{Unit, format};

/// The most points of a series that are drawn; of more, the newest.
pub const MAX_POINTS: usize = 360;
/// The most series that are drawn; a chart with more is not read by anybody.
pub const MAX_SERIES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Line,
    Area,
    Bars,
}

/// One or more series over time.
///
/// A point is an `Option`: `None` is "no data" and drawn as a gap, which is not the same as zero. Values that are not finite
/// count as no data.
#[derive(Debug, Clone)]
pub struct Chart {
    title: String,
    shape: Shape,
    unit: Unit,
    from_zero: bool,
    times: Vec<Timestamp>,
    series: Vec<(String, Vec<Option<f64>>)>,
}

impl Chart {
    fn new(title: impl Into<String>, shape: Shape) -> Self {
        Self { title: title.into(), shape, unit: Unit::Count, from_zero: true, times: Vec::new(), series: Vec::new() }
    }

    /// Lines: latency (p50 and p99 together), gauges.
    pub fn line(title: impl Into<String>) -> Self {
        Self::new(title, Shape::Line)
    }

    /// Areas stacked on one another: parts of a whole, such as requests by status. Values below zero count as zero.
    pub fn area(title: impl Into<String>) -> Self {
        Self::new(title, Shape::Area)
    }

    /// A bar for each time bucket, series stacked: counts, such as clicks an hour. Values below zero count as zero.
    pub fn bars(title: impl Into<String>) -> Self {
        Self::new(title, Shape::Bars)
    }

    /// What its values are.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// Lets the axis of a line start above zero (a percentage near 100); areas and bars always start at zero.
    #[must_use]
    pub fn zoomed(mut self) -> Self {
        self.from_zero = false;
        self
    }

    /// The start of each bucket, ascending; as many as each series has values.
    #[must_use]
    pub fn times(mut self, times: impl Into<Vec<Timestamp>>) -> Self {
        self.times = times.into();
        self
    }

    /// Adds a series.
    #[must_use]
    pub fn series(mut self, name: impl Into<String>, values: impl Into<Vec<Option<f64>>>) -> Self {
        if self.series.len() < MAX_SERIES {
            self.series.push((name.into(), values.into()));
        }
        self
    }

    /// The times and, for each series, as many clean values: the newest [`MAX_POINTS`], missing ones as no data.
    fn points(&self) -> (Vec<Timestamp>, Vec<Vec<Option<f64>>>) {
        let skip = self.times.len().saturating_sub(MAX_POINTS);
        let floor = if self.shape == Shape::Line { f64::NEG_INFINITY } else { 0.0 };
        let clean_at = |values: &[Option<f64>], i: usize| clean(values.get(i).copied().flatten()).map(|v| v.max(floor));
        let series = self
            .series
            .iter()
            .map(|(_, values)| (skip..self.times.len()).map(|i| clean_at(values, i)).collect())
            .collect();
        (self.times[skip..].to_vec(), series)
    }

    fn positions(&self, times: &[Timestamp]) -> Vec<f64> {
        if self.shape == Shape::Bars {
            let width = WIDTH / number(times.len().max(1));
            return (0..times.len()).map(|i| (number(i) + 0.5) * width).collect();
        }
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Vec::new() };
        let span = last.as_millis().saturating_sub(first.as_millis());
        times
            .iter()
            .map(|t| {
                if span <= 0 {
                    WIDTH / 2.0
                } else {
                    fraction(t.as_millis().saturating_sub(first.as_millis()), span) * WIDTH
                }
            })
            .collect()
    }

    fn describe(&self, times: &[Timestamp], series: &[Vec<Option<f64>>]) -> String {
        let mut text = match self.shape {
            Shape::Line => "Lines",
            Shape::Area => "Stacked areas",
            Shape::Bars => "Bars",
        }
        .to_owned();
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            _ = write!(text, " from {} to {} UTC", format::date_time(*first), format::date_time(*last));
        }
        for ((name, _), values) in self.series.iter().zip(series) {
            let known = || values.iter().flatten().copied();
            match (known().reduce(f64::min), known().reduce(f64::max), known().next_back()) {
                (Some(low), Some(high), Some(last)) => {
                    let [low, high, last] = [low, high, last].map(|v| self.unit.format(v));
                    _ = write!(text, "; {name}: {low} to {high}, last {last}");
                }
                _ => _ = write!(text, "; {name}: no data"),
            }
        }
        text
    }
}

impl Render for Chart {
    fn render(&self) -> Markup {
        let (times, series) = self.points();
        let xs = self.positions(&times);
        let stacked = self.shape != Shape::Line;
        // What stands below each point; zero for lines.
        let mut sums = vec![0.0; times.len()];
        let mut bases = Vec::with_capacity(series.len());
        if stacked {
            for values in &series {
                bases.push(sums.clone());
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += value.unwrap_or(0.0);
                }
            }
        }
        let scale = if stacked {
            Scale::of(sums.iter().copied(), self.unit, true)
        } else {
            Scale::of(series.iter().flatten().flatten().copied(), self.unit, self.from_zero)
        };
        let nothing = series.iter().flatten().all(Option::is_none);
        let keys = self
            .series
            .iter()
            .zip(&series)
            .enumerate()
            .map(|(i, ((name, _), values))| Key {
                class: format!("s{i}"),
                opacity: "1",
                name: name.clone(),
                value: values.last().copied().flatten().map_or_else(String::new, |v| self.unit.format(v)),
            })
            .collect();
        let rows = (0..times.len())
            .map(|i| NumberRow {
                x: xs[i],
                head: if times.len() > 1 && times[1].since(times[0]).as_secs() < 60 {
                    format::clock_seconds(times[i])
                } else {
                    format::date_time(times[i])[..].get(5..16).unwrap_or_default().to_owned()
                },
                cells: series
                    .iter()
                    .enumerate()
                    .map(|(s, values)| match values[i] {
                        Some(v) => (self.unit.format(v), Some(scale.y(v + bases.get(s).map_or(0.0, |b| b[i])))),
                        None => ("no data".to_owned(), None),
                    })
                    .collect(),
            })
            .collect();
        let mut heads = vec!["Time (UTC)".to_owned()];
        heads.extend(self.series.iter().map(|(name, _)| name.clone()));
        let shapes = html! {
            @if !nothing { (gaps(&xs, &series)) }
            @for (s, values) in series.iter().enumerate() {
                @match self.shape {
                    Shape::Line => { path.line.{ "s" (s) } d=(line(&xs, values, &scale)) vector-effect="non-scaling-stroke" {} }
                    Shape::Area => { path.fill.{ "s" (s) } d=(area(&xs, values, &bases[s], &scale)) vector-effect="non-scaling-stroke" {} }
                    Shape::Bars => { path.bar.{ "s" (s) } d=(bars(values, &bases[s], &scale)) {} }
                }
            }
        };
        let ticks = match (times.first(), times.last()) {
            (Some(first), Some(last)) if self.shape == Shape::Bars => bucket_ticks(*first, *last, times.len()),
            (Some(first), Some(last)) => time_ticks(*first, *last),
            _ => Vec::new(),
        };
        Frame {
            title: &self.title,
            description: self.describe(&times, &series),
            keys,
            marks: scale.ticks.iter().map(|t| Mark { y: scale.y(*t), text: self.unit.format(*t) }).collect(),
            ticks,
            shapes,
            numbers: Numbers { heads, rows },
            nothing,
        }
        .draw()
    }
}

/// Ticks stand at the start of their bucket, whose bar is as wide as its bucket.
fn bucket_ticks(first: Timestamp, last: Timestamp, count: usize) -> Vec<super::scale::TimeTick> {
    let part = number(count.saturating_sub(1)) / number(count.max(1));
    let mut ticks = time_ticks(first, last);
    for tick in &mut ticks {
        tick.at *= part;
    }
    ticks
}

/// Stretches where no series has data, as pale columns from the last known point to the next.
fn gaps(xs: &[f64], series: &[Vec<Option<f64>>]) -> Markup {
    let missing = |i: usize| series.iter().all(|values| values[i].is_none());
    let mut path = String::new();
    let mut i = 0;
    while i < xs.len() {
        if !missing(i) {
            i += 1;
            continue;
        }
        let from = if i == 0 { 0.0 } else { f64::midpoint(xs[i - 1], xs[i]) };
        while i < xs.len() && missing(i) {
            i += 1;
        }
        let to = if i == xs.len() { WIDTH } else { f64::midpoint(xs[i - 1], xs[i]) };
        _ = write!(path, "M{} 0H{}V{}H{}z", coordinate(from), coordinate(to), coordinate(HEIGHT), coordinate(from));
    }
    if path.is_empty() {
        PreEscaped(String::new())
    } else {
        html! { path.gap d=(path) {} }
    }
}

/// A move and lines for each unbroken run; a point alone is a line of no length, which the round cap makes a dot.
fn line(xs: &[f64], values: &[Option<f64>], scale: &Scale) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for (i, (x, value)) in xs.iter().zip(values).enumerate() {
        if let Some(v) = value {
            let (x, y) = (coordinate(*x), coordinate(scale.y(*v)));
            if !drawing {
                _ = write!(path, "M{x} {y}");
            }
            if drawing || values.get(i + 1).copied().flatten().is_none() {
                _ = write!(path, "L{x} {y}");
            }
        }
        drawing = value.is_some();
    }
    path
}

/// A closed shape for each unbroken run: its top forwards, its base backwards.
fn area(xs: &[f64], values: &[Option<f64>], base: &[f64], scale: &Scale) -> String {
    let mut path = String::new();
    let mut i = 0;
    while i < values.len() {
        let start = i;
        while i < values.len() && values[i].is_some() {
            i += 1;
        }
        for j in start..i {
            let top = base[j] + values[j].unwrap_or(0.0);
            _ = write!(
                path,
                "{}{} {}",
                if j == start { 'M' } else { 'L' },
                coordinate(xs[j]),
                coordinate(scale.y(top))
            );
        }
        for j in (start..i).rev() {
            _ = write!(path, "L{} {}", coordinate(xs[j]), coordinate(scale.y(base[j])));
        }
        if i > start {
            path.push('z');
        }
        i += 1;
    }
    path
}

/// A rectangle for each value above zero; a fifth of each bucket stays free on its right while there is room for it.
fn bars(values: &[Option<f64>], base: &[f64], scale: &Scale) -> String {
    let bucket = WIDTH / number(values.len().max(1));
    let width = if bucket > 4.0 { bucket * 0.8 } else { bucket };
    let left = (bucket - width) / 2.0;
    let mut path = String::new();
    for (i, (value, below)) in values.iter().zip(base).enumerate() {
        let Some(v) = value.filter(|v| *v > 0.0) else { continue };
        let x = number(i) * bucket + left;
        let (from, to) = (scale.y(*below), scale.y(below + v));
        let [x0, x1, from, to] = [x, x + width, from, to].map(coordinate);
        _ = write!(path, "M{x0} {from}V{to}H{x1}V{from}z");
    }
    path
}
