//! What is refused before anything is looked at.

use std::collections::HashSet;

use bytes::Bytes;

use super::{KeyRange, Op};
use crate::{Error, Result};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;
/// The longest value, in bytes: etcd's own bound on a request.
pub const MAX_VALUE_BYTES: usize = 3 << 19;
/// The most operations or comparisons on one level of a transaction: etcd's own bound.
pub const MAX_TXN_OPS: usize = 128;
/// The most operations on all levels of a transaction together.
pub const MAX_ALL_OPS: usize = 1024;
/// The most levels of transactions inside transactions.
const MAX_DEPTH: usize = 8;
/// The longest lease, in seconds: etcd's own bound.
pub const MAX_LEASE_SECONDS: i64 = 9_000_000_000;

/// Whether an operation can be carried out at all.
pub fn check(op: &Op) -> Result<()> {
    let (mut bytes, mut count) = (0, 0);
    check_op(op, 0, &mut bytes, &mut count)?;
    if let Op::Txn(_) = op {
        written_once(op).map(drop)?;
    }
    if bytes > MAX_VALUE_BYTES { Err(Error::TooLarge) } else { Ok(()) }
}

fn check_op(op: &Op, depth: usize, bytes: &mut usize, count: &mut usize) -> Result<()> {
    *count += 1;
    if *count > MAX_ALL_OPS {
        return Err(Error::TooManyOps);
    }
    match op {
        Op::Range(range) => check_keys(&range.keys),
        Op::Delete(delete) => check_keys(&delete.keys),
        Op::Put(put) => {
            if put.key.is_empty() {
                return Err(Error::EmptyKey);
            }
            *bytes += put.value.as_ref().map_or(0, Bytes::len);
            if put.key.len() > MAX_KEY_BYTES { Err(Error::TooLarge) } else { Ok(()) }
        }
        Op::Txn(txn) => {
            let longest = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
            if longest > MAX_TXN_OPS || depth >= MAX_DEPTH {
                return Err(Error::TooManyOps);
            }
            txn.compares.iter().try_for_each(|compare| check_keys(&compare.keys))?;
            txn.success.iter().chain(&txn.failure).try_for_each(|op| check_op(op, depth + 1, bytes, count))
        }
    }
}

fn check_keys(keys: &KeyRange) -> Result<()> {
    let (first, second) = match keys {
        KeyRange::One(key) if key.is_empty() => return Err(Error::EmptyKey),
        KeyRange::One(key) | KeyRange::From(key) => (key, None),
        KeyRange::Between(from, to) => (from, Some(to)),
    };
    let is_long = |key: &Bytes| key.len() > MAX_KEY_BYTES;
    if is_long(first) || second.is_some_and(is_long) { Err(Error::TooLarge) } else { Ok(()) }
}

/// What one way through a transaction writes.
#[derive(Default)]
struct Written {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Written {
    fn meets(&self, other: &Self) -> bool {
        self.puts.iter().any(|key| other.puts.contains(key) || other.deletes.iter().any(|range| range.contains(key)))
            || other.puts.iter().any(|key| self.deletes.iter().any(|range| range.contains(key)))
    }

    fn take(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

/// A key is put at most once, and not deleted beside it, on any way through the transaction: all of it is one revision. The two
/// branches of one transaction never both run, so they may write the same key.
fn written_once(op: &Op) -> Result<Written> {
    let mut written = Written::default();
    match op {
        Op::Range(_) => {}
        Op::Put(put) => drop(written.puts.insert(put.key.clone())),
        Op::Delete(delete) => written.deletes.push(delete.keys.clone()),
        Op::Txn(txn) => {
            for branch in [&txn.success, &txn.failure] {
                let mut of_branch = Written::default();
                for op in branch {
                    let of_op = written_once(op)?;
                    // Two deletions of a key are harmless: the second finds nothing.
                    if of_branch.meets(&of_op) {
                        return Err(Error::DuplicateKey);
                    }
                    of_branch.take(of_op);
                }
                written.take(of_branch);
            }
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn put(key: &'static str) -> Op {
        Op::Put(Put { key: key.into(), value: Some(Bytes::new()), lease: Some(0), wants_previous: false })
    }

    fn delete(from: &'static str, to: &'static str) -> Op {
        Op::Delete(Delete { keys: KeyRange::of(from, to), wants_previous: false })
    }

    fn txn(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn { compares: Vec::new(), success, failure })
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let big = Op::Put(Put {
            key: "k".into(),
            value: Some(vec![0; MAX_VALUE_BYTES + 1].into()),
            lease: Some(0),
            wants_previous: false,
        });
        let deep = (0..9).fold(put("a"), |inner, _| txn(vec![inner], vec![]));
        let rows = [
            (put("a"), Ok(())),
            (put(""), Err(Error::EmptyKey)),
            (delete("", ""), Err(Error::EmptyKey)),
            (Op::Range(Range::of(KeyRange::of("", ""))), Err(Error::EmptyKey)),
            (big.clone(), Err(Error::TooLarge)),
            (txn(vec![big], vec![]), Err(Error::TooLarge)),
            (txn(vec![put("a"), put("a")], vec![]), Err(Error::DuplicateKey)),
            (txn(vec![put("a")], vec![put("a")]), Ok(())),
            (txn(vec![put("b"), delete("a", "c")], vec![]), Err(Error::DuplicateKey)),
            (txn(vec![delete("a", "c"), put("b")], vec![]), Err(Error::DuplicateKey)),
            (txn(vec![delete("a", "c"), put("c")], vec![]), Ok(())),
            (txn(vec![delete("a", "c"), delete("b", "")], vec![]), Ok(())),
            (txn(vec![put("a"), txn(vec![], vec![put("a")])], vec![]), Err(Error::DuplicateKey)),
            (txn(vec![txn(vec![put("a")], vec![put("a")])], vec![]), Ok(())),
            (txn(vec![put("a"); MAX_TXN_OPS + 1], vec![]), Err(Error::TooManyOps)),
            (deep, Err(Error::TooManyOps)),
        ];
        for (op, expected) in rows {
            assert_eq!(check(&op), expected, "{op:?}");
        }
    }
}
