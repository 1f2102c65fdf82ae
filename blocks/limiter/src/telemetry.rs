//! Every metric that the limiter emits; each shows as `mainstay_limiter_…`. Numbers by rule are in [`crate::Limiter::stats`]: rules are
//! of projects, and metrics of everybody would show them to everybody.

use ::telemetry::RoomRegistry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::model::Source;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    outcome: &'static str,
    source: &'static str,
}

/// The room's numbers. Counters are resolved once, so that a check only adds to an atomic.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    /// `decisions{outcome="allowed",source="exact"}` and so on.
    allowed: [Counter; Source::ALL.len()],
    refused: [Counter; Source::ALL.len()],
    shadow_refused: [Counter; Source::ALL.len()],
    /// `down`: 1 while limits cannot be counted on the memory plane.
    pub(crate) down: Gauge,
    /// `rules_file_stale`: 1 while the file of rules cannot be used and the rules before stay.
    pub(crate) file_stale: Gauge,
    /// `rules_revision`: of the rules that this node has.
    pub(crate) revision: Gauge,
}

impl Telemetry {
    pub(crate) fn new(registry: &RoomRegistry) -> Self {
        let decisions = registry.add(
            "decisions",
            "Decisions of rules by outcome and by who decided",
            Family::<Decided, Counter>::default(),
        );
        let counters = |outcome| {
            Source::ALL.map(|source| decisions.get_or_create(&Decided { outcome, source: source.as_str() }).clone())
        };
        let gauge = |name: &str, help: &str| registry.add(name, help, Gauge::default());
        Self {
            allowed: counters("allowed"),
            refused: counters("refused"),
            shadow_refused: counters("shadow_refused"),
            down: gauge("down", "1 while limits cannot be counted on the memory plane"),
            file_stale: gauge("rules_file_stale", "1 while the file of rules cannot be used and the rules before stay"),
            revision: gauge("rules_revision", "Revision of the rules that this node has"),
        }
    }

    pub(crate) fn count(&self, source: Source, is_allowed: bool, is_shadow: bool) {
        let by = match (is_allowed, is_shadow) {
            (true, _) => &self.allowed,
            (false, false) => &self.refused,
            (false, true) => &self.shadow_refused,
        };
        by[source as usize].inc();
    }
}
