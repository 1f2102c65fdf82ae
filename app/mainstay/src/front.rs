//! What the gateway stands on: back ends and policies.

use std::sync::Arc;

use access::Access;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use gatekeeper::{Fetch, FetchError, Gatekeeper, Limits};
use http::{Request, Response};
use kernel::{Clock, Rng, Tasks};
use telemetry::Metrics;
use upstream::Upstreams;

/// Mainstay's own systems that can be routes of the gateway.
pub(crate) const SERVICES: &[&str] = &["links"];

/// Back ends of the gateway's document.
pub(crate) fn upstreams(metrics: &Metrics, clock: &Clock, rng: &Rng) -> Upstreams {
    Upstreams::new(upstream::Deps {
        clock: clock.clone(),
        rng: rng.clone(),
        zone: None,
        registry: None,
        metrics: metrics.registry("upstream"),
    })
}

/// Policies of the gateway's document.
pub(crate) fn gatekeeper(access: &Access, metrics: &Metrics, clock: &Clock, rng: &Rng, tasks: &Tasks) -> Gatekeeper {
    Gatekeeper::new(gatekeeper::Deps {
        clock: clock.clone(),
        rng: rng.clone(),
        access: access.clone(),
        fetch: Arc::new(Outside),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
    })
}

/// The way to issuers, OpenID providers and authorisation services: seldom gone, since what they say is kept. On threads that may wait.
struct Outside;

impl Fetch for Outside {
    fn fetch(&self, request: Request<Bytes>, limits: Limits) -> BoxFuture<'_, Result<Response<Bytes>, FetchError>> {
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || {
                let config = ureq::Agent::config_builder()
                    .http_status_as_error(false)
                    .max_redirects(0)
                    .max_redirects_will_error(false)
                    .timeout_global(Some(limits.timeout))
                    .build();
                let mut response = ureq::Agent::new_with_config(config).run(request.map(|body| body.to_vec()))?;
                let most = limits.max_body_bytes as u64;
                let body = response.body_mut().with_config().limit(most).read_to_vec()?;
                Ok::<_, ureq::Error>(response.map(|_| Bytes::from(body)))
            });
            match asked.await {
                Ok(answer) => answer.map_err(|e| FetchError(e.to_string())),
                Err(e) => Err(FetchError(e.to_string())),
            }
        })
    }
}
