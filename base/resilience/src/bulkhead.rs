//! A limit on what runs at once, and on who waits for it.
//!
//! Invariants:
//! - BULKHEAD-1: at most `limit` permits are out.
//! - BULKHEAD-2: at most `queue_limit` callers wait, in the order of their coming; one more is refused at once.
//! - BULKHEAD-3: nobody waits past its deadline, and nobody gets a permit after it.
//! - BULKHEAD-4: a permit or a place in the queue is given back however its holder ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::Deadline;

/// Limits what runs at once. Cheap to clone; clones share the limit.
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    permits: Arc<Semaphore>,
    limit: usize,
    queue_limit: usize,
    queued: AtomicUsize,
    refused_full: AtomicU64,
    refused_late: AtomicU64,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All permits are out and the queue is full: come back later.
    #[error("too many requests are under way and waiting")]
    QueueFull,
    /// The deadline passed while waiting.
    #[error("the deadline passed while waiting for a free place")]
    Deadline,
}

/// What a bulkhead sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BulkheadStats {
    /// Permits out now.
    pub running_count: usize,
    /// Callers that wait now.
    pub queued_count: usize,
    /// Refused so far since the queue was full.
    pub refused_full_count: u64,
    /// Refused so far since their deadline passed.
    pub refused_late_count: u64,
}

/// The right to run; given back on drop.
#[derive(Debug)]
pub struct Permit(#[allow(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Bulkhead {
    /// `limit` permits (at least one) and `queue_limit` places to wait (zero: never wait).
    pub fn new(limit: usize, queue_limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            queue_limit,
            queued: AtomicUsize::new(0),
            refused_full: AtomicU64::new(0),
            refused_late: AtomicU64::new(0),
        }))
    }

    /// A permit, now or after waiting.
    pub async fn acquire(&self, deadline: &Deadline) -> Result<Permit, Refused> {
        if deadline.is_over() {
            return Err(self.late());
        }
        match self.0.permits.clone().try_acquire_owned() {
            Ok(permit) => return Ok(Permit(permit)),
            // It is never closed.
            Err(TryAcquireError::Closed) => return Err(self.full()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let place = Place(&self.0.queued);
        if self.0.queued.fetch_add(1, Ordering::Relaxed) >= self.0.queue_limit {
            return Err(self.full());
        }
        let waited = deadline.run(self.0.permits.clone().acquire_owned()).await;
        drop(place);
        match waited {
            // Time and the permit may have come together.
            Ok(Ok(permit)) if !deadline.is_over() => Ok(Permit(permit)),
            Ok(Err(_)) => Err(self.full()),
            Ok(Ok(_)) | Err(_) => Err(self.late()),
        }
    }

    /// Runs `work` with a permit and within the deadline.
    pub async fn run<F: Future>(&self, deadline: &Deadline, work: F) -> Result<F::Output, Refused> {
        let _permit = self.acquire(deadline).await?;
        deadline.run(work).await.map_err(|_| self.late())
    }

    /// What it sees now.
    pub fn stats(&self) -> BulkheadStats {
        BulkheadStats {
            running_count: self.0.limit - self.0.permits.available_permits(),
            queued_count: self.0.queued.load(Ordering::Relaxed),
            refused_full_count: self.0.refused_full.load(Ordering::Relaxed),
            refused_late_count: self.0.refused_late.load(Ordering::Relaxed),
        }
    }

    /// When to tell a refused caller to come back: the time in which a full queue drains when each takes `typical`.
    pub fn retry_after(&self, typical: Duration) -> Duration {
        let rounds = self.0.queue_limit.div_ceil(self.0.limit).max(1);
        typical.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    fn full(&self) -> Refused {
        self.0.refused_full.fetch_add(1, Ordering::Relaxed);
        Refused::QueueFull
    }

    fn late(&self) -> Refused {
        self.0.refused_late.fetch_add(1, Ordering::Relaxed);
        Refused::Deadline
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
