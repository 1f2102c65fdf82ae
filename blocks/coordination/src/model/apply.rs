//! What an operation does to the keys.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Compare, Delete, Event, KeyRange, KeyValue, Op, OpResult, Order, Put, Range, RangeResult, SortBy, Staged, Subject,
    Txn,
};
use crate::{Error, Result};

/// What one operation changed: all of it at one revision.
pub(crate) type Changes = Vec<Event>;

/// Carries an operation out on top of `staged`, at the revision after its own; leases are there when `has_lease` says so. An error
/// leaves nothing behind.
///
/// APPLY-1: the revision moves by one when something changed, and stays when not.
pub(crate) fn apply(
    staged: &mut Staged<'_>,
    op: &Op,
    has_lease: &dyn Fn(i64) -> bool,
    max_bytes: usize,
) -> Result<(OpResult, Changes)> {
    let mark = staged.mark();
    let mut one = One { revision: staged.revision + 1, staged, has_lease, changes: Vec::new(), max_bytes };
    match one.op(op) {
        Ok(result) => {
            let (changes, revision) = (one.changes, one.revision);
            if !changes.is_empty() {
                staged.revision = revision;
            }
            Ok((result, changes))
        }
        Err(e) => {
            staged.back_to(mark);
            Err(e)
        }
    }
}

/// Deletes the keys of a lease, at the next revision if it had any.
pub(crate) fn end_lease(staged: &mut Staged<'_>, lease: i64) -> Changes {
    let revision = staged.revision + 1;
    let keys = staged.keys_of_lease(lease);
    let mut one = One { staged, has_lease: &|_| true, revision, changes: Vec::new(), max_bytes: usize::MAX };
    for key in keys {
        one.remove(&key);
    }
    let changes = one.changes;
    if !changes.is_empty() {
        staged.revision = revision;
    }
    changes
}

/// A range of keys that are in memory.
pub(crate) fn find<'a>(kvs: impl Iterator<Item = &'a Arc<KeyValue>>, range: &Range) -> RangeResult {
    let mut result = RangeResult::default();
    // Sorted by key they come as they should, and only what is wanted is cloned.
    let is_as_it_comes = range.sort_by == SortBy::Key && range.order != Order::Descending;
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    for kv in kvs {
        result.count += 1;
        if range.is_count_only || !range.is_within_revisions(kv) {
            continue;
        }
        if is_as_it_comes && result.kvs.len() >= limit {
            result.has_more = true;
            continue;
        }
        result.kvs.push(kv.clone());
    }
    if !is_as_it_comes {
        let by = range.sort_by;
        if range.order == Order::Descending {
            result.kvs.sort_by(|a, b| by.compare(b, a));
        } else {
            result.kvs.sort_by(|a, b| by.compare(a, b));
        }
        result.has_more = result.kvs.len() > limit;
        result.kvs.truncate(limit);
    }
    if range.is_keys_only {
        for kv in &mut result.kvs {
            *kv = Arc::new(KeyValue { value: Bytes::new(), ..KeyValue::clone(kv) });
        }
    }
    result
}

struct One<'s, 'k> {
    staged: &'s mut Staged<'k>,
    has_lease: &'s dyn Fn(i64) -> bool,
    /// That of every change.
    revision: i64,
    changes: Changes,
    max_bytes: usize,
}

impl One<'_, '_> {
    fn op(&mut self, op: &Op) -> Result<OpResult> {
        match op {
            Op::Range(range) => self.range(range).map(OpResult::Range),
            Op::Put(put) => self.put(put),
            Op::Delete(delete) => Ok(self.delete(delete)),
            Op::Txn(txn) => self.txn(txn),
        }
    }

    fn range(&self, range: &Range) -> Result<RangeResult> {
        // What lies further back is in the log; an operation sees what it stands on.
        if range.revision > self.staged.revision {
            return Err(Error::FutureRevision);
        }
        if range.revision > 0 && range.revision < self.staged.revision {
            return Err(Error::PastInTxn);
        }
        Ok(find(self.staged.range(&range.keys), range))
    }

    fn put(&mut self, put: &Put) -> Result<OpResult> {
        let before = self.staged.get(&put.key).cloned();
        let kept = || before.as_ref().ok_or(Error::KeyNotFound);
        let value = put.value.as_ref().map_or_else(|| kept().map(|kv| kv.value.clone()), |value| Ok(value.clone()))?;
        let lease = put.lease.map_or_else(|| kept().map(|kv| kv.lease), Ok)?;
        if lease != 0 && put.lease.is_some() && !(self.has_lease)(lease) {
            return Err(Error::LeaseNotFound);
        }
        let kv = Arc::new(KeyValue {
            key: put.key.clone(),
            create_revision: before.as_ref().map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
            value,
        });
        self.staged.set(put.key.clone(), Some(kv.clone()));
        if self.staged.bytes() > self.max_bytes {
            return Err(Error::NoSpace);
        }
        self.changes.push(Event { kv, is_delete: false, previous: before.clone() });
        Ok(OpResult::Put(before.filter(|_| put.wants_previous)))
    }

    fn delete(&mut self, delete: &Delete) -> OpResult {
        let keys: Vec<Bytes> = match &delete.keys {
            KeyRange::One(key) => vec![key.clone()],
            range => self.staged.range(range).map(|kv| kv.key.clone()).collect(),
        };
        let gone: Vec<Arc<KeyValue>> = keys.iter().filter_map(|key| self.remove(key)).collect();
        OpResult::Delete { count: gone.len(), previous: if delete.wants_previous { gone } else { Vec::new() } }
    }

    fn remove(&mut self, key: &Bytes) -> Option<Arc<KeyValue>> {
        let before = self.staged.get(key).cloned()?;
        self.staged.set(key.clone(), None);
        let kv = Arc::new(KeyValue {
            key: key.clone(),
            create_revision: 0,
            mod_revision: self.revision,
            version: 0,
            lease: 0,
            value: Bytes::new(),
        });
        self.changes.push(Event { kv, is_delete: true, previous: Some(before.clone()) });
        Some(before)
    }

    fn txn(&mut self, txn: &Txn) -> Result<OpResult> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let results = branch.iter().map(|op| self.op(op)).collect::<Result<_>>()?;
        Ok(OpResult::Txn { succeeded, results })
    }

    /// Of a range that holds no key, what a key that is not there says.
    fn holds(&self, compare: &Compare) -> bool {
        let mut any = false;
        let all = self.staged.range(&compare.keys).all(|kv| {
            any = true;
            let ordering = match &compare.subject {
                Subject::Version(v) => kv.version.cmp(v),
                Subject::CreateRevision(v) => kv.create_revision.cmp(v),
                Subject::ModRevision(v) => kv.mod_revision.cmp(v),
                Subject::Lease(v) => kv.lease.cmp(v),
                Subject::Value(v) => kv.value.cmp(v),
            };
            compare.relation.holds(ordering)
        });
        if any {
            return all;
        }
        match compare.subject {
            Subject::Value(_) => false,
            Subject::Version(v) | Subject::CreateRevision(v) | Subject::ModRevision(v) | Subject::Lease(v) => {
                compare.relation.holds(0.cmp(&v))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Keyspace, *};

    #[test]
    fn what_failed_left_nothing_for_the_next_one() {
        let put = |key: &'static str, value: Option<&'static str>| {
            Op::Put(Put { key: key.into(), value: value.map(Bytes::from), lease: Some(0), wants_previous: false })
        };
        let base = Keyspace::new();
        let mut staged = Staged::on(&base);
        apply(&mut staged, &put("a", Some("12345")), &|_| false, 100).unwrap();
        let both =
            Op::Txn(Txn { success: vec![put("a", Some("1")), put("b", Some("2")), put("c", None)], ..Txn::default() });
        assert_eq!(apply(&mut staged, &both, &|_| false, 100).unwrap_err(), Error::KeyNotFound);
        assert_eq!((&staged.get(b"a").unwrap().value[..], staged.get(b"b")), (&b"12345"[..], None));
        assert_eq!((staged.bytes(), staged.revision), (6, 2));
    }
}
