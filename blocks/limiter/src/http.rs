//! Routes and wire types of the API.

mod checks;
pub mod headers;
pub mod middleware;
mod numbers;
mod rules;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post, put},
};
use utoipa::OpenApi;

pub use checks::try_check;

use crate::service::{Limiter, MAX_RULE_BYTES};

/// Rules as people write them are longer than as they are kept.
const MAX_BODY_BYTES: usize = 2 * MAX_RULE_BYTES;

/// The routes, to be put inside of the auth and idempotency layers.
pub fn routes(limiter: Limiter) -> Router {
    Router::new()
        .route("/v1/limits/rules", get(rules::domains))
        .route("/v1/limits/rules/{domain}/versions", get(rules::versions))
        .route("/v1/limits/rules/{domain}/versions/{version}", get(rules::version))
        .route("/v1/limits/rules/{domain}/diff", get(rules::diff))
        .route("/v1/limits/rules/{domain}/rollback", post(rules::roll_back))
        .route("/v1/limits/stats", get(numbers::stats))
        .with_state(limiter)
}

/// Checks, reservations and uploads of rules: inside of the auth layer and outside of the idempotency layer.
pub fn bare_routes(limiter: Limiter) -> Router {
    let puts = put(rules::put).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    Router::new()
        .route("/v1/limits/check", post(checks::check))
        .route("/v1/limits/peek", post(checks::peek))
        .route("/v1/limits/reserve", post(checks::reserve))
        .route("/v1/limits/settle", post(checks::settle))
        .route("/v1/limits/rules/{domain}", puts.merge(get(rules::read)))
        .with_state(limiter)
}

/// What these routes take and give.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(
        checks::check, checks::peek, checks::reserve, checks::settle, rules::domains, rules::read, rules::put,
        rules::roll_back, rules::versions, rules::version, rules::diff, numbers::stats,
    ),
    tags((name = "limits", description = "Rate limits: checks, reservations and rules."))
)]
struct Doc;
