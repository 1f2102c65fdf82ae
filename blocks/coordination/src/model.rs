//! The pure core: keys with revisions, operations on them, and what they change. No I/O, no async, no clock.

mod apply;
mod check;
mod keyspace;
mod op;

pub(crate) use self::{
    apply::{apply, end_lease, find},
    keyspace::{Keyspace, Staged},
};
pub use self::{
    check::{MAX_ALL_OPS, MAX_KEY_BYTES, MAX_LEASE_SECONDS, MAX_TXN_OPS, MAX_VALUE_BYTES, check},
    op::{
        Compare, Delete, Event, KeyRange, KeyValue, Op, OpResult, Order, Put, Range, RangeResult, Relation, SortBy,
        Subject, Txn,
    },
};
