//! Revisioned keys, leases and watches: what locks and elections stand on (SD8).
//!
//! ```text
//! put, delete, txn, lease ─▶ writer: a group of them, one transaction ─▶ log ─▶ keys in memory ─▶ answers, watchers
//!                               ▲ what other nodes committed is laid on the keys first
//! range ─────────────────────▶ keys in memory, once they hold all that was committed when it was asked
//! ```
//!
//! # Promises
//! 1. Operations on a project's keys happen one after another, each between its call and its answer, on however many nodes
//!    (linearizable).
//! 2. What was acknowledged is committed and durable. An operation that failed changed nothing, unless its error is that the
//!    outcome is unknown.
//! 3. Revisions grow by one with each operation that changes something, and become visible in their order.
//! 4. A watcher gets every change of its keys after the revision it began at, once, in order, or is told that it was compacted.
//! 5. A lease that was granted or kept alive lasts for its time from then on at least; then its keys go, at one revision.
//!
//! # Does not promise
//! - That clocks of nodes that differ do not end a lease of another node's early by as much as they differ: fencing does not rely on it.
//! - History before the last compaction.
//!
//! # Invariants
//! KEYSPACE-1 (`model/keyspace.rs`), APPLY-1 (`model/apply.rs`), WRITER-1 to WRITER-3 (`service/writer.rs`), WATCH-1 (`service/watch.rs`).
//!
//! # Planes
//! database: everything. memory: nothing.
//!
//! # Limits
//! [`model::MAX_KEY_BYTES`], [`model::MAX_VALUE_BYTES`], [`model::MAX_TXN_OPS`], [`CoordinationConfig::max_bytes`] a project; a bounded queue of writes.

mod config;
pub mod error;
pub mod model;
mod service;
mod store;
mod worker;

pub use config::CoordinationConfig;
pub use error::{CODES, Error, Result};
pub use service::{Answer, Batch, Coordination, Deps, Filter, Lease, Status, Watcher};
pub use store::MIGRATIONS;
