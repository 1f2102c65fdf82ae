//! The engine in process: sharded maps under one limit of bytes.
//!
//! Invariants:
//! - MEMORY-1: `used_bytes ≤ max_bytes`, always: an operation reserves the most it can add before it touches a shard, and gives
//!   back what it did not need.
//! - MEMORY-2: `used_bytes` = the sum over shards when no operation runs.
//! - MEMORY-3: every entry that made room is counted, by number and bytes.
//! - MEMORY-4: an expired key is never seen, whether or not it was swept yet.

mod shard;
pub(crate) mod slot;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use kernel::{Clock, Rng};

use self::shard::{ENTRY_OVERHEAD, PROJECT_OVERHEAD, Shard};
use crate::{
    Error, Key, Result,
    op::{Reply, Verb},
    rate::Table,
    stats::LocalStats,
};

/// Shards; operations on different shards do not wait for one another.
const SHARDS: usize = 16;

pub(crate) struct Local {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    clock: Clock,
    max_bytes: usize,
    used_bytes: AtomicUsize,
    high_water_bytes: AtomicUsize,
    next_shard: AtomicUsize,
    evicted_count: AtomicU64,
    evicted_bytes: AtomicU64,
    expired_count: AtomicU64,
    /// Rate cells, under a limit of their own.
    pub(crate) rates: Table,
}

impl Local {
    pub(crate) fn new(max_bytes: usize, max_rate_cells: usize, clock: Clock, rng: &Rng) -> Self {
        Self {
            rates: Table::new(max_rate_cells, clock.clone(), rng),
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(rng.next_u64()))).collect(),
            hasher: RandomState::new(),
            clock,
            max_bytes,
            used_bytes: AtomicUsize::new(0),
            high_water_bytes: AtomicUsize::new(0),
            next_shard: AtomicUsize::new(0),
            evicted_count: AtomicU64::new(0),
            evicted_bytes: AtomicU64::new(0),
            expired_count: AtomicU64::new(0),
        }
    }

    /// Applies one operation, at once: nothing is waited for but a short lock.
    pub(crate) fn apply(&self, key: &Key, verb: &Verb) -> Result<Reply> {
        let most = if verb.creates() {
            ENTRY_OVERHEAD + PROJECT_OVERHEAD + key.byte_count() + key.project().len() + verb.growth()
        } else {
            0
        };
        self.reserve(most)?;
        let mut shard = self.shard(key);
        let before = shard.bytes();
        let (reply, effect) = shard.apply(key, verb, self.clock.monotonic());
        // Given back under the shard's lock, so that the sum and the shards agree whenever no operation runs.
        let (after, spare) = (shard.bytes(), most + before);
        debug_assert!(after <= spare, "{verb:?} grew by more than it reserved");
        self.used_bytes.fetch_sub(spare.saturating_sub(after), Relaxed);
        drop(shard);
        if effect.expired_count > 0 {
            self.expired_count.fetch_add(effect.expired_count, Relaxed);
        }
        reply
    }

    pub(crate) fn clear(&self) {
        self.rates.clear();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let bytes = shard.bytes();
            shard.clear();
            self.used_bytes.fetch_sub(bytes, Relaxed);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used_bytes.load(Relaxed) == 0 && self.rates.is_empty()
    }

    pub(crate) fn stats(&self) -> LocalStats {
        LocalStats {
            entry_count: self.shards.iter().map(|s| lock(s).entry_count()).sum(),
            used_bytes: self.used_bytes.load(Relaxed),
            high_water_bytes: self.high_water_bytes.load(Relaxed),
            max_bytes: self.max_bytes,
            evicted_count: self.evicted_count.load(Relaxed),
            evicted_bytes: self.evicted_bytes.load(Relaxed),
            expired_count: self.expired_count.load(Relaxed),
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        lock(&self.shards[hash % SHARDS])
    }

    /// Takes `bytes` from what is free, evicting until there is enough.
    fn reserve(&self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let limit = self.max_bytes;
        if bytes > limit {
            return Err(Error::TooLarge { what: "data for the memory of this process (bytes)", limit });
        }
        loop {
            let taken = self
                .used_bytes
                .fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= limit));
            match taken {
                Ok(before) => {
                    self.high_water_bytes.fetch_max(before + bytes, Relaxed);
                    return Ok(());
                }
                Err(_) if self.evict() => {}
                // Everything is reserved by operations in flight; one of them gives back soon, but not in bounded time.
                Err(_) => return Err(Error::Overloaded),
            }
        }
    }

    /// Evicts one entry: of the two next shards, from the one whose largest project is larger.
    fn evict(&self) -> bool {
        let now = self.clock.monotonic();
        for _ in 0..SHARDS {
            let first = self.next_shard.fetch_add(1, Relaxed);
            let (a, b) = (&self.shards[first % SHARDS], &self.shards[(first + 1) % SHARDS]);
            let (in_a, in_b) = (lock(a).largest_bytes(), lock(b).largest_bytes());
            let mut shard = lock(if in_a >= in_b { a } else { b });
            let before = shard.bytes();
            let Some(had_expired) = shard.evict_one(now) else { continue };
            let freed = before - shard.bytes();
            self.used_bytes.fetch_sub(freed, Relaxed);
            drop(shard);
            if had_expired {
                self.expired_count.fetch_add(1, Relaxed);
            } else {
                self.evicted_count.fetch_add(1, Relaxed);
                self.evicted_bytes.fetch_add(u64::try_from(freed).unwrap_or(u64::MAX), Relaxed);
            }
            return true;
        }
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
