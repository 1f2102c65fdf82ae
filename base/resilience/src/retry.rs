//! Trying again, where that is safe and does not make things worse.
//!
//! Waits are exponential with full jitter (`kernel::Backoff`; Brooker, AWS Architecture Blog 2015). The budget follows
//! gRPC's retry throttling (proposal A6) and Finagle's: retries are a bounded part of calls, so that an outage is not met
//! with a multiple of its load.
//!
//! Invariants:
//! - RETRY-1: never more tries than `max_tries`, and no try begins after `total` or after the caller's deadline.
//! - RETRY-2: an outcome that is unknown (a try that timed out) is tried again only for [`Safe::Always`].
//! - RETRY-3: over any history, `retries ≤ initial budget + ratio × calls`.
//! - RETRY-4: no wait is shorter than a `Retry-After` hint (back-off comes on top); a hint past the time that is left ends it at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::{Backoff, Rng};

use crate::Deadline;

/// What the caller knows of doing it twice. There is no default: whoever retries has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safe {
    /// Doing it twice is the same as once: reads, writes with an idempotency key.
    Always,
    /// Only when the failure shows that nothing was done: connection refused, 429, 503 before work.
    WhenNothingWasDone,
    /// Not at all.
    Never,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Trying again would fail the same way.
    Final,
    /// It may pass; nothing was done. `after` is the other side's hint.
    NothingDone {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// It may pass; whether it was done is not known.
    Unknown {
        /// `Retry-After`.
        after: Option<Duration>,
    },
}

/// How to try.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Waits between tries.
    pub backoff: Backoff,
    /// Tries at most, the first included.
    pub max_tries: u32,
    /// Longest one try.
    pub per_try: Duration,
    /// Longest everything, waits included.
    pub total: Duration,
    /// Shared by all calls to one dependency.
    pub budget: RetryBudget,
}

/// Why it was not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// The failure is final.
    Final,
    /// Trying again is not safe.
    Unsafe,
    /// As many tries as allowed.
    Tries,
    /// No time for another.
    Time,
    /// The budget of retries is used up: the dependency has trouble enough.
    Budget,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryFailed<E> {
    /// What the last try said; `None` when it took too long.
    pub error: Option<E>,
    /// Tries made.
    pub try_count: u32,
    /// Why there was no other.
    pub gave_up: GaveUp,
}

impl<E: fmt::Display> fmt::Display for RetryFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error} (after {} tries)", self.try_count),
            None => write!(f, "no answer in time (after {} tries)", self.try_count),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for RetryFailed<E> {}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Wait, then try again.
    Wait(Duration),
    /// Stop.
    Stop(GaveUp),
}

/// The pure core: counts tries and decides; knows no clock.
#[derive(Debug, Clone)]
pub struct Attempts<'a> {
    retry: &'a Retry,
    safe: Safe,
    tries: u32,
}

impl<'a> Attempts<'a> {
    /// Before the first try.
    pub fn new(retry: &'a Retry, safe: Safe) -> Self {
        retry.budget.deposit();
        Self { retry, safe, tries: 0 }
    }

    /// A try begins.
    pub fn begin(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// It failed as `verdict` says; `left` is the time that is left.
    pub fn after_failure(&self, verdict: Verdict, left: Duration, rng: &Rng) -> Decision {
        let (after, done_is_unknown) = match verdict {
            Verdict::Final => return Decision::Stop(GaveUp::Final),
            Verdict::NothingDone { after } => (after, false),
            Verdict::Unknown { after } => (after, true),
        };
        match self.safe {
            Safe::Never => return Decision::Stop(GaveUp::Unsafe),
            Safe::WhenNothingWasDone if done_is_unknown => return Decision::Stop(GaveUp::Unsafe),
            Safe::WhenNothingWasDone | Safe::Always => {}
        }
        if self.tries >= self.retry.max_tries {
            return Decision::Stop(GaveUp::Tries);
        }
        // On top of the hint, not the longer of both: all who were told the same second would come back together.
        let jitter = self.retry.backoff.delay(self.tries.saturating_sub(1), rng);
        let wait = jitter.saturating_add(after.unwrap_or_default());
        if wait >= left {
            return Decision::Stop(GaveUp::Time);
        }
        if !self.retry.budget.withdraw() {
            return Decision::Stop(GaveUp::Budget);
        }
        Decision::Wait(wait)
    }

    /// Tries so far.
    pub fn try_count(&self) -> u32 {
        self.tries
    }
}

impl Retry {
    /// Three tries within `total`, each of at most a third of it, 10 ms to 1 s apart, a tenth of calls as retries.
    pub fn new(total: Duration) -> Self {
        Self {
            backoff: Backoff { base: Duration::from_millis(10), cap: Duration::from_secs(1) },
            max_tries: 3,
            per_try: total / 3,
            total,
            budget: RetryBudget::default(),
        }
    }

    /// Calls `work` until it succeeds or there is a reason to stop. `judge` says what a failure means.
    pub async fn run<T, E, F, Fut>(
        &self,
        safe: Safe,
        deadline: &Deadline,
        rng: &Rng,
        judge: impl Fn(&E) -> Verdict,
        mut work: F,
    ) -> Result<T, RetryFailed<E>>
    where
        F: FnMut(Deadline) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let whole = deadline.within(self.total);
        let mut attempts = Attempts::new(self, safe);
        loop {
            attempts.begin();
            let this_try = whole.within(self.per_try);
            let (error, verdict) = match this_try.run(work(this_try.clone())).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => {
                    let verdict = judge(&error);
                    (Some(error), verdict)
                }
                Err(_) => (None, Verdict::Unknown { after: None }),
            };
            let left = whole.remaining().unwrap_or(Duration::MAX);
            match attempts.after_failure(verdict, left, rng) {
                Decision::Wait(wait) => whole.clock().sleep(wait).await,
                Decision::Stop(gave_up) => {
                    return Err(RetryFailed { error, try_count: attempts.try_count(), gave_up });
                }
            }
        }
    }
}

/// Retries that all calls to one dependency share. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct RetryBudget(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    milli: AtomicU64,
    max_milli: u64,
    deposit_milli: u64,
}

impl Default for RetryBudget {
    /// Ten retries at once, then one for every ten calls.
    fn default() -> Self {
        Self::new(10, 10)
    }
}

impl RetryBudget {
    /// `burst` retries at once (it starts full), then `percent` retries for every hundred calls.
    pub fn new(burst: u32, percent: u32) -> Self {
        let max_milli = u64::from(burst) * 1_000;
        Self(Arc::new(Bucket { milli: AtomicU64::new(max_milli), max_milli, deposit_milli: u64::from(percent) * 10 }))
    }

    /// Whole retries left.
    pub fn left(&self) -> u64 {
        self.0.milli.load(Ordering::Relaxed) / 1_000
    }

    pub(crate) fn deposit(&self) {
        let add = |milli: u64| Some((milli + self.0.deposit_milli).min(self.0.max_milli));
        self.0.milli.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }

    pub(crate) fn withdraw(&self) -> bool {
        self.0.milli.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |milli| milli.checked_sub(1_000)).is_ok()
    }
}
