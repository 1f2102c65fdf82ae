//! The shortener's pages in the console: links, one link, imports, domains, UTM templates, moderation.
//!
//! All are drawn by the server and work without script; with it, a stream of events keeps tiles and charts fresh.

mod bulk;
mod chart;
mod detail;
mod domains;
mod edit;
mod form;
mod history;
mod imports;
mod list;
mod moderation;
mod panels;
mod qr;
mod templates;

use std::time::Duration;

use access::Caller;
use async_stream::stream;
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Extension, Path, State},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use console::{Chrome, Link as Address, Markup, TimeRange, live};
use http::{HeaderValue, StatusCode, header};
use identity::{Principal, Verb};
use kernel::{Problem, Shutdown};
use web::Form;

use self::form::Sent;
use crate::{
    model::Link,
    service::{Shortener, require_moderator},
};

/// The page of the list; below it, the page of each link.
pub const PATH: &str = "/console/links";
/// The page of domains; below it, the page of each.
const DOMAINS: &str = "/console/domains";
/// The page of UTM templates; below it, the page of each.
const TEMPLATES: &str = "/console/utm-templates";
/// What is done to several links; apart from the pages of links, so that no code can be taken for it.
const BULK: &str = "/console/link-changes";
/// QR codes as files; apart from the pages of links for the same reason.
const QR: &str = "/console/link-codes";
/// Where the streams of events are; apart from the pages for the same reason.
const STREAMS: &str = "/console/live/links";
/// The scope that these pages ask for, before its verb.
const SYSTEM: &str = "links";
/// How often a stream looks for something new.
const REFRESH: Duration = Duration::from_secs(2);
/// A stream ends after this time; the browser opens another. A forgotten tab costs a bounded time.
const STREAM_LIFE: Duration = Duration::from_mins(10);
/// A destination in examples.
const EXAMPLE: &str = "https://example.com/a/long/page";

#[derive(Clone)]
struct Pages {
    shortener: Shortener,
    shutdown: Shutdown,
}

/// The pages, to be put inside of the console's own layers (sign-in, [`Chrome`], `Caller`). Streams end when `shutdown` of the
/// listener is asked for.
pub fn routes(shortener: Shortener, shutdown: Shutdown) -> Router {
    Router::new()
        .route(PATH, get(list_page).post(list::create))
        .route("/console/links/{code}", get(link_page))
        .route("/console/links/{code}/edit", get(edit::page).post(edit::change))
        .route("/console/links/{code}/state", post(edit::switch))
        .route("/console/links/{code}/delete", post(edit::delete))
        .route(BULK, post(bulk::change))
        .route("/console/link-codes/{code}/{format}", get(qr::file))
        .route("/console/links/{code}/appeal", post(moderation::appeal))
        .route(moderation::MODERATION, get(moderation::page))
        .route(moderation::TAKE_DOWN, get(moderation::take_down_page).post(moderation::take_down))
        .route(moderation::APPEAL, get(moderation::appeal_page).post(moderation::decide))
        .route("/console/moderation/restore", post(moderation::restore))
        .route("/console/moderation/reports/{id}/dismiss", post(moderation::dismiss))
        .route("/console/moderation/blocks", post(moderation::block))
        .route("/console/moderation/blocks/{id}/remove", post(moderation::unblock))
        .route(imports::IMPORTS, get(imports::list).post(imports::create).layer(DefaultBodyLimit::disable()))
        .route("/console/link-imports/{id}", get(imports::page))
        .route("/console/link-imports/{id}/stop", post(imports::stop))
        .route(imports::EXPORT, get(imports::export))
        .route(imports::STREAM, get(imports::list_stream))
        .route("/console/live/link-imports/{id}", get(imports::stream))
        .route(DOMAINS, get(domains::list).post(domains::add))
        .route("/console/domains/{host}", get(domains::page).post(domains::change))
        .route("/console/domains/{host}/remove", post(domains::remove))
        .route(TEMPLATES, get(templates::list).post(templates::put))
        .route("/console/utm-templates/{name}", get(templates::page))
        .route("/console/utm-templates/{name}/delete", post(templates::delete))
        .route(STREAMS, get(list_stream))
        .route("/console/live/links/{code}", get(link_stream))
        .with_state(Pages { shortener, shutdown })
}

/// Whether the pages of moderation are for somebody.
pub fn is_moderator(principal: &Principal) -> bool {
    require_moderator(principal, Verb::Read).is_ok()
}

/// The page of a code on the domain that `at` names.
fn address_of(code: &str, host: Option<&str>) -> Address {
    with_domain(Address::new(format!("{PATH}/{code}")), host)
}

/// Something about a link: `edit`, `state`, `delete`.
fn action_of(link: &Link, action: &str) -> Address {
    with_domain(Address::new(format!("{PATH}/{}/{action}", link.code)), link.host.as_deref())
}

fn page_of(link: &Link) -> Address {
    address_of(link.code.as_str(), link.host.as_deref())
}

fn with_domain(address: Address, host: Option<&str>) -> Address {
    match host {
        Some(host) => address.with("domain", host),
        None => address,
    }
}

/// The same in the API.
fn api_path(link: &Link, rest: &str) -> String {
    with_domain(Address::new(format!("/v1/links/{}{rest}", link.code)), link.host.as_deref()).to_string()
}

/// The words of the CLI for a command about a link.
fn cli<'a>(link: &'a Link, command: &'a str) -> Vec<&'a str> {
    let mut words = vec!["links", command, link.code.as_str()];
    if let Some(host) = &link.host {
        words.extend(["--domain", host]);
    }
    words
}

/// The host that the address of a page names; `None` for the installation's own.
fn host_of(chrome: &Chrome) -> Option<&str> {
    chrome.at().get("domain").filter(|host| !host.is_empty())
}

/// An address as people say it.
fn shown_url(url: &str) -> &str {
    url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url)
}

/// Pages about clicks look back a week unless their address says otherwise: most links are followed for days.
fn a_week(mut chrome: Chrome) -> Chrome {
    if chrome.at().get("range").is_none() {
        chrome.range = TimeRange::Week;
    }
    chrome
}

/// `1 link`, `3 links`.
fn counted(count: usize, one: &str) -> String {
    format!(
        "{} {one}{}",
        console::format::full(i64::try_from(count).unwrap_or(i64::MAX)),
        if count == 1 { "" } else { "s" }
    )
}

async fn list_page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
) -> Response {
    let chrome = a_week(chrome);
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        list::page(&chrome, &shortener, caller.project(), None).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

async fn link_page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
) -> Response {
    let chrome = a_week(chrome);
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        detail::page(&chrome, &shortener, caller.project(), &code, detail::Asked::Nothing).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

async fn list_stream(caller: Caller, Extension(chrome): Extension<Chrome>, State(pages): State<Pages>) -> Response {
    match caller.require(SYSTEM, "read") {
        Ok(()) => {
            let project = caller.project().clone();
            let shortener = pages.shortener.clone();
            events(&pages, move || {
                let (chrome, shortener, project) = (chrome.clone(), shortener.clone(), project.clone());
                async move { list::fragments(&chrome, &shortener, &project).await }
            })
        }
        Err(e) => answer(&chrome, Err(e.into()), StatusCode::OK),
    }
}

async fn link_stream(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(pages): State<Pages>,
    Path(code): Path<String>,
) -> Response {
    match caller.require(SYSTEM, "read") {
        Ok(()) => {
            let project = caller.project().clone();
            let shortener = pages.shortener.clone();
            events(&pages, move || {
                let (chrome, shortener, project, code) =
                    (chrome.clone(), shortener.clone(), project.clone(), code.clone());
                async move { detail::fragments(&chrome, &shortener, &project, &code).await }
            })
        }
        Err(e) => answer(&chrome, Err(e.into()), StatusCode::OK),
    }
}

/// A form that was sent: what it holds, when it was drawn for this session and its sender may write.
fn accept(caller: &Caller, chrome: &Chrome, pairs: Vec<(String, String)>) -> Result<Sent, Problem> {
    let sent = Sent::new(pairs);
    caller.require(SYSTEM, "write")?;
    form::check_csrf(chrome, &sent)?;
    Ok(sent)
}

/// Where a form leads that did what it says.
fn see(address: &Address) -> Response {
    Redirect::to(&address.to_string()).into_response()
}

type Pairs = Form<Vec<(String, String)>>;

/// Fragments by their ids.
type Fragments = Vec<(&'static str, Markup)>;

/// A stream that sends each fragment when it has changed.
fn events<F, Fut>(pages: &Pages, draw: F) -> Response
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Fragments, Problem>> + Send,
{
    let (clock, shutdown) = (pages.shortener.clock().clone(), pages.shutdown.clone());
    let stream = stream! {
        let until = clock.monotonic() + STREAM_LIFE;
        let mut sent: Vec<(&'static str, String)> = Vec::new();
        while clock.monotonic() < until {
            match draw().await {
                Ok(fragments) => {
                    for (id, content) in fragments {
                        match sent.iter_mut().find(|(known, _)| *known == id) {
                            Some((_, before)) if *before == content.0 => continue,
                            Some((_, before)) => before.clone_from(&content.0),
                            None => sent.push((id, content.0.clone())),
                        }
                        yield Ok::<_, std::convert::Infallible>(live::event(id, &content));
                    }
                    // Keeps proxies from closing a quiet stream, and notices a reader that left.
                    yield Ok(":\n\n".to_owned());
                }
                // The thing is gone or the database is: the browser tries again by itself.
                Err(_) => return,
            }
            if shutdown.or(clock.sleep(REFRESH)).await.is_none() {
                return;
            }
        }
    };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page, or a page that says why not.
fn answer(chrome: &Chrome, drawn: Result<Markup, Problem>, status: StatusCode) -> Response {
    match drawn {
        Ok(page) => page_response(status, &page),
        Err(problem) => page_response(web::status(problem.code.kind), &chrome.error_page(&problem)),
    }
}

fn page_response(status: StatusCode, page: &Markup) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, page.0.clone()).into_response()
}
