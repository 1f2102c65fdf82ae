//! One shard of the table: open addressing in one allocation, 32 bytes a place.
//!
//! Linear probing at a load of 1/2 to 3/4, and removal by moving back what follows, so that there are no tombstones: a place is
//! empty or holds a cell that a probe from its home reaches without a gap (TABLE-1). `count + entries ≤ max` after every write,
//! where `entries` are the charges that ledgers remember (TABLE-2); only one ledger that is larger than that alone is kept.

use super::{
    form::Kind,
    ledger::{Held, Ledger},
    small::Small,
};

/// A cell by its 128-bit keyed hash: two keys share a cell with a chance of 2⁻¹²⁵ a pair. Nobody who does not know the key of
/// the hash can find such a pair, so the key itself need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u128);

impl Id {
    pub(crate) fn new(hash: u128, kind: Kind) -> Self {
        Self(hash & !7 | kind as u128)
    }

    #[allow(clippy::cast_possible_truncation, reason = "other bits than those of the home")]
    pub(crate) fn shard(self, shards: usize) -> usize {
        (self.0 >> 8) as usize & (shards - 1)
    }

    fn has_ledger(self) -> bool {
        let kind = self.0 & 7;
        kind == Kind::Log as u128 || kind == Kind::Holders as u128
    }

    /// Where it would like to be.
    #[allow(clippy::cast_possible_truncation, reason = "the product's high half is below the capacity")]
    fn home(self, capacity: usize) -> usize {
        let high = self.0 >> 64;
        ((high * capacity as u128) >> 64) as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    id: Id,
    small: Small,
}

const EMPTY: Place = Place { id: Id(0), small: Small { rests_at: 0, rest: 0 } };
const LEAST_CAPACITY: usize = 16;
/// Places looked at by each decision, in passing.
const SWEEP: usize = 4;
/// Decisions of a shard after which another one is swept too.
const FAR_SWEEP_EACH: u32 = 64;
/// Cells looked at to find the one nearest to rest.
const SAMPLE: usize = 16;

/// Counts of one shard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) cells: usize,
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) evicted: u64,
    pub(crate) forgotten: u64,
}

#[derive(Debug)]
pub(crate) struct Shard {
    places: Vec<Place>,
    count: usize,
    ledgers: Vec<Ledger>,
    /// Ledgers that nobody uses.
    spare: Vec<usize>,
    entries: usize,
    max: usize,
    sweep_at: usize,
    decisions: u32,
    /// A small generator (xorshift) for sampling.
    random: u64,
    evicted: u64,
    forgotten: u64,
}

impl Shard {
    pub(crate) fn new(max: usize, seed: u64) -> Self {
        Self {
            places: Vec::new(),
            count: 0,
            ledgers: Vec::new(),
            spare: Vec::new(),
            entries: 0,
            max: max.max(1),
            sweep_at: 0,
            decisions: 0,
            random: seed | 1,
            evicted: 0,
            forgotten: 0,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let ledgers: usize = self.ledgers.iter().map(Ledger::heap_bytes).sum();
        Counts {
            cells: self.count,
            entries: self.entries,
            bytes: self.places.capacity() * size_of::<Place>()
                + self.ledgers.capacity() * size_of::<Ledger>()
                + self.spare.capacity() * size_of::<usize>()
                + ledgers,
            evicted: self.evicted,
            forgotten: self.forgotten,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.places = Vec::new();
        self.ledgers = Vec::new();
        self.spare = Vec::new();
        (self.count, self.entries) = (0, 0);
    }

    /// The state of a small cell; `None` when it is at rest.
    pub(crate) fn small(&self, id: Id, now: u64) -> Option<Small> {
        self.find(id).ok().map(|i| self.places[i].small).filter(|small| small.rests_at > now)
    }

    pub(crate) fn put_small(&mut self, id: Id, small: Small, now: u64) {
        if let Ok(i) = self.find(id) {
            self.places[i].small = small;
        } else {
            self.make_room(1, now, None);
            self.insert(Place { id, small });
        }
    }

    /// Looks at a ledger, without what has left its horizon; `None` when it is at rest.
    pub(crate) fn ledger(&mut self, id: Id, now: u64, horizon: u64) -> Option<&Ledger> {
        let i = self.find(id).ok()?;
        let slot = self.slot(i);
        let ledger = self.ledgers.get_mut(slot)?;
        let before = ledger.len();
        ledger.forget(now, horizon);
        let after = ledger.len();
        self.entries -= before - after;
        if after == 0 {
            self.remove(i);
            return None;
        }
        self.ledgers.get(slot)
    }

    /// Changes a ledger, made when it is not there.
    pub(crate) fn with_ledger(&mut self, id: Id, now: u64, horizon: u64, change: impl FnOnce(&mut Ledger)) {
        // Its cell and at most one entry more.
        self.make_room(2, now, Some(id));
        let i = if let Ok(i) = self.find(id) {
            i
        } else {
            let slot = self.spare.pop().unwrap_or_else(|| {
                self.ledgers.push(Ledger::default());
                self.ledgers.len() - 1
            });
            let rest = u64::try_from(slot).unwrap_or(u64::MAX);
            self.insert(Place { id, small: Small { rests_at: u64::MAX, rest } })
        };
        let slot = self.slot(i);
        let Some(ledger) = self.ledgers.get_mut(slot) else { return };
        let before = ledger.len();
        change(ledger);
        let (after, rests_at) = (ledger.len(), ledger.rests_at(horizon));
        self.entries = self.entries + after - before;
        match rests_at {
            Some(rests_at) => self.places[i].small.rests_at = rests_at,
            None => self.remove(i),
        }
    }

    /// Looks at a few places and forgets what is at rest. Once in a while another shard's turn is due: then `true`.
    pub(crate) fn sweep(&mut self, now: u64) -> bool {
        self.sweep_some(SWEEP, now);
        self.decisions = self.decisions.wrapping_add(1);
        self.decisions.is_multiple_of(FAR_SWEEP_EACH)
    }

    pub(crate) fn sweep_some(&mut self, places: usize, now: u64) {
        // A removal is a step that stays where it is; so a whole round has a step for each of both.
        for _ in 0..places.min(self.places.len() + self.count) {
            if self.sweep_at >= self.places.len() {
                self.sweep_at = 0;
            }
            let place = self.places[self.sweep_at];
            if place.id != EMPTY.id && place.small.rests_at <= now {
                // What follows moves here and is looked at next.
                self.remove(self.sweep_at);
                self.forgotten += 1;
            } else {
                self.sweep_at += 1;
            }
        }
        if self.places.len() > LEAST_CAPACITY && self.count * 8 < self.places.len() {
            self.resize((self.count * 2).max(LEAST_CAPACITY));
            if self.count == 0 {
                self.clear();
            }
        }
    }

    fn slot(&self, i: usize) -> usize {
        usize::try_from(self.places[i].small.rest).unwrap_or(usize::MAX)
    }

    /// Where it is, or the empty place that ends its probe.
    fn find(&self, id: Id) -> Result<usize, usize> {
        let capacity = self.places.len();
        if capacity == 0 {
            return Err(0);
        }
        let mut i = id.home(capacity);
        loop {
            let there = self.places[i].id;
            if there == id {
                return Ok(i);
            }
            if there == EMPTY.id {
                return Err(i);
            }
            i += 1;
            if i == capacity {
                i = 0;
            }
        }
    }

    fn insert(&mut self, place: Place) -> usize {
        if (self.count + 1) * 4 > self.places.len() * 3 {
            // By half, so that the load stays above 1/2.
            self.resize((self.places.len() * 3 / 2).max(LEAST_CAPACITY));
        }
        let (Ok(i) | Err(i)) = self.find(place.id);
        self.places[i] = place;
        self.count += 1;
        i
    }

    fn resize(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.places, vec![EMPTY; capacity]);
        for place in old {
            if place.id != EMPTY.id {
                let (Ok(i) | Err(i)) = self.find(place.id);
                self.places[i] = place;
            }
        }
        self.sweep_at = 0;
    }

    fn remove(&mut self, i: usize) {
        let removed = self.places[i];
        if removed.id.has_ledger() {
            let slot = self.slot(i);
            if let Some(ledger) = self.ledgers.get_mut(slot) {
                self.entries -= ledger.len();
                *ledger = Ledger::default();
                self.spare.push(slot);
            }
            if self.spare.len() == self.ledgers.len() {
                (self.ledgers, self.spare) = (Vec::new(), Vec::new());
            }
        }
        self.count -= 1;
        let capacity = self.places.len();
        let (mut hole, mut next) = (i, (i + 1) % capacity);
        loop {
            let place = self.places[next];
            if place.id == EMPTY.id {
                break;
            }
            // It may move into the hole unless its home lies behind the hole.
            let home = place.id.home(capacity);
            let from_home = (next + capacity - home) % capacity;
            let from_hole = (next + capacity - hole) % capacity;
            if from_home >= from_hole {
                self.places[hole] = place;
                hole = next;
            }
            next = (next + 1) % capacity;
        }
        self.places[hole] = EMPTY;
    }

    /// Makes room for so many more, dropping cells nearest to rest: those forgive least.
    fn make_room(&mut self, more: usize, now: u64, except: Option<Id>) {
        while self.count > 0 && self.count + self.entries + more > self.max {
            let Some(victim) = self.nearest_to_rest(except) else { return };
            if self.places[victim].small.rests_at <= now {
                self.forgotten += 1;
            } else {
                self.evicted += 1;
            }
            self.remove(victim);
        }
    }

    /// Of some cells in a row, from a random place on, the one nearest to rest.
    fn nearest_to_rest(&mut self, except: Option<Id>) -> Option<usize> {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let capacity = self.places.len();
        let start = usize::try_from(self.random % u64::try_from(capacity).unwrap_or(1).max(1)).unwrap_or(0);
        let (mut best, mut seen) = (None, 0);
        for step in 0..capacity {
            let i = (start + step) % capacity;
            let place = &self.places[i];
            if place.id == EMPTY.id || Some(place.id) == except {
                continue;
            }
            if best.is_none_or(|(rests_at, _)| place.small.rests_at < rests_at) {
                best = Some((place.small.rests_at, i));
            }
            seen += 1;
            if seen == SAMPLE {
                break;
            }
        }
        best.map(|(_, i)| i)
    }

    /// Counts anew and looks at every invariant, for tests.
    #[cfg(test)]
    pub(crate) fn recheck(&self) {
        let held: Vec<_> = self.places.iter().enumerate().filter(|(_, p)| p.id != EMPTY.id).collect();
        assert_eq!(held.len(), self.count);
        for (i, place) in &held {
            assert_eq!(self.find(place.id), Ok(*i), "TABLE-1");
        }
        let entries: usize = self.ledgers.iter().map(Ledger::len).sum();
        assert_eq!(entries, self.entries);
        assert!(self.count + self.entries <= self.max || self.count == 1, "TABLE-2");
        let with_ledger = held.iter().filter(|(_, p)| p.id.has_ledger()).count();
        assert_eq!(with_ledger + self.spare.len(), self.ledgers.len());
    }
}

/// What the table says of its sizes is what the compiler makes of them.
const _: () = assert!(size_of::<Place>() == 32 && size_of::<Held>() == 32);
