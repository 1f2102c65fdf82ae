//! How long a back end takes, as a moving average that believes bad news at once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// After so long a measurement counts a third.
const DECAY: Duration = Duration::from_secs(10);
/// One tick of the stamps, which wrap around after 11.9 h.
const TICK_MICROS: u128 = 10;
#[allow(clippy::cast_precision_loss, reason = "a million")]
const DECAY_TICKS: f32 = (DECAY.as_micros() / TICK_MICROS) as f32;
/// What a request under way to a back end that never answered counts, in microseconds: so only one goes there until it does.
const UNKNOWN_MICROS: f32 = 60e6;
/// Threads that change it at the same time let each other go first so often; then a measurement is lost.
const TRIES: usize = 8;

/// Peak-EWMA (Finagle's, by Oskar Sundström): a measurement above the average replaces it, one below moves it by how old it is; without
/// measurements it decays to nothing, so that a back end which was slow is tried again.
///
/// One word: the average in microseconds as `f32`, and when it was updated in ticks. No lock, no allocation.
#[derive(Debug, Default)]
pub struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// Nothing measured.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a measurement at `now`.
    pub fn observe(&self, now: Duration, took: Duration) {
        let stamp = ticks(now);
        let took = (took.as_secs_f32() * 1e6).max(1.0);
        let mut old = self.0.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let (average, since) = parts(old);
            // A decayed average is what the cost was: the measurement is compared with that.
            let weight = decay(stamp.wrapping_sub(since));
            let new = if took >= average { took } else { average * weight + took * (1.0 - weight) };
            match self.0.compare_exchange_weak(old, join(new, stamp), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// What one more request costs at `now`, beside `in_flight` others: the decayed average × requests.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn cost(&self, now: Duration, in_flight: u32) -> f32 {
        let (average, since) = parts(self.0.load(Ordering::Relaxed));
        if average == 0.0 {
            return UNKNOWN_MICROS * in_flight as f32;
        }
        average * decay(ticks(now).wrapping_sub(since)) * (in_flight as f32 + 1.0)
    }

    /// The average as it was last updated; `None` when nothing was measured.
    pub fn average(&self) -> Option<Duration> {
        let (average, _) = parts(self.0.load(Ordering::Relaxed));
        (average > 0.0).then(|| Duration::try_from_secs_f32(average / 1e6).unwrap_or(Duration::MAX))
    }
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn decay(ticks: u32) -> f32 {
    // A stamp that another thread took a moment later than ours looks like one from far in the past.
    if ticks > u32::MAX - 100_000 { 1.0 } else { (-(ticks as f32) / DECAY_TICKS).exp() }
}

#[allow(clippy::cast_possible_truncation, reason = "stamps wrap around")]
fn ticks(now: Duration) -> u32 {
    (now.as_micros() / TICK_MICROS) as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves")]
fn parts(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

fn join(average: f32, stamp: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn average_ms(ewma: &PeakEwma) -> f32 {
        ewma.average().unwrap().as_secs_f32() * 1e3
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let ewma = PeakEwma::new();
        assert_eq!(ewma.average(), None);
        ewma.observe(ms(0), ms(10));
        assert!((average_ms(&ewma) - 10.0).abs() < 0.01);
        ewma.observe(ms(1), ms(1_000));
        assert!((average_ms(&ewma) - 1_000.0).abs() < 0.1, "a peak replaces it");
        ewma.observe(ms(1_001), ms(10));
        let after_a_second = average_ms(&ewma);
        assert!((900.0..910.0).contains(&after_a_second), "{after_a_second}: a second later a tenth is forgotten");
        for n in 0..1_000 {
            ewma.observe(ms(1_001 + 100 * n), ms(10));
        }
        assert!((average_ms(&ewma) - 10.0).abs() < 1.0, "{}", average_ms(&ewma));
    }

    #[test]
    fn many_measurements_in_one_tick_do_not_stop_it() {
        let ewma = PeakEwma::new();
        ewma.observe(ms(0), ms(100));
        // 100,000 a second for 30 s.
        for n in 0..3_000_000_u64 {
            ewma.observe(Duration::from_micros(n * 10), ms(1));
        }
        assert!((1.0..6.5).contains(&average_ms(&ewma)), "{}", average_ms(&ewma));
    }

    #[test]
    fn cost_grows_with_what_is_under_way_and_decays_without_measurements() {
        let ewma = PeakEwma::new();
        assert!(ewma.cost(ms(0), 0).abs() < f32::EPSILON, "a new one is tried first");
        assert!(ewma.cost(ms(0), 1) > 1e6, "but with one request at a time");
        ewma.observe(ms(0), ms(10));
        let one = ewma.cost(ms(0), 0);
        assert!((ewma.cost(ms(0), 3) / one - 4.0).abs() < 0.01);
        assert!(ewma.cost(ms(100_000), 0) < one / 1_000.0);
        // Past the end of the stamps it still is a small cost, not a wrong one.
        let wrapped = Duration::from_micros(u64::from(u32::MAX) * 10 + 50_000_000);
        assert!(ewma.cost(wrapped, 0) <= one);
        // Another thread's clock a little ahead of ours does not decay it.
        assert!(ewma.cost(ms(0), 0) >= one * 0.99);
        ewma.observe(ms(500), ms(10));
        assert!(ewma.cost(ms(499), 0) > one * 0.9);
    }
}
