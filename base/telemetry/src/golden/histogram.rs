//! Log-linear buckets of microseconds: eight a power of two, so a value is known within 12.5 %.
//!
//! The same idea as HdrHistogram's, with a fixed small size and half-open intervals `(low, high]`, so that every power of two
//! is exactly a Prometheus `le` boundary.

use std::time::Duration;

const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// The last octave ends at 2²⁶ µs (67 s); longer falls into the overflow bucket.
const MAX_BITS: u32 = 26;
/// Buckets, the overflow bucket included.
pub(crate) const BUCKETS: usize = SUB + (MAX_BITS - SUB_BITS) as usize * SUB + 1;

/// Counts by bucket.
pub(crate) type Counts = [u64; BUCKETS];

/// The bucket that holds `d`.
pub(crate) fn bucket_of(d: Duration) -> usize {
    let us = u64::try_from(d.as_micros()).unwrap_or(u64::MAX).saturating_sub(1);
    if us >= 1 << MAX_BITS {
        return BUCKETS - 1;
    }
    // Below 2²⁶, so it fits.
    let us = usize::try_from(us).unwrap_or(usize::MAX);
    if us < SUB {
        return us;
    }
    let octave = us.ilog2();
    let shift = octave - SUB_BITS;
    SUB + shift as usize * SUB + ((us >> shift) - SUB)
}

/// The upper bound of bucket `index` in microseconds; `None` for the overflow bucket.
pub(crate) fn upper_us(index: usize) -> Option<u64> {
    if index >= BUCKETS - 1 {
        return None;
    }
    let index = index as u64;
    let sub = SUB as u64;
    Some(if index < sub {
        index + 1
    } else {
        let (shift, place) = ((index - sub) / sub, (index - sub) % sub);
        (sub + place + 1) << shift
    })
}

/// The value below which the part `q` of all counts lies, in milliseconds, interpolated inside its bucket.
#[allow(clippy::cast_precision_loss, reason = "a quantile is an estimate")]
pub(crate) fn quantile_ms(counts: &Counts, q: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = (q * total as f64).max(1.0);
    let mut before = 0.0;
    for (index, count) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let here = *count as f64;
        if before + here >= rank {
            let low = if index == 0 { 0 } else { upper_us(index - 1).unwrap_or(0) } as f64;
            let high = upper_us(index).map_or(low, |us| us as f64);
            return Some((low + (high - low) * (rank - before) / here) / 1_000.0);
        }
        before += here;
    }
    None
}

/// The `le` boundaries of the exposition: every second power of two from 64 µs to 16.8 s, with the index of the last
/// bucket below each.
pub(crate) fn boundaries() -> impl Iterator<Item = (f64, usize)> {
    (6..=24_u32).step_by(2).map(|bits| {
        let last = SUB + (bits - SUB_BITS) as usize * SUB - 1;
        (f64::from(1_u32 << bits) / 1e6, last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_leave_no_gap() {
        for n in (1..5_000).chain([65_535, 65_536, 65_537, 1 << 25, (1 << 26) - 1, 1 << 26]) {
            let index = bucket_of(us(n));
            let high = upper_us(index).unwrap();
            let low = if index == 0 { 0 } else { upper_us(index - 1).unwrap() };
            assert!(low < n && n <= high, "{n} in ({low}, {high}]");
            assert!(high - low <= 1 || (high - low) * 8 <= high, "bucket {index} is too wide");
        }
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(us((1 << 26) + 1)), BUCKETS - 1);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn boundaries_are_bucket_edges() {
        for (le, last) in boundaries() {
            let edge = u64::try_from(Duration::from_secs_f64(le).as_micros()).unwrap();
            assert_eq!(upper_us(last), Some(edge));
            assert_eq!(bucket_of(us(edge)), last);
            assert_eq!(bucket_of(us(edge + 1)), last + 1);
        }
        assert_eq!(boundaries().count(), 10);
    }

    #[test]
    fn quantiles_stay_within_one_bucket_of_the_truth() {
        let mut counts = [0; BUCKETS];
        for n in 1..=10_000 {
            counts[bucket_of(us(n))] += 1;
        }
        for (q, truth) in [(0.5, 5.0), (0.9, 9.0), (0.99, 9.9)] {
            let got = quantile_ms(&counts, q).unwrap();
            assert!((got - truth).abs() / truth < 0.125, "p{q}: {got} instead of {truth}");
        }
        assert_eq!(quantile_ms(&[0; BUCKETS], 0.5), None);
        let mut slow = [0; BUCKETS];
        slow[BUCKETS - 1] = 1;
        assert!(quantile_ms(&slow, 0.5).unwrap() >= 67_000.0);
    }
}
