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

    /// All of them; they stay until they are [`Pending::written`].
    pub(crate) fn all(&self) -> Vec<(K, Timestamp)> {
        self.with(|times| times.iter().map(|(key, at)| (*key, *at)).collect())
    }

    /// Lets go of what was written, unless it was noted again meanwhile.
    pub(crate) fn written(&self, written: &[(K, Timestamp)]) {
        self.with(|times| {
            for (key, at) in written {
                if times.get(key) == Some(at) {
                    times.remove(key);
                }
            }
        });
    }
}
