//! Durable truth: one statement API on SQLite and PostgreSQL.
//!
//! ```text
//!              ┌ SQLite ──── writer thread: BEGIN ─ job ─ job ─ … ─ COMMIT ─ answers      readers: a pool beside it
//! Db ── tx ────┤
//!              └ PostgreSQL ─ worker threads: one body per pooled connection ─ COMMIT     LISTEN: one connection
//! ```
//!
//! # Promises
//! 1. [`Db::tx`] and [`Db::exec`] that return `Ok` are committed and durable (SQLite with [`Durability::Full`]: fsynced).
//! 2. Every error but [`Error::Unknown`] means that nothing of it was written.
//! 3. A body that fails, panics, or waits for something else leaves nothing behind and disturbs no other transaction.
//! 4. Reads see committed data only.
//! 5. A wake-up follows the commit it tells of. One that is lost is made good by [`Change::Resync`].
//!
//! # Does not promise
//! - That a body runs once; that a wake-up comes once, or soon; that dropping a call stops it.
//! - Isolation above READ COMMITTED on PostgreSQL, unless [`Db::tx_serializable`] is asked for.
//! - That [`Durability::Normal`] survives a power cut (it survives the end of the process).
//!
//! # Invariants
//! - DB-1: `acknowledged ⊆ committed`: an answer `Ok` is sent only after its COMMIT returned.
//! - DB-2: a transaction is committed whole, at most once per call, or not at all.
//! - DB-3: a job that fails inside a group takes none of the group's other jobs with it.
//! - DB-4: when SQLite leaves the group's transaction, no job of the group is acknowledged.
//! - DB-5: no connection goes back to a pool with an open transaction.
//! - DB-6: after a connection was lost between sending COMMIT and its answer, the body does not run again.
//! - DB-7: a wake-up of a transaction is sent only after its COMMIT returned, and to every node in the end.
//! - DB-8: one process holds a SQLite file; a migration runs once, and its text never changes.
//! - DB-9: a backup is one committed state, and a copy has every row of its source.
//!
//! # Limits
//! - [`MAX_RESULT_BYTES`] per result, [`MAX_MANY_ROWS`] rows per [`Tx::exec_many`], [`SqliteOptions::queue_capacity`] waiting transactions, every wait and statement bounded.
//! - One parameter or column holds at most what memory and the engine allow (1 GB); rooms bound theirs.

mod backup;
mod config;
mod db;
pub mod error;
mod lock;
mod migrate;
mod postgres;
mod row;
mod sql;
mod sqlite;
pub mod stats;
mod topics;
mod transfer;
mod tx;
mod value;

pub use backup::{backup_file, restore};
pub use config::{DatabaseConfig, Durability, PostgresOptions, SqliteOptions};
pub use db::{Db, SQLITE_FILE_NAME};
pub use error::{Error, Result};
pub use lock::DataLock;
pub use migrate::Migration;
pub use row::Row;
pub use stats::Stats;
pub use topics::{Change, WATCH_CAPACITY};
pub use transfer::{Progress, Report, TableReport, copy};
pub use tx::Tx;
pub use value::{FromValue, Value};

/// The most that one result may hold in memory; ask for pages.
pub const MAX_RESULT_BYTES: usize = 64 << 20;

/// The most rows that one [`Tx::exec_many`] takes.
pub const MAX_MANY_ROWS: usize = 10_000;

/// How often a body is run again after a conflict (SQLSTATE 40001 and 40P01).
pub const MAX_RERUNS: u32 = 5;

/// Which database is behind a [`Db`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The embedded one.
    Sqlite,
    /// PostgreSQL, or what speaks its protocol.
    Postgres,
}
