//! Routes and wire types of the API; [`redirect`] is what visitors get.

mod clicks;
mod links;
pub mod redirect;

use axum::{Router, routing::get};
use utoipa::OpenApi;

use crate::service::Shortener;

/// The scope that these routes ask for, before its verb.
const SYSTEM: &str = "links";

/// The routes, to be put inside of the auth and idempotency layers.
pub fn routes(shortener: Shortener) -> Router {
    Router::new()
        .route("/v1/links", get(links::list).post(links::create))
        .route("/v1/links/{code}", get(links::read).delete(links::remove))
        .route("/v1/links/{code}/clicks", get(clicks::clicks))
        .with_state(shortener)
}

/// What these routes take and give.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(links::list, links::create, links::read, links::remove, clicks::clicks),
    tags((name = "links", description = "Short links and their clicks."))
)]
struct Doc;
