//! Counters for telemetry.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{Engine, Error};

/// Upper bounds, in microseconds, of the buckets of [`Stats::commit`]; the last bucket is everything above.
pub const COMMIT_BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];
/// Upper bounds of the buckets of [`Stats::group_size`].
pub const GROUP_BOUNDS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512];

/// A histogram as Prometheus wants it, except that buckets are not cumulative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds of all buckets but the last.
    pub bounds: &'static [u64; 12],
    /// How many fell into each bucket.
    pub counts: [u64; 13],
    /// The sum of everything.
    pub sum: u64,
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A snapshot of the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Which engine it is.
    pub engine: Engine,
    /// Transactions and statements that wait for the writer (SQLite) or are in hand (PostgreSQL).
    pub queue_length: u64,
    /// Their bound.
    pub queue_capacity: u64,
    /// Transactions and single writes that ended, however they ended.
    pub job_count: u64,
    /// Groups committed (SQLite).
    pub group_count: u64,
    /// Jobs per group (SQLite).
    pub group_size: Histogram,
    /// Latency of COMMIT in microseconds: the fsync on SQLite, the round trip on PostgreSQL.
    pub commit: Histogram,
    /// Read connections (SQLite) or the pool (PostgreSQL): how many there may be.
    pub pool_size: u64,
    /// How many of them are in use.
    pub pool_in_use: u64,
    /// Bodies that were run again.
    pub rerun_count: u64,
    /// Times that the LISTEN connection was lost (PostgreSQL).
    pub listen_lost_count: u64,
    /// Errors by [`Error::kind`].
    pub errors: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; 13],
    sum: AtomicU64,
}

impl Buckets {
    fn add(&self, bounds: &[u64; 12], value: u64) {
        let index = bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn snapshot(&self, bounds: &'static [u64; 12]) -> Histogram {
        Histogram {
            bounds,
            counts: std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) queue_length: AtomicU64,
    pub(crate) jobs: AtomicU64,
    pub(crate) reruns: AtomicU64,
    pub(crate) listen_lost: AtomicU64,
    pub(crate) reads_in_use: AtomicU64,
    groups: Buckets,
    commits: Buckets,
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    pub(crate) fn group(&self, size: usize) {
        self.groups.add(&GROUP_BOUNDS, size as u64);
    }

    pub(crate) fn commit(&self, took: Duration) {
        self.commits.add(&COMMIT_BOUNDS_US, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn error(&self, e: &Error) {
        *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(e.kind()).or_default() += 1;
    }

    pub(crate) fn snapshot(&self, engine: Engine, queue_capacity: u64, pool_size: u64, pool_in_use: u64) -> Stats {
        let group_size = self.groups.snapshot(&GROUP_BOUNDS);
        Stats {
            engine,
            queue_length: self.queue_length.load(Ordering::Relaxed),
            queue_capacity,
            job_count: self.jobs.load(Ordering::Relaxed),
            group_count: group_size.count(),
            group_size,
            commit: self.commits.snapshot(&COMMIT_BOUNDS_US),
            pool_size,
            pool_in_use,
            rerun_count: self.reruns.load(Ordering::Relaxed),
            listen_lost_count: self.listen_lost.load(Ordering::Relaxed),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
