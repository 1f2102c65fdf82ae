//! The shortener's pages in the console: the list of links, and one link.
//!
//! Both are drawn by the server and work without script; with it, a stream of events keeps tiles and chart fresh.

mod chart;
mod detail;
mod list;

use std::time::Duration;

use access::Caller;
use async_stream::stream;
use axum::{
    Router,
    body::Body,
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use console::{Chrome, Confirm, Link as Address, Markup, confirmed, live};
use http::{HeaderValue, StatusCode, header};
use kernel::{Problem, Shutdown, Timestamp};
use serde::Deserialize;
use web::Form;

use crate::{
    error::Error,
    service::{NewLink, Shortener},
};

/// The page of the list; below it, the page of each link.
pub const PATH: &str = "/console/links";
/// Where the streams of events are; apart from the pages, so that no code can be taken for one.
const STREAMS: &str = "/console/live/links";
/// The scope that these pages ask for, before its verb.
const SYSTEM: &str = "links";
/// How often a stream looks for something new.
const REFRESH: Duration = Duration::from_secs(2);
/// A stream ends after this time; the browser opens another. A forgotten tab costs a bounded time.
const STREAM_LIFE: Duration = Duration::from_mins(10);

#[derive(Clone)]
struct Pages {
    shortener: Shortener,
    shutdown: Shutdown,
}

/// The pages, to be put inside of the console's own layers (sign-in, [`Chrome`], `Caller`). Streams end when `shutdown` of the
/// listener is asked for.
pub fn routes(shortener: Shortener, shutdown: Shutdown) -> Router {
    Router::new()
        .route(PATH, get(list_page).post(create))
        .route("/console/links/{code}", get(link_page))
        .route("/console/links/{code}/delete", post(delete))
        .route(STREAMS, get(list_stream))
        .route("/console/live/links/{code}", get(link_stream))
        .with_state(Pages { shortener, shutdown })
}

fn address_of(code: &str) -> Address {
    Address::new(format!("{PATH}/{code}"))
}

async fn list_page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
) -> Response {
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
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        detail::page(&chrome, &shortener, caller.project(), &code, None).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

#[derive(Debug, Clone, Deserialize)]
struct CreateForm {
    csrf: String,
    url: String,
    #[serde(default)]
    alias: String,
    #[serde(default)]
    expires_at: String,
    /// Drawn with the form: sending it twice makes one link.
    once: String,
}

async fn create(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Form(form): Form<CreateForm>,
) -> Response {
    let made = async {
        caller.require(SYSTEM, "write")?;
        check_csrf(&chrome, &form.csrf)?;
        let expires_at = read_time(&form.expires_at)?;
        let alias = Some(form.alias.trim().to_owned()).filter(|a| !a.is_empty());
        let token = Some(format!("console-{}", form.once)).filter(|t| t.len() == 8 + 32);
        Ok::<_, Problem>(
            shortener
                .create(
                    caller.principal(),
                    NewLink { url: form.url.clone(), alias, expires_at, token, ..NewLink::default() },
                )
                .await?,
        )
    };
    match made.await {
        Ok(made) => {
            let to = address_of(made.link.code.as_str()).with("made", "1");
            Redirect::to(&to.to_string()).into_response()
        }
        Err(problem) => {
            let status = web::status(problem.code.kind);
            let drawn = list::page(&chrome, &shortener, caller.project(), Some((&form, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
struct DeleteForm {
    csrf: String,
    #[serde(rename = "confirm")]
    typed: String,
}

async fn delete(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
    Form(form): Form<DeleteForm>,
) -> Response {
    let deleted = async {
        caller.require(SYSTEM, "write")?;
        check_csrf(&chrome, &form.csrf)?;
        if !confirmed(&form.typed, &code) {
            return Ok(false);
        }
        shortener.delete(caller.principal(), None, &code, None).await?;
        Ok::<_, Problem>(true)
    };
    match deleted.await {
        Ok(true) => Redirect::to(&Address::new(PATH).with("deleted", &code).to_string()).into_response(),
        Ok(false) => {
            let drawn = detail::page(&chrome, &shortener, caller.project(), &code, Some(Confirm::refused)).await;
            answer(&chrome, drawn, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
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

/// Refuses a form that was not drawn for this session.
fn check_csrf(chrome: &Chrome, csrf: &str) -> Result<(), Problem> {
    if !chrome.csrf.is_empty() && chrome.csrf == csrf {
        return Ok(());
    }
    Err(Problem::new(&access::error::FORM_EXPIRED, "Nothing was done. Load the page again and send the form anew."))
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

/// Reads `datetime-local` as UTC; empty is none.
fn read_time(text: &str) -> Result<Option<Timestamp>, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = if text.len() == "2036-01-01T00:00".len() { ":00" } else { "" };
    Timestamp::parse(&format!("{text}{seconds}Z")).map(Some).ok_or(Error::ExpiryInvalid)
}
