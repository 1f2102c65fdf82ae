//! The limiter's pages in the console: how limits do now, the rules of a domain, their versions, and the form to change them.
//!
//! All are drawn by the server and work without script; with it, a stream of events keeps numbers and charts fresh.

mod domain;
mod overview;

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
use kernel::{Problem, Shutdown};

use crate::{Limiter, SYSTEM};

/// The page of all limits; below it, the page of each domain.
pub const PATH: &str = "/console/limits";
/// Where the stream of events is; apart from the pages, so that no domain can be taken for it.
const STREAM: &str = "/console/live/limits";
/// Leads to the form of a domain that is named; apart from the pages for the same reason.
const OPEN: &str = "/console/limit-domains";
/// The largest form: rules as text, escaped.
const MAX_FORM_BYTES: usize = 4 << 20;
/// How often a stream looks for something new.
const REFRESH: Duration = Duration::from_secs(2);
/// A stream ends after this time; the browser opens another. A forgotten tab costs a bounded time.
const STREAM_LIFE: Duration = Duration::from_mins(10);

#[derive(Clone)]
struct Pages {
    limiter: Limiter,
    shutdown: Shutdown,
}

/// The pages, to be put inside of the console's own layers (sign-in, [`Chrome`], `Caller`). Streams end when `shutdown` of the
/// listener is asked for.
pub fn routes(limiter: Limiter, shutdown: Shutdown) -> Router {
    Router::new()
        .route(PATH, get(overview::page))
        .route(STREAM, get(overview::stream))
        .route(OPEN, get(domain::open))
        .route("/console/limits/{domain}", get(domain::page))
        .route(
            "/console/limits/{domain}/edit",
            get(domain::edit).post(domain::put).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)),
        )
        .route("/console/limits/{domain}/rollback", post(domain::roll_back))
        .route("/console/limits/{domain}/versions/{version}", get(domain::version))
        .with_state(Pages { limiter, shutdown })
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

/// A form that was sent: what it holds, when it was drawn for this session and its sender may change rules.
fn accept(caller: &Caller, chrome: &Chrome, pairs: Vec<(String, String)>) -> Result<Sent, Problem> {
    let sent = Sent(pairs);
    caller.require(SYSTEM, "admin")?;
    if chrome.csrf.is_empty() || chrome.csrf != sent.get("csrf") {
        let detail = "Nothing was done. Load the page again and send the form anew.";
        return Err(Problem::new(&access::error::FORM_EXPIRED, detail));
    }
    Ok(sent)
}

/// Fragments by their ids.
type Fragments = Vec<(&'static str, Markup)>;

/// A stream that sends each fragment when it has changed.
fn events<F, Fut>(pages: &Pages, draw: F) -> Response
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Fragments, Problem>> + Send,
{
    let (clock, shutdown) = (pages.limiter.clock().clone(), pages.shutdown.clone());
    let stream = stream! {
        let until = clock.monotonic() + STREAM_LIFE;
        let mut sent: Vec<(&'static str, String)> = Vec::new();
        while clock.monotonic() < until {
            // The database is away: the browser tries again by itself.
            let Ok(fragments) = draw().await else { return };
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
