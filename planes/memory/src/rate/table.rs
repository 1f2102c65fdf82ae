//! The cells of this process.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use kernel::{Clock, Rng};
use siphasher::sip128::SipHasher13;
use smallvec::SmallVec;

use super::{
    Adjust, Charge, Charged, MAX_CELLS, Moment, Once, RateKey, RateStats, check_keys,
    form::{Form, Kind},
    shard::{Id, Shard},
    small::{self, Admit, Report, Small},
    time::Ticker,
};
use crate::{Error, Result};

/// Cells for which one more shard is worth it, and most shards.
const SHARD_CELLS: usize = 4096;
const MAX_SHARDS: usize = 256;
/// Cells of a call that needs no memory from the heap but for its answer.
const FEW: usize = 4;
/// Places looked at in another shard, when that is due.
const FAR_SWEEP: usize = 256;

/// Sharded, each shard with its own lock and its own line of the processor's cache.
pub(crate) struct Table {
    shards: Box<[Padded]>,
    hasher: SipHasher13,
    ticker: Ticker,
    max_count: usize,
    far: AtomicUsize,
}

#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// One cell of a call.
#[derive(Clone, Copy)]
struct Cell {
    id: Id,
    form: Form,
    holder: Option<u128>,
}

/// What a cell answered, before the call is decided.
#[derive(Clone, Copy)]
struct Seen {
    admit: Admit,
    state: Option<Small>,
    next: Small,
}

impl Table {
    pub(crate) fn new(max_count: usize, clock: Clock, rng: &Rng) -> Self {
        let shards = (max_count / SHARD_CELLS).clamp(1, MAX_SHARDS);
        // A power of two, downwards: a shard is chosen by bits.
        let shards = 1 << shards.ilog2();
        let padded = |_| Padded(Mutex::new(Shard::new(max_count / shards, rng.next_u64())));
        Self {
            shards: (0..shards).map(padded).collect(),
            hasher: SipHasher13::new_with_keys(rng.next_u64(), rng.next_u64()),
            ticker: Ticker::new(clock),
            max_count,
            far: AtomicUsize::new(0),
        }
    }

    /// Decides one cell; allocates nothing unless the table grows.
    pub(crate) fn charge_one(&self, charge: &Charge<'_>) -> Result<Charged> {
        check_keys(std::iter::once(charge.key), 1)?;
        let cell = self.cell(charge)?;
        let mut shard = self.lock(cell.id.shard(self.shards.len()));
        // Read under the lock, so that time goes forward in every cell.
        let now = self.ticker.now();
        let seen = look(&mut shard, &cell, now, charge.cost)?;
        let state = if seen.admit.is_allowed && charge.cost > 0 {
            commit(&mut shard, &cell, &seen, now, charge.cost);
            Some(seen.next)
        } else {
            seen.state
        };
        let report = report(&mut shard, &cell, state, now)?;
        let is_far_due = shard.sweep(now);
        drop(shard);
        if is_far_due {
            self.sweep_far(now);
        }
        Ok(charged(seen.admit, report, now))
    }

    /// Decides several at one instant; `is_real` or not charged at all.
    pub(crate) fn charge(&self, charges: &[Charge<'_>], is_real: bool) -> Result<Vec<Charged>> {
        if let ([charge], true) = (charges, is_real) {
            return self.charge_one(charge).map(|one| vec![one]);
        }
        check_keys(charges.iter().map(|charge| charge.key), charges.len())?;
        let cells = charges.iter().map(|charge| self.cell(charge)).collect::<Result<SmallVec<[Cell; FEW]>>>()?;
        distinct(&cells)?;
        let mut held = self.lock_all(cells.iter().map(|cell| cell.id));
        let now = self.ticker.now();
        let mut seen: SmallVec<[Seen; FEW]> = SmallVec::new();
        for (cell, charge) in cells.iter().zip(charges) {
            seen.push(look(held.of(cell.id)?, cell, now, charge.cost)?);
        }
        let is_allowed = charges.iter().zip(&seen).all(|(charge, seen)| seen.admit.is_allowed || charge.is_shadow);
        if is_allowed && is_real {
            for ((cell, charge), seen) in cells.iter().zip(charges).zip(&mut seen) {
                if seen.admit.is_allowed && charge.cost > 0 {
                    commit(held.of(cell.id)?, cell, seen, now, charge.cost);
                    seen.state = Some(seen.next);
                }
            }
        }
        let mut answers = Vec::with_capacity(cells.len());
        let mut is_far_due = false;
        for (cell, seen) in cells.iter().zip(&seen) {
            let shard = held.of(cell.id)?;
            answers.push(charged(seen.admit, report(shard, cell, seen.state, now)?, now));
            is_far_due |= shard.sweep(now);
        }
        drop(held);
        if is_far_due {
            self.sweep_far(now);
        }
        Ok(answers)
    }

    /// Corrects; `false` when it was done before.
    pub(crate) fn adjust(&self, once: Option<&Once>, adjusts: &[Adjust<'_>]) -> Result<bool> {
        check_keys(adjusts.iter().map(|adjust| adjust.key), adjusts.len())?;
        let mut cells = Vec::with_capacity(adjusts.len());
        for adjust in adjusts {
            let form = Form::new(&adjust.rate)?;
            let holder = holder(&form, adjust.holder)?;
            cells.push(Cell { id: self.id(adjust.key, form.kind()), form, holder });
        }
        distinct(&cells)?;
        let mark = once.map(|once| (self.once(adjusts, once), once.ttl));
        let mut held = self.lock_all(cells.iter().map(|cell| cell.id).chain(mark.map(|(id, _)| id)));
        let now = self.ticker.now();
        if let Some((id, ttl)) = mark {
            let shard = held.of(id)?;
            if shard.small(id, now).is_some() {
                return Ok(false);
            }
            let ttl = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
            shard.put_small(id, Small { rests_at: now.saturating_add(ttl), rest: 0 }, now);
        }
        for (cell, adjust) in cells.iter().zip(adjusts) {
            correct(held.of(cell.id)?, cell, now, adjust.at.as_micros().min(now), adjust.delta);
        }
        Ok(true)
    }

    pub(crate) fn clear(&self) {
        for i in 0..self.shards.len() {
            self.lock(i).clear();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        (0..self.shards.len()).all(|i| self.lock(i).counts().cells == 0)
    }

    /// Looks at every place and forgets what is at rest.
    pub(crate) fn sweep(&self) {
        let now = self.ticker.now();
        for i in 0..self.shards.len() {
            self.lock(i).sweep_some(usize::MAX, now);
        }
    }

    pub(crate) fn stats(&self) -> RateStats {
        let own = self.shards.len() * size_of::<Padded>();
        let start = RateStats { max_count: self.max_count, bytes: own, ..RateStats::default() };
        (0..self.shards.len()).map(|i| self.lock(i).counts()).fold(start, |sum, counts| RateStats {
            cell_count: sum.cell_count + counts.cells,
            entry_count: sum.entry_count + counts.entries,
            bytes: sum.bytes + counts.bytes,
            evicted_count: sum.evicted_count + counts.evicted,
            forgotten_count: sum.forgotten_count + counts.forgotten,
            max_count: sum.max_count,
        })
    }

    fn cell(&self, charge: &Charge<'_>) -> Result<Cell> {
        let form = Form::new(&charge.rate)?;
        Ok(Cell { id: self.id(charge.key, form.kind()), form, holder: holder(&form, charge.holder)? })
    }

    fn id(&self, key: &RateKey, kind: Kind) -> Id {
        Id::new(self.hasher.hash(key.as_str().as_bytes()).as_u128(), kind)
    }

    fn once(&self, adjusts: &[Adjust<'_>], once: &Once) -> Id {
        let group = adjusts.first().map_or("", |adjust| adjust.key.group());
        let mut text = Vec::with_capacity(group.len() + 16);
        text.extend_from_slice(group.as_bytes());
        text.extend_from_slice(&once.id.to_be_bytes());
        Id::new(self.hasher.hash(&text).as_u128(), Kind::Once)
    }

    fn lock(&self, i: usize) -> MutexGuard<'_, Shard> {
        self.shards[i].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the shards of several cells, in ascending order, so that no two calls wait for each other.
    fn lock_all(&self, ids: impl Iterator<Item = Id>) -> Held<'_> {
        let mut wanted = [usize::MAX; MAX_CELLS + 1];
        let mut count = 0;
        for id in ids {
            let shard = id.shard(self.shards.len());
            if !wanted[..count].contains(&shard) {
                wanted[count] = shard;
                count += 1;
            }
        }
        wanted[..count].sort_unstable();
        let guards = wanted[..count].iter().map(|i| (*i, self.lock(*i))).collect();
        Held { guards, shards: self.shards.len() }
    }

    /// Sweeps the next shard in turn, so that traffic on one key frees them all.
    fn sweep_far(&self, now: u64) {
        let next = self.far.fetch_add(1, Relaxed) % self.shards.len();
        // Whoever decides there just now sweeps as well.
        if let Ok(mut shard) = self.shards[next].0.try_lock() {
            shard.sweep_some(FAR_SWEEP, now);
        }
    }

    #[cfg(test)]
    pub(crate) fn recheck(&self) {
        for i in 0..self.shards.len() {
            self.lock(i).recheck();
        }
    }
}

/// Who holds, where somebody must.
pub(crate) fn holder(form: &Form, holder: Option<u128>) -> Result<Option<u128>> {
    match form {
        Form::Holders { .. } => holder.map(Some).ok_or(Error::Invalid("places without a holder")),
        _ => Ok(None),
    }
}

struct Held<'a> {
    guards: SmallVec<[(usize, MutexGuard<'a, Shard>); FEW]>,
    shards: usize,
}

impl Held<'_> {
    fn of(&mut self, id: Id) -> Result<&mut Shard> {
        let shard = id.shard(self.shards);
        let guard = self.guards.iter_mut().find(|(i, _)| *i == shard);
        guard.map(|(_, shard)| &mut **shard).ok_or_else(|| Error::Other("a shard that is not locked".to_owned()))
    }
}

fn distinct(cells: &[Cell]) -> Result<()> {
    for (i, cell) in cells.iter().enumerate() {
        if cells[..i].iter().any(|before| before.id == cell.id) {
            return Err(TWICE);
        }
    }
    Ok(())
}

pub(crate) const TWICE: Error = Error::Invalid("a cell twice in one call");

fn look(shard: &mut Shard, cell: &Cell, now: u64, cost: u64) -> Result<Seen> {
    match cell.form {
        Form::Log { limit, horizon } | Form::Holders { limit, horizon } => {
            let admit = match shard.ledger(cell.id, now, horizon) {
                Some(ledger) => ledger.admit(now, horizon, limit, cost, cell.holder),
                None if cost > limit => Admit::NEVER,
                None => Admit::YES,
            };
            Ok(Seen { admit, state: None, next: Small::default() })
        }
        _ => {
            let state = shard.small(cell.id, now);
            let (admit, next) = small::admit(&cell.form, state, now, cost)?;
            Ok(Seen { admit, state, next })
        }
    }
}

fn commit(shard: &mut Shard, cell: &Cell, seen: &Seen, now: u64, cost: u64) {
    match cell.form {
        Form::Log { horizon, .. } | Form::Holders { horizon, .. } => {
            shard.with_ledger(cell.id, now, horizon, |ledger| ledger.enter(now, cost, cell.holder));
        }
        _ => shard.put_small(cell.id, seen.next, now),
    }
}

fn report(shard: &mut Shard, cell: &Cell, state: Option<Small>, now: u64) -> Result<Report> {
    match cell.form {
        Form::Log { limit, horizon } | Form::Holders { limit, horizon } => {
            let ledger = shard.ledger(cell.id, now, horizon);
            Ok(ledger.map_or(Report { remaining: limit, reset: 0 }, |ledger| ledger.report(now, horizon, limit)))
        }
        _ => small::report(&cell.form, state, now),
    }
}

fn correct(shard: &mut Shard, cell: &Cell, now: u64, at: u64, delta: i64) {
    match cell.form {
        Form::Log { limit, horizon } | Form::Holders { limit, horizon } => {
            let is_there = shard.ledger(cell.id, now, horizon).is_some();
            let has_left = cell.holder.is_none() && at + horizon <= now;
            if (is_there || (delta > 0 && cell.holder.is_none())) && !has_left {
                shard.with_ledger(cell.id, now, horizon, |ledger| ledger.adjust(at, delta, cell.holder, limit));
            }
        }
        _ => {
            let state = shard.small(cell.id, now);
            if let Some(next) = small::adjust(&cell.form, state, now, at, delta) {
                shard.put_small(cell.id, next, now);
            }
        }
    }
}

fn charged(admit: Admit, report: Report, now: u64) -> Charged {
    Charged {
        is_allowed: admit.is_allowed,
        remaining: report.remaining,
        retry_after: admit.retry.map(Duration::from_micros),
        reset_after: Duration::from_micros(report.reset),
        at: Moment::from_micros(now),
    }
}
