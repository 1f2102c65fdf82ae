//! What was refused just now is refused again without asking.
//!
//! - CUT-1: only what the memory plane would refuse too: the same limit, at least the same cost, before the instant from which on it
//!   would fit if nothing else came, and at most [`LONGEST`] after it was asked. Only a correction (a settlement that gives back) can
//!   make it fit earlier: one on this node is noticed, one on another within [`LONGEST`].
//! - CUT-2: bounded in keys; a key that is dropped is asked for.
//!
//! It is for checks that would cross the network. Places (concurrency) are given back at any time, and are always asked for.

use std::time::Duration;

use memory::{Charged, Rate};
use quick_cache::sync::Cache;

use super::check::{Answer, Answers};
use crate::model::{Source, index::Plan};

/// Longest that an answer is given again.
pub(super) const LONGEST: Duration = Duration::from_secs(1);
/// Keys remembered, at about 200 bytes each.
const KEYS: usize = 16_384;

/// What the cells of refused checks answered.
pub(super) struct ShortCuts(Cache<u128, Remembered>);

#[derive(Debug, Clone, Copy)]
struct Remembered {
    rate: Rate,
    cost: u64,
    charged: Charged,
    /// When it was asked, on this node's monotonic clock: before it was decided, so that it never holds too long.
    asked: Duration,
    until: Duration,
}

impl Default for ShortCuts {
    fn default() -> Self {
        Self(Cache::new(KEYS))
    }
}

impl ShortCuts {
    /// Remembers what a refused check was answered.
    pub(super) fn note(&self, plan: &Plan<'_>, rates: &[Rate], answers: &Answers, asked: Duration) {
        if plan.cells.iter().any(|cell| cell.limit.is_concurrency()) {
            return;
        }
        for ((cell, rate), answer) in plan.cells.iter().zip(rates).zip(answers) {
            if answer.source != Source::Exact {
                continue;
            }
            let charged = answer.charged;
            // What never fits, and what others hindered, is worth as long as any.
            let holds = if charged.is_allowed { None } else { charged.retry_after };
            let until = asked + holds.unwrap_or(LONGEST).min(LONGEST);
            self.0.insert(cell.key, Remembered { rate: *rate, cost: cell.cost, charged, asked, until });
        }
    }

    /// The answers of a check that would be refused; `None` when it has to be asked.
    pub(super) fn answer(&self, plan: &Plan<'_>, rates: &[Rate], now: Duration) -> Option<Answers> {
        let mut answers = Answers::new();
        let mut is_refused = false;
        for (cell, rate) in plan.cells.iter().zip(rates) {
            let known = self.0.get(&cell.key).filter(|known| known.until > now && known.rate == *rate)?;
            let is_allowed = known.charged.is_allowed;
            let is_same = if is_allowed { cell.cost <= known.charged.remaining } else { cell.cost >= known.cost };
            if !is_same {
                return None;
            }
            is_refused |= !is_allowed && !cell.by.is_shadow();
            let age = now.saturating_sub(known.asked);
            let charged = Charged {
                retry_after: known.charged.retry_after.map(|after| after.saturating_sub(age)),
                reset_after: known.charged.reset_after.saturating_sub(age),
                ..known.charged
            };
            answers.push(Answer { charged, source: Source::ShortCut });
        }
        is_refused.then_some(answers)
    }

    /// A correction may have made room.
    pub(super) fn forget(&self, key: u128) {
        self.0.remove(&key);
    }
}
