//! A limit on what is under way that finds itself, and sheds the less important first.
//!
//! How the limit moves is after the gradient limits of Netflix ("Performance Under Load", 2018; concurrency-limits) and Envoy's
//! adaptive concurrency filter: the latency of a window over the latency without contention says by how much there is too much.
//! Two things are different. The uncontended latency is learnt from work beside which never more than `min` ran, by kind of
//! work; so it neither drifts up under an overload that lasts (as a running mean does), nor does the limit have to dip from time to
//! time (as Envoy's does), nor does the fastest kind judge all. And latency that is `acceptable` anyhow never lowers the limit.
//! The shares of the classes are Netflix's prioritised load shedding (2020), as steps.
//!
//! Invariants:
//! - ADAPT-1: `min ≤ limit ≤ max`, and it moves at most once a window: up by at most √limit, down to half of what was under way.
//! - ADAPT-2: it falls only when a window's work took longer than allowed on average (or nothing ended at all), and more than `min`
//!   were under way: slowness that so few see is not of their making.
//! - ADAPT-3: a baseline comes from uncontended work alone, and so does not follow an overload.
//! - ADAPT-4: a place is given back however its holder ends: the number under way is the number of places out.
//! - SHED-1: a class is refused only when its share of the limit is filled; the critical class only when its reserve is filled too.
//! - SHED-2: when a class is let in, each class above it would have been.
//! - SHED-3: never more than `max + critical_reserve` under way.

mod state;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kernel::Clock;

pub use self::state::{AdaptiveConfig, AdaptiveCore, Admitted, Ending, Priority};

/// The limit of one process or one dependency. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct AdaptiveLimit(Arc<Shared>);

struct Shared {
    clock: Clock,
    core: Mutex<AdaptiveCore>,
    refused: [AtomicU64; Priority::ALL.len()],
}

/// There is no room for one of this class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as much is under way as can be done in time")]
pub struct Shed;

/// What a limit sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveStats {
    /// The limit now.
    pub limit: u32,
    /// Under way now.
    pub in_flight_count: u32,
    /// Refused so far, in the order of [`Priority::ALL`].
    pub refused_counts: [u64; Priority::ALL.len()],
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdaptiveLimit")
    }
}

impl AdaptiveLimit {
    /// With the limit at its most.
    pub fn new(clock: &Clock, config: AdaptiveConfig) -> Self {
        let core = Mutex::new(AdaptiveCore::new(config));
        Self(Arc::new(Shared { clock: clock.clone(), core, refused: Default::default() }))
    }

    /// A place for work of a kind (`None`: its time says nothing), or a refusal. Never waits.
    pub fn try_enter(&self, kind: Option<usize>, priority: Priority) -> Result<Place, Shed> {
        let now = self.0.clock.monotonic();
        let admitted = self.0.lock().enter(now, kind, priority);
        if admitted.is_none() {
            self.0.refused[priority as usize].fetch_add(1, Ordering::Relaxed);
        }
        Ok(Place { shared: self.0.clone(), admitted: Some(admitted.ok_or(Shed)?) })
    }

    /// What it sees now.
    pub fn stats(&self) -> AdaptiveStats {
        let core = self.0.lock();
        AdaptiveStats {
            limit: core.limit(),
            in_flight_count: core.in_flight(),
            refused_counts: std::array::from_fn(|n| self.0.refused[n].load(Ordering::Relaxed)),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, AdaptiveCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work. Dropped without an end, the work counts as abandoned.
pub struct Place {
    shared: Arc<Shared>,
    admitted: Option<Admitted>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.admitted).finish()
    }
}

impl Place {
    /// Says how the work ended.
    pub fn end(mut self, ending: Ending) {
        self.leave(ending);
    }

    fn leave(&mut self, ending: Ending) {
        if let Some(admitted) = self.admitted.take() {
            self.shared.lock().leave(admitted, self.shared.clock.monotonic(), ending);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave(Ending::Abandoned);
    }
}
