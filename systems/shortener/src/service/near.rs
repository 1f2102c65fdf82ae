//! The near cache: what this node knows of codes, the unknown ones included.
//!
//! - NEAR-1: an entry is never served past its age: `cache_max_age` while invalidations arrive, `cache_max_age_degraded` while
//!   they do not, `cache_unknown_age` for a code that no link has.
//! - NEAR-2: what was read from the database before an invalidation is not kept after it: every invalidation moves the epoch of
//!   its code, and a load that began in an older epoch takes its entry out again.
//! - NEAR-3: never more than `cache_entries` entries nor `cache_bytes` bytes.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{Equivalent, Weighter, sync::Cache};

use super::target::Target;
use crate::{
    config::ShortenerConfig,
    model::{Code, DomainId},
    telemetry::Telemetry,
};

const EPOCHS: usize = 256;
/// What an entry takes beside its texts, roughly.
const ENTRY_BYTES: u64 = 240;

/// Where a link answers: a code on a domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) domain: DomainId,
    pub(crate) code: Code,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpotRef<'a> {
    pub(crate) domain: DomainId,
    pub(crate) code: &'a str,
}

impl Spot {
    pub(crate) fn borrow(&self) -> SpotRef<'_> {
        SpotRef { domain: self.domain, code: self.code.as_str() }
    }
}

impl Equivalent<Spot> for SpotRef<'_> {
    fn equivalent(&self, spot: &Spot) -> bool {
        *self == spot.borrow()
    }
}

/// What is known of a code; `None` when no link has it.
pub(crate) type Known = Option<Arc<Target>>;

#[derive(Debug, Clone)]
struct Entry {
    known: Known,
    loaded_at: Duration,
}

/// Entries weigh their bytes, and at least so much that no more than `cache_entries` of them fit.
#[derive(Debug, Clone)]
struct ByBytes {
    least: u64,
}

impl Weighter<Spot, Entry> for ByBytes {
    fn weight(&self, spot: &Spot, entry: &Entry) -> u64 {
        let texts = spot.code.as_str().len() + entry.known.as_ref().map_or(0, |t| t.bytes());
        (ENTRY_BYTES + texts as u64).max(self.least)
    }
}

/// Where a load began; see NEAR-2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    slot: usize,
    value: u64,
}

#[derive(Debug)]
pub(crate) struct Near {
    cache: Cache<Spot, Entry, ByBytes>,
    epochs: Box<[AtomicU64]>,
    is_degraded: AtomicBool,
    max_age: Duration,
    max_age_degraded: Duration,
    unknown_age: Duration,
    telemetry: Telemetry,
}

impl Near {
    pub(crate) fn new(config: &ShortenerConfig, telemetry: Telemetry) -> Self {
        let least = (config.cache_bytes.0 / config.cache_entries.max(1) as u64).max(1);
        Self {
            cache: Cache::with_weighter(config.cache_entries, config.cache_bytes.0, ByBytes { least }),
            epochs: (0..EPOCHS).map(|_| AtomicU64::new(0)).collect(),
            is_degraded: AtomicBool::new(false),
            max_age: config.cache_max_age,
            max_age_degraded: config.cache_max_age_degraded.min(config.cache_max_age),
            unknown_age: config.cache_unknown_age,
            telemetry,
        }
    }

    /// What is known of a code at `now` (monotonic), if that is fresh enough.
    pub(crate) fn get(&self, spot: SpotRef<'_>, now: Duration) -> Option<Known> {
        let found = self.peek(spot, now);
        let counter = if found.is_some() { &self.telemetry.cache_hits } else { &self.telemetry.cache_misses };
        counter.inc();
        found
    }

    /// The same, for who has asked before: it counts as no lookup.
    pub(crate) fn peek(&self, spot: SpotRef<'_>, now: Duration) -> Option<Known> {
        let found = self.cache.get(&spot).filter(|entry| {
            let age = now.saturating_sub(entry.loaded_at);
            age < self.age_limit(entry.known.is_some())
        });
        found.map(|entry| entry.known)
    }

    fn age_limit(&self, is_link: bool) -> Duration {
        let link = if self.is_degraded.load(Ordering::Relaxed) { self.max_age_degraded } else { self.max_age };
        if is_link { link } else { link.min(self.unknown_age) }
    }

    /// To be called before the database is asked.
    pub(crate) fn begin(&self, spot: SpotRef<'_>) -> Epoch {
        let slot = slot(spot);
        Epoch { slot, value: self.epochs[slot].load(Ordering::SeqCst) }
    }

    /// Keeps what a load found; `now` is when it *began*, so that its age counts from before it was read.
    pub(crate) fn keep(&self, spot: &Spot, known: Known, began: Epoch, now: Duration) {
        self.cache.insert(spot.clone(), Entry { known, loaded_at: now });
        if self.epochs[began.slot].load(Ordering::SeqCst) != began.value {
            self.cache.remove(spot);
        }
    }

    /// Forgets a code, and what is being loaded for it.
    pub(crate) fn forget(&self, spot: SpotRef<'_>) {
        self.epochs[slot(spot)].fetch_add(1, Ordering::SeqCst);
        self.cache.remove(&spot);
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.cache.clear();
    }

    /// Says whether invalidations arrive.
    pub(crate) fn set_degraded(&self, is_degraded: bool) {
        self.is_degraded.store(is_degraded, Ordering::Relaxed);
        self.telemetry.cache_degraded.set(i64::from(is_degraded));
    }

    /// Whether invalidations do not arrive.
    pub(crate) fn is_degraded(&self) -> bool {
        self.is_degraded.load(Ordering::Relaxed)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }
}

/// FNV-1a, folded: only spreads codes over epochs.
fn slot(spot: SpotRef<'_>) -> usize {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ spot.domain.0;
    let hash = spot.code.bytes().fold(start, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    usize::try_from((hash >> 32) % EPOCHS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: SpotRef<'_> = SpotRef { domain: DomainId::OWN, code: "abc" };

    fn abc() -> Spot {
        Spot { domain: DomainId::OWN, code: Code::parse("abc").unwrap() }
    }

    fn near() -> Near {
        let telemetry = Telemetry::new(&telemetry::Metrics::new().registry("shortener"));
        Near::new(&ShortenerConfig::default(), telemetry)
    }

    /// NEAR-2.
    #[test]
    fn what_was_read_before_an_invalidation_is_not_kept_after_it() {
        let near = near();
        let code = abc();
        for invalidate in [(|n: &Near| n.forget(ABC)) as fn(&Near), Near::forget_all] {
            let began = near.begin(ABC);
            invalidate(&near);
            near.keep(&code, None, began, Duration::ZERO);
            assert!(near.get(ABC, Duration::ZERO).is_none());
            near.keep(&code, None, near.begin(ABC), Duration::ZERO);
            assert!(near.get(ABC, Duration::ZERO).is_some());
        }
    }

    /// NEAR-1.
    #[test]
    fn a_node_that_hears_nothing_believes_itself_for_a_shorter_time() {
        let near = near();
        near.keep(&abc(), Some(Arc::new(Target::for_test())), near.begin(ABC), Duration::ZERO);
        assert!(near.get(ABC, Duration::from_secs(29)).is_some());
        near.set_degraded(true);
        assert!(near.get(ABC, Duration::from_millis(1999)).is_some());
        assert!(near.get(ABC, Duration::from_secs(2)).is_none());
    }

    #[test]
    fn a_code_on_another_domain_is_another_code() {
        let near = near();
        near.keep(&abc(), None, near.begin(ABC), Duration::ZERO);
        assert!(near.get(SpotRef { domain: DomainId(1), ..ABC }, Duration::ZERO).is_none());
        near.forget(SpotRef { domain: DomainId(1), ..ABC });
        assert!(near.get(ABC, Duration::ZERO).is_some());
    }
}
