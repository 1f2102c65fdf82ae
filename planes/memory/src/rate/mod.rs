//! Atomic rate cells: the state behind rate limits, decided where it is kept.
//!
//! A cell is what one limit knows about one key. [`crate::Space::charge`] decides up to [`MAX_CELLS`] of them at one instant, all
//! or none; in process under the locks of their shards, on Redis in one script and one round trip, by the server's clock.
//!
//! Each algorithm is a pure state machine over integers (`form.rs`, `small.rs`, `ledger.rs`) that `redis/lua/rate.lua` repeats
//! number by number: every intermediate result stays below 2⁵³, where the doubles of Lua are exact. Time is whole microseconds
//! since the Unix epoch. "The limit" below is exact in terms of the instants at which the engine decided ([`Charged::at`]).
//!
//! Invariants, for every algorithm:
//! - RATE-1: what was charged, less what was given back, never exceeds what [`Rate`] states, in any window as it defines it.
//! - RATE-2: a call that is refused has changed no cell.
//! - RATE-3: a cell at rest (full bucket, window over) is the same as no cell.
//! - RATE-4: both engines give the same answers at the same instants.

pub(crate) mod form;
mod ledger;
mod shard;
mod small;
mod space;
mod table;
pub(crate) mod time;

use std::{fmt, time::Duration};

use kernel::{ProjectId, Timestamp};

pub(crate) use self::table::{Table, holder};
use crate::{MAX_KEY_BYTES, Result, key::escape, op::at_most};

/// Most cells that one call charges or adjusts.
pub const MAX_CELLS: usize = 32;
/// Largest limit, capacity or burst.
pub const MAX_LIMIT: u64 = 2_000_000_000;
/// Largest limit of [`Rate::SlidingLog`] and [`Rate::Concurrency`], which remember every charge.
pub const MAX_LEDGER: u64 = 10_000;

/// What a cell allows. A cost of `n` counts as `n` requests at once.
///
/// **At most this much**, in terms of the engine's clock (microseconds), over all nodes that share the engine:
///
/// | rate | guarantee | in any span as long as the window |
/// |---|---|---|
/// | `TokenBucket` | at most `capacity + t × refill / period` in any span of length `t` | `capacity + refill` |
/// | `Gcra` | at most `burst + t × limit / period` in any span of length `t` | `burst + limit` |
/// | `FixedWindow` | at most `limit` in each aligned window | 2 × `limit`: all at the end of one, all at the start of the next |
/// | `SlidingLog` | at most `limit` in **every** span as long as the window | `limit` |
/// | `SlidingCounter` | the estimate (this window's count + the last one's × the part of it that the sliding window still covers) is at most `limit`; so at most `limit` in each aligned window | 2 × `limit` − 1, when all of the last window's came at its very end: a test finds it. Traffic that is even within a window: `limit` |
/// | `Calendar` | at most `limit` between two bounds | 2 × `limit`, as for fixed windows |
/// | `Concurrency` | at most `limit` places held at any instant, where a holder that does not return in time holds until its lease is over | |
///
/// What [`crate::Space::adjust`] adds above the limit (the real cost was higher than what was reserved) is owed: it counts
/// against what comes, up to the limit once more.
///
/// A change of the numbers goes on with the state that is there (a window that is as before keeps its count, a bucket its debt);
/// a change of the algorithm begins afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Starts full, refills continuously. The same machine as [`Rate::Gcra`], by another name: a bucket is never stored as a
    /// level but as the instant at which it will be full.
    TokenBucket {
        /// Most tokens that it holds.
        capacity: u64,
        /// Tokens that come in each `period`.
        refill: u64,
        /// 1 µs to 10 years, as the other times here.
        period: Duration,
    },
    /// Leaky bucket as a meter (generic cell rate algorithm, ITU-T I.371): one each `period / limit`, `burst` of them at once.
    Gcra {
        /// Requests in each `period`.
        limit: u64,
        /// See `limit`.
        period: Duration,
        /// Requests at once, at least 1.
        burst: u64,
    },
    /// Windows aligned to the Unix epoch.
    FixedWindow {
        /// Requests in each window.
        limit: u64,
        /// Its length.
        window: Duration,
    },
    /// Remembers every charge until it has left the window; up to 32 bytes each in process.
    SlidingLog {
        /// Requests in any window, at most [`MAX_LEDGER`].
        limit: u64,
        /// Its length.
        window: Duration,
    },
    /// Two aligned windows, the last one weighted by how much of it the sliding window still covers.
    SlidingCounter {
        /// The most that the estimate may be.
        limit: u64,
        /// Length of the windows.
        window: Duration,
    },
    /// A window between two instants that the caller knows (days and months of a time zone). The engine's clock picks the one
    /// of the two windows that holds its instant; where neither does, the call fails with [`crate::Error::WindowPassed`], for
    /// the caller to compute the bounds at the instant that it names and ask once more.
    Calendar {
        /// Requests in each window.
        limit: u64,
        /// Start of a window, of the next, and its end.
        bounds: [Timestamp; 3],
    },
    /// Places that holders ([`Charge::holder`]) take and give back ([`Adjust`]), or lose when their lease is over. Charging again
    /// for the same holder renews its lease and sets its places anew.
    Concurrency {
        /// Places, at most [`MAX_LEDGER`].
        limit: u64,
        /// How long a holder stays that is not heard of.
        lease: Duration,
    },
}

impl Rate {
    /// Whether an engine takes it: limits of 1 to [`MAX_LIMIT`] ([`MAX_LEDGER`]), times of 1 µs to 10 years, rising bounds. A
    /// bucket is also refused when its numbers are too fine (past about 90 million, and with no common divisor to speak of).
    pub fn check(&self) -> Result<()> {
        form::Form::new(self).map(drop)
    }

    /// The most that fits at once: limit, capacity or burst.
    pub fn limit(&self) -> u64 {
        match *self {
            Self::TokenBucket { capacity: limit, .. }
            | Self::Gcra { burst: limit, .. }
            | Self::FixedWindow { limit, .. }
            | Self::SlidingLog { limit, .. }
            | Self::SlidingCounter { limit, .. }
            | Self::Calendar { limit, .. }
            | Self::Concurrency { limit, .. } => limit,
        }
    }
}

/// The key of a cell: `ms:{acme:rate}:api:user:42`, parts escaped as those of [`crate::Key`].
///
/// The braces hold the project alone: all cells of a project share one slot of a Redis Cluster, so that several limits are
/// decided atomically. The price: one node carries all limits of a project (measured: 24,000 decisions a second of one cell, with
/// Redis and its client on two cores), while projects spread over the nodes. A project that needs more uses leased slices.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RateKey {
    text: String,
    /// Bytes up to and with the closing brace.
    group: usize,
}

impl RateKey {
    /// Builds a key. One longer than [`crate::MAX_KEY_BYTES`] is refused by the operation that uses it.
    ///
    /// ```
    /// use memory::RateKey;
    /// let project = kernel::ProjectId::default_project();
    /// assert_eq!(RateKey::new(&project, ["api", "user", "a:b"]).as_str(), "ms:{default:rate}:api:user:a%3Ab");
    /// ```
    pub fn new<P: AsRef<[u8]>>(project: &ProjectId, parts: impl IntoIterator<Item = P>) -> Self {
        let mut key = Self { text: String::with_capacity(96), group: 0 };
        key.set(project, parts);
        key
    }

    /// Makes it another key, in the same allocation: for paths that build one for each request.
    pub fn set<P: AsRef<[u8]>>(&mut self, project: &ProjectId, parts: impl IntoIterator<Item = P>) {
        self.text.clear();
        self.text.push_str("ms:{");
        self.text.push_str(project.as_str());
        self.text.push_str(":rate}");
        self.group = self.text.len();
        for part in parts {
            self.text.push(':');
            escape(part.as_ref(), &mut self.text);
        }
    }

    /// The whole key. On Redis a letter for the algorithm follows it, so that a change of algorithm begins afresh.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `ms:{project:rate}`.
    pub(crate) fn group(&self) -> &str {
        self.text.get(..self.group).unwrap_or_default()
    }
}

impl fmt::Debug for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateKey({})", self.text)
    }
}

/// An instant on the engine's clock, in microseconds since the Unix epoch. Means something to the engine that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// From microseconds since the epoch.
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The whole millisecond that it is in.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.0 / 1000).unwrap_or(i64::MAX))
    }
}

/// One cell of a call.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// Whose. All keys of a call are of one project, and no cell comes twice.
    pub key: &'a RateKey,
    /// What is allowed.
    pub rate: Rate,
    /// How much this request counts. 0 asks whether anything is owed, and changes nothing.
    pub cost: u64,
    /// Whether it only counts: it never refuses the call, and is charged when the call is allowed and it fits.
    pub is_shadow: bool,
    /// Who holds the places; needed by [`Rate::Concurrency`] alone.
    pub holder: Option<u128>,
}

impl<'a> Charge<'a> {
    /// A charge that counts and refuses.
    pub fn new(key: &'a RateKey, rate: Rate, cost: u64) -> Self {
        Self { key, rate, cost, is_shadow: false, holder: None }
    }

    /// For a holder.
    #[must_use]
    pub fn held_by(self, holder: u128) -> Self {
        Self { holder: Some(holder), ..self }
    }

    /// Only counting.
    #[must_use]
    pub fn shadow(self) -> Self {
        Self { is_shadow: true, ..self }
    }
}

/// The answer for one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// Whether this cell allows it. The call is allowed, and every cell charged, when all cells that are no shadows do.
    pub is_allowed: bool,
    /// What fits after this call.
    pub remaining: u64,
    /// When it would fit if nothing else came: zero when it is allowed, `None` when the cost is above the limit and never fits.
    pub retry_after: Option<Duration>,
    /// When the cell is at rest again if nothing else comes: the bucket full, the window over, the last lease ended.
    pub reset_after: Duration,
    /// When this was decided: the same instant for all cells of a call.
    pub at: Moment,
}

impl Charged {
    /// Whether a call with these charges and answers was allowed.
    pub fn all_allowed(charges: &[Charge<'_>], answers: &[Self]) -> bool {
        charges.iter().zip(answers).all(|(charge, answer)| answer.is_allowed || charge.is_shadow)
    }
}

/// A correction of one cell after the fact.
#[derive(Debug, Clone, Copy)]
pub struct Adjust<'a> {
    /// Whose.
    pub key: &'a RateKey,
    /// As it was charged.
    pub rate: Rate,
    /// When it was charged ([`Charged::at`]): what has left the window since is not corrected any more.
    pub at: Moment,
    /// More (the real cost was higher) or less (it was lower, or the work was not done). A bucket gives back what has not been
    /// refilled since, for that may have been used already.
    pub delta: i64,
    /// Whose places, for [`Rate::Concurrency`].
    pub holder: Option<u128>,
}

/// Makes a correction happen once: the id is remembered for `ttl`, and whoever comes second with it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// Random, or otherwise unique in its project.
    pub id: u128,
    /// 1 ms to 10 years.
    pub ttl: Duration,
}

/// What operators see of the cells in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateStats {
    /// Cells held, those included that are at rest and were not swept yet.
    pub cell_count: usize,
    /// Charges that logs and holders remember.
    pub entry_count: usize,
    /// Most of both together.
    pub max_count: usize,
    /// Bytes that the tables take.
    pub bytes: usize,
    /// Cells dropped to make room, which forgives what they had counted.
    pub evicted_count: u64,
    /// Cells at rest that were forgotten.
    pub forgotten_count: u64,
}

/// What holds for every call.
pub(crate) fn check_keys<'a>(keys: impl Iterator<Item = &'a RateKey> + Clone, count: usize) -> Result<()> {
    at_most("cells in one call", count, MAX_CELLS)?;
    let mut group = None;
    for key in keys {
        at_most("key (bytes)", key.text.len(), MAX_KEY_BYTES)?;
        if *group.get_or_insert_with(|| key.group()) != key.group() {
            return Err(crate::Error::Invalid("cells of two projects in one call"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "tests")]
mod tests;
