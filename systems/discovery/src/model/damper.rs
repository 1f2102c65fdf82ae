//! Flap damping, after RFC 2439: each fall adds a penalty that decays by half in a set time; above one bound the instance is held
//! down however it reports, below a lower one it is let back.
//!
//! - DAMP-1: an instance that falls at most twice within a half-life is never held.
//! - DAMP-2: one that stays well is let back within [`Damping::longest`].

use std::time::Duration;

use kernel::Timestamp;
use serde::{Deserialize, Serialize};

/// What one fall costs.
const FALL: f64 = 1_000.0;
/// Above it, an instance is held.
const SUPPRESS: f64 = 2_500.0;
/// Below it, it is let back.
const REUSE: f64 = 1_000.0;
/// The most there can be, which bounds how long one is held.
const CEILING: f64 = 6_000.0;

/// How fast penalties decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// In so long, a penalty halves. Zero: nothing is damped.
    pub half_life: Duration,
}

impl Damping {
    /// The longest that an instance which stays well is held.
    pub fn longest(self) -> Duration {
        self.half_life.mul_f64((CEILING / REUSE).log2())
    }
}

/// What an instance has collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Damper {
    penalty: f64,
    at: i64,
    /// Whether it is held down.
    pub is_held: bool,
}

impl Damper {
    /// The penalty as it is now.
    pub fn penalty(&self, now: Timestamp, damping: Damping) -> f64 {
        if damping.half_life.is_zero() {
            return 0.0;
        }
        // A clock that steps back decays nothing.
        let passed = now.since(Timestamp::from_millis(self.at));
        self.penalty * (-passed.as_secs_f64() / damping.half_life.as_secs_f64()).exp2()
    }

    /// Counts a fall.
    pub fn fell(&mut self, now: Timestamp, damping: Damping) {
        if damping.half_life.is_zero() {
            return;
        }
        self.penalty = (self.penalty(now, damping) + FALL).min(CEILING);
        self.at = now.as_millis();
        self.is_held |= self.penalty > SUPPRESS;
    }

    /// Lets it back when its time has come; whether it did.
    pub fn let_back(&mut self, now: Timestamp, damping: Damping) -> bool {
        let is_over = self.is_held && self.penalty(now, damping) < REUSE;
        if is_over {
            self.is_held = false;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAMPING: Damping = Damping { half_life: Duration::from_mins(1) };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + secs * 1_000)
    }

    #[test]
    fn three_falls_in_a_row_hold_and_time_lets_back() {
        let mut damper = Damper::default();
        damper.fell(at(0), DAMPING);
        damper.fell(at(5), DAMPING);
        assert!(!damper.is_held);
        damper.fell(at(10), DAMPING);
        assert!(damper.is_held);
        assert!(!damper.let_back(at(60), DAMPING));
        assert!(damper.let_back(at(110), DAMPING));
        assert!(!damper.is_held);
    }

    #[test]
    fn nothing_is_damped_without_a_half_life() {
        let mut damper = Damper::default();
        for n in 0..100 {
            damper.fell(at(n), Damping { half_life: Duration::ZERO });
        }
        assert!(!damper.is_held);
    }

    proptest! {
        /// DAMP-2, and that whatever happened is bounded.
        #[test]
        fn one_that_stays_well_is_let_back_in_time(falls in proptest::collection::vec(0_i64..30, 0..50)) {
            let (mut damper, mut now) = (Damper::default(), 0);
            for wait in falls {
                now += wait;
                damper.fell(at(now), DAMPING);
                prop_assert!(damper.penalty(at(now), DAMPING) <= CEILING);
            }
            let longest = i64::try_from(DAMPING.longest().as_secs()).unwrap() + 2;
            damper.let_back(at(now + longest), DAMPING);
            prop_assert!(!damper.is_held);
        }

        /// DAMP-1.
        #[test]
        fn two_falls_never_hold(first in 0_i64..1_000, second in 0_i64..1_000) {
            let mut damper = Damper::default();
            damper.fell(at(first), DAMPING);
            damper.fell(at(first + second), DAMPING);
            prop_assert!(!damper.is_held);
        }
    }
}
