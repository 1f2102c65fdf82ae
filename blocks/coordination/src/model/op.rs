//! Operations and their results, as etcd's API v3 has them.

use std::{cmp::Ordering, sync::Arc};

use bytes::Bytes;

/// A key as it is at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision at which it was created; deleting and putting it again creates it anew.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
    /// How often it was put since it was created, from 1.
    pub version: i64,
    /// The lease it ends with; 0 for none.
    pub lease: i64,
    /// The value.
    pub value: Bytes,
}

/// Which keys: one, or all between two in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// This key.
    One(Bytes),
    /// From the first (inclusive) to the second (exclusive).
    Between(Bytes, Bytes),
    /// This key and all after it.
    From(Bytes),
}

impl KeyRange {
    /// As the wire has it: no end is one key, the end `\0` is everything from the key on, and the key `\0` with the end `\0` is every
    /// key.
    pub fn of(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> Self {
        let (key, end) = (key.into(), range_end.into());
        match &end[..] {
            [] => Self::One(key),
            [0] if key[..] == [0] => Self::From(Bytes::new()),
            [0] => Self::From(key),
            _ => Self::Between(key, end),
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        match prefix.iter().rposition(|b| *b < u8::MAX) {
            None => Self::From(prefix),
            Some(at) => {
                let mut end = prefix[..=at].to_vec();
                end[at] += 1;
                Self::Between(prefix, end.into())
            }
        }
    }

    /// Whether it holds this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one[..] == *key,
            Self::Between(from, to) => from[..] <= *key && *key < to[..],
            Self::From(from) => from[..] <= *key,
        }
    }

    /// From here (inclusive) to there (exclusive), or to the end of keys.
    pub(crate) fn bounds(&self) -> (Bytes, Option<Bytes>) {
        match self {
            // The next key there can be is this one with a zero byte behind.
            Self::One(key) => (key.clone(), Some([&key[..], &[0]].concat().into())),
            Self::Between(from, to) => (from.clone(), Some(to.clone())),
            Self::From(from) => (from.clone(), None),
        }
    }
}

/// By what a range is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortBy {
    /// The key.
    #[default]
    Key,
    /// [`KeyValue::version`].
    Version,
    /// [`KeyValue::create_revision`].
    CreateRevision,
    /// [`KeyValue::mod_revision`].
    ModRevision,
    /// The value.
    Value,
}

impl SortBy {
    pub(crate) fn compare(self, a: &KeyValue, b: &KeyValue) -> Ordering {
        match self {
            Self::Key => a.key.cmp(&b.key),
            Self::Version => a.version.cmp(&b.version),
            Self::CreateRevision => a.create_revision.cmp(&b.create_revision),
            Self::ModRevision => a.mod_revision.cmp(&b.mod_revision),
            Self::Value => a.value.cmp(&b.value),
        }
    }
}

/// In which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As the keys stand.
    #[default]
    None,
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Reads keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Which.
    pub keys: KeyRange,
    /// At which revision; 0 for the newest.
    pub revision: i64,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// By what they are sorted.
    pub sort_by: SortBy,
    /// In which direction.
    pub order: Order,
    /// Without values.
    pub is_keys_only: bool,
    /// Only how many.
    pub is_count_only: bool,
    /// Those changed at or after; 0 for no bound.
    pub min_mod_revision: i64,
    /// Those changed at or before; 0 for no bound.
    pub max_mod_revision: i64,
    /// Those created at or after; 0 for no bound.
    pub min_create_revision: i64,
    /// Those created at or before; 0 for no bound.
    pub max_create_revision: i64,
}

impl Range {
    /// Everything of these keys as they are now.
    pub fn of(keys: KeyRange) -> Self {
        Self {
            keys,
            revision: 0,
            limit: 0,
            sort_by: SortBy::Key,
            order: Order::None,
            is_keys_only: false,
            is_count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    pub(crate) fn is_within_revisions(&self, kv: &KeyValue) -> bool {
        let within = |low: i64, high: i64, at: i64| (low == 0 || at >= low) && (high == 0 || at <= high);
        within(self.min_mod_revision, self.max_mod_revision, kv.mod_revision)
            && within(self.min_create_revision, self.max_create_revision, kv.create_revision)
    }
}

/// Sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// Its value; `None` keeps the one it has.
    pub value: Option<Bytes>,
    /// The lease it ends with, 0 for none; `None` keeps the one it has.
    pub lease: Option<i64>,
    /// Whether to give back what was there.
    pub wants_previous: bool,
}

/// Deletes keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Which.
    pub keys: KeyRange,
    /// Whether to give back what was there.
    pub wants_previous: bool,
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// [`KeyValue::version`]; 0 for a key that is not there.
    Version(i64),
    /// [`KeyValue::create_revision`]; 0 for a key that is not there.
    CreateRevision(i64),
    /// [`KeyValue::mod_revision`]; 0 for a key that is not there.
    ModRevision(i64),
    /// The value; a key that is not there never holds.
    Value(Bytes),
    /// [`KeyValue::lease`]; 0 for a key that is not there.
    Lease(i64),
}

/// How it must stand to what is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// Above it.
    Greater,
    /// Below it.
    Less,
}

impl Relation {
    pub(crate) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
        }
    }
}

/// A condition of a transaction: holds when it holds for every key of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// What of them, and what it is compared with.
    pub subject: Subject,
    /// How.
    pub relation: Relation,
}

/// Several operations at one revision, if conditions hold; others if not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// When they do.
    pub success: Vec<Op>,
    /// When one does not.
    pub failure: Vec<Op>,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Reads.
    Range(Range),
    /// Sets.
    Put(Put),
    /// Deletes.
    Delete(Delete),
    /// Several, atomically.
    Txn(Txn),
}

/// What a range found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResult {
    /// The keys, at most [`Range::limit`].
    pub kvs: Vec<Arc<KeyValue>>,
    /// Whether there are more than the limit let through.
    pub has_more: bool,
    /// How many there are in the range, whatever the limit.
    pub count: usize,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// Of [`Op::Range`].
    Range(RangeResult),
    /// Of [`Op::Put`]: what was there before, if asked for.
    Put(Option<Arc<KeyValue>>),
    /// Of [`Op::Delete`].
    Delete {
        /// How many keys went.
        count: usize,
        /// What they were, if asked for.
        previous: Vec<Arc<KeyValue>>,
    },
    /// Of [`Op::Txn`].
    Txn {
        /// Whether the conditions held.
        succeeded: bool,
        /// Of each operation, in order.
        results: Vec<OpResult>,
    },
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is since; of a deletion only key and `mod_revision` mean something.
    pub kv: Arc<KeyValue>,
    /// Whether it was deleted.
    pub is_delete: bool,
    /// What it was before; `None` when it was created.
    pub previous: Option<Arc<KeyValue>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_says_which_range() {
        type Row = (&'static [u8], &'static [u8], &'static [&'static [u8]], &'static [&'static [u8]]);
        let rows: [Row; 5] = [
            (b"a", b"", &[b"a"], &[b"", b"b", b"a\0"]),
            (b"a", b"c", &[b"a", b"b", b"b\xff"], &[b"c", b"A"]),
            (b"b", b"\0", &[b"b", b"\xff\xff"], &[b"a"]),
            (b"\0", b"\0", &[b"\0", b"a", b"\xff"], &[]),
            (b"c", b"a", &[], &[b"a", b"b", b"c"]),
        ];
        for (key, end, inside, outside) in rows {
            let range = KeyRange::of(Bytes::from_static(key), Bytes::from_static(end));
            assert!(inside.iter().all(|k| range.contains(k)), "{range:?}");
            assert!(!outside.iter().any(|k| range.contains(k)), "{range:?}");
        }
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let range = KeyRange::prefix(&b"a\xff"[..]);
        assert!(
            range.contains(b"a\xff") && range.contains(b"a\xff\xff") && !range.contains(b"b") && !range.contains(b"a")
        );
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]), KeyRange::From(Bytes::from_static(b"\xff\xff")));
        assert_eq!(KeyRange::prefix(Bytes::new()), KeyRange::From(Bytes::new()));
    }
}
