//! Axes and positions: values to the plot's own 1,000 × 200 units.

use kernel::Timestamp;

use crate::{Unit, format};

/// The width of a plot in its own units; the browser stretches it.
pub(crate) const WIDTH: f64 = 1_000.0;
/// The height of a plot, in its own units and in pixels.
pub(crate) const HEIGHT: f64 = 200.0;
/// Beyond this size a value is drawn at this size: it keeps arithmetic on axes finite.
const LARGEST: f64 = 1e15;

/// A value that can be drawn: finite and not absurd.
pub(crate) fn clean(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite()).map(|v| v.clamp(-LARGEST, LARGEST))
}

/// The y axis: from `low` to `high` in equal steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// An axis over these values with about four steps of 1, 2 or 5 times a power of ten (of two for bytes). It holds zero
    /// unless `from_zero` is false and the values stay away from it.
    pub(crate) fn of(values: impl Iterator<Item = f64>, unit: Unit, from_zero: bool) -> Self {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if from_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if high - low <= (high.abs().max(low.abs())) * 1e-9 {
            // One value only: an axis from zero to it, or a step around it.
            if from_zero { high = low + 1.0 } else { (low, high) = (low - 1.0, high + 1.0) }
        }
        let mut step = nice((high - low) / 4.0, unit.is_binary());
        if unit == Unit::Count {
            // Half a thing is not a tick.
            step = step.max(1.0);
        }
        let (first, last) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
        let mut ticks = Vec::new();
        let mut at = first;
        while at <= last && ticks.len() < 12 {
            ticks.push(at * step);
            at += 1.0;
        }
        Self { low: first * step, high: ticks.last().copied().unwrap_or(last * step), ticks }
    }

    /// From the top of the plot.
    pub(crate) fn y(&self, value: f64) -> f64 {
        let part = (value - self.low) / (self.high - self.low);
        HEIGHT - part.clamp(0.0, 1.0) * HEIGHT
    }
}

/// The smallest 1, 2, 5 × 10ⁿ (or 2ⁿ) that is not below `raw`.
fn nice(raw: f64, binary: bool) -> f64 {
    if binary {
        return 2_f64.powf(raw.max(1.0).log2().ceil());
    }
    let power = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw * 0.999_999).unwrap_or(raw)
}

/// A coordinate with at most one decimal.
pub(crate) fn coordinate(value: f64) -> String {
    let mut text = format!("{value:.1}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    if text == "-0" { "0".to_owned() } else { text }
}

/// A label of the x axis and where it stands, in thousandths of the width.
pub(crate) struct TimeTick {
    pub(crate) at: f64,
    pub(crate) text: String,
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const STEPS: &[i64] = &[
    1_000,
    5_000,
    10_000,
    15_000,
    30_000,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
];

/// At most seven round times from `from` to `to` (UTC), written as short as their step allows.
pub(crate) fn time_ticks(from: Timestamp, to: Timestamp) -> Vec<TimeTick> {
    let (start, end) = (from.as_millis(), to.as_millis());
    let span = end.saturating_sub(start);
    if span <= 0 {
        return Vec::new();
    }
    let fallback = span / 6 + 1;
    let step = STEPS.iter().copied().find(|s| span / s <= 6).unwrap_or(fallback);
    let write = |at: i64| {
        let at = Timestamp::from_millis(at);
        let midnight = at.as_millis().rem_euclid(DAY) == 0 && span >= DAY;
        if step < MINUTE {
            format::clock_seconds(at)
        } else if step < DAY && !midnight {
            format::clock(at)
        } else {
            format::month_day(at)
        }
    };
    let mut ticks = Vec::new();
    let mut at = start.div_euclid(step).saturating_add(1).saturating_mul(step);
    if start.rem_euclid(step) == 0 {
        at = start;
    }
    while at <= end && ticks.len() < 8 {
        ticks.push(TimeTick { at: fraction(at - start, span) * WIDTH, text: write(at) });
        at = at.saturating_add(step);
    }
    ticks
}

#[expect(clippy::cast_precision_loss, reason = "a position on a screen")]
pub(crate) fn fraction(part: i64, whole: i64) -> f64 {
    (part as f64 / whole as f64).clamp(0.0, 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a position on a screen; counts of points are small")]
pub(crate) fn number(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round() {
        for (values, unit, from_zero, ticks) in [
            (vec![0.0, 7.0], Unit::Count, true, vec![0.0, 2.0, 4.0, 6.0, 8.0]),
            (vec![0.0], Unit::Count, true, vec![0.0, 1.0]),
            (vec![], Unit::PerSecond, true, vec![0.0, 0.5, 1.0]),
            (vec![3.0], Unit::Count, true, vec![0.0, 1.0, 2.0, 3.0]),
            (vec![120.0, 410.0], Unit::Millis, true, vec![0.0, 200.0, 400.0, 600.0]),
            (vec![98.0, 99.0], Unit::Percent, false, vec![98.0, 98.5, 99.0]),
            (vec![-10.0, 10.0], Unit::Count, true, vec![-10.0, -5.0, 0.0, 5.0, 10.0]),
            (vec![3_000_000.0], Unit::Bytes, true, vec![0.0, 1_048_576.0, 2_097_152.0, 3_145_728.0]),
        ] {
            let scale = Scale::of(values.iter().copied(), unit, from_zero);
            assert_eq!(scale.ticks, ticks, "{values:?}");
        }
    }

    #[test]
    fn times_are_round() {
        let at = |text| Timestamp::parse(text).unwrap();
        let texts = |from, to| time_ticks(at(from), at(to)).into_iter().map(|t| t.text).collect::<Vec<_>>();
        assert_eq!(
            texts("2026-11-24T06:07:00Z", "2026-11-24T07:07:00Z"),
            ["06:10", "06:20", "06:30", "06:40", "06:50", "07:00"]
        );
        assert_eq!(
            texts("2026-11-24T00:00:00Z", "2026-11-30T00:00:00Z"),
            ["11-24", "11-25", "11-26", "11-27", "11-28", "11-29", "11-30"]
        );
        assert_eq!(
            texts("2026-11-23T06:30:00Z", "2026-11-24T13:30:00Z"),
            ["12:00", "18:00", "11-24", "06:00", "12:00"]
        );
        assert!(time_ticks(at("2026-11-24T00:00:00Z"), at("2026-11-24T00:00:00Z")).is_empty());
    }
}
