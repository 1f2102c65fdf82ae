//! The counters of one route and project: sharded by thread, so that cores do not fight over a cache line.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use super::histogram::{BUCKETS, Counts, bucket_of};

/// Status classes: 1xx to 5xx.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Most shards of one cell; a power of two.
const MAX_SHARDS: usize = 4;

/// Two cache lines, since the prefetcher of x86 takes lines in pairs.
#[repr(align(128))]
struct Shard {
    classes: [AtomicU64; CLASSES.len()],
    sum_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Shard {
    const fn new() -> Self {
        Self {
            classes: [const { AtomicU64::new(0) }; CLASSES.len()],
            sum_us: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// Counters that only grow.
pub(crate) struct Cell(Box<[Shard]>);

impl Cell {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self((0..cores.next_power_of_two().min(MAX_SHARDS)).map(|_| Shard::new()).collect())
    }

    pub(crate) fn record(&self, status: u16, took: Duration) {
        let shard = &self.0[thread_number() & (self.0.len() - 1)];
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        shard.classes[class].fetch_add(1, Ordering::Relaxed);
        shard.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        shard.buckets[bucket_of(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_to(&self, tally: &mut Tally) {
        for shard in &self.0 {
            for (sum, n) in tally.classes.iter_mut().zip(&shard.classes) {
                *sum += n.load(Ordering::Relaxed);
            }
            for (sum, n) in tally.buckets.iter_mut().zip(&shard.buckets) {
                *sum += n.load(Ordering::Relaxed);
            }
            tally.sum_us = tally.sum_us.wrapping_add(shard.sum_us.load(Ordering::Relaxed));
        }
    }
}

/// A number that differs from thread to thread, given on first use.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.with(|n| *n)
}

/// The sum of cells at one instant.
#[derive(Clone)]
pub(crate) struct Tally {
    pub(crate) classes: [u64; CLASSES.len()],
    pub(crate) sum_us: u64,
    pub(crate) buckets: Counts,
}

impl Default for Tally {
    fn default() -> Self {
        Self { classes: [0; CLASSES.len()], sum_us: 0, buckets: [0; BUCKETS] }
    }
}

impl Tally {
    /// What came since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut out = self.clone();
        for (now, then) in out.classes.iter_mut().zip(&earlier.classes) {
            *now = now.saturating_sub(*then);
        }
        for (now, then) in out.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*then);
        }
        out.sum_us = out.sum_us.wrapping_sub(earlier.sum_us);
        out
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, n) in self.classes.iter_mut().zip(&other.classes) {
            *sum += n;
        }
        for (sum, n) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += n;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    pub(crate) fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}
