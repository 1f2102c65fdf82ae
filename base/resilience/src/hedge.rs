//! Asks a second time when the first answer is late, and takes whichever comes first.
//!
//! After Dean and Barroso ("The Tail at Scale", CACM 2013): the second copy is sent when the first has taken longer than most do,
//! so that few are sent, and a budget bounds them whatever happens. Only for what is the same done twice, of which one may be
//! dropped half-way: reads.
//!
//! Invariants:
//! - HEDGE-1: at most `1 + extra` copies of a call begin, each but the first not before its delay, and none after the deadline.
//! - HEDGE-2: over any history, extra copies ≤ burst + percent of calls: when everything is slow, hedging stops by itself.
//! - HEDGE-3: the first success is the result, and the other copies are dropped with it.
//! - HEDGE-4: a failure is the result only when no copy is left under way; one copy's failure does not start another: that is what
//!   retries are for.
//! - HEDGE-5: what is not [`Safe::Always`] has one copy.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use crate::{Deadline, Latency, RetryBudget, Safe};

/// When to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeConfig {
    /// Another copy begins when the last one has taken longer than this percentage of copies do.
    pub percentile: u32,
    /// Not earlier than this, however fast most are.
    pub min_delay: Duration,
    /// Not later than this, however slow most are.
    pub max_delay: Duration,
    /// Before so many have been seen, the delay is `max_delay`.
    pub min_samples: u32,
    /// Extra copies of one call.
    pub extra: u32,
    /// Extra copies at once, over all calls.
    pub burst: u32,
    /// Extra copies for every hundred calls.
    pub percent: u32,
}

impl Default for HedgeConfig {
    /// One copy after the 95th percentile (1 ms to 1 s, at first 1 s); ten at once, then five for every hundred calls.
    fn default() -> Self {
        Self {
            percentile: 95,
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_secs(1),
            min_samples: 50,
            extra: 1,
            burst: 10,
            percent: 5,
        }
    }
}

/// Hedges the calls to one dependency. Cheap to clone; clones share what they saw and the budget.
#[derive(Clone)]
pub struct Hedge(Arc<Shared>);

struct Shared {
    config: HedgeConfig,
    latency: Mutex<Latency>,
    budget: RetryBudget,
    calls: AtomicU64,
    extra: AtomicU64,
    won: AtomicU64,
}

/// What a hedge sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeStats {
    /// Calls so far.
    pub call_count: u64,
    /// Extra copies so far.
    pub extra_count: u64,
    /// Of these, those whose answer was taken.
    pub won_count: u64,
    /// After how long the next extra copy would begin.
    pub delay: Duration,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HedgeFailed<E> {
    /// Every copy failed; this is what the last to end said.
    #[error("{0}")]
    Failed(E),
    /// The deadline passed.
    #[error("the deadline passed")]
    Late,
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hedge")
    }
}

impl Hedge {
    /// With nothing seen and a full budget.
    pub fn new(config: HedgeConfig) -> Self {
        Self(Arc::new(Shared {
            budget: RetryBudget::new(config.burst, config.percent),
            config,
            latency: Mutex::default(),
            calls: AtomicU64::new(0),
            extra: AtomicU64::new(0),
            won: AtomicU64::new(0),
        }))
    }

    /// Calls `copy` with 0, and while the answer is late with 1 and so on, until one succeeds. `copy` gets the deadline of the call.
    pub async fn run<T, E, F, Fut>(&self, safe: Safe, deadline: &Deadline, mut copy: F) -> Result<T, HedgeFailed<E>>
    where
        F: FnMut(u32, Deadline) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let shared = &self.0;
        let clock = deadline.clock();
        shared.calls.fetch_add(1, Ordering::Relaxed);
        shared.budget.deposit();
        let delay = self.delay();
        let most = if safe == Safe::Always { shared.config.extra.saturating_add(1) } else { 1 };
        let mut copies = Copies { running: Vec::new(), shared, now: || clock.monotonic() };
        let mut begun = 0;
        loop {
            if deadline.is_over() {
                return Err(HedgeFailed::Late);
            }
            let may_begin = begun < most && (begun == 0 || shared.budget.withdraw());
            if may_begin {
                let future = Box::pin(copy(begun, deadline.clone()));
                copies.running.push(Running { number: begun, began: clock.monotonic(), future });
                shared.extra.fetch_add(u64::from(begun > 0), Ordering::Relaxed);
                begun += 1;
            }
            let until_next = if may_begin && begun < most { delay } else { Duration::MAX };
            let left = deadline.remaining().unwrap_or(Duration::MAX);
            match clock.timeout(until_next.min(left), copies.first()).await {
                Some((number, Ok(value))) => {
                    shared.won.fetch_add(u64::from(number > 0), Ordering::Relaxed);
                    return Ok(value);
                }
                Some((_, Err(error))) => return Err(HedgeFailed::Failed(error)),
                None => {}
            }
        }
    }

    /// What it sees now.
    pub fn stats(&self) -> HedgeStats {
        HedgeStats {
            call_count: self.0.calls.load(Ordering::Relaxed),
            extra_count: self.0.extra.load(Ordering::Relaxed),
            won_count: self.0.won.load(Ordering::Relaxed),
            delay: self.delay(),
        }
    }

    fn delay(&self) -> Duration {
        let config = &self.0.config;
        let latency = self.0.lock();
        let usual = latency.percentile(config.percentile).filter(|_| latency.count() >= config.min_samples);
        usual.unwrap_or(config.max_delay).clamp(config.min_delay, config.max_delay.max(config.min_delay))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Latency> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running<Fut> {
    number: u32,
    began: Duration,
    future: Pin<Box<Fut>>,
}

/// Copies under way. What they took is recorded however they end: one that is dropped took at least so long, and leaving it out would
/// make the usual latency look ever shorter.
struct Copies<'a, Fut, N: Fn() -> Duration> {
    running: Vec<Running<Fut>>,
    shared: &'a Shared,
    now: N,
}

impl<T, E, Fut: Future<Output = Result<T, E>>, N: Fn() -> Duration> Copies<'_, Fut, N> {
    /// The first success, or the last failure.
    async fn first(&mut self) -> (u32, Result<T, E>) {
        std::future::poll_fn(|context| {
            let mut at = 0;
            while at < self.running.len() {
                match self.running[at].future.as_mut().poll(context) {
                    Poll::Pending => at += 1,
                    Poll::Ready(outcome) => {
                        let ended = self.running.remove(at);
                        if outcome.is_ok() {
                            self.record(&ended);
                        }
                        if outcome.is_ok() || self.running.is_empty() {
                            return Poll::Ready((ended.number, outcome));
                        }
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl<Fut, N: Fn() -> Duration> Copies<'_, Fut, N> {
    fn record(&self, copy: &Running<Fut>) {
        self.shared.lock().record((self.now)().saturating_sub(copy.began));
    }
}

impl<Fut, N: Fn() -> Duration> Drop for Copies<'_, Fut, N> {
    fn drop(&mut self) {
        self.running.iter().for_each(|copy| self.record(copy));
    }
}
