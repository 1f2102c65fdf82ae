//! Active checks of the back ends of one upstream.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use tokio::sync::Semaphore;

use crate::{
    model::{
        hysteresis::{Health, Hysteresis},
        spec::{HealthSpec, Protocol},
    },
    probe::{ProbeSpec, probe},
    service::{Endpoint, Settings, Upstream},
};

/// Checks of one upstream that are under way at a time; more wait.
const MOST_AT_ONCE: usize = 64;
/// Nodes that start together do not ask together: the first check comes within so long, or a tenth of the interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Checks whoever is there, for as long as it is there. Never ends.
pub(super) async fn watch(upstream: &Upstream, settings: &Settings) {
    let Some(spec) = &settings.spec.health else {
        upstream.forget_health();
        return std::future::pending().await;
    };
    let slots = Semaphore::new(MOST_AT_ONCE);
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    let mut checks = FuturesUnordered::new();
    loop {
        let endpoints = upstream.endpoints();
        running.retain(|target, check| {
            let stays = endpoints.iter().any(|endpoint| endpoint.target.id == *target);
            if !stays {
                check.abort();
            }
            stays
        });
        for endpoint in endpoints {
            let (abort, registration) = AbortHandle::new_pair();
            if let std::collections::hash_map::Entry::Vacant(place) = running.entry(endpoint.target.id) {
                place.insert(abort);
                checks.push(Abortable::new(check(upstream, settings, spec, endpoint, &slots), registration));
            }
        }
        tokio::select! {
            () = upstream.membership.notified() => {}
            // Those that were aborted; the others never end.
            Some(_) = checks.next() => {}
        }
    }
}

async fn check(
    upstream: &Upstream,
    settings: &Settings,
    spec: &HealthSpec,
    endpoint: Arc<Endpoint>,
    slots: &Semaphore,
) {
    let (clock, rng) = (&upstream.shared.clock, &upstream.shared.rng);
    let target = &endpoint.target;
    let is_http2 = settings.spec.protocol == Protocol::Http2;
    let question = ProbeSpec::new(spec, is_http2, target.tls.clone(), target.proxy_header);
    let address = SocketAddr::new(target.address.ip(), spec.port.unwrap_or(target.address.port()));
    let mut hysteresis = Hysteresis::resume(endpoint.health(), spec.healthy_after, spec.unhealthy_after);
    clock.sleep(rng_below(rng, FIRST_WITHIN.min(spec.interval.0 / 10))).await;
    loop {
        let began = {
            let Ok(_slot) = slots.acquire().await else { return };
            let began = clock.monotonic();
            let outcome = probe(&question, address, clock).await;
            note(upstream, &endpoint, &mut hysteresis, outcome, clock.monotonic().saturating_sub(began));
            began
        };
        // From beginning to beginning, a tenth more or less.
        let interval = spec.interval.0.mul_f64(0.9 + 0.2 * rng.unit_f64());
        clock.sleep(interval.saturating_sub(clock.monotonic().saturating_sub(began))).await;
    }
}

fn note(
    upstream: &Upstream,
    endpoint: &Endpoint,
    hysteresis: &mut Hysteresis,
    outcome: Result<(), String>,
    took: Duration,
) {
    let change = hysteresis.record(outcome.is_ok());
    {
        let mut checked = endpoint.checked();
        checked.at = Some(upstream.shared.clock.now());
        checked.took = took;
        checked.error = outcome.err();
    }
    let Some(health) = change else { return };
    let (name, address) = (&**upstream.name(), endpoint.target.address);
    if health == Health::Unhealthy {
        let why = endpoint.checked().error.clone().unwrap_or_default();
        tracing::warn!(upstream = name, %address, why, "a back end is not well");
    } else {
        tracing::info!(upstream = name, %address, "a back end is well");
    }
    endpoint.set_health(health);
    upstream.renew_now();
}

fn rng_below(rng: &kernel::Rng, most: Duration) -> Duration {
    most.mul_f64(rng.unit_f64())
}
