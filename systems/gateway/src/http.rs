//! Routes and wire types of the API.

mod config;
mod seen;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post, put},
};
use utoipa::OpenApi;

use crate::service::{Gateway, MAX_DOCUMENT_BYTES};

/// Documents as people write them are longer than as they are kept.
const MAX_BODY_BYTES: usize = 2 * MAX_DOCUMENT_BYTES;

/// The routes, to be put inside of the auth and idempotency layers.
pub fn routes(gateway: Gateway) -> Router {
    Router::new()
        .route("/v1/gateway/config/versions", get(config::versions))
        .route("/v1/gateway/config/versions/{version}", get(config::version))
        .route("/v1/gateway/config/diff", get(config::diff))
        .route("/v1/gateway/config/rollback", post(config::roll_back))
        .route("/v1/gateway/routes", get(seen::routes))
        .route("/v1/gateway/upstreams", get(seen::upstreams))
        .route("/v1/gateway/upstreams/{name}", get(seen::upstream))
        .route("/v1/gateway/upstreams/{name}/drain", post(seen::drain))
        .route("/v1/gateway/upstreams/{name}/undrain", post(seen::undrain))
        .route("/v1/gateway/drains", get(seen::drains))
        .with_state(gateway)
}

/// Documents and questions: inside of the auth layer and outside of the idempotency layer.
pub fn bare_routes(gateway: Gateway) -> Router {
    let limit = || DefaultBodyLimit::max(MAX_BODY_BYTES);
    Router::new()
        .route("/v1/gateway/config", put(config::put).layer(limit()).merge(get(config::read)))
        .route("/v1/gateway/config/validate", post(config::validate).layer(limit()))
        .route("/v1/gateway/explain", post(seen::explain))
        .with_state(gateway)
}

/// What these routes take and give.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(
        config::read, config::put, config::validate, config::versions, config::version, config::diff, config::roll_back,
        seen::routes, seen::upstreams, seen::upstream, seen::drain, seen::undrain, seen::drains, seen::explain,
    ),
    tags((name = "gateway", description = "Routes, policies and back ends of the public listener."))
)]
struct Doc;
