//! How long things took lately, as percentiles in bounded memory.

use std::time::Duration;

/// Buckets for each doubling: a percentile is at most an eighth too high.
const STEPS: u64 = 8;
const STEP_BITS: u32 = 3;
/// Up to 2⁴⁰ µs, which is 12 days.
const BUCKETS: usize = 8 * 39;
/// When so many were recorded, all count half: the last few thousand decide.
const HALVE_AT: u32 = 2_048;

/// A histogram of durations that forgets slowly. A fixed 1.3 kB.
#[derive(Debug, Clone)]
pub struct Latency {
    counts: Box<[u32]>,
    total: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0 }
    }
}

impl Latency {
    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.total += 1;
        if self.total >= HALVE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// How many it remembers.
    pub fn count(&self) -> u32 {
        self.total
    }

    /// The duration that `percent` of what it remembers took at most; at most an eighth above the true one (or 1 µs). `None` when it
    /// remembers nothing.
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = (u64::from(self.total) * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        at.map(|n| Duration::from_micros(upper(n as u64)))
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let place = if micros < STEPS {
        micros
    } else {
        let doubling = u64::from(micros.ilog2() - STEP_BITS);
        (doubling + 1) * STEPS + ((micros >> doubling) & (STEPS - 1))
    };
    usize::try_from(place).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The largest number of microseconds in a bucket.
fn upper(place: u64) -> u64 {
    if place < STEPS {
        return place;
    }
    let doubling = place / STEPS - 1;
    ((STEPS + place % STEPS + 1) << doubling) - 1
}
