//! Times that were noted in memory and are written later, together: "last used" must not cost a write on the hot path.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use kernel::Timestamp;

/// At most `capacity` times; what comes beyond is left out, and noted again at its next use.
pub(crate) struct Pending<K> {
    capacity: usize,
    times: Mutex<HashMap<K, Timestamp>>,
}

impl<K: Hash + Eq + Copy> Pending<K> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, times: Mutex::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<K, Timestamp>) -> T) -> T {
        f(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn note(&self, key: K, at: Timestamp) {
        self.with(|times| {
            if times.len() < self.capacity || times.contains_key(&key) {
                times.insert(key, at);
            }
        });
    }

    pub(crate) fn get(&self, key: &K) -> Option<Timestamp> {
        self.with(|times| times.get(key).copied())
    }

    /// Takes up to `count` of them.
    pub(crate) fn take(&self, count: usize) -> Vec<(K, Timestamp)> {
        self.with(|times| {
            let keys: Vec<K> = times.keys().take(count).copied().collect();
            keys.into_iter().filter_map(|key| times.remove(&key).map(|at| (key, at))).collect()
        })
    }
}
