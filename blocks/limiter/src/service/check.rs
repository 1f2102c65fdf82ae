//! Deciding a check.
//!
//! ```text
//! check ─▶ plan (which rules, which cells; pure) ─▶ cells answer ─▶ decisions, counted
//!                                                    │ charge on the memory plane, all or none
//!                                                    └ plane away: each rule as it declares (down.rs)
//! ```
//!
//! - CHECK-1: nothing is charged unless every rule that enforces allows it; then everything is.
//! - CHECK-2: a rule in shadow mode never refuses.
//! - CHECK-3: one cell is charged once by one check, with the highest cost that leads to it.

use arc_swap::Guard;
use kernel::{ProjectId, Timestamp};
use memory::{Charge, Charged, Rate, RateKey};
use smallvec::SmallVec;

use super::{
    Limiter,
    book::{Domain, Snapshot},
};
use crate::{
    OWN_DOMAIN,
    error::{Error, Result},
    model::{
        Check, Decision, Outcome, Source,
        index::{By, Hit, Misfit, Plan},
    },
};

/// What a cell answered, and who for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) charged: Charged,
    pub(super) source: Source,
}

/// In the order of the plan's cells.
pub(super) type Answers = SmallVec<[Answer; 4]>;

/// Keys and rates of a plan's cells, to which charges point.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) keys: SmallVec<[RateKey; 4]>,
    pub(super) rates: SmallVec<[Rate; 4]>,
}

/// Whether cells change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Charge,
    Peek,
}

/// The key of a cell on the memory plane.
pub(super) fn rate_key(project: &ProjectId, key: u128) -> RateKey {
    let mut hex = [0; 32];
    for (byte, digits) in key.to_be_bytes().into_iter().zip(hex.chunks_exact_mut(2)) {
        digits[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        digits[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    RateKey::new(project, [hex])
}

impl Cells {
    pub(super) fn new(project: &ProjectId, plan: &Plan<'_>, now: Timestamp) -> Self {
        Self {
            keys: plan.cells.iter().map(|cell| rate_key(project, cell.key)).collect(),
            rates: plan.cells.iter().map(|cell| cell.limit.rate(now)).collect(),
        }
    }

    pub(super) fn charges<'a>(&'a self, plan: &Plan<'_>, holder: Option<u128>) -> SmallVec<[Charge<'a>; 4]> {
        let cells = plan.cells.iter().zip(self.keys.iter().zip(&self.rates));
        let charge = |cell: &crate::model::index::Cell<'_>, key, rate: &Rate| Charge {
            key,
            rate: *rate,
            cost: cell.cost,
            is_shadow: cell.by.is_shadow(),
            holder: holder.filter(|_| cell.limit.is_concurrency()),
        };
        cells.map(|(cell, (key, rate))| charge(cell, key, rate)).collect()
    }
}

impl Limiter {
    /// Decides without waiting; `None` where the memory plane is not in this process: then [`Limiter::check`] has to be asked.
    pub fn try_check(&self, project: &ProjectId, check: &Check<'_>) -> Option<Result<Outcome>> {
        self.0.is_local.then(|| {
            let snapshot = self.0.book.now();
            let domain = self.find(&snapshot, project, check.domain);
            self.check_here(project, domain, check)
        })
    }

    /// Decides: every rule that applies is charged, all or none, in one round trip. Rules of concurrency need a reservation:
    /// where one applies, this is refused.
    pub async fn check(&self, project: &ProjectId, check: &Check<'_>) -> Result<Outcome> {
        if let Some(outcome) = self.try_check(project, check) {
            return outcome;
        }
        let domain = self.held(project, check.domain);
        let plan = plan(&domain, check)?;
        refuse_places(&plan)?;
        let answers = self.answer_near(project, &plan).await?;
        Ok(self.conclude(&domain, project, check, &plan, &answers, true))
    }

    /// Charges without a round trip where that can be: the keys were refused just now, or this node holds slices of all of them.
    async fn answer_near(&self, project: &ProjectId, plan: &Plan<'_>) -> Result<Answers> {
        if plan.cells.is_empty() || is_blocked(plan) {
            return Ok(Answers::new());
        }
        let cells = Cells::new(project, plan, self.0.clock.now());
        let asked = self.0.clock.monotonic();
        if let Some(answers) = self.0.short_cuts.answer(plan, &cells.rates, asked) {
            return Ok(answers);
        }
        if let Some(answers) = self.serve_from_slices(project, plan, &cells).await {
            return Ok(answers);
        }
        let answers = self.answer(project, plan, How::Charge, None).await?;
        if plan.cells.iter().zip(&answers).any(|(cell, answer)| !answer.charged.is_allowed && !cell.by.is_shadow()) {
            self.0.short_cuts.note(plan, &cells.rates, &answers, asked);
        }
        Ok(answers)
    }

    /// What [`Limiter::check`] would say now (or [`Limiter::reserve`]); charges nothing and counts nothing.
    pub async fn peek(&self, project: &ProjectId, check: &Check<'_>) -> Result<Outcome> {
        let domain = self.held(project, check.domain);
        let plan = plan(&domain, check)?;
        let holder = Some(u128::from_le_bytes(self.0.rng.bytes()));
        let answers = self.answer(project, &plan, How::Peek, holder).await?;
        Ok(self.conclude(&domain, project, check, &plan, &answers, false))
    }

    fn find<'s>(&self, snapshot: &'s Guard<std::sync::Arc<Snapshot>>, project: &ProjectId, name: &str) -> &'s Domain {
        if name == OWN_DOMAIN && snapshot.is_unadopted(project) {
            // From the next check on.
            self.0.book.adopt(project);
        }
        snapshot.domain(project, name)
    }

    /// A domain, to be held over an await.
    pub(super) fn held(&self, project: &ProjectId, name: &str) -> std::sync::Arc<Domain> {
        if name == OWN_DOMAIN && self.0.book.now().is_unadopted(project) {
            self.0.book.adopt(project);
        }
        self.0.book.domain(project, name)
    }

    /// The way of checks whose cells are in this process.
    fn check_here(&self, project: &ProjectId, domain: &Domain, check: &Check<'_>) -> Result<Outcome> {
        let plan = plan(domain, check)?;
        if plan.hits.is_empty() {
            return Ok(Outcome { is_allowed: true, ..Outcome::default() });
        }
        refuse_places(&plan)?;
        let answers =
            if plan.cells.is_empty() || is_blocked(&plan) { Answers::new() } else { self.charge_here(project, &plan)? };
        Ok(self.conclude(domain, project, check, &plan, &answers, true))
    }

    fn charge_here(&self, project: &ProjectId, plan: &Plan<'_>) -> Result<Answers> {
        let mut now = self.0.clock.now();
        for _ in 0..2 {
            let cells = Cells::new(project, plan, now);
            let charges = cells.charges(plan, None);
            let charged = match &charges[..] {
                // What most checks come to; nothing is allocated for it.
                [one] => self.0.space.try_charge_one(one).map(|charged| charged.map(|one| exact(&[one]))),
                several => self.0.space.try_charge(several).map(|charged| charged.map(|all| exact(&all))),
            };
            match charged {
                Some(Ok(answers)) => return Ok(answers),
                // The engine's clock is the one that counts.
                Some(Err(memory::Error::WindowPassed { at })) => now = at.timestamp(),
                Some(Err(e)) => return Err(kernel::Problem::from(e).into()),
                None => break,
            }
        }
        Err(Error::Unavailable)
    }

    /// What the cells of a plan answer on the memory plane, or while it is away.
    pub(super) async fn answer(
        &self,
        project: &ProjectId,
        plan: &Plan<'_>,
        how: How,
        holder: Option<u128>,
    ) -> Result<Answers> {
        if plan.cells.is_empty() || is_blocked(plan) {
            return Ok(Answers::new());
        }
        let mut now = self.0.clock.now();
        for _ in 0..2 {
            let cells = Cells::new(project, plan, now);
            let charges = cells.charges(plan, holder);
            let charged = match how {
                How::Charge => self.0.space.charge(&charges).await,
                How::Peek => self.0.space.peek(&charges).await,
            };
            match charged {
                Ok(charged) => {
                    self.0.down.serves();
                    return Ok(exact(&charged));
                }
                Err(memory::Error::WindowPassed { at }) => now = at.timestamp(),
                Err(e) if e.is_down() => {
                    self.0.down.is_away(self.0.clock.now());
                    return self.answer_while_down(plan, &cells, &charges, how).await;
                }
                Err(e) => return Err(kernel::Problem::from(e).into()),
            }
        }
        Err(Error::Unavailable)
    }

    /// The outcome, counted.
    pub(super) fn conclude(
        &self,
        domain: &Domain,
        project: &ProjectId,
        check: &Check<'_>,
        plan: &Plan<'_>,
        answers: &Answers,
        is_counted: bool,
    ) -> Outcome {
        let is_blocked = is_blocked(plan);
        let refuses = |(cell, answer): (&crate::model::index::Cell<'_>, &Answer)| {
            !answer.charged.is_allowed && !cell.by.is_shadow()
        };
        let is_allowed = !is_blocked && !plan.cells.iter().zip(answers).any(refuses);
        let mut outcome = Outcome { is_allowed, decisions: Vec::with_capacity(plan.hits.len()), retry_after: None };
        let mut is_hopeless = false;
        for (i, hit) in plan.hits.iter().enumerate() {
            let Some(decision) = decide(domain, plan, hit, answers) else { continue };
            let is_first = hit.cell.is_none() || plan.hits[..i].iter().all(|before| before.cell != hit.cell);
            if is_first && is_counted {
                self.count(domain, hit, &decision, is_allowed);
                if !decision.is_allowed && !decision.is_shadow {
                    self.0.refused.note(project, domain.index.domain(), check, hit, self.0.clock.monotonic());
                }
            }
            if !decision.is_allowed && !decision.is_shadow {
                match decision.retry_after {
                    Some(after) => outcome.retry_after = outcome.retry_after.max(Some(after)),
                    None => is_hopeless = true,
                }
            }
            outcome.decisions.push(decision);
        }
        if is_hopeless {
            outcome.retry_after = None;
        }
        outcome
    }

    fn count(&self, domain: &Domain, hit: &Hit<'_>, decision: &Decision, is_whole_allowed: bool) {
        let counters = match hit.by {
            By::Rule(at, _) => domain.counters.get(at),
            By::Asked => Some(&domain.asked),
        };
        // What this rule allows and another refuses did not pass.
        if let Some(counters) = counters.filter(|_| is_whole_allowed || !decision.is_allowed) {
            counters.count(decision.source, decision.is_allowed, decision.is_shadow);
            self.0.telemetry.count(decision.source, decision.is_allowed, decision.is_shadow);
        }
    }
}

/// The plan of a check.
pub(super) fn plan<'d>(domain: &'d Domain, check: &Check<'_>) -> Result<Plan<'d>> {
    domain.index.plan(check).map_err(|Misfit { field, detail }| Error::CheckInvalid { field, detail })
}

/// Whether a list of overrides refuses whatever cells say.
pub(super) fn is_blocked(plan: &Plan<'_>) -> bool {
    plan.hits.iter().any(|hit| hit.cell.is_none() && !hit.by.is_shadow())
}

fn refuse_places(plan: &Plan<'_>) -> Result<()> {
    let place = plan.cells.iter().find(|cell| cell.limit.is_concurrency());
    let Some(By::Rule(_, rule)) = place.map(|cell| cell.by) else { return Ok(()) };
    let detail = format!("the rule {} limits concurrency: reserve, and settle when it is done", rule.name);
    Err(Error::CheckInvalid { field: "/descriptors".to_owned(), detail })
}

fn exact(charged: &[Charged]) -> Answers {
    charged.iter().map(|charged| Answer { charged: *charged, source: Source::Exact }).collect()
}

fn decide(domain: &Domain, plan: &Plan<'_>, hit: &Hit<'_>, answers: &Answers) -> Option<Decision> {
    let rule = match hit.by {
        By::Rule(_, rule) => rule.name.clone(),
        By::Asked => domain.index.asked().clone(),
    };
    let is_shadow = hit.by.is_shadow();
    let Some(at) = hit.cell else {
        return Some(Decision {
            descriptor: hit.descriptor,
            rule,
            limit: 0,
            window: std::time::Duration::ZERO,
            is_allowed: false,
            is_shadow,
            remaining: 0,
            reset_after: std::time::Duration::ZERO,
            retry_after: None,
            source: Source::Blocked,
        });
    };
    let (cell, Answer { charged, source }) = (plan.cells.get(at)?, answers.get(at)?);
    // A calendar's window is the one that held the instant of the decision.
    let (limit, window) = cell.limit.shown(charged.at.timestamp());
    Some(Decision {
        descriptor: hit.descriptor,
        rule,
        limit,
        window,
        is_allowed: charged.is_allowed,
        is_shadow,
        remaining: charged.remaining,
        reset_after: charged.reset_after,
        retry_after: if charged.is_allowed { None } else { charged.retry_after },
        source: *source,
    })
}
