//! Every metric that the registry emits; each shows as `mainstay_discovery_…`.

use ::telemetry::RoomRegistry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::model::Health;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The room's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    /// `instances`: that this node knows of.
    pub(crate) instances: Gauge,
    /// `instances_well`: of them, those that are well and take work.
    pub(crate) well: Gauge,
    /// `services`: that this node knows of.
    pub(crate) services: Gauge,
    /// `services_guarded`: for which others than well instances are given out.
    pub(crate) guarded: Gauge,
    /// `revision`: up to which this node knows changes.
    pub(crate) revision: Gauge,
    /// `nodes`: that are alive, as this node sees it.
    pub(crate) nodes: Gauge,
    /// `expiry_suspended`: 1 while nobody is declared dead for want of signs of life.
    pub(crate) suspended: Gauge,
    /// `watchers`: requests and streams that wait for a change.
    pub(crate) watchers: Gauge,
    /// `heartbeats_total`.
    pub(crate) beats: Counter,
    /// `heartbeats_lost_total`: that the memory plane could not keep.
    pub(crate) beats_lost: Counter,
    /// `removed_total`: instances that were critical for too long.
    pub(crate) removed: Counter,
    /// `damped_total`: instances that were held down for flapping.
    pub(crate) damped: Counter,
    changes: Family<To, Counter>,
    probes: Family<Outcome, Counter>,
    dns: Family<Outcome, Counter>,
}

impl Telemetry {
    pub(crate) fn new(registry: &RoomRegistry) -> Self {
        let gauge = |name: &str, help: &str| registry.add(name, help, Gauge::default());
        let counter = |name: &str, help: &str| registry.add(name, help, Counter::default());
        Self {
            instances: gauge("instances", "Instances that this node knows of"),
            well: gauge("instances_well", "Instances that are well and take work"),
            services: gauge("services", "Services that this node knows of"),
            guarded: gauge("services_guarded", "Services for which others than well instances are given out"),
            revision: gauge("revision", "Revision up to which this node knows changes"),
            nodes: gauge("nodes", "Nodes that are alive, as this node sees it"),
            suspended: gauge("expiry_suspended", "1 while nobody is declared dead for want of signs of life"),
            watchers: gauge("watchers", "Requests and streams that wait for a change"),
            beats: counter("heartbeats", "Signs of life that were received"),
            beats_lost: counter("heartbeats_lost", "Signs of life that the memory plane could not keep"),
            removed: counter("removed", "Instances removed after they had been critical for too long"),
            damped: counter("damped", "Instances that were held down for flapping"),
            probes: registry.add("probes", "Probes of instances by outcome", Family::default()),
            dns: registry.add("dns_queries", "Queries over DNS by outcome", Family::default()),
            changes: registry.add("health_changes", "Changes of checks by what they became", Family::default()),
        }
    }

    pub(crate) fn probed(&self, is_success: bool) {
        self.probes.get_or_create(&Outcome { outcome: if is_success { "success" } else { "failure" } }).inc();
    }

    pub(crate) fn asked(&self, outcome: &'static str) {
        self.dns.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn changed(&self, to: Health) {
        self.changes.get_or_create(&To { to: to.as_str() }).inc();
    }
}
