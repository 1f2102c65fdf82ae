//! The console's pages: keys, audit log, signing in; and the layer that lets nobody else in.

mod audit;
mod guard;
mod keys;
mod sign_in;

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use console::{Chrome, Link, Markup, assets, paths};
use kernel::{Problem, ProjectId};

use crate::Access;

pub use guard::layer;

/// The page of the audit log.
pub const AUDIT: &str = "/console/audit";
/// The page for signing in.
pub const SIGN_IN: &str = "/console/sign-in";
/// The cookie with the chosen project; only an administrator's is heeded.
pub const PROJECT_COOKIE: &str = "mainstay_project";

/// The pages. They belong inside of [`layer`] and of a layer that gives the [`Chrome`].
pub fn routes(access: Access) -> Router {
    Router::new()
        .route(paths::KEYS, get(keys::list).post(keys::create))
        .route("/console/keys/{id}", get(keys::show))
        .route("/console/keys/{id}/rotate", post(keys::rotate))
        .route("/console/keys/{id}/revoke", post(keys::revoke))
        .route(AUDIT, get(audit::list))
        .route(SIGN_IN, get(sign_in::page).post(sign_in::open))
        .route(paths::SIGN_OUT, post(sign_in::close))
        .route(paths::PROJECT, post(sign_in::choose_project))
        .with_state(access)
}

/// A page as a response.
fn respond(status: StatusCode, page: Markup) -> Response {
    let mut response = (status, page.into_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(assets::CONTENT_SECURITY_POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page that was drawn, or a page that says why not.
fn answer(chrome: &Chrome, drawn: Result<Markup, Problem>) -> Response {
    match drawn {
        Ok(page) => respond(StatusCode::OK, page),
        Err(problem) => respond(refused(&problem), chrome.error_page(&problem)),
    }
}

/// The status of a refusal; what the server itself failed at goes to the log.
fn refused(problem: &Problem) -> StatusCode {
    if let Some(internal) = &problem.internal {
        tracing::warn!(code = problem.code.name, internal = internal.for_operators(), "a page was refused");
    }
    web::status(problem.code.kind)
}

/// A frame for whoever has none yet.
fn plain_chrome(path: &str) -> Chrome {
    Chrome::new([], Link::new(path), ProjectId::default_project())
}

fn see_other(to: &str) -> Response {
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static(paths::HOME));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}
