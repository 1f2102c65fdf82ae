//! Clicks over time.

use std::{ops::AddAssign, time::Duration};

use kernel::Timestamp;

/// The most points that one answer holds.
pub const MAX_POINTS: usize = 1500;

/// How many times a link was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClickCounts {
    /// By people, as far as the user agent tells.
    pub people: u64,
    /// By programs that say so.
    pub bots: u64,
}

impl AddAssign for ClickCounts {
    fn add_assign(&mut self, other: Self) {
        self.people += other.people;
        self.bots += other.bots;
    }
}

/// The width of a rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Kept for `shortener.minutes_kept`.
    Minute,
    /// Kept with the link.
    Hour,
    /// Kept with the link.
    Day,
}

impl Step {
    /// Every step, finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// How long one bucket is. Days are UTC days.
    pub const fn width(self) -> Duration {
        match self {
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }

    /// How far back one usually looks in this step: 2 hours, 2 days, 30 days.
    pub const fn usual_range(self) -> Duration {
        match self {
            Self::Minute => Duration::from_hours(2),
            Self::Hour => Duration::from_hours(48),
            Self::Day => Duration::from_hours(24 * 30),
        }
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The step of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }

    /// The column value: the width in minutes.
    pub fn minutes(self) -> i64 {
        i64::try_from(self.width().as_secs() / 60).unwrap_or(i64::MAX)
    }
}

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClickPoint {
    /// Where the bucket starts.
    pub at: Timestamp,
    /// What was counted in it.
    pub counts: ClickCounts,
}

/// Which buckets are asked for: from the one that holds `from` to the one before that which holds `to`, or with it when
/// `to` lies inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// The start of the first bucket.
    pub from: Timestamp,
    /// The end of the last bucket.
    pub to: Timestamp,
    /// Their width.
    pub step: Step,
}

/// Why a series cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesError {
    /// `to` does not lie after `from`.
    Empty,
    /// More than [`MAX_POINTS`] buckets.
    TooMany,
}

impl Series {
    /// Widens `from..to` to whole buckets and checks that it is not empty and not too long.
    pub fn new(from: Timestamp, to: Timestamp, step: Step) -> Result<Self, SeriesError> {
        if to <= from {
            return Err(SeriesError::Empty);
        }
        let width = step.width();
        let from = from.floor(width);
        let mut end = to.floor(width);
        if end < to {
            end = end.plus(width);
        }
        let this = Self { from, to: end, step };
        if this.point_count() > MAX_POINTS { Err(SeriesError::TooMany) } else { Ok(this) }
    }

    /// How many buckets there are.
    pub fn point_count(&self) -> usize {
        let width = self.step.width().as_millis().max(1);
        usize::try_from(self.to.since(self.from).as_millis() / width).unwrap_or(usize::MAX)
    }

    /// Every bucket in order, those without a row as zero: nobody clicked, which is a value and not a gap.
    /// `rows` are in order of time.
    pub fn fill(&self, rows: &[ClickPoint]) -> Vec<ClickPoint> {
        let mut rows = rows.iter().peekable();
        let mut points = Vec::with_capacity(self.point_count());
        let mut at = self.from;
        while at < self.to {
            let mut counts = ClickCounts::default();
            while let Some(row) = rows.next_if(|row| row.at <= at) {
                if row.at == at {
                    counts += row.counts;
                }
            }
            points.push(ClickPoint { at, counts });
            at = at.plus(self.step.width());
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn series_cover_whole_buckets() {
        for (from, to, step, expected) in [
            (0, 60_000, Step::Minute, Ok((0, 60_000))),
            (1, 60_000, Step::Minute, Ok((0, 60_000))),
            (59_999, 60_001, Step::Minute, Ok((0, 120_000))),
            (5, 6, Step::Day, Ok((0, 86_400_000))),
            (-1, 1, Step::Hour, Ok((-3_600_000, 3_600_000))),
            (60_000, 60_000, Step::Minute, Err(SeriesError::Empty)),
            (2, 1, Step::Minute, Err(SeriesError::Empty)),
            (0, 1_500 * 60_000, Step::Minute, Ok((0, 1_500 * 60_000))),
            (0, 1_500 * 60_000 + 1, Step::Minute, Err(SeriesError::TooMany)),
            (-1_000_000_000_000_000, 1_000_000_000_000_000, Step::Day, Err(SeriesError::TooMany)),
        ] {
            let got = Series::new(at(from), at(to), step).map(|s| (s.from.as_millis(), s.to.as_millis()));
            assert_eq!(got, expected, "{from}..{to} by {step:?}");
        }
    }

    proptest! {
        #[test]
        fn filling_keeps_every_count_and_every_bucket(
            start in -1_000_000_i64..1_000_000, width in 1_i64..100,
            hits in proptest::collection::btree_map(0_i64..100, 1_u64..1_000, 0..40),
        ) {
            let from = at(start * 60_000);
            let series = Series::new(from, at((start + width) * 60_000), Step::Minute).unwrap();
            let rows: Vec<ClickPoint> = hits
                .iter()
                .map(|(i, n)| ClickPoint {
                    at: at((start + i) * 60_000),
                    counts: ClickCounts { people: *n, bots: 0 },
                })
                .collect();
            let filled = series.fill(&rows);
            prop_assert_eq!(i64::try_from(filled.len()).unwrap(), width);
            let inside: u64 = hits.iter().filter(|(i, _)| **i < width).map(|(_, n)| n).sum();
            prop_assert_eq!(filled.iter().map(|p| p.counts.people).sum::<u64>(), inside);
            prop_assert!(filled.windows(2).all(|w| w[1].at.since(w[0].at) == Duration::from_mins(1)));
        }
    }
}
