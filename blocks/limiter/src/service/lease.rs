//! Slices of a limit, taken at once and served from here, so that a hot key does not cross the network each time.
//!
//! - LEASE-1: what is served was charged on the memory plane before.
//! - LEASE-2: a node holds at most one slice of a key, of at most the rule's share of the limit, for at most [`LIFE`], and never beyond
//!   the end of the window that it was charged in.
//!
//! **What that costs.** A request counts when its slice was taken, up to [`LIFE`] before it was served. So with `n` nodes
//! - windows (fixed, calendar, sliding counter): nothing: at most the limit is served in each aligned window;
//! - buckets, and the estimate of a sliding counter: at most `n × slice` more than stated in any span;
//! - every limit: what a slice has left when it ends is lost. A slice is as large as the last one's use, doubled when it was used up,
//!   so about as much is lost as is used; and only a key that is asked for twice within [`LIFE`] is served so at all.
//!
//! A check is served from slices when every limit that applies is held so, and enforced; else it is charged exactly. A restart, or
//! a key that a full cache dropped, loses its slices.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kernel::ProjectId;
use memory::{Charge, Charged, Rate};
use quick_cache::sync::Cache;
use smallvec::SmallVec;

use super::{
    Limiter,
    check::{Answer, Answers, Cells},
};
use crate::model::{
    Source,
    index::{By, Cell, Plan},
};

/// Longest life of a slice.
pub(crate) const LIFE: Duration = Duration::from_millis(500);
/// Keys with slices on a node.
const KEYS: usize = 16_384;
/// The first slice of a key.
const FIRST: u64 = 4;

/// The slices of this node.
pub(super) struct Leases(Cache<u128, Held>);

type Held = Arc<Mutex<Slice>>;

/// What this node holds of one key. Times are on its monotonic clock.
#[derive(Debug, Default)]
struct Slice {
    /// For which limit; a change of the rule drops it.
    rate: Option<Rate>,
    left: u64,
    size: u64,
    until: Duration,
    charged: Option<Charged>,
    /// When it was charged.
    taken: Duration,
    /// When the key was last asked for; `None` before.
    asked: Option<Duration>,
    /// Another check is taking a slice just now.
    is_filling: bool,
    /// There was not enough for a slice.
    pause: Duration,
}

impl Default for Leases {
    fn default() -> Self {
        Self(Cache::new(KEYS))
    }
}

impl Leases {
    fn of(&self, key: u128) -> Held {
        self.0.get(&key).unwrap_or_else(|| {
            let held = Held::default();
            self.0.insert(key, held.clone());
            held
        })
    }
}

fn lock(held: &Held) -> MutexGuard<'_, Slice> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slice {
    /// Takes from what is left.
    fn take(&mut self, cost: u64, now: Duration) -> Option<Charged> {
        if now >= self.until || self.left < cost {
            return None;
        }
        let charged = self.charged?;
        self.left -= cost;
        let age = now.saturating_sub(self.taken);
        Some(Charged {
            remaining: charged.remaining + self.left,
            reset_after: charged.reset_after.saturating_sub(age),
            ..charged
        })
    }

    /// How much to take next, where that is worth it; from then on nobody else does until [`Filling`] is dropped.
    fn begin(&mut self, most: u64, cost: u64, now: Duration) -> Option<u64> {
        let is_hot = self.asked.is_some_and(|asked| now.saturating_sub(asked) < LIFE);
        self.asked = Some(now);
        if !is_hot || self.is_filling || now < self.pause {
            return None;
        }
        let used = self.size.saturating_sub(self.left);
        let size = if self.size == 0 {
            FIRST
        } else if now < self.until {
            self.size * 2
        } else {
            used
        };
        let size = size.max(FIRST).max(cost * 2).min(most);
        (size > cost).then(|| {
            self.is_filling = true;
            size
        })
    }

    fn fill(&mut self, rate: Rate, size: u64, cost: u64, charged: Charged, taken: Duration) {
        let life = match rate {
            Rate::FixedWindow { .. } | Rate::Calendar { .. } => charged.reset_after.min(LIFE),
            // It is at rest a window after the one that the slice was charged in.
            Rate::SlidingCounter { window, .. } => charged.reset_after.saturating_sub(window).min(LIFE),
            _ => LIFE,
        };
        // What was left before is given up: it may be of another window.
        self.rate = Some(rate);
        (self.size, self.left) = (size, size - cost);
        (self.taken, self.until) = (taken, taken + life);
        self.charged = Some(charged);
    }
}

/// Lets others take a slice again, also when the check that was to was given up.
struct Filling(SmallVec<[Held; 4]>);

impl Drop for Filling {
    fn drop(&mut self) {
        for held in &self.0 {
            lock(held).is_filling = false;
        }
    }
}

/// What one cell of a check has from here: its answer, or how large a slice it needs.
enum Part {
    Served(Charged),
    Needs(u64),
}

/// The most that a node holds of a limit.
pub(crate) fn slice(rate: &Rate, share: u8) -> u64 {
    rate.limit() * u64::from(share) / 100
}

impl Limiter {
    /// Serves a check from slices, taking new ones in one round trip where that is worth it; `None` when it has to be charged
    /// exactly.
    pub(super) async fn serve_from_slices(
        &self,
        project: &ProjectId,
        plan: &Plan<'_>,
        cells: &Cells,
    ) -> Option<Answers> {
        let most: SmallVec<[u64; 4]> =
            plan.cells.iter().zip(&cells.rates).map(|(cell, rate)| share_of(cell, rate)).collect::<Option<_>>()?;
        let now = self.0.clock.monotonic();
        let held: SmallVec<[Held; 4]> = plan.cells.iter().map(|cell| self.0.leases.of(cell.key)).collect();
        let mut parts: SmallVec<[Part; 4]> = SmallVec::new();
        let mut filling = Filling(SmallVec::new());
        for (i, cell) in plan.cells.iter().enumerate() {
            let mut slice = lock(&held[i]);
            if slice.rate.is_some_and(|rate| rate != cells.rates[i]) {
                *slice = Slice { is_filling: slice.is_filling, asked: slice.asked, ..Slice::default() };
            }
            if let Some(charged) = slice.take(cell.cost, now) {
                slice.asked = Some(now);
                parts.push(Part::Served(charged));
            } else if let Some(size) = slice.begin(most[i], cell.cost, now) {
                drop(slice);
                filling.0.push(held[i].clone());
                parts.push(Part::Needs(size));
            } else {
                drop(slice);
                give_back(plan, &held, &parts);
                return None;
            }
        }
        let answers = self.fill(plan, cells, &held, &parts).await;
        if answers.is_none() {
            give_back(plan, &held, &parts);
        }
        tracing::trace!(project = project.as_str(), is_served = answers.is_some(), "slices");
        answers
    }

    /// Charges the slices that are needed, all or none.
    async fn fill(&self, plan: &Plan<'_>, cells: &Cells, held: &[Held], parts: &[Part]) -> Option<Answers> {
        let needs = |i: usize| match parts.get(i) {
            Some(Part::Needs(size)) => Some(*size),
            _ => None,
        };
        let charges: SmallVec<[Charge<'_>; 4]> = (0..parts.len())
            .filter_map(|i| needs(i).map(|size| Charge::new(&cells.keys[i], cells.rates[i], size)))
            .collect();
        let taken = self.0.clock.monotonic();
        let charged = if charges.is_empty() {
            Vec::new()
        } else {
            // Away, or a window that is over: charged exactly, this is dealt with.
            self.0.space.charge(&charges).await.ok()?
        };
        let is_charged = Charged::all_allowed(&charges, &charged);
        let mut charged = charged.into_iter();
        let mut answers = Answers::new();
        for (i, part) in parts.iter().enumerate() {
            let answer = match part {
                Part::Served(charged) => *charged,
                Part::Needs(size) => {
                    let (cost, mut slice) = (plan.cells[i].cost, lock(&held[i]));
                    let charged = charged.next()?;
                    if !is_charged {
                        slice.pause = taken + LIFE;
                        continue;
                    }
                    slice.fill(cells.rates[i], *size, cost, charged, taken);
                    Charged { remaining: charged.remaining + slice.left, ..charged }
                }
            };
            answers.push(Answer { charged: answer, source: Source::Leased });
        }
        is_charged.then_some(answers)
    }
}

/// How much of a limit this node may hold; `None` where the cell is charged exactly.
fn share_of(cell: &Cell<'_>, rate: &Rate) -> Option<u64> {
    let By::Rule(_, rule) = cell.by else { return None };
    let share = rule.share.filter(|_| !cell.by.is_shadow())?;
    let most = slice(rate, share);
    (cell.cost > 0 && cell.cost < most).then_some(most)
}

/// What was taken for a check that is not served from here after all.
fn give_back(plan: &Plan<'_>, held: &[Held], parts: &[Part]) {
    for ((cell, held), part) in plan.cells.iter().zip(held).zip(parts) {
        if let Part::Served(charged) = part {
            let mut slice = lock(held);
            // Not into another slice than it came from.
            if slice.charged.is_some_and(|now| now.at == charged.at) {
                slice.left += cell.cost;
            }
        }
    }
}
