//! What the gateway stands on: back ends and policies.

use std::sync::Arc;

use access::Access;
use gatekeeper::{Gatekeeper, HttpClient};
use kernel::{Clock, Rng, Tasks};
use telemetry::Metrics;
use upstream::{Registry, Upstreams};

/// Mainstay's own systems that can be routes of the gateway.
pub(crate) const SERVICES: &[&str] = &["links"];

/// Back ends of the gateway's document.
pub(crate) fn upstreams(metrics: &Metrics, clock: &Clock, rng: &Rng, registry: Arc<dyn Registry>) -> Upstreams {
    Upstreams::new(upstream::Deps {
        clock: clock.clone(),
        rng: rng.clone(),
        zone: None,
        registry: Some(registry),
        metrics: metrics.registry("upstream"),
    })
}

/// Policies of the gateway's document.
pub(crate) fn gatekeeper(
    access: &Access,
    metrics: &Metrics,
    clock: &Clock,
    rng: &Rng,
    tasks: &Tasks,
) -> Result<Gatekeeper, String> {
    let fetch = HttpClient::new(clock, tasks, None)?;
    Ok(Gatekeeper::new(gatekeeper::Deps {
        clock: clock.clone(),
        rng: rng.clone(),
        access: access.clone(),
        fetch: Arc::new(fetch),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
    }))
}
