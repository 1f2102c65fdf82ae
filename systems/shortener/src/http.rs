//! Routes and wire types of the API; [`redirect`] is what visitors get.

mod analytics;
mod clicks;
mod domains;
mod export;
mod forms;
mod imports;
mod links;
mod moderation;
mod pages;
mod qr;
pub mod redirect;

use axum::{
    Router,
    routing::{delete, get, post},
};
use utoipa::OpenApi;

use crate::service::Shortener;

/// The scope that these routes ask for, before its verb.
const SYSTEM: &str = "links";

/// The routes, to be put inside of the auth and idempotency layers.
pub fn routes(shortener: Shortener) -> Router {
    Router::new()
        .route("/v1/links", get(links::list).post(links::create))
        .route("/v1/links/export", get(export::export))
        .route("/v1/link-imports", get(imports::list))
        .route("/v1/link-imports/{id}", get(imports::read).delete(imports::cancel))
        .route("/v1/link-imports/{id}/errors", get(imports::errors))
        .route("/v1/links/{code}", get(links::read).patch(links::change).delete(links::remove))
        .route("/v1/links/{code}/history", get(links::history))
        .route("/v1/links/{code}/clicks", get(clicks::clicks))
        .route("/v1/links/{code}/analytics", get(analytics::link))
        .route("/v1/link-analytics", get(analytics::project))
        .route("/v1/links/{code}/qr", get(qr::qr))
        .route("/v1/links/{code}/takedown", get(moderation::takedown).post(moderation::take_down))
        .route("/v1/links/{code}/restore", post(moderation::restore))
        .route("/v1/links/{code}/appeal", post(moderation::appeal))
        .route("/v1/links/{code}/appeal/grant", post(moderation::grant))
        .route("/v1/links/{code}/appeal/reject", post(moderation::reject))
        .route("/v1/link-reports", get(moderation::reports).post(moderation::report))
        .route("/v1/link-reports/{id}/dismiss", post(moderation::dismiss))
        .route("/v1/link-takedowns", get(moderation::takedowns))
        .route("/v1/link-blocks", get(moderation::blocks).post(moderation::block))
        .route("/v1/link-blocks/{id}", delete(moderation::unblock))
        .route("/v1/domains", get(domains::list).post(domains::add))
        .route("/v1/domains/{host}", get(domains::read).patch(domains::change).delete(domains::remove))
        .route("/v1/utm-templates", get(domains::templates))
        .route(
            "/v1/utm-templates/{name}",
            get(domains::template).put(domains::put_template).delete(domains::remove_template),
        )
        .with_state(shortener)
}

/// The route that takes files, to be put inside of the auth layer and outside of the idempotency layer.
pub fn file_routes(shortener: Shortener) -> Router {
    Router::new().route("/v1/link-imports", post(imports::create)).with_state(shortener)
}

/// What these routes take and give.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(
        links::list, links::create, links::read, links::change, links::remove, links::history, clicks::clicks,
        analytics::link, analytics::project, qr::qr,
        export::export, imports::create, imports::list, imports::read, imports::errors, imports::cancel,
        moderation::report, moderation::reports, moderation::dismiss, moderation::takedown, moderation::take_down,
        moderation::restore, moderation::appeal, moderation::grant, moderation::reject, moderation::takedowns,
        moderation::blocks, moderation::block, moderation::unblock,
        domains::list, domains::add, domains::read, domains::change, domains::remove,
        domains::templates, domains::template, domains::put_template, domains::remove_template,
    ),
    tags(
        (name = "links", description = "Short links and their clicks."),
        (name = "moderation", description = "Reports of links, takedowns and appeals, and blocked destinations."),
        (name = "domains", description = "Hosts on which links answer, and campaign parameters for new links."),
    )
)]
struct Doc;

/// Tells `null` from left out.
fn given<'de, D: serde::Deserializer<'de>, T: serde::Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
