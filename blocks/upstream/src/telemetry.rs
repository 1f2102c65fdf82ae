//! Every metric that it emits. They are read off the states when `/metrics` is, so that a pick pays nothing for them.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `mainstay_upstream_endpoints` | `upstream`, `state`: `well`, `unhealthy`, `ejected`, `draining` | back ends; one of each that speaks first, from the right |
//! | `mainstay_upstream_panic` | `upstream` | 1 while so few are well that all are used |
//! | `mainstay_upstream_in_flight` | `upstream` | requests under way |
//! | `mainstay_upstream_breaker_state` | `upstream` | 0 closed, 1 half-open, 2 open |
//! | `mainstay_upstream_source_stale` | `upstream` | 1 while DNS or the registry does not answer |
//! | `mainstay_upstream_refused_total` | `upstream`, `reason`: `empty`, `full`, `open` | requests that got no back end |
//! | `mainstay_upstream_ejections_total` | `upstream` | ejections by outlier detection |

use std::fmt;

use ::telemetry::RoomRegistry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::{EndpointState, Health, UpstreamState, Upstreams};

/// Shows the numbers of `upstreams` for as long as these are there.
pub(crate) fn register(registry: &RoomRegistry, upstreams: &Upstreams) {
    registry.add_collector(Numbers(upstreams.downgrade()));
}

#[derive(Debug)]
struct Numbers(crate::service::WeakUpstreams);

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let states = self.0.states();
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&UpstreamState) -> Option<i64>| {
            let rows = states.iter().filter_map(|state| Some((vec![("upstream", state.name.as_str())], of(state)?)));
            let rows = rows.map(|(labels, value)| (labels, ConstGauge::new(value)));
            family(&mut encoder, name, help, rows)
        };
        gauge("panic", "1 while so few back ends are well that all are used", &|s| Some(i64::from(s.is_panic)))?;
        gauge("in_flight", "Requests under way", &|s| Some(i64::from(s.in_flight)))?;
        gauge("breaker_state", "State of the circuit breaker: 0 closed, 1 half-open, 2 open", &|s| {
            s.breaker.as_ref().map(|breaker| match breaker.state {
                "open" => 2,
                "half_open" => 1,
                _ => 0,
            })
        })?;
        gauge("source_stale", "1 while DNS or the registry does not answer", &|s| {
            Some(i64::from(s.source.error.is_some()))
        })?;

        let endpoints = states.iter().flat_map(|state| {
            ["well", "unhealthy", "ejected", "draining"].map(|word| {
                let count = state.endpoints.iter().filter(|endpoint| word_of(endpoint) == word).count();
                let labels = vec![("upstream", state.name.as_str()), ("state", word)];
                (labels, ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)))
            })
        });
        family(&mut encoder, "endpoints", "Back ends by state", endpoints)?;
        let refused = states.iter().flat_map(|state| {
            [
                ("empty", state.refused_empty_count),
                ("full", state.refused_full_count),
                ("open", state.refused_open_count),
            ]
            .map(|(reason, count)| {
                (vec![("upstream", state.name.as_str()), ("reason", reason)], ConstCounter::new(count))
            })
        });
        family(&mut encoder, "refused", "Requests that got no back end, by reason", refused)?;
        let ejections = states
            .iter()
            .map(|state| (vec![("upstream", state.name.as_str())], ConstCounter::new(state.ejection_count)));
        family(&mut encoder, "ejections", "Ejections of back ends by outlier detection", ejections)
    }
}

/// What is to be said of a back end first.
fn word_of(endpoint: &EndpointState) -> &'static str {
    if endpoint.is_draining {
        "draining"
    } else if endpoint.is_ejected {
        "ejected"
    } else if endpoint.health == Health::Unhealthy || !endpoint.is_healthy_at_source {
        "unhealthy"
    } else {
        "well"
    }
}

fn family<'a, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (Vec<(&'static str, &'a str)>, M)>,
) -> Result<(), fmt::Error> {
    let mut rows = rows.peekable();
    let Some((_, first)) = rows.peek() else { return Ok(()) };
    let kind = first.metric_type();
    let name = format!("mainstay_upstream_{name}");
    let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
    for (labels, metric) in rows {
        metric.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
