//! Routes and wire types of the API.

pub mod consul;
mod instances;
mod services;
mod stream;

use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use http::Uri;
use kernel::Shutdown;
use utoipa::OpenApi;

use crate::service::{Discovery, MAX_WAIT, USUAL_WAIT};

/// What handlers need.
#[derive(Clone)]
struct Api {
    discovery: Discovery,
    shutdown: Shutdown,
}

/// The routes, to be put inside of the auth and idempotency layers. Waiting ends when `shutdown` of the listener is asked for.
pub fn routes(discovery: Discovery, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/v1/discovery/services", get(services::list))
        .route("/v1/discovery/services/{service}", get(services::read))
        .route("/v1/discovery/services/{service}/events", get(stream::events))
        .route(
            "/v1/discovery/instances/{id}",
            get(instances::read).put(instances::register).delete(instances::deregister),
        )
        .route("/v1/discovery/status", get(services::status))
        .with_state(Api { discovery, shutdown })
}

/// What is asked too often for the idempotency layer, and does the same however often it is: inside of the auth layer alone.
pub fn bare_routes(discovery: Discovery, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/v1/discovery/instances/{id}/heartbeat", post(instances::heartbeat))
        .route("/v1/discovery/instances/{id}/drain", post(instances::drain).delete(instances::undrain))
        .with_state(Api { discovery, shutdown })
}

/// How long a request may wait by design: one that names an index which it has seen. `None` for all others.
pub fn patience(uri: &Uri) -> Option<Duration> {
    let path = uri.path();
    let is_ours = ["/v1/discovery/services/", "/v1/catalog/", "/v1/health/", "/v1/agent/"];
    if !is_ours.iter().any(|start| path.starts_with(start)) {
        return None;
    }
    let pairs = || uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let of = |name: &str| pairs().find(|(key, _)| *key == name).map(|(_, value)| value);
    let seen = of("index")?.parse::<i64>().ok()?;
    let wait = of("wait").and_then(parse_wait).unwrap_or(USUAL_WAIT).min(MAX_WAIT);
    // What is spread is added to it, and the time of an answer.
    (seen > 0).then_some(wait + wait / 16 + Duration::from_secs(10))
}

/// `30s`, `5m`, `250ms`; also Go's `1m30s`, which Consul's clients send.
fn parse_wait(text: &str) -> Option<Duration> {
    if let Some(whole) = kernel::limits::parse_duration(text) {
        return Some(whole);
    }
    let (mut sum, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        sum = sum.checked_add(kernel::limits::parse_duration(&rest[..unit])?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

/// What these routes take and give.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(
        instances::register, instances::read, instances::deregister, instances::heartbeat, instances::drain,
        instances::undrain, services::list, services::read, services::status, stream::events,
    ),
    tags((name = "discovery", description = "Service registry: who serves what, where, and is it well."))
)]
struct Doc;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read() {
        for (text, wait) in [
            ("30s", Some(Duration::from_secs(30))),
            ("5m", Some(Duration::from_mins(5))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("0m5s", Some(Duration::from_secs(5))),
            ("", None),
            ("5", None),
            ("s", None),
            ("5x", None),
            ("é5s", None),
        ] {
            assert_eq!(parse_wait(text), wait, "{text}");
        }
    }

    #[test]
    fn only_those_that_have_seen_something_wait() {
        let patience = |text: &str| patience(&text.parse().unwrap());
        assert!(patience("/v1/discovery/services/shop?index=7").is_some());
        assert!(patience("/v1/health/service/shop?passing&index=7&wait=10s").is_some_and(|d| d < USUAL_WAIT));
        assert_eq!(patience("/v1/discovery/services/shop?index=0"), None);
        assert_eq!(patience("/v1/discovery/services/shop"), None);
        assert_eq!(patience("/v1/links?index=7"), None);
        assert!(patience("/v1/health/service/shop?index=7&wait=9999h").unwrap() < MAX_WAIT * 2);
    }
}
