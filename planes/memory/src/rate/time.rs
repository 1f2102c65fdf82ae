//! The clock of the cells in this process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::Clock;

/// How often the wall clock is compared, in microseconds of the monotonic one.
const CHECK: u64 = 1_000_000;
/// A difference that is a step of the wall clock, and not the rounding of it.
const STEP: u64 = 50_000;

/// The wall clock, carried forward by the monotonic one: it costs one reading, has microseconds, and does not jump between two
/// requests. A step of the wall clock is followed within a second.
pub(crate) struct Ticker {
    clock: Clock,
    /// Wall minus monotonic; wraps below zero.
    offset: AtomicU64,
    check_at: AtomicU64,
}

impl Ticker {
    pub(crate) fn new(clock: Clock) -> Self {
        let mono = monotonic_us(&clock);
        let offset = AtomicU64::new(wall_us(&clock).wrapping_sub(mono));
        Self { clock, offset, check_at: AtomicU64::new(mono + CHECK) }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        let mono = monotonic_us(&self.clock);
        let now = self.offset.load(Relaxed).wrapping_add(mono);
        if mono < self.check_at.load(Relaxed) {
            return now;
        }
        self.check_at.store(mono + CHECK, Relaxed);
        let wall = wall_us(&self.clock);
        if wall.abs_diff(now) < STEP {
            return now;
        }
        self.offset.store(wall.wrapping_sub(mono), Relaxed);
        wall
    }
}

fn monotonic_us(clock: &Clock) -> u64 {
    let mono = clock.monotonic();
    mono.as_secs() * 1_000_000 + u64::from(mono.subsec_micros())
}

/// The wall clock in microseconds (it has milliseconds); 0 before 1970.
pub(crate) fn wall_us(clock: &Clock) -> u64 {
    u64::try_from(clock.now().as_millis()).unwrap_or(0) * 1000
}
