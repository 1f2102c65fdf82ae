//! What operators see of the plane.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{OnDown, RateStats, Use};

/// Which engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// In this process.
    Local,
    /// One Redis or Valkey server.
    Redis,
    /// A Redis or Valkey Cluster.
    Cluster,
}

/// Whether the plane serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Everything works.
    Serving,
    /// The engine cannot be reached; each use behaves as it declared.
    Degraded {
        /// Why, for operators.
        reason: String,
    },
}

/// The engine in process (or the one that stands in while Redis is down).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalStats {
    /// Keys held, those included that have expired and were not swept yet.
    pub entry_count: usize,
    /// Bytes in use or reserved, with overhead.
    pub used_bytes: usize,
    /// The most that ever was.
    pub high_water_bytes: usize,
    /// The limit.
    pub max_bytes: usize,
    /// Keys dropped to make room.
    pub evicted_count: u64,
    /// Bytes that they held.
    pub evicted_bytes: u64,
    /// Keys dropped because their time was over.
    pub expired_count: u64,
}

/// Publish and subscribe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PubSubStats {
    /// Subscriptions now.
    pub subscription_count: usize,
    /// Channels with a subscription now.
    pub channel_count: usize,
    /// Bytes that wait for readers.
    pub waiting_bytes: usize,
    /// Messages put into queues (a message with three readers counts three times).
    pub delivered_count: u64,
    /// Messages dropped because a reader was too slow, or replaced by a gap.
    pub lost_count: u64,
    /// Gaps told to readers.
    pub gap_count: u64,
    /// Whether messages of other processes arrive.
    pub is_live: bool,
}

/// One [`Use`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseStats {
    /// Its declaration.
    pub declared: Use,
    /// Operations so far.
    pub operation_count: u64,
    /// Of these: the engine could not serve.
    pub down_count: u64,
    /// Of those: answered as if nothing were there ([`OnDown::Open`]).
    pub opened_count: u64,
    /// Refused ([`OnDown::Closed`]).
    pub refused_count: u64,
    /// Answered by the engine in process ([`OnDown::BoundedLocal`]).
    pub local_count: u64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Which engine.
    pub engine: EngineKind,
    /// In process: all data. On Redis: what [`OnDown::BoundedLocal`] holds while it is down.
    pub local: LocalStats,
    /// In process: all rate cells. On Redis: those that stand in while it is down.
    pub rates: RateStats,
    /// Publish and subscribe.
    pub pubsub: PubSubStats,
    /// Connections made to Redis so far.
    pub connect_count: u64,
    /// Operations that wait for Redis now.
    pub in_flight_count: usize,
    /// By use, in order of name.
    pub uses: Vec<UseStats>,
}

#[derive(Debug)]
pub(crate) struct UseCounters {
    pub(crate) declared: Use,
    pub(crate) operations: AtomicU64,
    pub(crate) down: AtomicU64,
}

impl UseCounters {
    pub(crate) fn new(declared: Use) -> Self {
        Self { declared, operations: AtomicU64::new(0), down: AtomicU64::new(0) }
    }

    pub(crate) fn stats(&self) -> UseStats {
        let down = self.down.load(Relaxed);
        let when = |mode| if self.declared.on_down == mode { down } else { 0 };
        UseStats {
            declared: self.declared,
            operation_count: self.operations.load(Relaxed),
            down_count: down,
            opened_count: when(OnDown::Open),
            refused_count: when(OnDown::Closed),
            local_count: when(OnDown::BoundedLocal),
        }
    }
}
