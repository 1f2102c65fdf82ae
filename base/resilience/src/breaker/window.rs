//! What became of the last calls: by number, or by time in ten slices.

use std::{collections::VecDeque, time::Duration};

/// Slices of a window of time. It moves on by one of them at a time, so it covers nine tenths of its length to all of it.
const SLICES: u32 = 10;
/// Longest window of calls: 100 kB.
const MAX_CALLS: u32 = 100_000;

/// Which calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls; from 1 to 100,000.
    Calls(u32),
    /// Those that ended lately: in the current tenth of this length and the nine before it. At least 10 ms.
    Time(Duration),
}

/// Calls that a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub calls: u32,
    /// Of these, failed.
    pub failures: u32,
    /// Of these, slow; a failure may be slow as well.
    pub slow: u32,
}

impl Counts {
    pub(super) fn add(&mut self, is_failure: bool, is_slow: bool) {
        self.calls = self.calls.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(is_failure));
        self.slow = self.slow.saturating_add(u32::from(is_slow));
    }

    fn subtract(&mut self, other: Self) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// The calls themselves, or their sums.
#[derive(Debug, Clone)]
pub(super) enum Sliding {
    Calls { last: VecDeque<Call>, most: usize, sum: Counts },
    Time { slices: [Counts; SLICES as usize], width: Duration, newest: u128, sum: Counts },
}

/// One call, small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    is_failure: bool,
    is_slow: bool,
}

impl Sliding {
    pub(super) fn new(window: Window) -> Self {
        match window {
            Window::Calls(most) => {
                let most = most.clamp(1, MAX_CALLS) as usize;
                Self::Calls { last: VecDeque::with_capacity(most), most, sum: Counts::default() }
            }
            Window::Time(length) => {
                let width = (length / SLICES).max(Duration::from_millis(1));
                Self::Time { slices: [Counts::default(); SLICES as usize], width, newest: 0, sum: Counts::default() }
            }
        }
    }

    pub(super) fn record(&mut self, now: Duration, is_failure: bool, is_slow: bool) {
        self.pass(now);
        match self {
            Self::Calls { last, most, sum } => {
                if last.len() == *most
                    && let Some(old) = last.pop_front()
                {
                    let (failures, slow) = (u32::from(old.is_failure), u32::from(old.is_slow));
                    sum.subtract(Counts { calls: 1, failures, slow });
                }
                last.push_back(Call { is_failure, is_slow });
                sum.add(is_failure, is_slow);
            }
            Self::Time { slices, newest, sum, .. } => {
                slices[place(*newest)].add(is_failure, is_slow);
                sum.add(is_failure, is_slow);
            }
        }
    }

    pub(super) fn counts(&mut self, now: Duration) -> Counts {
        self.pass(now);
        let (Self::Calls { sum, .. } | Self::Time { sum, .. }) = self;
        *sum
    }

    /// Forgets what is too old at `now`.
    fn pass(&mut self, now: Duration) {
        let Self::Time { slices, width, newest, sum } = self else { return };
        let current = now.as_nanos() / width.as_nanos();
        for slice in (*newest..current).take(SLICES as usize) {
            let old = &mut slices[place(slice + 1)];
            sum.subtract(*old);
            *old = Counts::default();
        }
        *newest = current.max(*newest);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "below SLICES")]
fn place(slice: u128) -> usize {
    (slice % u128::from(SLICES)) as usize
}
