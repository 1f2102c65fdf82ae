//! The limiter's pages in the console: how limits do now, the rules of a domain, their versions, and the form to change them.
//!
//! All are drawn by the server and work without script; with it, a stream of events keeps numbers and charts fresh.

mod overview;

use std::time::Duration;

use async_stream::stream;
use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::get,
};
use console::{Chrome, Markup, live};
use http::{StatusCode, header};
use kernel::{Problem, Shutdown};

use crate::Limiter;

/// The page of all limits; below it, the page of each domain.
pub const PATH: &str = "/console/limits";
/// Where the stream of events is; apart from the pages, so that no domain can be taken for it.
const STREAM: &str = "/console/live/limits";
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
        .with_state(Pages { limiter, shutdown })
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
