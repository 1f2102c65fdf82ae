//! What a route does, counted.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets of durations: from 0.125 ms, doubling, to about 65 s; what is longer is in the last.
const BUCKETS: usize = 20;
const FIRST_MICROS: u64 = 125;

/// Numbers of one route on this node, since it has its name; a reload keeps them. Shared by all workers.
#[derive(Debug, Default)]
pub struct RouteStats {
    by_class: [AtomicU64; 6],
    took: [AtomicU64; BUCKETS],
    took_micros: AtomicU64,
    in_flight: AtomicU32,
    refused: AtomicU64,
    retries: AtomicU64,
    fallbacks: AtomicU64,
}

/// One moment of [`RouteStats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteNumbers {
    /// Answers by the hundreds of their status; at 0 those that never came (the client went away).
    pub by_class: [u64; 6],
    /// All answers.
    pub total: u64,
    /// Worked on now.
    pub in_flight: u32,
    /// Refused since as many as may are worked on.
    pub refused: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Answered by the fallback.
    pub fallbacks: u64,
    /// Half took at most this long.
    pub p50: Option<Duration>,
    /// 99 of 100 took at most this long.
    pub p99: Option<Duration>,
    /// The mean.
    pub mean: Option<Duration>,
}

impl RouteStats {
    /// Takes a place, to be given back with [`RouteStats::leave`]; `false` (and counted as refused) when all `max` are taken.
    pub(crate) fn try_enter(&self, max: Option<u32>) -> bool {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_free = max.is_none_or(|max| before < max);
        if !is_free {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.leave();
        }
        is_free
    }

    /// Gives a place back.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts an answer. Status 0: the client went away before there was one.
    pub fn record(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).min(5);
        self.by_class[class].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.took_micros.fetch_add(micros.min(u64::from(u32::MAX)), Ordering::Relaxed);
    }

    /// Counts one more try.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer of the fallback.
    pub fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// As it is now.
    pub fn numbers(&self) -> RouteNumbers {
        let by_class = [0, 1, 2, 3, 4, 5].map(|at: usize| self.by_class[at].load(Ordering::Relaxed));
        let took: Vec<u64> = self.took.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let count: u64 = took.iter().sum();
        let percentile = |percent: u64| {
            let wanted = (count * percent).div_ceil(100);
            let mut seen = 0;
            let at = took.iter().position(|n| {
                seen += n;
                seen >= wanted
            })?;
            (count > 0).then(|| Duration::from_micros(FIRST_MICROS << at))
        };
        RouteNumbers {
            by_class,
            total: by_class.iter().sum(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            p50: percentile(50),
            p99: percentile(99),
            mean: self.took_micros.load(Ordering::Relaxed).checked_div(count).map(Duration::from_micros),
        }
    }
}

fn bucket(micros: u64) -> usize {
    let times = micros.div_ceil(FIRST_MICROS).max(1);
    let at = u64::BITS - (times - 1).leading_zeros();
    usize::try_from(at).unwrap_or(usize::MAX).min(BUCKETS - 1)
}
