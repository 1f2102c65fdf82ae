//! How an instance is.

use std::collections::BTreeMap;

use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Damper, Damping, InstanceSpec};

/// The longest text that a check keeps, in characters.
const MAX_OUTPUT: usize = 512;

/// How well something is. The worst of the checks is what the instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = InstanceHealth)]
pub enum Health {
    /// Well.
    Passing,
    /// Well enough to be given out.
    Warning,
    /// Not.
    Critical,
}

impl Health {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|health| health.as_str() == text)
    }
}

/// What a check last found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckState {
    /// How well.
    pub health: Health,
    /// In words, of the change to it.
    pub output: String,
    /// Since when.
    pub since: i64,
}

/// An instance that takes no more work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: i64,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// Which check.
    pub check: &'a str,
    /// How well.
    pub health: Health,
    /// In words.
    pub output: &'a str,
}

/// How an instance is, as all nodes know it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// By the id of the check.
    pub checks: BTreeMap<String, CheckState>,
    /// Whether it takes no more work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// How much it flaps.
    #[serde(default)]
    pub damper: Damper,
    /// Whether it has been well: one that never was is never given out.
    #[serde(default)]
    pub was_well: bool,
    /// Since when it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_since: Option<i64>,
    /// When it was registered first.
    #[serde(default)]
    pub registered_at: i64,
}

impl State {
    /// Of an instance that was just registered; what is known `before` of checks that it still has stays.
    pub fn registered(spec: &InstanceSpec, before: Option<(&InstanceSpec, &Self)>, now: Timestamp) -> Self {
        let mut state = before.map(|(_, state)| state.clone()).unwrap_or_default();
        let mut checks = BTreeMap::new();
        for check in &spec.checks {
            let same = before.is_some_and(|(old, _)| old.check(&check.id).is_some_and(|c| c.kind == check.kind));
            let known = state.checks.remove(&check.id).filter(|_| same);
            let fresh = || CheckState { health: check.starts(), output: String::new(), since: now.as_millis() };
            checks.insert(check.id.clone(), known.unwrap_or_else(fresh));
        }
        state.checks = checks;
        if before.is_none() {
            state.registered_at = now.as_millis();
        }
        state.settle(now);
        state
    }

    /// The worst of its checks.
    pub fn reported(&self) -> Health {
        self.checks.values().map(|check| check.health).max().unwrap_or(Health::Passing)
    }

    /// How well it is: what it reports, or critical while it is held for flapping.
    pub fn health(&self) -> Health {
        if self.damper.is_held { Health::Critical } else { self.reported() }
    }

    /// Takes what a check found; whether anything changed. A check that is unknown changes nothing.
    pub fn report(&mut self, report: &Report<'_>, now: Timestamp, damping: Damping) -> bool {
        let before = self.reported();
        let Some(check) = self.checks.get_mut(report.check).filter(|check| check.health != report.health) else {
            return false;
        };
        let output = report.output.chars().filter(|c| *c != '\0').take(MAX_OUTPUT).collect();
        *check = CheckState { health: report.health, output, since: now.as_millis() };
        if before != Health::Critical && self.reported() == Health::Critical {
            self.damper.fell(now, damping);
        }
        self.settle(now);
        true
    }

    /// Lets an instance back that was held for flapping, when its time has come; whether it did.
    pub fn let_back(&mut self, now: Timestamp, damping: Damping) -> bool {
        let is_back = self.damper.let_back(now, damping);
        if is_back {
            self.settle(now);
        }
        is_back
    }

    fn settle(&mut self, now: Timestamp) {
        let is_critical = self.health() == Health::Critical;
        self.was_well |= !is_critical;
        self.critical_since = is_critical.then(|| self.critical_since.unwrap_or(now.as_millis()));
    }
}
