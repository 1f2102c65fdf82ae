//! The time range of a page's charts, in its URL as `?range=1h`.

use std::time::Duration;

use maud::{Markup, html};

use crate::Link;

/// How far back charts look, and how wide their buckets are: at most 120 points each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeRange {
    /// 10 minutes in buckets of 5 seconds.
    TenMinutes,
    /// 1 hour in buckets of 30 seconds.
    #[default]
    Hour,
    /// 6 hours in buckets of 5 minutes.
    SixHours,
    /// 24 hours in buckets of 15 minutes.
    Day,
    /// 7 days in buckets of 2 hours.
    Week,
    /// 30 days in buckets of 6 hours.
    Month,
    /// 90 days in buckets of a day.
    Quarter,
}

impl TimeRange {
    /// Every range, shortest first.
    pub const ALL: [Self; 7] =
        [Self::TenMinutes, Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month, Self::Quarter];

    /// Its name in the URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TenMinutes => "10m",
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
            Self::Quarter => "90d",
        }
    }

    /// Its words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::TenMinutes => "Last 10 minutes",
            Self::Hour => "Last hour",
            Self::SixHours => "Last 6 hours",
            Self::Day => "Last 24 hours",
            Self::Week => "Last 7 days",
            Self::Month => "Last 30 days",
            Self::Quarter => "Last 90 days",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == text)
    }

    /// The `range` of an address, or the last hour.
    pub fn from_link(link: &Link) -> Self {
        link.get("range").and_then(Self::parse).unwrap_or_default()
    }

    /// How far back.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::TenMinutes => 600,
            Self::Hour => 3_600,
            Self::SixHours => 21_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
            Self::Quarter => 7_776_000,
        })
    }

    /// The width of a bucket.
    pub const fn bucket(self) -> Duration {
        Duration::from_secs(match self {
            Self::TenMinutes => 5,
            Self::Hour => 30,
            Self::SixHours => 300,
            Self::Day => 900,
            Self::Week => 7_200,
            Self::Month => 21_600,
            Self::Quarter => 86_400,
        })
    }

    pub(crate) fn menu(self, at: &Link) -> Markup {
        html! {
            details.menu.right {
                summary { span.sr { "Time range: " } (self.words()) }
                div.panel {
                    @for range in Self::ALL {
                        a.item href=(at.clone().with("range", range.name())) aria-current=[(range == self).then_some("true")] { (range.words()) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_reads_back_and_stays_drawable() {
        for range in TimeRange::ALL {
            assert_eq!(TimeRange::parse(range.name()), Some(range));
            let points = range.duration().as_secs() / range.bucket().as_secs();
            assert!((60..=120).contains(&points), "{range:?} has {points} points");
        }
        assert_eq!(TimeRange::from_link(&Link::parse("/console?range=<script>")), TimeRange::Hour);
    }
}
