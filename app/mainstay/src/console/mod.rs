//! The console: the frame around every room's pages, the home page, search, and the choices of project and theme.

mod home;
mod live;
mod search;

use std::sync::Arc;

use access::{Caller, Session};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use console::{Chrome, Link, NavGroup, NavItem, Status, Theme, assets, paths};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kernel::ProjectId;
use serde::Deserialize;
use telemetry::State as Health;

use crate::{house::House, rooms::Group};

const THEME_COOKIE: &str = "mainstay-theme";
/// A year: the choice of light or dark is no secret.
const THEME_SECONDS: u32 = 31_536_000;

/// Every page of the console, each inside of the session and the frame.
pub(crate) fn router(house: &House) -> Router {
    let own = Router::new()
        .route(paths::HOME, get(home_page))
        .route("/console/live", get(live::stream))
        .route(paths::SEARCH, get(search::page))
        .route(paths::THEME, post(choose_theme))
        .with_state(house.clone());
    let pages = house.rooms().iter().fold(own, |all, room| all.merge(room.console.clone()));
    pages
        .route("/console/assets/{name}", get(asset))
        .layer(from_fn_with_state(house.clone(), frame))
        .layer(from_fn_with_state(house.access().clone(), access::console::layer))
        .layer(axum::middleware::from_fn(policy))
}

async fn home_page(chrome: axum::Extension<Chrome>, State(house): State<House>) -> Html<String> {
    Html(home::page(&chrome, &house).into_string())
}

async fn asset(axum::extract::Path(name): axum::extract::Path<String>) -> Response {
    match assets::find(&name) {
        Some(asset) => {
            ([(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, assets::CACHE_CONTROL)], asset.bytes)
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// No inline script or style, no page of others around ours, and nothing of a page left in shared caches.
async fn policy(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(assets::CONTENT_SECURITY_POLICY));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("same-origin"));
    response
}

/// Makes the frame of this request from its session; pages that are open to strangers have none.
async fn frame(State(house): State<House>, mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    if let (Some(session), Some(caller)) = (extensions.get::<Session>().cloned(), extensions.get::<Caller>().cloned()) {
        let at = request.uri().path_and_query().map_or(paths::HOME, http::uri::PathAndQuery::as_str);
        let mut chrome = Chrome::new(rail(&house, &caller), Link::parse(at), caller.project().clone());
        chrome.projects = projects(&house, &caller).await;
        chrome.user = caller.principal().name.to_string();
        chrome.csrf = session.csrf;
        chrome.theme = theme(request.headers());
        chrome.dev = house.is_dev();
        chrome.base_url.clone_from(&house.addresses().api);
        request.extensions_mut().insert(chrome);
    }
    next.run(request).await
}

/// The projects that the caller may choose: all of them for an administrator, else its own.
async fn projects(house: &House, caller: &Caller) -> Arc<[ProjectId]> {
    if caller.principal().is_admin {
        let page = web::PageQuery::default();
        if let Ok(page) = house.access().list_projects(caller.principal(), &page).await {
            return page.items.into_iter().map(|p| p.id).collect();
        }
    }
    Arc::new([caller.project().clone()])
}

fn rail(house: &House, caller: &Caller) -> Vec<NavGroup> {
    let parts = house.health().parts();
    let status = |name: &str| parts.iter().find(|p| p.name == name).map(|p| status_of(p.state));
    let mut groups = Vec::new();
    for group in Group::ALL {
        let rooms = house.rooms().iter().filter(|r| r.group == group);
        let items = rooms.flat_map(|room| {
            // A room's health is said once, at its first page.
            let status = std::iter::once(status(room.name)).chain(std::iter::repeat(None));
            let pages = room.pages.iter().zip(status);
            let pages = pages.filter(|(page, _)| (page.is_for)(caller.principal()));
            pages.map(|(p, status)| NavItem { name: p.name.to_owned(), path: p.path.to_owned(), status })
        });
        groups.push(NavGroup { name: group.name().to_owned(), items: items.collect() });
    }
    groups
}

pub(crate) fn status_of(state: Health) -> Status {
    match state {
        Health::Serving => Status::Ok,
        Health::Degraded => Status::Degraded,
        Health::Stopped => Status::Down,
    }
}

fn theme(headers: &HeaderMap) -> Theme {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    cookies
        .filter_map(|c| c.trim().split_once('='))
        .find(|(name, _)| *name == THEME_COOKIE)
        .map_or(Theme::Auto, |(_, value)| Theme::parse(value))
}

#[derive(Deserialize)]
struct ThemeForm {
    theme: String,
    #[serde(default)]
    next: String,
}

async fn choose_theme(web::Form(form): web::Form<ThemeForm>) -> Response {
    let name = Theme::parse(&form.theme).name();
    let cookie = format!("{THEME_COOKIE}={name}; Path=/console; Max-Age={THEME_SECONDS}; SameSite=Strict; HttpOnly");
    let mut response = Redirect::to(paths::back(&form.next)).into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
