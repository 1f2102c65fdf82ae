//! Days, weeks and months of a time zone.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{
    ToSpan as _,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use kernel::Timestamp;

use super::{CalendarSpec, CalendarUnit};

/// Windows that follow one another without a gap, each from one midnight of a zone to another: therefore 23 to 25 hours a day where
/// clocks are put forward and back, and 28 to 31 days a month.
#[derive(Debug)]
pub(crate) struct Calendar {
    unit: CalendarUnit,
    zone: TimeZone,
    /// What was computed last; good as long as the window lasts.
    last: ArcSwap<[Timestamp; 3]>,
}

impl Calendar {
    /// `None` when there is no such zone.
    pub(crate) fn new(spec: &CalendarSpec) -> Option<Self> {
        // The bundled database alone: what a zone means must be the same on every node.
        let zone = if spec.zone == "UTC" { TimeZone::UTC } else { jiff::tz::db().get(&spec.zone).ok()? };
        Some(Self { unit: spec.unit, zone, last: ArcSwap::from_pointee([Timestamp::EPOCH; 3]) })
    }

    /// The start of the window that holds `at`, of the next, and the end of that.
    pub(crate) fn bounds(&self, at: Timestamp) -> [Timestamp; 3] {
        let last = **self.last.load();
        if last[0] <= at && at < last[1] {
            return last;
        }
        let bounds = self.compute(at);
        self.last.store(Arc::new(bounds));
        bounds
    }

    fn compute(&self, at: Timestamp) -> [Timestamp; 3] {
        self.try_bounds(at).unwrap_or_else(|| {
            // Outside of the years that calendars know (±9999): windows of UTC's days.
            let day = std::time::Duration::from_hours(24);
            let start = at.floor(day);
            [start, start.plus(day), start.plus(day * 2)]
        })
    }

    fn try_bounds(&self, at: Timestamp) -> Option<[Timestamp; 3]> {
        let instant = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
        let mut first = self.first_of(instant.to_zoned_datetime(self.zone.clone()).date())?;
        let mut bounds = self.from(first)?;
        // A zone that skipped a day (Samoa, 2011) or repeats its midnight: the window is the one that holds the instant.
        while bounds[0] > at {
            first = self.first_of(first.yesterday().ok()?)?;
            bounds = self.from(first)?;
        }
        while bounds[1] <= at {
            first = self.after(first)?;
            bounds = self.from(first)?;
        }
        Some(bounds)
    }

    fn from(&self, first: Date) -> Option<[Timestamp; 3]> {
        let mut bounds = [self.midnight(first)?; 3];
        let mut day = first;
        for bound in 1..3 {
            // A day that the zone skipped is no window.
            while bounds[bound] <= bounds[bound - 1] {
                day = self.after(day)?;
                bounds[bound] = self.midnight(day)?;
            }
            if bound == 1 {
                bounds[2] = bounds[1];
            }
        }
        Some(bounds)
    }

    /// The first day of the window that holds `day`.
    fn first_of(&self, day: Date) -> Option<Date> {
        match self.unit {
            CalendarUnit::Day => Some(day),
            CalendarUnit::Week => {
                let back = day.weekday().since(Weekday::Monday);
                day.checked_sub(i64::from(back).days()).ok()
            }
            CalendarUnit::Month => Some(day.first_of_month()),
        }
    }

    /// The first day of the window after the one that starts at `first`.
    fn after(&self, first: Date) -> Option<Date> {
        let span = match self.unit {
            CalendarUnit::Day => 1.day(),
            CalendarUnit::Week => 1.week(),
            CalendarUnit::Month => 1.month(),
        };
        first.checked_add(span).ok()
    }

    /// When a day begins: where midnight was skipped, at the first instant after it; where it comes twice, at the first of them.
    fn midnight(&self, day: Date) -> Option<Timestamp> {
        let start = day.to_zoned_datetime(self.zone.clone()).ok()?.start_of_day().ok()?;
        Some(Timestamp::from_millis(start.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calendar(unit: CalendarUnit, zone: &str) -> Calendar {
        Calendar::new(&CalendarSpec { unit, zone: zone.to_owned() }).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn windows_of_zones() {
        use CalendarUnit::{Day, Month, Week};
        for (unit, zone, now, bounds) in [
            (
                Day,
                "UTC",
                "2026-11-24T13:00:00Z",
                ["2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"],
            ),
            // 2026-11-24 is a Tuesday.
            (
                Week,
                "UTC",
                "2026-11-24T13:00:00Z",
                ["2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"],
            ),
            (
                Week,
                "UTC",
                "2026-11-23T00:00:00Z",
                ["2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"],
            ),
            (
                Week,
                "UTC",
                "2026-11-22T23:59:59Z",
                ["2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"],
            ),
            (
                Month,
                "UTC",
                "2028-02-29T12:00:00Z",
                ["2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", "2028-04-01T00:00:00Z"],
            ),
            // Clocks go forward in the night to 2026-03-29: 23 hours; back in the night to 2026-10-25: 25 hours.
            (
                Day,
                "Europe/Berlin",
                "2026-03-29T10:00:00Z",
                ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"],
            ),
            (
                Day,
                "Europe/Berlin",
                "2026-10-25T10:00:00Z",
                ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"],
            ),
            // Not whole hours.
            (
                Month,
                "Asia/Kathmandu",
                "2026-01-31T18:14:59Z",
                ["2025-12-31T18:15:00Z", "2026-01-31T18:15:00Z", "2026-02-28T18:15:00Z"],
            ),
            // Clocks went from midnight to one: the day began at one.
            (
                Day,
                "America/Havana",
                "2026-03-08T12:00:00Z",
                ["2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "2026-03-10T04:00:00Z"],
            ),
            // Samoa had no 2011-12-30.
            (
                Day,
                "Pacific/Apia",
                "2011-12-30T09:00:00Z",
                ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"],
            ),
        ] {
            assert_eq!(calendar(unit, zone).bounds(at(now)), bounds.map(at), "{unit:?} of {zone} at {now}");
        }
        assert!(Calendar::new(&CalendarSpec { unit: Day, zone: "Europe/Atlantis".to_owned() }).is_none());
    }

    proptest! {
        /// Every instant is in its window, and windows follow one another: what one call says is next, the next call says is now.
        #[test]
        fn windows_hold_their_instant_and_leave_no_gap(
            ms in 0_i64..4_102_444_800_000,
            unit in prop::sample::select(vec![CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month]),
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe",
                "America/Havana", "Africa/Cairo", "Pacific/Chatham", "America/Sao_Paulo",
            ]),
        ) {
            let (calendar, at) = (calendar(unit, zone), Timestamp::from_millis(ms));
            let [start, next, end] = calendar.bounds(at);
            prop_assert!(start <= at && at < next && next < end);
            prop_assert_eq!(calendar.bounds(start)[0], start);
            prop_assert_eq!(calendar.bounds(Timestamp::from_millis(next.as_millis() - 1))[..2].to_vec(), vec![start, next]);
            prop_assert_eq!(calendar.bounds(next)[..2].to_vec(), vec![next, end]);
        }
    }
}
