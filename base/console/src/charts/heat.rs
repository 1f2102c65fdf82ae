//! Where latencies fall, over time: the darker, the more.

use std::fmt::Write as _;

use kernel::Timestamp;
use maud::{Markup, Render, html};

use super::{
    frame::{Frame, Key, Mark, NumberRow, Numbers},
    scale::{HEIGHT, WIDTH, coordinate, number, time_ticks},
    series::MAX_POINTS,
};
use crate::{Unit, format};

/// The most rows (buckets of value) that are drawn.
pub const MAX_ROWS: usize = 24;

/// A heat map: time to the right, value upwards, count as darkness.
#[derive(Debug, Clone)]
pub struct HeatMap {
    title: String,
    unit: Unit,
    bounds: Vec<f64>,
    columns: Vec<(Timestamp, Option<Vec<u64>>)>,
}

impl HeatMap {
    /// A heat map whose rows end at these upper bounds (ascending; at most [`MAX_ROWS`]); counts beyond the last bound belong
    /// to the last row.
    pub fn new(title: impl Into<String>, unit: Unit, bounds: impl Into<Vec<f64>>) -> Self {
        let mut bounds = bounds.into();
        bounds.truncate(MAX_ROWS);
        Self { title: title.into(), unit, bounds, columns: Vec::new() }
    }

    /// The counts of one time bucket, a count for each bound; `None` is no data.
    #[must_use]
    pub fn column(mut self, at: Timestamp, counts: Option<Vec<u64>>) -> Self {
        self.columns.push((at, counts));
        self
    }
}

impl Render for HeatMap {
    fn render(&self) -> Markup {
        let columns = &self.columns[self.columns.len().saturating_sub(MAX_POINTS)..];
        let rows = self.bounds.len();
        let most = columns.iter().filter_map(|(_, c)| c.as_ref()).flatten().copied().max().unwrap_or(0);
        let (width, height) = (WIDTH / number(columns.len().max(1)), HEIGHT / number(rows.max(1)));
        let count = |counts: &[u64], row: usize| {
            if row + 1 == rows {
                counts.get(row..).unwrap_or_default().iter().fold(0_u64, |a, b| a.saturating_add(*b))
            } else {
                counts.get(row).copied().unwrap_or(0)
            }
        };
        // A path for each darkness, so that a cell costs a few bytes.
        let mut cells = [const { String::new() }; 8];
        let mut gaps = String::new();
        for (i, (_, counts)) in columns.iter().enumerate() {
            let [from, to] = [number(i) * width, number(i + 1) * width].map(coordinate);
            let Some(counts) = counts else {
                _ = write!(gaps, "M{from} 0H{to}V{}H{from}z", coordinate(HEIGHT));
                continue;
            };
            for row in 0..rows {
                let n = count(counts, row);
                if n > 0 {
                    let [top, bottom] = [row + 1, row].map(|edge| coordinate(HEIGHT - number(edge) * height));
                    _ = write!(cells[darkness(n, most)], "M{from} {top}H{to}V{bottom}H{from}z");
                }
            }
        }
        let shapes = html! {
            @if !gaps.is_empty() { path.gap d=(gaps) {} }
            @for (path, opacity) in cells.iter().zip(OPACITY).filter(|(path, _)| !path.is_empty()) {
                path.heat d=(path) fill-opacity=(opacity) {}
            }
        };
        // About five labels on the axis, at the upper bounds.
        let every = rows.div_ceil(5).max(1);
        let marks = (0..rows)
            .filter(|row| (rows - 1 - row).is_multiple_of(every))
            .map(|row| Mark { y: HEIGHT - number(row + 1) * height, text: self.unit.format(self.bounds[row]) })
            .collect();
        let mut heads = vec!["Time (UTC)".to_owned()];
        heads.extend(self.bounds.iter().map(|b| format!("≤ {}", self.unit.format(*b))));
        let number_rows = columns
            .iter()
            .enumerate()
            .map(|(i, (at, counts))| NumberRow {
                x: (number(i) + 0.5) * width,
                head: format::clock_seconds(*at),
                cells: (0..rows)
                    .map(|row| match counts {
                        Some(counts) => (format::full(i64::try_from(count(counts, row)).unwrap_or(i64::MAX)), None),
                        None => ("no data".to_owned(), None),
                    })
                    .collect(),
            })
            .collect();
        let ticks = match (columns.first(), columns.last()) {
            (Some((first, _)), Some((last, _))) => time_ticks(*first, *last),
            _ => Vec::new(),
        };
        Frame {
            title: &self.title,
            description: format!("Heat map of {} time buckets; the fullest cell counts {most}", columns.len()),
            keys: [0, 3, 5, 7]
                .map(|step| Key {
                    class: "heat".to_owned(),
                    opacity: OPACITY[step],
                    name: match step {
                        0 => "few".to_owned(),
                        7 => format!("{most}"),
                        _ => String::new(),
                    },
                    value: String::new(),
                })
                .into(),
            marks,
            ticks,
            shapes,
            numbers: Numbers { heads, rows: number_rows },
            nothing: columns.iter().all(|(_, c)| c.is_none()),
        }
        .draw()
    }
}

/// How dark each step is.
const OPACITY: [&str; 8] = [".1", ".2", ".32", ".45", ".58", ".72", ".86", "1"];

/// 0 to 7, by the square root, so that rare slow requests stay visible beside many fast ones.
fn darkness(count: u64, most: u64) -> usize {
    let (mut step, most) = (0_usize, u128::from(most.max(1)));
    // count / most ≥ ((step + 1) / 8)²
    while step < 7 && u128::from(count) * 64 >= most * ((step + 1) * (step + 1)) as u128 {
        step += 1;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::darkness;

    #[test]
    fn rare_stays_visible() {
        assert_eq!((darkness(1, 1_000_000), darkness(250, 1_000), darkness(1_000, 1_000)), (0, 4, 7));
    }
}
