//! The gateway's pages in the console: what talks to what, routes, upstreams, versions of the document, and why a request goes where it
//! goes.
//!
//! All are drawn by the server and work without script; with it, a stream of events keeps numbers fresh.

mod explain;
mod overview;
mod upstream;
mod versions;

use std::time::Duration;

use access::Caller;
use async_stream::stream;
use axum::{
    Router,
    body::Body,
    extract::DefaultBodyLimit,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use console::{Chrome, Markup, live};
use http::{StatusCode, header};
use identity::Principal;
use kernel::{Problem, Shutdown};

use crate::{DataPath, Error, Gateway, SYSTEM};

/// The page of all of it.
pub const PATH: &str = "/console/gateway";
/// Versions of the document.
pub const VERSIONS: &str = "/console/gateway-config";
/// Why a request goes where it goes.
pub const EXPLAIN: &str = "/console/gateway-explain";
/// Upstreams by name.
const UPSTREAMS: &str = "/console/gateway-upstreams";
const STREAM: &str = "/console/live/gateway";
/// The largest form: a document as text, escaped.
const MAX_FORM_BYTES: usize = 8 << 20;
/// How often a stream looks for something new.
const REFRESH: Duration = Duration::from_secs(2);
/// A stream ends after this time; the browser opens another. A forgotten tab costs a bounded time.
const STREAM_LIFE: Duration = Duration::from_mins(10);

#[derive(Clone)]
struct Pages {
    gateway: Gateway,
    data_path: DataPath,
    shutdown: Shutdown,
}

/// Whether somebody may see the document.
pub fn is_operator(who: &Principal) -> bool {
    who.is_admin
}

/// The pages, to be put inside of the console's own layers (sign-in, [`Chrome`], `Caller`). Streams end when `shutdown` of the
/// listener is asked for.
pub fn routes(gateway: Gateway, data_path: DataPath, shutdown: Shutdown) -> Router {
    Router::new()
        .route(PATH, get(overview::page))
        .route(STREAM, get(overview::stream))
        .route(EXPLAIN, get(explain::page))
        .route("/console/gateway-upstreams/{name}", get(upstream::page))
        .route("/console/gateway-upstreams/{name}/drain", post(upstream::drain))
        .route(VERSIONS, get(versions::page))
        .route(
            "/console/gateway-config/edit",
            get(versions::edit).post(versions::put).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)),
        )
        .route("/console/gateway-config/rollback", post(versions::roll_back))
        .route("/console/gateway-config/versions/{version}", get(versions::version))
        .with_state(Pages { gateway, data_path, shutdown })
}

type Pairs = web::Form<Vec<(String, String)>>;

/// What a form sent, by name.
struct Sent(Vec<(String, String)>);

impl Sent {
    /// The value of the first field of that name; empty when there is none.
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }
}

/// Administrators alone.
fn operator(caller: &Caller) -> Result<(), Problem> {
    caller.require(SYSTEM, "admin")?;
    if caller.principal().is_admin { Ok(()) } else { Err(Error::NotOperator.into()) }
}

/// A form that was sent: what it holds, when it was drawn for this session and its sender may change something.
fn accept(caller: &Caller, chrome: &Chrome, pairs: Vec<(String, String)>) -> Result<Sent, Problem> {
    let sent = Sent(pairs);
    operator(caller)?;
    if chrome.csrf.is_empty() || chrome.csrf != sent.get("csrf") {
        let detail = "Nothing was done. Load the page again and send the form anew.";
        return Err(Problem::new(&access::error::FORM_EXPIRED, detail));
    }
    Ok(sent)
}

/// Fragments by their ids.
type Fragments = Vec<(&'static str, Markup)>;

/// A stream that sends each fragment when it has changed.
fn events(pages: &Pages, draw: impl Fn() -> Fragments + Send + 'static) -> Response {
    let (clock, shutdown) = (pages.gateway.0.clock.clone(), pages.shutdown.clone());
    let stream = stream! {
        let until = clock.monotonic() + STREAM_LIFE;
        let mut sent: Vec<(&'static str, String)> = Vec::new();
        while clock.monotonic() < until {
            for (id, content) in draw() {
                match sent.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, before)) if *before == content.0 => continue,
                    Some((_, before)) => before.clone_from(&content.0),
                    None => sent.push((id, content.0.clone())),
                }
                yield Ok::<_, std::convert::Infallible>(live::event(id, &content));
            }
            // Keeps proxies from closing a quiet stream, and notices a reader that left.
            yield Ok(":\n\n".to_owned());
            if shutdown.or(clock.sleep(REFRESH)).await.is_none() {
                return;
            }
        }
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream)).into_response()
}

/// The page, or a page that says why not.
fn answer(chrome: &Chrome, drawn: Result<Markup, Problem>, status: StatusCode) -> Response {
    let (status, page) = match drawn {
        Ok(page) => (status, page),
        Err(problem) => (web::status(problem.code.kind), chrome.error_page(&problem)),
    };
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, page.0).into_response()
}
