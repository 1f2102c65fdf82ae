//! Operations as values, so that every engine, and every way of failing, treats the same list.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Error, Key, MAX_BATCH, MAX_KEY_BYTES, MAX_MEMBER_BYTES, MAX_RANGE, MAX_TTL, MAX_VALUE_BYTES, Order, Result, Ttl,
};

/// One operation on one key. Never on two: that is what keeps every operation on one node of a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    Get,
    Set { value: Bytes, ttl: Option<Duration> },
    SetIfAbsent { value: Bytes, ttl: Option<Duration> },
    CompareAndSet { expected: Option<Bytes>, value: Bytes, ttl: Option<Duration> },
    CompareAndDelete { expected: Bytes },
    Delete,
    Expire { ttl: Option<Duration> },
    Ttl,
    Increment { by: i64, ttl: Option<Duration> },
    SetAdd { members: Vec<Bytes>, ttl: Option<Duration> },
    SetRemove { members: Vec<Bytes> },
    SetContains { member: Bytes },
    SetMembers,
    SetLen,
    SortedAdd { members: Vec<(Bytes, f64)>, ttl: Option<Duration> },
    SortedRemove { members: Vec<Bytes> },
    SortedScore { member: Bytes },
    SortedRank { member: Bytes, order: Order },
    SortedRange { start: u64, count: u64, order: Order },
    SortedRangeByScore { min: f64, max: f64, count: u64, order: Order },
    SortedTrim { keep: u64, order: Order },
    SortedLen,
    Join { member: Bytes, ttl: Duration },
    Heartbeat { member: Bytes, ttl: Duration },
    Leave { member: Bytes },
    Present,
    PresentLen,
}

/// The answer to a [`Verb`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Done,
    Bool(bool),
    Int(i64),
    Count(u64),
    Value(Option<Bytes>),
    Ttl(Ttl),
    Members(Vec<Bytes>),
    Score(Option<f64>),
    Rank(Option<u64>),
    Scored(Vec<(Bytes, f64)>),
}

impl Verb {
    /// Refuses what no engine takes and brings the rest into one form (TTLs in whole milliseconds, no negative zero).
    pub(crate) fn checked(mut self, key: &Key) -> Result<Self> {
        at_most("key (bytes)", key.byte_count(), MAX_KEY_BYTES)?;
        match &mut self {
            Self::Set { value, ttl } | Self::SetIfAbsent { value, ttl } => {
                at_most("value (bytes)", value.len(), MAX_VALUE_BYTES)?;
                whole(ttl)?;
            }
            Self::CompareAndSet { expected, value, ttl } => {
                at_most("value (bytes)", expected.as_ref().map_or(0, Bytes::len), MAX_VALUE_BYTES)?;
                at_most("value (bytes)", value.len(), MAX_VALUE_BYTES)?;
                whole(ttl)?;
            }
            Self::CompareAndDelete { expected } => at_most("value (bytes)", expected.len(), MAX_VALUE_BYTES)?,
            Self::Expire { ttl } | Self::Increment { ttl, .. } => whole(ttl)?,
            Self::SetAdd { members, ttl } => {
                all_members(members.iter(), members.len())?;
                whole(ttl)?;
            }
            Self::SetRemove { members } | Self::SortedRemove { members } => all_members(members.iter(), members.len())?,
            Self::SortedAdd { members, ttl } => {
                all_members(members.iter().map(|(m, _)| m), members.len())?;
                for (_, score) in members {
                    *score = finite(*score)?;
                }
                whole(ttl)?;
            }
            Self::SetContains { member }
            | Self::SortedScore { member }
            | Self::SortedRank { member, .. }
            | Self::Leave { member } => at_most("member (bytes)", member.len(), MAX_MEMBER_BYTES)?,
            Self::Join { member, ttl } | Self::Heartbeat { member, ttl } => {
                at_most("member (bytes)", member.len(), MAX_MEMBER_BYTES)?;
                *ttl = whole_ms(*ttl)?;
            }
            Self::SortedRange { count, .. } => range(*count)?,
            Self::SortedRangeByScore { min, max, count, .. } => {
                if min.is_nan() || max.is_nan() {
                    return Err(Error::Invalid("a bound of a range is not a number"));
                }
                range(*count)?;
            }
            Self::Get
            | Self::Delete
            | Self::Ttl
            | Self::SetMembers
            | Self::SetLen
            | Self::SortedTrim { .. }
            | Self::SortedLen
            | Self::Present
            | Self::PresentLen => {}
        }
        Ok(self)
    }
}

pub(crate) fn at_most(what: &'static str, value: usize, limit: usize) -> Result<()> {
    if value <= limit { Ok(()) } else { Err(Error::TooLarge { what, limit }) }
}

fn all_members<'a>(mut members: impl Iterator<Item = &'a Bytes>, count: usize) -> Result<()> {
    at_most("members at once", count, MAX_BATCH)?;
    members.try_for_each(|m| at_most("member (bytes)", m.len(), MAX_MEMBER_BYTES))
}

fn range(count: u64) -> Result<()> {
    at_most("members at once", usize::try_from(count).unwrap_or(usize::MAX), MAX_RANGE)
}

fn finite(score: f64) -> Result<f64> {
    // Adding zero turns -0 into 0, which some orders tell apart and others do not.
    if score.is_finite() { Ok(score + 0.0) } else { Err(Error::Invalid("a score is not a finite number")) }
}

fn whole(ttl: &mut Option<Duration>) -> Result<()> {
    if let Some(ttl) = ttl {
        *ttl = whole_ms(*ttl)?;
    }
    Ok(())
}

/// Rounded up to whole milliseconds.
fn whole_ms(ttl: Duration) -> Result<Duration> {
    if ttl.is_zero() {
        return Err(Error::Invalid("a time to live of zero"));
    }
    if ttl > MAX_TTL {
        return Err(Error::Invalid("a time to live of more than 10 years"));
    }
    let ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Ok(Duration::from_millis(ms))
}

/// What an operation's caller gets out of a [`Reply`].
pub(crate) trait FromReply: Sized {
    fn from_reply(reply: Reply) -> Option<Self>;
}

macro_rules! from_reply {
    ($($ty:ty = $pattern:pat => $value:expr;)+) => {$(
        impl FromReply for $ty {
            fn from_reply(reply: Reply) -> Option<Self> {
                match reply { $pattern => Some($value), _ => None }
            }
        }
    )+};
}

from_reply! {
    () = Reply::Done => ();
    bool = Reply::Bool(b) => b;
    i64 = Reply::Int(n) => n;
    u64 = Reply::Count(n) => n;
    Option<Bytes> = Reply::Value(v) => v;
    Ttl = Reply::Ttl(t) => t;
    Vec<Bytes> = Reply::Members(m) => m;
    Option<f64> = Reply::Score(s) => s;
    Option<u64> = Reply::Rank(r) => r;
    Vec<(Bytes, f64)> = Reply::Scored(m) => m;
}
