//! Until when an answer is of use, and how much of that is left.
//!
//! Invariants:
//! - DEADLINE-1: a part of the work never has more time than the whole, in this process or the next one.
//! - DEADLINE-2: when it passes, the work is dropped; what is ready counts.
//! - DEADLINE-3: it goes by the monotonic clock: a step of the wall clock changes nothing.

use std::time::Duration;

use kernel::Clock;

/// An instant on the monotonic clock after which nobody waits. Cheap to clone.
///
/// Between processes travels what remains, not the instant, since clocks differ (as gRPC does with `grpc-timeout`): give
/// [`Deadline::remaining`] to the callee, which makes a new deadline of it. The time on the wire is thereby not counted.
#[derive(Clone, Debug)]
pub struct Deadline {
    clock: Clock,
    at: Option<Duration>,
}

/// The deadline passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct DeadlinePassed;

impl Deadline {
    /// `d` from now; never for a `d` past the end of the clock.
    pub fn after(clock: &Clock, d: Duration) -> Self {
        Self { clock: clock.clone(), at: clock.monotonic().checked_add(d) }
    }

    /// No deadline.
    pub fn never(clock: &Clock) -> Self {
        Self { clock: clock.clone(), at: None }
    }

    /// A part of the work that must end within `d` and within this deadline.
    #[must_use]
    pub fn within(&self, d: Duration) -> Self {
        let at = self.clock.monotonic().checked_add(d);
        Self { clock: self.clock.clone(), at: earlier(self.at, at) }
    }

    /// This deadline brought forward by `d`: what a callee gets so that the caller still has `d` to use its answer.
    #[must_use]
    pub fn reserve(&self, d: Duration) -> Self {
        Self { clock: self.clock.clone(), at: self.at.map(|at| at.saturating_sub(d)) }
    }

    /// What is left: zero when it passed, `None` when there is no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_sub(self.clock.monotonic()))
    }

    /// What to send as `Mainstay-Timeout` (whole milliseconds, rounded down); `None` when there is no deadline.
    pub fn mainstay_timeout(&self) -> Option<String> {
        self.remaining().map(kernel::limits::format_duration)
    }

    /// What to send as `grpc-timeout`; `None` when there is no deadline.
    pub fn grpc_timeout(&self) -> Option<String> {
        self.remaining().map(kernel::limits::format_grpc_timeout)
    }

    /// Whether it passed.
    pub fn is_over(&self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// Refuses work that nobody would wait for.
    pub fn check(&self) -> Result<(), DeadlinePassed> {
        if self.is_over() { Err(DeadlinePassed) } else { Ok(()) }
    }

    /// Runs `work` until it is done or the deadline passes; then `work` is dropped. Work that is ready at once counts even
    /// when the deadline is over.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, DeadlinePassed> {
        match self.remaining() {
            None => Ok(work.await),
            Some(left) => self.clock.timeout(left, work).await.ok_or(DeadlinePassed),
        }
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
