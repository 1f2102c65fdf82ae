//! The pure core: what each operation does to what one key holds. No I/O, no clock, no lock.
//!
//! It is also the definition of failing open: the answer of [`apply`] on nothing.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Error, MAX_MEMBERS, Order, Result, Ttl,
    op::{Reply, Verb, at_most},
};

/// What memory one member of a collection takes beside its bytes: allocation, table slots at their worst fill.
const SET_MEMBER_OVERHEAD: usize = 112;
const SORTED_MEMBER_OVERHEAD: usize = 200;
const PRESENT_MEMBER_OVERHEAD: usize = 144;
/// What a value takes beside its bytes: the allocation and its counter.
const VALUE_OVERHEAD: usize = 64;

/// What one key holds. Never an empty collection: the key vanishes with its last member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    pub(crate) data: Data,
    /// On the monotonic clock; gone from that instant on.
    pub(crate) expires_at: Option<Duration>,
    /// Bytes of the members, kept as they come and go.
    member_bytes: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Bytes(Bytes),
    Int(i64),
    Set(HashSet<Bytes>),
    Sorted(Sorted),
    /// Member to the instant it vanishes.
    Present(HashMap<Bytes, Duration>),
}

/// Scores by member, and members in order of (score, bytes).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sorted {
    scores: HashMap<Bytes, f64>,
    order: Vec<(f64, Bytes)>,
}

impl Sorted {
    fn place(&self, score: f64, member: &Bytes) -> Result<usize, usize> {
        self.order.binary_search_by(|(s, m)| s.total_cmp(&score).then_with(|| m.cmp(member)))
    }

    /// Whether it is new.
    fn add(&mut self, member: Bytes, score: f64) -> bool {
        let old = self.scores.insert(member.clone(), score);
        if let Some(old) = old
            && let Ok(at) = self.place(old, &member)
        {
            self.order.remove(at);
        }
        let at = self.place(score, &member).unwrap_or_else(|at| at);
        self.order.insert(at, (score, member));
        old.is_none()
    }

    fn remove(&mut self, member: &Bytes) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        if let Ok(at) = self.place(score, member) {
            self.order.remove(at);
        }
        true
    }

    fn take(&self, from: usize, to: usize, count: u64, order: Order) -> Vec<(Bytes, f64)> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let slice = self.order.get(from..to).unwrap_or_default();
        let pair = |(score, member): &(f64, Bytes)| (member.clone(), *score);
        match order {
            Order::Ascending => slice.iter().take(count).map(pair).collect(),
            Order::Descending => slice.iter().rev().take(count).map(pair).collect(),
        }
    }
}

impl Slot {
    fn new(data: Data, expires_at: Option<Duration>) -> Self {
        Self { data, expires_at, member_bytes: 0 }
    }

    /// Stands in while the real one is worked on; allocates nothing.
    pub(crate) const fn nothing() -> Self {
        Self { data: Data::Int(0), expires_at: None, member_bytes: 0 }
    }

    pub(crate) fn is_expired(&self, now: Duration) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What it takes in memory, beside its key.
    pub(crate) fn cost(&self) -> usize {
        match &self.data {
            Data::Bytes(b) => b.len() + VALUE_OVERHEAD,
            Data::Int(_) => 0,
            Data::Set(s) => self.member_bytes + s.len() * SET_MEMBER_OVERHEAD,
            Data::Sorted(s) => self.member_bytes + s.order.len() * SORTED_MEMBER_OVERHEAD,
            Data::Present(p) => self.member_bytes + p.len() * PRESENT_MEMBER_OVERHEAD,
        }
    }

    fn is_empty(&self) -> bool {
        match &self.data {
            Data::Bytes(_) | Data::Int(_) => false,
            Data::Set(s) => s.is_empty(),
            Data::Sorted(s) => s.order.is_empty(),
            Data::Present(p) => p.is_empty(),
        }
    }

    fn value(&self) -> Result<Bytes> {
        match &self.data {
            Data::Bytes(b) => Ok(b.clone()),
            Data::Int(n) => Ok(Bytes::from(n.to_string())),
            _ => Err(Error::WrongType),
        }
    }

    /// Gives back tables that became far too wide.
    fn shrink(&mut self) {
        match &mut self.data {
            Data::Set(s) if s.capacity() > 64 && s.len() * 4 < s.capacity() => s.shrink_to(s.len() * 2),
            Data::Sorted(s) if s.order.capacity() > 64 && s.order.len() * 4 < s.order.capacity() => {
                let to = s.order.len() * 2;
                s.order.shrink_to(to);
                s.scores.shrink_to(to);
            }
            Data::Present(p) if p.capacity() > 64 && p.len() * 4 < p.capacity() => p.shrink_to(p.len() * 2),
            Data::Bytes(_) | Data::Int(_) | Data::Set(_) | Data::Sorted(_) | Data::Present(_) => {}
        }
    }
}

impl Verb {
    /// The most that this operation can add to the cost of a slot.
    pub(crate) fn growth(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::SetIfAbsent { value, .. } | Self::CompareAndSet { value, .. } => {
                value.len() + VALUE_OVERHEAD
            }
            Self::SetAdd { members, .. } => members.iter().map(|m| m.len() + SET_MEMBER_OVERHEAD).sum(),
            Self::SortedAdd { members, .. } => members.iter().map(|(m, _)| m.len() + SORTED_MEMBER_OVERHEAD).sum(),
            Self::Join { member, .. } => member.len() + PRESENT_MEMBER_OVERHEAD,
            _ => 0,
        }
    }

    /// Whether it can make a key that is not there.
    pub(crate) fn creates(&self) -> bool {
        self.growth() > 0 || matches!(self, Self::Increment { .. })
    }
}

/// Own memory of its own size: a slice of a large buffer would keep all of it alive, uncounted.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// As Redis reads integers: no sign `+`, no leading zeros, no spaces.
fn parse_int(text: &[u8]) -> Result<i64> {
    let text = std::str::from_utf8(text).map_err(|_| Error::NotANumber)?;
    let n = text.parse::<i64>().map_err(|_| Error::NotANumber)?;
    if n.to_string() == text { Ok(n) } else { Err(Error::NotANumber) }
}

macro_rules! reading {
    ($slot:expr, $variant:ident) => {
        match $slot.as_ref().map(|s| &s.data) {
            None => None,
            Some(Data::$variant(data)) => Some(data),
            Some(_) => return Err(Error::WrongType),
        }
    };
}

macro_rules! writing {
    ($slot:expr, $variant:ident) => {
        match $slot.get_or_insert_with(|| Slot::new(Data::$variant(Default::default()), None)) {
            Slot { data: Data::$variant(data), expires_at, member_bytes } => (data, expires_at, member_bytes),
            _ => return Err(Error::WrongType),
        }
    };
}

/// Applies one operation to what a key holds; `slot` must not be expired. After an error it is unchanged.
pub(crate) fn apply(verb: &Verb, slot: &mut Option<Slot>, now: Duration) -> Result<Reply> {
    let at = |ttl: &Option<Duration>| ttl.map(|ttl| now.saturating_add(ttl));
    let put = |value: &Bytes, ttl: &Option<Duration>| Some(Slot::new(Data::Bytes(own(value)), at(ttl)));
    let reply = match verb {
        Verb::Get => Reply::Value(slot.as_ref().map(Slot::value).transpose()?),
        Verb::Set { value, ttl } => {
            *slot = put(value, ttl);
            Reply::Done
        }
        Verb::SetIfAbsent { value, ttl } => {
            let absent = slot.is_none();
            if absent {
                *slot = put(value, ttl);
            }
            Reply::Bool(absent)
        }
        Verb::CompareAndSet { expected, value, ttl } => {
            let same = slot.as_ref().map(Slot::value).transpose()? == *expected;
            if same {
                *slot = put(value, ttl);
            }
            Reply::Bool(same)
        }
        Verb::CompareAndDelete { expected } => {
            let same = slot.as_ref().map(Slot::value).transpose()?.as_ref() == Some(expected);
            if same {
                *slot = None;
            }
            Reply::Bool(same)
        }
        Verb::Delete => Reply::Bool(slot.take().is_some()),
        Verb::Expire { ttl } => Reply::Bool(slot.as_mut().map(|s| s.expires_at = at(ttl)).is_some()),
        Verb::Ttl => Reply::Ttl(match slot {
            None => Ttl::Absent,
            Some(Slot { expires_at: None, .. }) => Ttl::Never,
            Some(Slot { expires_at: Some(at), .. }) => Ttl::Expires(at.saturating_sub(now)),
        }),
        Verb::Increment { by, ttl } => {
            let (old, expires_at) = match slot {
                None => (0, at(ttl)),
                Some(Slot { data: Data::Int(n), expires_at, .. }) => (*n, *expires_at),
                Some(Slot { data: Data::Bytes(b), expires_at, .. }) => (parse_int(b)?, *expires_at),
                Some(_) => return Err(Error::WrongType),
            };
            let new = old.checked_add(*by).ok_or(Error::NotANumber)?;
            *slot = Some(Slot::new(Data::Int(new), expires_at));
            Reply::Int(new)
        }
        Verb::SetAdd { .. } | Verb::SetRemove { .. } | Verb::SetContains { .. } | Verb::SetMembers | Verb::SetLen => {
            set(verb, slot, now)?
        }
        Verb::Join { .. } | Verb::Heartbeat { .. } | Verb::Leave { .. } | Verb::Present | Verb::PresentLen => {
            presence(verb, slot, now)?
        }
        _ => sorted(verb, slot, now)?,
    };
    if slot.as_ref().is_some_and(Slot::is_empty) {
        *slot = None;
    } else if let Some(slot) = slot {
        slot.shrink();
    }
    Ok(reply)
}

fn count(n: usize) -> Reply {
    Reply::Count(u64::try_from(n).unwrap_or(u64::MAX))
}

fn set(verb: &Verb, slot: &mut Option<Slot>, now: Duration) -> Result<Reply> {
    Ok(match verb {
        Verb::SetAdd { members, ttl } => {
            let old = reading!(slot, Set);
            let fresh: HashSet<&Bytes> = members.iter().filter(|m| !old.is_some_and(|s| s.contains(*m))).collect();
            at_most("members of a set", old.map_or(0, HashSet::len) + fresh.len(), MAX_MEMBERS)?;
            let (data, expires_at, member_bytes) = writing!(slot, Set);
            let n = fresh.len();
            for member in fresh {
                *member_bytes += member.len();
                data.insert(own(member));
            }
            if let Some(ttl) = ttl {
                *expires_at = Some(now.saturating_add(*ttl));
            }
            count(n)
        }
        Verb::SetRemove { members } => {
            reading!(slot, Set);
            let (data, _, member_bytes) = writing!(slot, Set);
            let mut n = 0;
            for member in members.iter().filter(|m| data.remove(*m)) {
                *member_bytes -= member.len();
                n += 1;
            }
            count(n)
        }
        Verb::SetContains { member } => Reply::Bool(reading!(slot, Set).is_some_and(|s| s.contains(member))),
        Verb::SetMembers => {
            Reply::Members(reading!(slot, Set).map(|s| s.iter().cloned().collect()).unwrap_or_default())
        }
        _ => count(reading!(slot, Set).map_or(0, HashSet::len)),
    })
}

fn sorted(verb: &Verb, slot: &mut Option<Slot>, now: Duration) -> Result<Reply> {
    Ok(match verb {
        Verb::SortedAdd { members, ttl } => {
            let old = reading!(slot, Sorted);
            let is_new = |m: &Bytes| !old.is_some_and(|s| s.scores.contains_key(m));
            let fresh: HashSet<&Bytes> = members.iter().map(|(m, _)| m).filter(|m| is_new(m)).collect();
            at_most("members of a sorted set", old.map_or(0, |s| s.order.len()) + fresh.len(), MAX_MEMBERS)?;
            let (data, expires_at, member_bytes) = writing!(slot, Sorted);
            let mut n = 0;
            for (member, score) in members {
                if data.add(own(member), *score) {
                    *member_bytes += member.len();
                    n += 1;
                }
            }
            if let Some(ttl) = ttl {
                *expires_at = Some(now.saturating_add(*ttl));
            }
            count(n)
        }
        Verb::SortedRemove { members } => {
            let (data, _, member_bytes) = writing!(slot, Sorted);
            let mut n = 0;
            for member in members.iter().filter(|m| data.remove(m)) {
                *member_bytes -= member.len();
                n += 1;
            }
            count(n)
        }
        Verb::SortedScore { member } => {
            Reply::Score(reading!(slot, Sorted).and_then(|s| s.scores.get(member).copied()))
        }
        Verb::SortedRank { member, order } => Reply::Rank(reading!(slot, Sorted).and_then(|s| {
            let at = s.place(*s.scores.get(member)?, member).ok()?;
            let rank = match order {
                Order::Ascending => at,
                Order::Descending => s.order.len() - 1 - at,
            };
            u64::try_from(rank).ok()
        })),
        Verb::SortedRange { start, count, order } => Reply::Scored(reading!(slot, Sorted).map_or_else(Vec::new, |s| {
            let (start, len) = (usize::try_from(*start).unwrap_or(usize::MAX), s.order.len());
            match order {
                Order::Ascending => s.take(start.min(len), len, *count, *order),
                Order::Descending => s.take(0, len.saturating_sub(start), *count, *order),
            }
        })),
        Verb::SortedRangeByScore { min, max, count, order } => {
            Reply::Scored(reading!(slot, Sorted).map_or_else(Vec::new, |s| {
                // Compared as numbers: the bounds may be infinite, and -0 is 0.
                let below = |bound: &f64, keep: fn(Ordering) -> bool| {
                    s.order.partition_point(|(score, _)| score.partial_cmp(bound).is_some_and(keep))
                };
                s.take(below(min, Ordering::is_lt), below(max, Ordering::is_le), *count, *order)
            }))
        }
        Verb::SortedTrim { keep, order } => {
            let (data, _, member_bytes) = writing!(slot, Sorted);
            let excess = data.order.len().saturating_sub(usize::try_from(*keep).unwrap_or(usize::MAX));
            let gone = match order {
                Order::Ascending => data.order.split_off(data.order.len() - excess),
                Order::Descending => data.order.drain(..excess).collect(),
            };
            for (_, member) in &gone {
                *member_bytes -= member.len();
                data.scores.remove(member);
            }
            count(gone.len())
        }
        _ => count(reading!(slot, Sorted).map_or(0, |s| s.order.len())),
    })
}

fn presence(verb: &Verb, slot: &mut Option<Slot>, now: Duration) -> Result<Reply> {
    // Who has vanished is looked for where everybody is looked at anyhow, or where room is needed.
    let full = reading!(slot, Present).map_or(0, HashMap::len) >= MAX_MEMBERS;
    if full || matches!(verb, Verb::Present | Verb::PresentLen) {
        let (data, _, member_bytes) = writing!(slot, Present);
        data.retain(|member, until| {
            let stays = *until > now;
            if !stays {
                *member_bytes -= member.len();
            }
            stays
        });
    }
    Ok(match verb {
        Verb::Join { member, ttl } => {
            let old = reading!(slot, Present);
            let known = old.and_then(|p| p.get(member)).copied();
            at_most("members present", old.map_or(0, HashMap::len) + usize::from(known.is_none()), MAX_MEMBERS)?;
            let (data, expires_at, member_bytes) = writing!(slot, Present);
            let until = now.saturating_add(*ttl);
            if known.is_none() {
                *member_bytes += member.len();
            }
            data.insert(own(member), until);
            *expires_at = Some(expires_at.map_or(until, |at| at.max(until)));
            Reply::Bool(known.is_none_or(|until| until <= now))
        }
        Verb::Heartbeat { member, ttl } => {
            let (data, expires_at, _) = writing!(slot, Present);
            let until = now.saturating_add(*ttl);
            let known = data.get_mut(member).filter(|until| **until > now);
            if let Some(known) = known {
                *known = until;
                *expires_at = Some(expires_at.map_or(until, |at| at.max(until)));
                Reply::Bool(true)
            } else {
                Reply::Bool(false)
            }
        }
        Verb::Leave { member } => {
            let (data, _, member_bytes) = writing!(slot, Present);
            let known = data.remove(member);
            if known.is_some() {
                *member_bytes -= member.len();
            }
            Reply::Bool(known.is_some_and(|until| until > now))
        }
        Verb::Present => {
            Reply::Members(reading!(slot, Present).map(|p| p.keys().cloned().collect()).unwrap_or_default())
        }
        _ => count(reading!(slot, Present).map_or(0, HashMap::len)),
    })
}
