//! Stops calling what fails or crawls, and finds out carefully when it is well again.
//!
//! After Nygard ("Release It!", 2007) and Resilience4j: closed, open, half-open; both the share of failures and the share of slow
//! calls count, since a dependency that hangs fails nothing until every caller's deadline has passed.
//!
//! Invariants:
//! - BREAKER-1: closed, it opens with the call that makes the window hold `minimum_calls` or more of which `failure_percent` failed
//!   or `slow_percent` were slow, and with no other.
//! - BREAKER-2: open, it lets nothing in before `open_for × 2ⁿ` (at most `open_at_most`) has passed; n is how often its probes failed
//!   in a row.
//! - BREAKER-3: in one half-open time at most `probes` calls are under way and have counted, together. All of them well close it;
//!   when it is certain that too many are not, it opens.
//! - BREAKER-4: a call counts at most once, and only in the state that let it in: what began before the breaker opened neither closes
//!   it nor opens it again.
//! - BREAKER-5: it never stays half-open while callers come: an abandoned probe gives its place back (or counts as slow), and probes
//!   that end in no way for `probe_patience` open it.
//! - BREAKER-6: its memory does not grow: ten counts for a window of time, two bytes a call for a window of calls.

mod state;
mod window;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kernel::Clock;

pub use self::{
    state::{BreakerConfig, BreakerCore, BreakerOpen, BreakerState, Outcome, Ticket},
    window::{Counts, Window},
};

/// One breaker for one dependency. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    clock: Clock,
    core: Mutex<BreakerCore>,
    let_in: AtomicU64,
    refused: AtomicU64,
}

/// What a breaker sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStats {
    /// Its state.
    pub state: BreakerState,
    /// What its window holds.
    pub counts: Counts,
    /// Calls let in so far.
    pub let_in_count: u64,
    /// Calls refused so far.
    pub refused_count: u64,
    /// Times it opened so far, also from half-open.
    pub opened_count: u64,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken<E> {
    /// It was not tried.
    #[error(transparent)]
    Open(#[from] BreakerOpen),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(E),
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaker")
    }
}

impl Breaker {
    /// A closed one.
    pub fn new(clock: &Clock, config: BreakerConfig) -> Self {
        Self(Arc::new(Shared {
            clock: clock.clone(),
            core: Mutex::new(BreakerCore::new(config)),
            let_in: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// The right to make one call now. Never waits.
    pub fn try_enter(&self) -> Result<BreakerPermit, BreakerOpen> {
        let now = self.0.clock.monotonic();
        let asked = self.0.lock().ask(now);
        let counter = if asked.is_ok() { &self.0.let_in } else { &self.0.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(BreakerPermit { shared: self.0.clone(), ticket: Some(asked?) })
    }

    /// Runs `work` if calls go through. `judge` says what a failure tells about the dependency: a wrong request is a
    /// [`Outcome::Success`] of the dependency.
    pub async fn run<T, E, F>(&self, judge: impl FnOnce(&E) -> Outcome, work: F) -> Result<T, Broken<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let permit = self.try_enter()?;
        let result = work.await;
        permit.report(result.as_ref().err().map_or(Outcome::Success, judge));
        result.map_err(Broken::Failed)
    }

    /// The same with something to give when it is refused or fails: what a cache still has, a shorter page.
    pub async fn run_or<T, E, F>(
        &self,
        judge: impl FnOnce(&E) -> Outcome,
        work: F,
        fallback: impl AsyncFnOnce(Broken<E>) -> T,
    ) -> T
    where
        F: Future<Output = Result<T, E>>,
    {
        match self.run(judge, work).await {
            Ok(value) => value,
            Err(broken) => fallback(broken).await,
        }
    }

    /// What it sees now.
    pub fn stats(&self) -> BreakerStats {
        let now = self.0.clock.monotonic();
        let mut core = self.0.lock();
        BreakerStats {
            state: core.state(now),
            counts: core.counts(now),
            let_in_count: self.0.let_in.load(Ordering::Relaxed),
            refused_count: self.0.refused.load(Ordering::Relaxed),
            opened_count: core.opened_count(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BreakerCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call. Dropped without a report, the call counts as abandoned.
#[derive(Debug)]
pub struct BreakerPermit {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl BreakerPermit {
    /// Says what became of the call.
    pub fn report(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.shared.clock.monotonic();
            self.shared.lock().report(ticket, now, outcome);
        }
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        // A panic inside of the call is a failure of it.
        self.end(if std::thread::panicking() { Outcome::Failure } else { Outcome::Unknown });
    }
}
