//! While the memory plane is away, each rule does what it declares.
//!
//! - DOWN-1: a rule that is `closed` refuses, and then nothing is charged on this node either.
//! - DOWN-2: what stands in on this node is bounded in cells, and starts empty.
//! - DOWN-3: it shows: as the source of decisions, in metrics, and in health.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use kernel::Timestamp;
use memory::{Charge, Charged, Moment};
use smallvec::SmallVec;

use super::{
    Limiter,
    check::{Answer, Answers, Cells, How},
};
use crate::{
    error::Result,
    model::{
        Source, WhenDown,
        index::{By, Cell, Plan},
    },
};

/// When it makes sense to ask again what is refused only because the plane is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Since when the plane is away, as checks find it.
#[derive(Debug, Default)]
pub(super) struct Down(AtomicI64);

impl Down {
    /// A check could not be counted.
    pub(super) fn is_away(&self, now: Timestamp) {
        if self.0.compare_exchange(0, now.as_millis().max(1), Relaxed, Relaxed).is_ok() {
            tracing::warn!("limits cannot be counted on the memory plane; each rule does as it declares");
        }
    }

    /// A check was counted.
    pub(super) fn serves(&self) {
        if self.0.load(Relaxed) != 0 && self.0.swap(0, Relaxed) != 0 {
            tracing::info!("limits are counted on the memory plane again");
        }
    }

    /// Since when checks find it away.
    pub(super) fn since(&self) -> Option<Timestamp> {
        Some(self.0.load(Relaxed)).filter(|ms| *ms != 0).map(Timestamp::from_millis)
    }
}

impl Limiter {
    /// As [`Limiter::answer`], without the memory plane.
    pub(super) async fn answer_while_down(
        &self,
        plan: &Plan<'_>,
        cells: &Cells,
        charges: &[Charge<'_>],
        how: How,
    ) -> Result<Answers> {
        let policy = |cell: &Cell<'_>| match cell.by {
            By::Rule(_, rule) => rule.when_down,
            By::Asked => WhenDown::Local,
        };
        let is_refused = plan.cells.iter().any(|cell| policy(cell) == WhenDown::Closed && !cell.by.is_shadow());
        let here: SmallVec<[Charge<'_>; 4]> = plan
            .cells
            .iter()
            .zip(charges)
            .filter(|(cell, _)| policy(cell) == WhenDown::Local)
            .map(|(_, charge)| *charge)
            .collect();
        // An engine in this process: neither waits, nor is ever away.
        let counted = match how {
            _ if here.is_empty() => Vec::new(),
            How::Charge if !is_refused => self.0.stand_in.charge(&here).await.map_err(kernel::Problem::from)?,
            _ => self.0.stand_in.peek(&here).await.map_err(kernel::Problem::from)?,
        };
        let mut counted = counted.into_iter();
        let now = Moment::from_micros(u64::try_from(self.0.clock.now().as_millis()).unwrap_or(0) * 1000);
        let mut answers = Answers::new();
        for (cell, rate) in plan.cells.iter().zip(&cells.rates) {
            let uncounted = |is_allowed: bool| Charged {
                is_allowed,
                remaining: if is_allowed { rate.limit() } else { 0 },
                retry_after: Some(if is_allowed { Duration::ZERO } else { RETRY_AFTER }),
                reset_after: Duration::ZERO,
                at: now,
            };
            let (charged, source) = match policy(cell) {
                WhenDown::Open => (uncounted(true), Source::Open),
                WhenDown::Closed => (uncounted(false), Source::Closed),
                WhenDown::Local => (counted.next().unwrap_or(uncounted(true)), Source::Fallback),
            };
            answers.push(Answer { charged, source });
        }
        Ok(answers)
    }
}
