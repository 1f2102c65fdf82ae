//! All keys of one project as they are now, and changes staged on top of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use super::{Event, KeyRange, KeyValue};

/// The keys at one revision.
///
/// KEYSPACE-1: it is what the log's rows up to `revision` make, one after the other; `leases` has a key exactly under the lease that the
/// key has, and `bytes` is what its keys and values take.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keyspace {
    keys: BTreeMap<Bytes, Arc<KeyValue>>,
    leases: HashMap<i64, BTreeSet<Bytes>>,
    bytes: usize,
    /// The revision of the last change; 1 when nothing ever changed, as in etcd.
    pub(crate) revision: i64,
}

fn size(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len()
}

impl Keyspace {
    /// With no keys.
    pub(crate) fn new() -> Self {
        Self { revision: 1, ..Self::default() }
    }

    /// What keys and values take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that end with a lease, in their order.
    pub(crate) fn keys_of_lease(&self, lease: i64) -> Vec<Bytes> {
        self.leases.get(&lease).into_iter().flatten().cloned().collect()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.keys.get(key)
    }

    pub(crate) fn range(&self, keys: &KeyRange) -> impl Iterator<Item = &Arc<KeyValue>> {
        let (from, to) = keys.bounds();
        // An end before its start holds nothing; the map would refuse it.
        let to = to.map(|to| to.max(from.clone()));
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.range((Bound::Included(from), end)).map(|(_, kv)| kv)
    }

    /// Makes changes that are committed. Those of one revision come together, revisions in their order.
    pub(crate) fn commit(&mut self, events: &[Event], revision: i64) {
        for event in events {
            let kv = &event.kv;
            let before =
                if event.is_delete { self.keys.remove(&kv.key) } else { self.keys.insert(kv.key.clone(), kv.clone()) };
            if let Some(before) = before {
                self.bytes -= size(&before);
                if let Some(keys) = self.leases.get_mut(&before.lease) {
                    keys.remove(&before.key);
                    if keys.is_empty() {
                        self.leases.remove(&before.lease);
                    }
                }
            }
            if !event.is_delete {
                self.bytes += size(kv);
                if kv.lease != 0 {
                    self.leases.entry(kv.lease).or_default().insert(kv.key.clone());
                }
            }
        }
        self.revision = revision;
    }
}

/// Changes on top of a keyspace that nobody else sees yet.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    base: &'a Keyspace,
    over: BTreeMap<Bytes, Option<Arc<KeyValue>>>,
    /// What `over` had, for going back.
    journal: Vec<(Bytes, Option<Option<Arc<KeyValue>>>)>,
    bytes: usize,
    pub(crate) revision: i64,
}

/// Where to go back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    journal: usize,
    bytes: usize,
}

impl<'a> Staged<'a> {
    pub(crate) fn on(base: &'a Keyspace) -> Self {
        Self { base, over: BTreeMap::new(), journal: Vec::new(), bytes: base.bytes, revision: base.revision }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        match self.over.get(key) {
            Some(over) => over.as_ref(),
            None => self.base.get(key),
        }
    }

    /// The keys of a range in their order: those of the base that nothing lies over, and those that lie over it.
    pub(crate) fn range(&self, keys: &KeyRange) -> impl Iterator<Item = &Arc<KeyValue>> {
        let (from, to) = keys.bounds();
        let to = to.map(|to| to.max(from.clone()));
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut below = self.base.range(keys).peekable();
        let mut over = self.over.range((Bound::Included(from), end)).peekable();
        std::iter::from_fn(move || {
            loop {
                let (Some(first), Some((key, _))) = (below.peek(), over.peek()) else {
                    return match over.next() {
                        Some((_, Some(kv))) => Some(kv),
                        Some((_, None)) => continue,
                        None => below.next(),
                    };
                };
                if first.key < **key {
                    return below.next();
                }
                if first.key == **key {
                    below.next();
                }
                if let Some((_, Some(kv))) = over.next() {
                    return Some(kv);
                }
            }
        })
    }

    /// The keys that end with a lease, in their order.
    pub(crate) fn keys_of_lease(&self, lease: i64) -> Vec<Bytes> {
        let mut keys: BTreeSet<Bytes> = self.base.leases.get(&lease).into_iter().flatten().cloned().collect();
        for (key, kv) in &self.over {
            if kv.as_ref().is_some_and(|kv| kv.lease == lease) {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        keys.into_iter().collect()
    }

    pub(crate) fn set(&mut self, key: Bytes, kv: Option<Arc<KeyValue>>) {
        self.bytes -= self.get(&key).map_or(0, |kv| size(kv));
        self.bytes += kv.as_ref().map_or(0, |kv| size(kv));
        let before = self.over.insert(key.clone(), kv);
        self.journal.push((key, before));
    }

    /// Lays changes on it that others committed.
    pub(crate) fn take(&mut self, events: &[Event], revision: i64) {
        for event in events {
            self.set(event.kv.key.clone(), (!event.is_delete).then(|| event.kv.clone()));
        }
        self.revision = revision;
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { journal: self.journal.len(), bytes: self.bytes }
    }

    pub(crate) fn back_to(&mut self, mark: Mark) {
        while self.journal.len() > mark.journal {
            let Some((key, before)) = self.journal.pop() else { break };
            match before {
                Some(before) => self.over.insert(key, before),
                None => self.over.remove(&key),
            };
        }
        self.bytes = mark.bytes;
    }
}
