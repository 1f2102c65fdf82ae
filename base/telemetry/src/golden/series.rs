//! The last quarter of an hour, second by second, for live charts.

use std::{collections::VecDeque, time::Duration};

use kernel::Timestamp;

use super::{cell::Tally, histogram::quantile_ms};

/// How far back [`super::Golden::series`] reaches.
pub const WINDOW: Duration = Duration::from_mins(15);
const SECOND: Duration = Duration::from_secs(1);

/// One second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When the second began.
    pub at: Timestamp,
    /// Requests that finished in it.
    pub request_count: u64,
    /// Of those, answered with 5xx.
    pub error_count: u64,
    /// Median latency in milliseconds; `None` without requests.
    pub p50_ms: Option<f64>,
    /// 99th percentile of latency in milliseconds; `None` without requests.
    pub p99_ms: Option<f64>,
}

impl Point {
    fn idle(at: Timestamp) -> Self {
        Self { at, request_count: 0, error_count: 0, p50_ms: None, p99_ms: None }
    }
}

/// Only seconds with requests are kept, so an idle route costs nothing.
#[derive(Default)]
pub(crate) struct Series {
    last: Tally,
    points: VecDeque<Point>,
}

impl Series {
    /// Takes the counters as they stand at the end of the second that began `at`.
    pub(crate) fn advance(&mut self, now: Tally, at: Timestamp) {
        let delta = now.since(&self.last);
        self.last = now;
        let request_count = delta.count();
        if request_count > 0 {
            self.points.push_back(Point {
                at,
                request_count,
                error_count: delta.classes[4],
                p50_ms: quantile_ms(&delta.buckets, 0.50),
                p99_ms: quantile_ms(&delta.buckets, 0.99),
            });
        }
        let oldest = at.minus(WINDOW);
        while self.points.front().is_some_and(|p| p.at <= oldest) {
            self.points.pop_front();
        }
    }

    /// One point a second in `from..=to`, idle seconds included.
    pub(crate) fn filled(&self, from: Timestamp, to: Timestamp) -> Vec<Point> {
        let mut kept = self.points.iter().skip_while(|p| p.at < from).peekable();
        std::iter::successors(Some(from), |at| Some(at.plus(SECOND)))
            .take_while(|at| *at <= to)
            .map(|at| kept.next_if(|p| p.at <= at).copied().unwrap_or_else(|| Point::idle(at)))
            .collect()
    }
}
