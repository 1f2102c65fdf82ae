//! Clicks over the time range of the page.

use console::{TimeRange, Unit, charts::Chart};
use kernel::Timestamp;

use crate::model::{ClickCounts, ClickPoint, Series, SeriesError, Step};

/// Which rollup a range is drawn from, and how many of its buckets make a bar: at most 96 bars.
fn plan(range: TimeRange) -> (Step, usize) {
    match range {
        TimeRange::TenMinutes | TimeRange::Hour => (Step::Minute, 1),
        TimeRange::SixHours => (Step::Minute, 5),
        TimeRange::Day => (Step::Minute, 15),
        TimeRange::Week => (Step::Hour, 2),
        TimeRange::Month => (Step::Hour, 8),
        TimeRange::Quarter => (Step::Day, 1),
    }
}

/// The buckets to read for a range that ends now, and how many of them make a bar.
pub(super) fn series(range: TimeRange, now: Timestamp) -> Result<(Series, usize), SeriesError> {
    let (step, group) = plan(range);
    let width = step.width() * u32::try_from(group).unwrap_or(1);
    // Whole bars: the first starts where a bar starts, and the last is the one under way.
    let end = now.floor(width).plus(width);
    Ok((Series::new(end.minus(range.duration()), end, step)?, group))
}

/// The days that hold a range which ends now: what is known of visitors is by day.
pub(super) fn days(range: TimeRange, now: Timestamp) -> Result<Series, SeriesError> {
    let end = now.floor(Step::Day.width()).plus(Step::Day.width());
    // A range of days is so many days, today included.
    let days = u32::try_from(range.duration().as_secs().div_ceil(Step::Day.width().as_secs())).unwrap_or(1);
    Series::new(end.minus(Step::Day.width() * days), end, Step::Day)
}

/// Those days in words.
pub(super) fn days_in_words(days: &Series) -> String {
    match days.point_count() {
        1 => "today".to_owned(),
        count => format!("of {count} days, each day's added up"),
    }
}

/// Visitors by day.
pub(super) fn visitors(days: &Series, counts: &[u64]) -> Chart {
    let times: Vec<Timestamp> =
        (0..days.point_count()).map(|i| days.from.plus(days.step.width() * u32::try_from(i).unwrap_or(0))).collect();
    let values: Vec<Option<f64>> = counts.iter().map(|count| Some(number(*count))).collect();
    Chart::bars("Visitors by day").unit(Unit::Count).times(times).series("visitors", values)
}

/// The chart.
pub(super) fn draw(points: &[ClickPoint], group: usize) -> Chart {
    let bars: Vec<(Timestamp, ClickCounts)> = points
        .chunks(group.max(1))
        .map(|chunk| {
            let mut counts = ClickCounts::default();
            for point in chunk {
                counts += point.counts;
            }
            (chunk.first().map_or(Timestamp::EPOCH, |p| p.at), counts)
        })
        .collect();
    Chart::bars("Clicks over time (UTC)")
        .unit(Unit::Count)
        .times(bars.iter().map(|b| b.0).collect::<Vec<_>>())
        .series("people", bars.iter().map(|b| Some(number(b.1.people))).collect::<Vec<_>>())
        .series("bots", bars.iter().map(|b| Some(number(b.1.bots))).collect::<Vec<_>>())
}

/// A count for a chart.
#[allow(clippy::cast_precision_loss, reason = "a picture needs no more than 53 bits")]
pub(super) fn number(n: u64) -> f64 {
    n as f64
}

/// The last hour by minute, and by how many percent it differs from the hour before it.
pub(super) fn last_hour(points: &[ClickPoint]) -> (u64, Vec<Option<f64>>, Option<f64>) {
    let split = points.len().saturating_sub(60);
    let sum = |points: &[ClickPoint]| points.iter().map(|p| p.counts.people).sum::<u64>();
    let (before, now) = (sum(&points[..split]), sum(&points[split..]));
    let change = (before > 0).then(|| (number(now) / number(before) - 1.0) * 100.0);
    (now, points[split..].iter().map(|p| Some(number(p.counts.people))).collect(), change)
}

/// The two hours that [`last_hour`] wants.
pub(super) fn two_hours(now: Timestamp) -> Result<Series, SeriesError> {
    let end = now.floor(Step::Minute.width()).plus(Step::Minute.width());
    Series::new(end.minus(Step::Minute.usual_range()), end, Step::Minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_days_end_with_today() {
        let now = Timestamp::parse("2026-11-24T06:37:12.345Z").unwrap();
        for (range, from, count) in [
            (TimeRange::TenMinutes, "2026-11-24T00:00:00Z", 1),
            (TimeRange::Day, "2026-11-24T00:00:00Z", 1),
            (TimeRange::Week, "2026-11-18T00:00:00Z", 7),
            (TimeRange::Quarter, "2026-08-27T00:00:00Z", 90),
        ] {
            let days = days(range, now).unwrap();
            assert_eq!((days.from, days.point_count()), (Timestamp::parse(from).unwrap(), count), "{range:?}");
        }
    }

    #[test]
    fn every_range_is_whole_bars_and_few_enough() {
        let now = Timestamp::parse("2026-11-24T06:37:12.345Z").unwrap();
        for range in TimeRange::ALL {
            let (series, group) = series(range, now).unwrap();
            assert_eq!(series.point_count() % group, 0, "{range:?}");
            assert!((10..=96).contains(&(series.point_count() / group)), "{range:?}");
            assert!(series.to > now && series.from <= now.minus(range.duration()).plus(series.step.width() * 8));
        }
    }
}
