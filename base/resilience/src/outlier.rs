//! Leaves out the host that is worse than its peers, for a while.
//!
//! After Envoy's outlier detection: failures in a row find a host that is down, the comparison of success rates one that is sick.
//!
//! Invariants:
//! - OUTLIER-1: at most `max_ejected_percent` of hosts are ejected at a time (one always may be), and never all: the last host is used
//!   whatever it does.
//! - OUTLIER-2: an ejection lasts exactly `base × n`, at most `max_ejection`; n counts ejections, and falls by one with each interval
//!   that ends while the host is in.
//! - OUTLIER-3: a host is ejected only for so many failures in a row, which a success ends, or for a rate that is below the mean by the
//!   deviation, over enough hosts with enough calls of one interval.
//! - OUTLIER-4: when fewer than `panic_percent` of hosts are well, all are used; with hosts there, there is always one to use.

mod state;

use std::{
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kernel::Clock;

pub use self::state::{OutlierConfig, OutlierCore, Usable};

/// Watches the hosts of one dependency. Cheap to clone; clones share it.
pub struct Outliers<K>(Arc<Shared<K>>);

struct Shared<K> {
    clock: Clock,
    core: Mutex<OutlierCore<K>>,
}

/// What outlier detection sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierStats {
    /// Hosts that are ejected now.
    pub ejected_count: usize,
    /// Ejections so far.
    pub ejection_count: u64,
}

impl<K> Clone for Outliers<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for Outliers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outliers")
    }
}

impl<K: Hash + Eq + Clone> Outliers<K> {
    /// With no hosts.
    pub fn new(clock: &Clock, config: OutlierConfig) -> Self {
        Self(Arc::new(Shared { clock: clock.clone(), core: Mutex::new(OutlierCore::new(config)) }))
    }

    /// Says which hosts there are. What is known of those that stay is kept.
    pub fn set_hosts(&self, keys: impl IntoIterator<Item = K>) {
        self.lock().set_hosts(keys);
    }

    /// Says how a call to a host ended.
    pub fn report(&self, key: &K, is_success: bool) {
        let now = self.0.clock.monotonic();
        self.lock().report(now, key, is_success);
    }

    /// The hosts to use now, of those that `is_healthy` (an active check) also takes for well.
    pub fn usable(&self, is_healthy: impl Fn(&K) -> bool) -> Usable<K> {
        let now = self.0.clock.monotonic();
        self.lock().usable(now, is_healthy)
    }

    /// Whether a host is ejected now.
    pub fn is_ejected(&self, key: &K) -> bool {
        let now = self.0.clock.monotonic();
        self.lock().is_ejected(now, key)
    }

    /// What it sees now.
    pub fn stats(&self) -> OutlierStats {
        let now = self.0.clock.monotonic();
        let mut core = self.lock();
        OutlierStats { ejected_count: core.ejected_count(now), ejection_count: core.ejection_count() }
    }

    fn lock(&self) -> MutexGuard<'_, OutlierCore<K>> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
