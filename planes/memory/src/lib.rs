//! The memory plane: fast and losable. Expiring keys, compare-and-set, counters, sets, sorted sets, publish/subscribe and
//! presence; in this process, or on Redis/Valkey (one server or a Cluster), with the same answers.
//!
//! ```
//! # use std::time::Duration;
//! use memory::{Key, LocalOptions, Memory, OnDown, Use};
//!
//! /// A hint: without it, links are only slower.
//! const HOT_LINKS: Use = Use { name: "shortener.hot", on_down: OnDown::Open };
//!
//! # async fn example(clock: kernel::Clock, rng: kernel::Rng, project: kernel::ProjectId) -> memory::Result<()> {
//! let memory = Memory::local(LocalOptions::default(), clock, rng);
//! let hot = memory.with(HOT_LINKS);
//! let key = Key::new(&project, "shortener", ["hot", "k3Xa9"]);
//! hot.set(&key, "https://example.com", Some(Duration::from_secs(60))).await?;
//! assert!(hot.get(&key).await?.is_some());
//! # Ok(()) }
//! ```
//!
//! **Promises.** Each operation works on one key (or channel) atomically. An expired key or member is never seen. The engine
//! in process never takes more than its limit and counts what it evicts. A subscription is told when it may have missed
//! something. An operation ends within its time-out whatever happens to the server.
//!
//! **Does not promise.** That anything written is still there: every key may be evicted, and a restart of the process (in
//! process) or of the server forgets everything. Whatever must not be lost belongs into the database plane.
//!
//! **Invariants.** MEMORY-1 to MEMORY-4 in `local`, HUB-1 and HUB-2 in `hub`, REDIS-1 to REDIS-3 in `redis`.
//!
//! **Limits.** The constants below, and [`MemoryConfig`].

mod config;
mod error;
mod hub;
mod key;
mod local;
mod op;
mod plane;
mod rate;
mod redis;
mod space;
mod stats;

use std::time::Duration;

pub use config::{LocalOptions, MemoryConfig, RateTime, RedisOptions};
pub use error::{CODES, Error, Result};
pub use hub::{Event, PubSubLimits, Subscription};
pub use key::Key;
pub use plane::{Memory, OnDown, Use};
pub use rate::{Adjust, Charge, Charged, MAX_CELLS, MAX_LEDGER, MAX_LIMIT, Moment, Once, Rate, RateKey, RateStats};
pub use space::Space;
pub use stats::{EngineKind, Health, LocalStats, PubSubStats, Stats, UseStats};

/// Longest key, with prefix and escapes, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Largest value, in bytes (1 MiB).
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// Largest message, in bytes (64 KiB).
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Longest member of a set, sorted set or presence, in bytes.
pub const MAX_MEMBER_BYTES: usize = 512;
/// Most members of a set, sorted set or presence.
pub const MAX_MEMBERS: usize = 65_536;
/// Most members that one operation adds or removes.
pub const MAX_BATCH: usize = 1_000;
/// Most members that a range gives at once.
pub const MAX_RANGE: usize = 10_000;
/// Longest time to live: 10 years.
pub const MAX_TTL: Duration = Duration::from_hours(10 * 365 * 24);

/// How long a key lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Absent,
    /// Until it is deleted or evicted.
    Never,
    /// This long.
    Expires(Duration),
}

/// The direction of a sorted set; equal scores are in order of their members' bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Lowest score first.
    Ascending,
    /// Highest score first.
    Descending,
}
