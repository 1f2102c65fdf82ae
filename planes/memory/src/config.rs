//! The `[memory]` section and the options it becomes.

use std::time::Duration;

use kernel::{ByteSize, Secret, section};

use crate::{Error, PubSubLimits, Result};

section! {
    /// The memory plane: in process, or on Redis/Valkey.
    pub struct MemoryConfig("memory") {
        /// Where Redis or Valkey is; empty keeps everything in this process. Several nodes of a cluster are separated by commas.
        url: Secret = "\"\"", "redis://[user:password@]host:port[/db], rediss:// for TLS";
        /// Whether the url names nodes of a Redis Cluster.
        cluster: bool = "false", "true or false";
        /// Memory for data in this process (without a url), or for what stands in while Redis is down (with one, at most a quarter of it).
        max_bytes: ByteSize = "\"64MiB\"", "bytes";
        /// Rate cells in this process, at 43 to 64 bytes each; an entry of a sliding log and a holder of places count as one each. Past it, those nearest to rest are forgotten.
        max_rate_cells: usize = "1000000", "cells";
        /// Memory for messages that wait for subscribers of this process.
        pubsub_max_bytes: ByteSize = "\"16MiB\"", "bytes";
        /// Longest wait for an answer of Redis.
        operation_timeout: Duration = "\"250ms\"", "time";
        /// Longest wait for a connection to Redis.
        connect_timeout: Duration = "\"2s\"", "time";
        /// How often an idle connection is checked.
        check_interval: Duration = "\"1s\"", "time";
        /// Operations that may wait for Redis at once; more are refused.
        max_in_flight: usize = "4096", "operations";
    }
}

/// How the engine in process is made.
#[derive(Debug, Clone, Copy)]
pub struct LocalOptions {
    /// Limit on everything held, with overhead; see the README for how it is counted.
    pub max_bytes: usize,
    /// Most rate cells, entries of logs and holders of places, together.
    pub max_rate_cells: usize,
    /// Bounds of publish and subscribe.
    pub pubsub: PubSubLimits,
}

impl Default for LocalOptions {
    /// 64 MiB, and a million rate cells.
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_rate_cells: 1_000_000, pubsub: PubSubLimits::default() }
    }
}

/// Whose clock decides rate cells on Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateTime {
    /// The server's: one clock for every process. What production uses.
    Server,
    /// This process's [`kernel::Clock`], in whole milliseconds: for tests that move time by hand. Keys then live a minute longer
    /// on the server than needed.
    Caller,
}

/// How Redis or Valkey is reached.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// One server, or several nodes of a cluster.
    pub urls: Vec<Secret>,
    /// Whether they form a cluster.
    pub cluster: bool,
    /// Longest wait for an answer.
    pub operation_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// How often an idle connection is checked, so that a server that is silently gone is noticed.
    pub check_interval: Duration,
    /// Operations that may wait at once; more fail with [`Error::Overloaded`].
    pub max_in_flight: usize,
    /// Limit of the engine that stands in for uses declared [`crate::OnDown::BoundedLocal`] while Redis is down.
    pub fallback_max_bytes: usize,
    /// Most rate cells of that engine.
    pub fallback_max_rate_cells: usize,
    /// Whose clock decides rate cells.
    pub rate_time: RateTime,
    /// Bounds of publish and subscribe.
    pub pubsub: PubSubLimits,
}

impl RedisOptions {
    /// One server with the defaults of [`MemoryConfig`].
    pub fn single(url: impl Into<String>) -> Self {
        Self::with(vec![Secret::new(url)], false, &MemoryConfig::default())
    }

    /// A cluster, by some of its nodes, with the defaults of [`MemoryConfig`].
    pub fn cluster<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Self {
        Self::with(urls.into_iter().map(Secret::new).collect(), true, &MemoryConfig::default())
    }

    fn with(urls: Vec<Secret>, cluster: bool, config: &MemoryConfig) -> Self {
        Self {
            urls,
            cluster,
            operation_timeout: config.operation_timeout,
            connect_timeout: config.connect_timeout,
            check_interval: config.check_interval,
            max_in_flight: config.max_in_flight,
            fallback_max_bytes: config.max_bytes.as_usize() / 4,
            fallback_max_rate_cells: config.max_rate_cells,
            rate_time: RateTime::Server,
            pubsub: config.pubsub(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(what.to_owned()));
        if self.urls.is_empty() {
            return wrong("memory.url names no server");
        }
        if !self.cluster && self.urls.len() > 1 {
            return wrong("memory.url names several servers: set memory.cluster, or name one");
        }
        if self.operation_timeout.is_zero() || self.connect_timeout.is_zero() || self.check_interval.is_zero() {
            return wrong(
                "memory.operation_timeout, connect_timeout and check_interval have to be longer than nothing",
            );
        }
        if self.fallback_max_rate_cells == 0 {
            return wrong("memory.max_rate_cells has to be at least 1");
        }
        if self.max_in_flight == 0 {
            return wrong("memory.max_in_flight has to be at least 1");
        }
        Ok(())
    }
}

impl MemoryConfig {
    fn pubsub(&self) -> PubSubLimits {
        PubSubLimits { total_bytes: self.pubsub_max_bytes.as_usize(), ..PubSubLimits::default() }
    }

    /// The options in process.
    pub fn local(&self) -> LocalOptions {
        LocalOptions {
            max_bytes: self.max_bytes.as_usize(),
            max_rate_cells: self.max_rate_cells,
            pubsub: self.pubsub(),
        }
    }

    /// The options of Redis; `None` without a url.
    pub fn redis(&self) -> Option<RedisOptions> {
        if self.url.is_empty() {
            return None;
        }
        let urls = self.url.expose().split(',').map(str::trim).filter(|u| !u.is_empty()).map(Secret::new).collect();
        Some(RedisOptions::with(urls, self.cluster, self))
    }
}
