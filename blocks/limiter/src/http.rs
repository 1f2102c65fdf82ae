//! Routes and wire types of the API.

pub mod headers;

use axum::Router;
use utoipa::OpenApi;

use crate::service::Limiter;

/// The routes, to be put inside of the auth and idempotency layers.
pub fn routes(limiter: Limiter) -> Router {
    Router::new().with_state(limiter)
}

/// Checks, reservations and uploads of rules: inside of the auth layer and outside of the idempotency layer.
pub fn bare_routes(limiter: Limiter) -> Router {
    Router::new().with_state(limiter)
}

/// What these routes take and give.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(tags((name = "limits", description = "Rate limits: checks, reservations and rules.")))]
struct Doc;
