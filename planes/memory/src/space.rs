//! The operations.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{Key, Order, Result, Subscription, Ttl, Use, op::Verb, plane::Shared, stats::UseCounters};

/// The operations of the plane, for one declared [`Use`]. Cheap to clone.
///
/// Every operation is atomic, works on one key and is one round trip on Redis. A key holds one type: an operation for another
/// fails with [`crate::Error::WrongType`] and changes nothing ([`Space::set`] and [`Space::delete`] take every type). A key of
/// presence takes the operations of presence and [`Space::delete`] alone. Times to live are rounded up to whole milliseconds;
/// `None` is no end.
#[derive(Clone)]
pub struct Space {
    pub(crate) shared: Arc<Shared>,
    pub(crate) declared: Use,
    pub(crate) counters: Arc<UseCounters>,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Space({})", self.declared.name)
    }
}

impl Space {
    /// What was declared.
    pub fn declared(&self) -> Use {
        self.declared
    }

    // ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The value; a counter gives its decimal text.
    pub async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.shared.run(&self.counters, key, Verb::Get).await
    }

    /// Sets a value of at most [`crate::MAX_VALUE_BYTES`], and its time to live anew.
    pub async fn set(&self, key: &Key, value: impl Into<Bytes>, ttl: Option<Duration>) -> Result<()> {
        self.shared.run(&self.counters, key, Verb::Set { value: value.into(), ttl }).await
    }

    /// Sets a value where there is no key; whether it did.
    pub async fn set_if_absent(&self, key: &Key, value: impl Into<Bytes>, ttl: Option<Duration>) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::SetIfAbsent { value: value.into(), ttl }).await
    }

    /// Sets a value where the present one is `expected` (`None`: absent), and its time to live anew; whether it did.
    pub async fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<Bytes>,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::CompareAndSet { expected, value: value.into(), ttl }).await
    }

    /// Deletes a key where its value is `expected`; whether it did.
    pub async fn compare_and_delete(&self, key: &Key, expected: impl Into<Bytes>) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::CompareAndDelete { expected: expected.into() }).await
    }

    /// Deletes a key of any type; whether there was one.
    pub async fn delete(&self, key: &Key) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::Delete).await
    }

    /// Sets the time to live of a key of any type; whether there is one.
    pub async fn expire(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::Expire { ttl }).await
    }

    /// How long a key of any type lives on.
    pub async fn ttl(&self, key: &Key) -> Result<Ttl> {
        self.shared.run(&self.counters, key, Verb::Ttl).await
    }

    /// Adds to a counter and gives the sum. One that is not there counts from 0 and lives for `ttl`; an existing one keeps its
    /// end, which makes a fixed window.
    pub async fn increment(&self, key: &Key, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.shared.run(&self.counters, key, Verb::Increment { by, ttl }).await
    }

    // ── Sets ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Adds members; how many are new. With `ttl` the whole set lives that long from now, without it keeps its end.
    pub async fn set_add<M: Into<Bytes>>(
        &self,
        key: &Key,
        members: impl IntoIterator<Item = M>,
        ttl: Option<Duration>,
    ) -> Result<u64> {
        let members: Vec<Bytes> = members.into_iter().map(Into::into).collect();
        self.non_empty(key, members.is_empty(), Verb::SetAdd { members, ttl }).await
    }

    /// Removes members; how many were there.
    pub async fn set_remove<M: Into<Bytes>>(&self, key: &Key, members: impl IntoIterator<Item = M>) -> Result<u64> {
        let members: Vec<Bytes> = members.into_iter().map(Into::into).collect();
        self.non_empty(key, members.is_empty(), Verb::SetRemove { members }).await
    }

    /// Whether it is a member.
    pub async fn set_contains(&self, key: &Key, member: impl Into<Bytes>) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::SetContains { member: member.into() }).await
    }

    /// Every member (at most [`crate::MAX_MEMBERS`]), in no order.
    pub async fn set_members(&self, key: &Key) -> Result<Vec<Bytes>> {
        self.shared.run(&self.counters, key, Verb::SetMembers).await
    }

    /// How many members there are.
    pub async fn set_len(&self, key: &Key) -> Result<u64> {
        self.shared.run(&self.counters, key, Verb::SetLen).await
    }

    // ── Sorted sets ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Adds members with their scores or moves those that are there; how many are new. Scores are finite. `ttl` as in
    /// [`Space::set_add`].
    pub async fn sorted_add<M: Into<Bytes>>(
        &self,
        key: &Key,
        members: impl IntoIterator<Item = (M, f64)>,
        ttl: Option<Duration>,
    ) -> Result<u64> {
        let members: Vec<(Bytes, f64)> = members.into_iter().map(|(m, s)| (m.into(), s)).collect();
        self.non_empty(key, members.is_empty(), Verb::SortedAdd { members, ttl }).await
    }

    /// Removes members; how many were there.
    pub async fn sorted_remove<M: Into<Bytes>>(&self, key: &Key, members: impl IntoIterator<Item = M>) -> Result<u64> {
        let members: Vec<Bytes> = members.into_iter().map(Into::into).collect();
        self.non_empty(key, members.is_empty(), Verb::SortedRemove { members }).await
    }

    /// The score of a member.
    pub async fn sorted_score(&self, key: &Key, member: impl Into<Bytes>) -> Result<Option<f64>> {
        self.shared.run(&self.counters, key, Verb::SortedScore { member: member.into() }).await
    }

    /// The place of a member, the first is 0.
    pub async fn sorted_rank(&self, key: &Key, member: impl Into<Bytes>, order: Order) -> Result<Option<u64>> {
        self.shared.run(&self.counters, key, Verb::SortedRank { member: member.into(), order }).await
    }

    /// At most `count` (up to [`crate::MAX_RANGE`]) members from place `start` on.
    pub async fn sorted_range(&self, key: &Key, start: u64, count: u64, order: Order) -> Result<Vec<(Bytes, f64)>> {
        self.shared.run(&self.counters, key, Verb::SortedRange { start, count, order }).await
    }

    /// At most `count` (up to [`crate::MAX_RANGE`]) members with `min ≤ score ≤ max`; both may be infinite.
    pub async fn sorted_range_by_score(
        &self,
        key: &Key,
        min: f64,
        max: f64,
        count: u64,
        order: Order,
    ) -> Result<Vec<(Bytes, f64)>> {
        self.shared.run(&self.counters, key, Verb::SortedRangeByScore { min, max, count, order }).await
    }

    /// Keeps the first `keep` members in this order and removes the rest; how many it removed.
    pub async fn sorted_trim(&self, key: &Key, keep: u64, order: Order) -> Result<u64> {
        self.shared.run(&self.counters, key, Verb::SortedTrim { keep, order }).await
    }

    /// How many members there are.
    pub async fn sorted_len(&self, key: &Key) -> Result<u64> {
        self.shared.run(&self.counters, key, Verb::SortedLen).await
    }

    // ── Presence ────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Enters a member for `ttl`; whether it was not there before. Enter again to stay.
    pub async fn join(&self, key: &Key, member: impl Into<Bytes>, ttl: Duration) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::Join { member: member.into(), ttl }).await
    }

    /// Lets a member stay for `ttl` from now; `false` when it has vanished already, so that it joins (and is announced) again.
    pub async fn heartbeat(&self, key: &Key, member: impl Into<Bytes>, ttl: Duration) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::Heartbeat { member: member.into(), ttl }).await
    }

    /// Takes a member out; whether it was there.
    pub async fn leave(&self, key: &Key, member: impl Into<Bytes>) -> Result<bool> {
        self.shared.run(&self.counters, key, Verb::Leave { member: member.into() }).await
    }

    /// Everybody present (at most [`crate::MAX_MEMBERS`]), in no order.
    pub async fn present(&self, key: &Key) -> Result<Vec<Bytes>> {
        self.shared.run(&self.counters, key, Verb::Present).await
    }

    /// How many are present.
    pub async fn present_len(&self, key: &Key) -> Result<u64> {
        self.shared.run(&self.counters, key, Verb::PresentLen).await
    }

    // ── Publish and subscribe ───────────────────────────────────────────────────────────────────────────────────────────

    /// Sends a message of at most [`crate::MAX_MESSAGE_BYTES`] to whoever listens now, in every process. At most once: whoever
    /// misses it sees an [`crate::Event::Gap`].
    ///
    /// While Redis is down: [`crate::OnDown::Open`] drops it, [`crate::OnDown::BoundedLocal`] reaches this process alone.
    pub async fn publish(&self, channel: &Key, message: impl Into<Bytes>) -> Result<()> {
        self.shared.publish(&self.counters, channel, &message.into()).await
    }

    /// Listens to a channel: what is published after this returns arrives.
    ///
    /// While Redis is down: [`crate::OnDown::Closed`] fails; otherwise the subscription waits for the server, and begins with an
    /// [`crate::Event::Gap`] when it is back.
    pub async fn subscribe(&self, channel: &Key) -> Result<Subscription> {
        self.shared.subscribe(&self.counters, channel).await
    }

    async fn non_empty(&self, key: &Key, is_empty: bool, verb: Verb) -> Result<u64> {
        if is_empty { Ok(0) } else { self.shared.run(&self.counters, key, verb).await }
    }
}
