//! The machine that remembers each charge: the sliding log, and places with a lease.

use std::collections::VecDeque;

use super::small::{Admit, Report};

/// One charge that still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Whose places; of a log 0.
    pub(crate) holder: u128,
    pub(crate) at: u64,
    pub(crate) count: u32,
}

/// Invariant: `held` is in order of `at`, no two of a log at one instant, no two of one holder, and `total` is the sum of counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: VecDeque<Held>,
    total: u64,
}

impl Ledger {
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.held.capacity() * size_of::<Held>()
    }

    /// Drops what has left the horizon; and what lies beyond it in the future, where the clock went back that far.
    pub(crate) fn forget(&mut self, now: u64, horizon: u64) {
        while let Some(oldest) = self.held.front().filter(|oldest| oldest.at + horizon <= now) {
            self.total -= u64::from(oldest.count);
            self.held.pop_front();
        }
        while let Some(newest) = self.held.back().filter(|newest| newest.at > now + horizon) {
            self.total -= u64::from(newest.count);
            self.held.pop_back();
        }
        if self.held.capacity() > 64 && self.held.len() * 4 < self.held.capacity() {
            self.held.shrink_to(self.held.len() * 2);
        }
    }

    /// Whether `cost` fits, where what `holder` holds already is replaced. After [`Ledger::forget`].
    pub(crate) fn admit(&self, now: u64, horizon: u64, limit: u64, cost: u64, holder: Option<u128>) -> Admit {
        if cost > limit {
            return Admit::NEVER;
        }
        let own = holder.and_then(|holder| self.find(holder)).map_or(0, |i| u64::from(self.held[i].count));
        let used = self.total - own + cost;
        if used <= limit {
            return Admit::YES;
        }
        let mut over = used - limit;
        for held in self.held.iter().filter(|held| holder != Some(held.holder)) {
            let count = u64::from(held.count);
            if count >= over {
                return Admit::after((held.at + horizon).saturating_sub(now));
            }
            over -= count;
        }
        Admit::NEVER
    }

    /// Enters a charge that [`Ledger::admit`] allowed.
    pub(crate) fn enter(&mut self, now: u64, cost: u64, holder: Option<u128>) {
        if let Some(i) = holder.and_then(|holder| self.find(holder)) {
            self.take(i, u64::MAX);
        }
        self.add(now, cost, holder);
    }

    /// Corrects the charge of `at`, or of `holder`. More than twice the limit is never owed.
    pub(crate) fn adjust(&mut self, at: u64, delta: i64, holder: Option<u128>, limit: u64) {
        let i = match holder {
            Some(holder) => self.find(holder),
            None => self.held.binary_search_by_key(&at, |held| held.at).ok(),
        };
        let by = delta.unsigned_abs();
        match i {
            Some(i) if delta < 0 => self.take(i, by),
            Some(i) => {
                let (at, by) = (self.held[i].at, by.min((2 * limit).saturating_sub(self.total)));
                let before = u64::from(self.held[i].count);
                self.take(i, u64::MAX);
                self.add(at, before + by, holder);
            }
            None if delta > 0 && holder.is_none() => {
                self.add(at, by.min((2 * limit).saturating_sub(self.total)), None);
            }
            None => {}
        }
    }

    pub(crate) fn report(&self, now: u64, horizon: u64, limit: u64) -> Report {
        Report {
            remaining: limit.saturating_sub(self.total),
            reset: self.rests_at(horizon).map_or(0, |at| at.saturating_sub(now)),
        }
    }

    /// When the last charge leaves; `None` when there is none.
    pub(crate) fn rests_at(&self, horizon: u64) -> Option<u64> {
        self.held.back().map(|newest| newest.at + horizon)
    }

    fn find(&self, holder: u128) -> Option<usize> {
        self.held.iter().position(|held| held.holder == holder)
    }

    fn take(&mut self, i: usize, by: u64) {
        let Some(held) = self.held.get_mut(i) else { return };
        let by = u32::try_from(by).unwrap_or(u32::MAX).min(held.count);
        held.count -= by;
        self.total -= u64::from(by);
        if held.count == 0 {
            self.held.remove(i);
        }
    }

    fn add(&mut self, at: u64, count: u64, holder: Option<u128>) {
        let Ok(count @ 1..) = u32::try_from(count) else { return };
        self.total += u64::from(count);
        let after = self.held.partition_point(|held| held.at <= at);
        if holder.is_none()
            && let Some(same) = after.checked_sub(1).and_then(|i| self.held.get_mut(i)).filter(|held| held.at == at)
        {
            same.count += count;
            return;
        }
        self.held.insert(after, Held { holder: holder.unwrap_or(0), at, count });
    }
}
