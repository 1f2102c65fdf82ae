//! What an upstream looks like now, for API, console and metrics.

use std::{sync::atomic::Ordering, time::Duration};

use kernel::{Span, Timestamp};
use resilience::BreakerState;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    endpoint::EndpointId,
    members::{Member, Members, warmth_percent},
    upstream::Upstream,
};
use crate::model::{
    hysteresis::Health,
    spec::{Algorithm, Protocol},
};

/// An upstream now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UpstreamState {
    /// Its name.
    pub name: String,
    /// What its back ends speak.
    pub protocol: Protocol,
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// Where they come from.
    pub source: SourceState,
    /// Whether so few are well that all are used.
    pub is_panic: bool,
    /// Its circuit breaker, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub breaker: Option<UpstreamBreaker>,
    /// Requests under way from this node.
    pub in_flight: u32,
    /// How many may be.
    pub max_in_flight: u32,
    /// Requests refused so far: there was no back end.
    pub refused_empty_count: u64,
    /// Requests refused so far: too many under way.
    pub refused_full_count: u64,
    /// Requests refused so far: the breaker was open.
    pub refused_open_count: u64,
    /// Ejections of back ends so far.
    pub ejection_count: u64,
    /// Back ends that are well.
    pub well_count: usize,
    /// Its back ends, in the order of their source; those that left and still have requests under way come last.
    pub endpoints: Vec<EndpointState>,
}

/// Where back ends come from, now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceState {
    /// `endpoints`, `dns` or `service`.
    pub kind: &'static str,
    /// The name that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// When it answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub answered_at: Option<Timestamp>,
    /// Why it does not answer now; the back ends that it told before are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}

/// A circuit breaker now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UpstreamBreaker {
    /// `closed`, `half_open` or `open`.
    pub state: &'static str,
    /// Calls of its window.
    pub call_count: u32,
    /// Of these, failed.
    pub failure_count: u32,
    /// Of these, slow.
    pub slow_count: u32,
    /// Times it opened so far.
    pub opened_count: u64,
}

/// A back end now.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct EndpointState {
    /// Its id, the same on every node.
    #[schema(value_type = String)]
    pub id: EndpointId,
    /// Its address.
    pub address: String,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub zone: Option<String>,
    /// Its weight.
    pub weight: u32,
    /// Its priority.
    pub priority: u8,
    /// What active checks of this node say.
    pub health: Health,
    /// What its source says of it.
    pub is_healthy_at_source: bool,
    /// When it was checked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub checked_at: Option<Timestamp>,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, nullable = false)]
    pub check_ms: Option<f64>,
    /// Why the last check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub check_error: Option<String>,
    /// Whether outlier detection left it out.
    pub is_ejected: bool,
    /// For how much longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub ejected_for: Option<Span>,
    /// Whether it takes no new requests: drained by an operator or its source, or it left.
    pub is_draining: bool,
    /// Whether it left and finishes what it has.
    pub is_retired: bool,
    /// Whether it is chosen now.
    pub is_usable: bool,
    /// How much of its weight it has: less than 100 while it warms up.
    pub warmth_percent: u32,
    /// Requests under way from this node.
    pub in_flight: u32,
    /// Requests sent so far from this node.
    pub pick_count: u64,
    /// Of these, well.
    pub success_count: u64,
    /// Of these, failed.
    pub failure_count: u64,
    /// Its latency as `p2c` sees it (peak-EWMA), in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub latency_ms: Option<f64>,
}

impl Upstream {
    /// What it looks like now.
    pub fn state(&self) -> UpstreamState {
        let now = self.shared.clock.monotonic();
        let mut members = self.members();
        members.forget_retired();
        if self.shared.is_stale(now) {
            // Without requests nobody else looks whether an ejection is over.
            self.renew_with(&mut members, now);
        }
        let settings = members.settings.clone();
        let spec = &settings.spec;
        let source = self.source().clone();
        let (kind, name) = match (&spec.dns, &spec.service) {
            (Some(dns), _) => ("dns", Some(dns.name.clone())),
            (_, Some(service)) => ("service", Some(service.name.clone())),
            _ => ("endpoints", None),
        };
        let refused = |at: usize| self.shared.refused[at].load(Ordering::Relaxed);
        UpstreamState {
            name: self.name().to_string(),
            protocol: spec.protocol,
            algorithm: spec.balance.algorithm,
            source: SourceState { kind, name, answered_at: source.answered_at, error: source.error },
            is_panic: self.is_panic(),
            breaker: settings.breaker.as_ref().map(|breaker| {
                let stats = breaker.stats();
                UpstreamBreaker {
                    state: match stats.state {
                        BreakerState::Closed => "closed",
                        BreakerState::HalfOpen => "half_open",
                        BreakerState::Open => "open",
                    },
                    call_count: stats.counts.calls,
                    failure_count: stats.counts.failures,
                    slow_count: stats.counts.slow,
                    opened_count: stats.opened_count,
                }
            }),
            in_flight: self.shared.in_flight(),
            max_in_flight: spec.limits.max_in_flight,
            refused_empty_count: refused(0),
            refused_full_count: refused(1),
            refused_open_count: refused(2),
            ejection_count: self.shared.ejection_count(),
            well_count: members.list.iter().filter(|member| member.is_well).count(),
            endpoints: endpoints(&members, spec.balance.slow_start.0, now),
        }
    }
}

fn endpoints(members: &Members, slow_start: Duration, now: Duration) -> Vec<EndpointState> {
    let present = members.list.iter().map(|member| {
        let is_draining = member.wanted.is_draining || members.drained.contains(&member.wanted.address);
        EndpointState {
            zone: member.wanted.zone.clone(),
            weight: member.wanted.weight,
            priority: member.wanted.priority,
            is_healthy_at_source: member.wanted.is_healthy,
            is_ejected: member.ejected_until.is_some(),
            ejected_for: member.ejected_until.map(|until| Span(until.saturating_sub(now))),
            is_draining,
            is_retired: false,
            is_usable: member.is_usable,
            warmth_percent: warmth(member, slow_start, now),
            ..of_endpoint(&member.endpoint)
        }
    });
    present.chain(members.retired.iter().map(|endpoint| of_endpoint(endpoint))).collect()
}

fn warmth(member: &Member, slow_start: Duration, now: Duration) -> u32 {
    warmth_percent(member, slow_start, now)
}

/// What is known of one that left.
fn of_endpoint(endpoint: &super::endpoint::Endpoint) -> EndpointState {
    let (pick_count, success_count, failure_count) = endpoint.counts();
    let checked = endpoint.checked().clone();
    let ms = |d: Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
    EndpointState {
        id: endpoint.id,
        address: endpoint.target.address.to_string(),
        zone: None,
        weight: 0,
        priority: 0,
        health: endpoint.health(),
        is_healthy_at_source: true,
        checked_at: checked.at,
        check_ms: checked.at.map(|_| ms(checked.took)),
        check_error: checked.error,
        is_ejected: false,
        ejected_for: None,
        is_draining: true,
        is_retired: true,
        is_usable: false,
        warmth_percent: 100,
        in_flight: endpoint.in_flight(),
        pick_count,
        success_count,
        failure_count,
        latency_ms: endpoint.latency().average().map(ms),
    }
}
