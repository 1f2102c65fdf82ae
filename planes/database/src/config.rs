//! How an engine is opened: the `[database]` section and the options it becomes.

use std::{path::PathBuf, time::Duration};

use kernel::{Secret, config::ConfigValue};

/// When a commit on SQLite is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// An fsync before every acknowledgement (one per group): survives a power cut.
    #[default]
    Full,
    /// Survives the end of the process, however it ends; a power cut may take back the last commits (never tear one).
    Normal,
}

impl ConfigValue for Durability {
    const KIND: &'static str = "word";

    fn read(value: &toml::Value) -> Result<Self, String> {
        match value.as_str() {
            Some("full") => Ok(Self::Full),
            Some("normal") => Ok(Self::Normal),
            _ => Err("expected \"full\" or \"normal\"".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Full => "\"full\"".to_owned(),
            Self::Normal => "\"normal\"".to_owned(),
        }
    }
}

kernel::section! {
    /// Where durable state lives.
    pub struct DatabaseConfig("database") {
        /// `postgres://user:password@host:5432/name?sslmode=require`; empty keeps everything in a SQLite file in the data folder.
        url: Secret = "\"\"", "URL";
        /// SQLite: when a commit is durable: "full" (an fsync per group of commits) or "normal" (a power cut may take back the last moments).
        durability: Durability = "\"full\"", "full or normal";
        /// SQLite: connections that read beside the writer.
        read_connection_count: usize = "4", "connections";
        /// PostgreSQL: most connections of this node, besides one that listens.
        pool_size: usize = "16", "connections";
        /// PostgreSQL: prepare statements once per connection; switch off behind a PgBouncer older than 1.21.
        prepared_statements: bool = "true", "true or false";
        /// PostgreSQL: PEM file of the certificate authorities to trust; empty trusts the public ones.
        ca_file: Option<PathBuf> = "\"\"", "path";
        /// PostgreSQL: how often every watcher rereads even when no wake-up came.
        resync_interval: Duration = "\"30s\"", "duration";
        /// Most transactions that wait at once; more are refused after `queue_wait`.
        queue_capacity: usize = "4096", "transactions";
        /// Longest wait for a place in the queue or for a connection.
        queue_wait: Duration = "\"2s\"", "duration";
        /// Longest time of one statement.
        statement_timeout: Duration = "\"30s\"", "duration";
    }
}

/// How a SQLite file is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// When a commit is durable.
    pub durability: Durability,
    /// Connections that read beside the writer; at least 1.
    pub read_connection_count: usize,
    /// Whether waiting transactions share one COMMIT. Off only to measure what that is worth.
    pub group: bool,
    /// Most jobs in one group.
    pub group_job_count: usize,
    /// A group takes no further job after this time.
    pub group_time: Duration,
    /// Most transactions that wait for the writer.
    pub queue_capacity: usize,
    /// Longest wait for a place in that queue or for a read connection, then [`crate::Error::Overloaded`].
    pub queue_wait: Duration,
    /// Longest time of one statement, then [`crate::Error::Timeout`].
    pub statement_timeout: Duration,
    /// Longest wait for a lock of a foreign connection, then [`crate::Error::Busy`].
    pub busy_timeout: Duration,
    /// Page cache of each connection, in KiB.
    pub cache_kib: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            read_connection_count: 4,
            group: true,
            group_job_count: 256,
            group_time: Duration::from_millis(5),
            queue_capacity: 4096,
            queue_wait: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(5),
            cache_kib: 8 * 1024,
        }
    }
}

impl From<&DatabaseConfig> for SqliteOptions {
    fn from(config: &DatabaseConfig) -> Self {
        Self {
            durability: config.durability,
            read_connection_count: config.read_connection_count,
            queue_capacity: config.queue_capacity,
            queue_wait: config.queue_wait,
            statement_timeout: config.statement_timeout,
            ..Self::default()
        }
    }
}

/// How PostgreSQL is connected to.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://…`. `sslmode` other than `disable` means verified TLS; there is no unverified one.
    pub url: Secret,
    /// Most connections besides the one that listens.
    pub pool_size: usize,
    /// Threads that run transactions.
    pub worker_count: usize,
    /// Whether statements are prepared once per connection.
    pub prepared_statements: bool,
    /// Certificate authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How often every watcher gets [`crate::Change::Resync`] even when nothing was heard: it bounds how long a notification
    /// that was lost in a crash stays unnoticed.
    pub resync_interval: Duration,
    /// Most transactions in hand or waiting for a connection.
    pub queue_capacity: usize,
    /// Longest wait for one of these places or for a connection, then [`crate::Error::Overloaded`].
    pub queue_wait: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time of one statement, then [`crate::Error::Timeout`].
    pub statement_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            pool_size: 16,
            worker_count: 2,
            prepared_statements: true,
            ca_file: None,
            resync_interval: Duration::from_secs(30),
            queue_capacity: 4096,
            queue_wait: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

impl From<&DatabaseConfig> for PostgresOptions {
    fn from(config: &DatabaseConfig) -> Self {
        Self {
            url: config.url.clone(),
            pool_size: config.pool_size,
            prepared_statements: config.prepared_statements,
            ca_file: config.ca_file.clone(),
            resync_interval: config.resync_interval,
            queue_capacity: config.queue_capacity,
            queue_wait: config.queue_wait,
            statement_timeout: config.statement_timeout,
            ..Self::default()
        }
    }
}
