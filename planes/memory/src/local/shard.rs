//! One shard: the entries of each project, densely stored so that a random one is found at once.

use std::{
    collections::{HashMap, hash_map},
    time::Duration,
};

use super::slot::{Slot, apply};
use crate::{
    Key, Result,
    op::{Reply, Verb},
};

/// What an entry takes beside key and data: key's allocation, entry, index slot, both tables at their worst fill.
pub(crate) const ENTRY_OVERHEAD: usize = 288;
/// What a project takes in a shard beside its entries.
pub(crate) const PROJECT_OVERHEAD: usize = 512;
/// Entries looked at to find the one to evict (Redis samples 5 as well).
const SAMPLE: usize = 5;
/// Entries that each operation looks at for expiry, in passing.
const SWEEP: usize = 4;

struct Entry {
    key: Key,
    slot: Slot,
    cost: usize,
    used_at: Duration,
}

/// What one project holds in this shard. Invariant: `index[entries[i].key] == i` and `bytes == Σ cost + PROJECT_OVERHEAD`.
struct Partition {
    index: HashMap<Key, usize>,
    entries: Vec<Entry>,
    bytes: usize,
    sweep_at: usize,
}

#[derive(Default)]
pub(crate) struct Shard {
    partitions: HashMap<Box<str>, Partition>,
    /// State of a small generator (xorshift) for sampling; seeded by the kernel's.
    random: u64,
    bytes: usize,
    entry_count: usize,
}

/// What an operation changed beside its answer.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Effect {
    pub(crate) expired_count: u64,
}

impl Shard {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: seed | 1, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Applies an operation. The caller has reserved [`Verb::growth`] and the overheads.
    pub(crate) fn apply(&mut self, key: &Key, verb: &Verb, now: Duration) -> (Result<Reply>, Effect) {
        let mut effect = Effect::default();
        let project = key.project();
        let Some(partition) = self.partitions.get_mut(project) else {
            let mut slot = None;
            let reply = apply(verb, &mut slot, now);
            if let Some(slot) = slot {
                let mut partition = Partition::empty();
                partition.insert(key, slot, now);
                self.bytes += partition.bytes;
                self.entry_count += 1;
                self.partitions.insert(project.into(), partition);
            }
            return (reply, effect);
        };
        let (bytes, entries) = (partition.bytes, partition.entries.len());
        let reply = match partition.index.get(key).copied() {
            None => {
                let mut slot = None;
                let reply = apply(verb, &mut slot, now);
                if let Some(slot) = slot {
                    partition.insert(key, slot, now);
                }
                reply
            }
            Some(at) if !partition.entries[at].slot.is_expired(now) => partition.update(at, verb, now),
            Some(at) => {
                effect.expired_count += 1;
                partition.remove(at);
                let mut slot = None;
                let reply = apply(verb, &mut slot, now);
                if let Some(slot) = slot {
                    partition.insert(key, slot, now);
                }
                reply
            }
        };
        effect.expired_count += partition.sweep(now);
        self.settle(project, bytes, entries);
        (reply, effect)
    }

    /// Bytes of the project that has most here.
    pub(crate) fn largest_bytes(&self) -> usize {
        self.partitions.values().map(|p| p.bytes).max().unwrap_or(0)
    }

    /// Evicts one entry of the project that has most: an expired one if the sample shows one, else the one used longest ago.
    /// Returns whether it had expired anyhow, or `None` when there is nothing.
    pub(crate) fn evict_one(&mut self, now: Duration) -> Option<bool> {
        let (project, partition) = self.partitions.iter_mut().max_by_key(|(_, p)| p.bytes)?;
        let project = project.clone();
        let (bytes, count) = (partition.bytes, partition.entries.len());
        let mut victim: Option<(bool, Duration, usize)> = None;
        for _ in 0..SAMPLE {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let at = usize::try_from(self.random % u64::try_from(count).unwrap_or(1).max(1)).unwrap_or(0);
            let Some(entry) = partition.entries.get(at) else { continue };
            let candidate = (!entry.slot.is_expired(now), entry.used_at, at);
            if victim.is_none_or(|v| candidate < v) {
                victim = Some(candidate);
            }
        }
        let (alive, _, at) = victim?;
        partition.remove(at);
        self.settle(&project, bytes, count);
        Some(!alive)
    }

    /// Forgets everything; returns how many entries that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.partitions = HashMap::new();
        self.bytes = 0;
        std::mem::take(&mut self.entry_count)
    }

    /// Brings the totals up to date after a project changed from `bytes` and `entries`.
    fn settle(&mut self, project: &str, bytes: usize, entries: usize) {
        let Some(partition) = self.partitions.get(project) else { return };
        self.bytes = self.bytes - bytes + partition.bytes;
        self.entry_count = self.entry_count - entries + partition.entries.len();
        if partition.entries.is_empty() {
            self.bytes -= partition.bytes;
            self.partitions.remove(project);
        }
    }

    /// The sum of what is held, counted anew, for tests of the invariant.
    #[cfg(test)]
    pub(crate) fn recount(&self) -> (usize, usize) {
        self.partitions.values().fold((0, 0), |(bytes, count), p| {
            for (key, at) in &p.index {
                assert_eq!(&p.entries[*at].key, key);
            }
            assert_eq!(p.index.len(), p.entries.len());
            let sum: usize = p.entries.iter().map(|e| cost(&e.key, &e.slot)).sum();
            assert_eq!(sum + PROJECT_OVERHEAD, p.bytes);
            (bytes + p.bytes, count + p.entries.len())
        })
    }
}

fn cost(key: &Key, slot: &Slot) -> usize {
    ENTRY_OVERHEAD + key.byte_count() + slot.cost()
}

impl Partition {
    fn empty() -> Self {
        Self { index: HashMap::new(), entries: Vec::new(), bytes: PROJECT_OVERHEAD, sweep_at: 0 }
    }

    fn insert(&mut self, key: &Key, slot: Slot, now: Duration) {
        let cost = cost(key, &slot);
        self.bytes += cost;
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push(Entry { key: key.clone(), slot, cost, used_at: now });
    }

    fn update(&mut self, at: usize, verb: &Verb, now: Duration) -> Result<Reply> {
        let entry = &mut self.entries[at];
        entry.used_at = now;
        // The slot is taken out and put back, since it may vanish.
        let placeholder = Slot::nothing();
        let mut slot = Some(std::mem::replace(&mut entry.slot, placeholder));
        let reply = apply(verb, &mut slot, now);
        if let Some(slot) = slot {
            let cost = cost(&entry.key, &slot);
            self.bytes = self.bytes - entry.cost + cost;
            entry.cost = cost;
            entry.slot = slot;
        } else {
            self.remove(at);
        }
        reply
    }

    fn remove(&mut self, at: usize) {
        let entry = self.entries.swap_remove(at);
        self.bytes -= entry.cost;
        self.index.remove(&entry.key);
        if let Some(moved) = self.entries.get(at)
            && let hash_map::Entry::Occupied(mut place) = self.index.entry(moved.key.clone())
        {
            place.insert(at);
        }
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
            self.index.shrink_to(self.entries.len() * 2);
        }
    }

    /// Looks at the next few entries and drops those that have expired.
    fn sweep(&mut self, now: Duration) -> u64 {
        let mut expired = 0;
        for _ in 0..SWEEP.min(self.entries.len()) {
            if self.sweep_at >= self.entries.len() {
                self.sweep_at = 0;
            }
            match self.entries.get(self.sweep_at) {
                Some(entry) if entry.slot.is_expired(now) => {
                    self.remove(self.sweep_at);
                    expired += 1;
                }
                Some(_) => self.sweep_at += 1,
                None => break,
            }
        }
        expired
    }
}
