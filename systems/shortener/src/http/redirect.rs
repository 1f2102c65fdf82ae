//! What visitors get: the redirect, or a small page that says why not.
//!
//! Made for the public listener: [`Redirector::try_cached`] answers from memory without waiting, and only what is not in
//! memory goes through [`Redirector::resolve`]. Neither needs a router.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCEPT_LANGUAGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION,
        REFERER, REFERRER_POLICY, RETRY_AFTER, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use kernel::Problem;

use crate::{
    model::{DomainId, looks_like_code},
    service::{Known, Shortener},
};

/// The most bytes of a form that [`Redirector::submit`] takes.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

/// What of a request decides the answer. Texts of headers are as they came: any bytes but controls.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The method: GET and HEAD are answered, only GET is a click; POST goes to [`Redirector::submit`].
    pub method: &'a Method,
    /// The host that was asked, with its port where one was given.
    pub host: Option<&'a [u8]>,
    /// The path, from its slash.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// `User-Agent`, by which bots are counted apart.
    pub user_agent: Option<&'a [u8]>,
    /// `Accept-Language`; the first one where there are several.
    pub accept_language: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Who asks: the peer, or whom a trusted proxy named. An IPv4 address is never mapped into IPv6.
    pub client: IpAddr,
}

impl<'a> Visit<'a> {
    /// Of a client that says nothing about itself.
    pub fn new(method: &'a Method, path: &'a str) -> Self {
        Self {
            method,
            host: None,
            path,
            query: None,
            user_agent: None,
            accept_language: None,
            referer: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    /// Of a whole request.
    pub fn of<B>(request: &'a Request<B>, client: IpAddr) -> Self {
        let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let uri = request.uri();
        Self {
            method: request.method(),
            // An absolute URI wins over the header: RFC 9112, 3.2.2; HTTP/2 has its authority there.
            host: uri.authority().map(|a| a.as_str().as_bytes()).or_else(|| header(HOST)),
            path: uri.path(),
            query: uri.query(),
            user_agent: header(USER_AGENT),
            accept_language: header(ACCEPT_LANGUAGE),
            referer: header(REFERER),
            client,
        }
    }
}

/// The answer to a visit: whole and in memory.
#[derive(Debug)]
pub enum Answer {
    /// The way on. Apart from pages, so that the listener can write its few lines without a map of headers.
    Redirect(Redirect),
    /// Everything else.
    Page(Response<Full<Bytes>>),
}

/// A redirect without a body.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// A status of class 3xx.
    pub status: StatusCode,
    /// Where to.
    pub location: HeaderValue,
    /// Who may keep it, and for how long.
    pub cache_control: &'static str,
}

impl Redirect {
    /// Every header that it has, `Date` and `Content-Length` apart.
    pub fn headers(&self) -> [(HeaderName, &[u8]); 3] {
        [
            (LOCATION, self.location.as_bytes()),
            (CACHE_CONTROL, self.cache_control.as_bytes()),
            (REFERRER_POLICY, b"strict-origin-when-cross-origin"),
        ]
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Redirect(redirect) => redirect.status,
            Self::Page(page) => page.status(),
        }
    }

    /// As any HTTP server sends it.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Redirect(redirect) => {
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = redirect.status;
                let mut headers = HeaderMap::with_capacity(4);
                headers.insert(LOCATION, redirect.location.clone());
                for (name, value) in redirect.headers() {
                    if let (false, Ok(value)) = (name == LOCATION, HeaderValue::from_bytes(value)) {
                        headers.insert(name, value);
                    }
                }
                *response.headers_mut() = headers;
                response
            }
            Self::Page(page) => page,
        }
    }
}

/// Answers visits. Cheap to clone; each worker of a listener has one of its own, so that workers do not share a queue of
/// clicks.
#[derive(Debug, Clone)]
pub struct Redirector {
    shortener: Shortener,
    worker: usize,
    pages: Arc<Pages>,
}

impl Redirector {
    /// For worker 0; see [`Redirector::for_worker`].
    pub fn new(shortener: Shortener) -> Self {
        Self { shortener, worker: 0, pages: Arc::new(Pages::new()) }
    }

    /// The same for another worker, numbered from 0.
    #[must_use]
    pub fn for_worker(&self, worker: usize) -> Self {
        Self { worker, ..self.clone() }
    }

    /// Answers from memory: what is cached, what can be no code, a method that is not allowed. `None` when the database has to
    /// be asked: then call [`Redirector::resolve`]. Never waits.
    pub fn try_cached(&self, visit: &Visit<'_>) -> Option<Answer> {
        let telemetry = self.shortener.telemetry();
        if visit.method != Method::GET && visit.method != Method::HEAD {
            telemetry.refused.inc();
            return Some(self.pages.method.answer(visit.method));
        }
        let code = visit.path.strip_prefix('/').unwrap_or(visit.path);
        if !looks_like_code(code) {
            telemetry.unknown.inc();
            return Some(self.pages.unknown.answer(visit.method));
        }
        let (domain, other) = self.spellings(visit, code);
        let mut known = self.shortener.known(domain, code)?;
        if known.is_none()
            && let Some(other) = other
        {
            known = self.shortener.known(domain, &other)?;
        }
        Some(self.answer(visit, &known))
    }

    /// On which domain a code is meant, and how else it may be written there: in lower case, where case does not matter.
    fn spellings(&self, visit: &Visit<'_>, code: &str) -> (DomainId, Option<String>) {
        let Some(domain) = self.shortener.domain_of(visit.host) else { return (DomainId::OWN, None) };
        let other = (!domain.is_case_sensitive && code.bytes().any(|b| b.is_ascii_uppercase()))
            .then(|| code.to_ascii_lowercase());
        (domain.id, other)
    }

    /// What memory or the database know of a code as it is written, else of its other spelling.
    async fn look_up(&self, visit: &Visit<'_>, code: &str) -> Result<Known, Problem> {
        let (domain, other) = self.spellings(visit, code);
        for code in std::iter::once(code).chain(other.as_deref()) {
            let known = match self.shortener.known(domain, code) {
                Some(known) => known,
                None => self.shortener.learn(domain, code).await?,
            };
            if known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }

    /// Answers, asking the database when memory does not know. Visits of one code share one question.
    pub async fn resolve(&self, visit: &Visit<'_>) -> Answer {
        if let Some(answer) = self.try_cached(visit) {
            return answer;
        }
        let code = visit.path.strip_prefix('/').unwrap_or(visit.path);
        match self.look_up(visit, code).await {
            Ok(known) => self.answer(visit, &known),
            Err(problem) => {
                let reason = problem.internal.as_ref().map_or("", kernel::Internal::for_operators);
                tracing::warn!(code = problem.code.name, reason, "a short URL could not be resolved");
                self.shortener.telemetry().unavailable.inc();
                self.pages.unavailable.answer(visit.method)
            }
        }
    }

    /// Answers a form that a page of a short URL sent: at most [`MAX_FORM_BYTES`], see [`Redirector::refuse_form`].
    #[allow(clippy::unused_async, reason = "forms ask the database")]
    pub async fn submit(&self, visit: &Visit<'_>, _form: Bytes) -> Answer {
        self.shortener.telemetry().refused.inc();
        self.pages.method.answer(visit.method)
    }

    /// What a form gets that is too large, or did not come in time.
    pub fn refuse_form(&self, is_too_large: bool) -> Answer {
        self.shortener.telemetry().refused.inc();
        let page = if is_too_large { &self.pages.too_large } else { &self.pages.too_slow };
        page.answer(&Method::POST)
    }

    fn answer(&self, visit: &Visit<'_>, known: &Known) -> Answer {
        let telemetry = self.shortener.telemetry();
        let Some(target) = known else {
            telemetry.unknown.inc();
            return self.pages.unknown.answer(visit.method);
        };
        let now = self.shortener.now();
        if target.expires_at.is_some_and(|at| at <= now) {
            telemetry.expired.inc();
            return self.pages.expired.answer(visit.method);
        }
        telemetry.found.inc();
        // HEAD is what checkers of links send; a person's browser never does.
        if visit.method == Method::GET {
            let facts = self.shortener.facts(self.worker, visit);
            self.shortener.click(self.worker, target, now, visit.client, &facts);
        }
        Answer::Redirect(Redirect {
            status: StatusCode::FOUND,
            location: target.location.clone(),
            // Not kept by anybody: every visit is seen, and a deleted link stops to lead anywhere.
            cache_control: "private, max-age=0",
        })
    }
}

/// The pages for people, made once.
#[derive(Debug)]
struct Pages {
    unknown: Page,
    expired: Page,
    method: Page,
    unavailable: Page,
    too_large: Page,
    too_slow: Page,
}

#[derive(Debug)]
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto 0;padding:0 1rem}\
                     h1{font-size:1.75rem;margin:0 0 .5rem}p{margin:0;opacity:.8}";

impl Pages {
    fn new() -> Self {
        let page = |status, title: &str, text: &str| Page::new(status, title, text);
        let mut method = page(
            StatusCode::METHOD_NOT_ALLOWED,
            "A short link can only be followed",
            "This address answers GET and HEAD. Links are made through the API.",
        );
        method.headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        let mut unavailable = page(
            StatusCode::SERVICE_UNAVAILABLE,
            "This link cannot be looked up right now",
            "It is not lost. Please try again in a moment.",
        );
        unavailable.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        Self {
            unknown: page(
                StatusCode::NOT_FOUND,
                "There is no such link",
                "Look at the address again: capital and small letters differ, and the end may have been cut off.",
            ),
            expired: page(
                StatusCode::GONE,
                "This link has expired",
                "It was made for a limited time, which is over. Whoever gave it to you may have a new one.",
            ),
            method,
            unavailable,
            too_large: page(
                StatusCode::PAYLOAD_TOO_LARGE,
                "That was too much",
                "A form of this page holds at most 16 KiB. Go back and send less.",
            ),
            too_slow: page(
                StatusCode::REQUEST_TIMEOUT,
                "That took too long",
                "The form did not arrive in time. Go back and send it again.",
            ),
        }
    }
}

impl Page {
    fn new(status: StatusCode, title: &str, text: &str) -> Self {
        let mut body = String::with_capacity(1024);
        // Writing to a String cannot fail.
        let written = write!(
            body,
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{text}</p>\n</html>\n"
        );
        debug_assert!(written.is_ok(), "a String takes every text");
        let hash = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
        let csp = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(ROBOTS, HeaderValue::from_static("noindex"));
        if let Ok(csp) = HeaderValue::try_from(csp) {
            headers.insert(CONTENT_SECURITY_POLICY, csp);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Self { status, headers, body: body.into() }
    }

    fn answer(&self, method: &Method) -> Answer {
        // HEAD carries the length of what GET would send.
        let body = if method == Method::HEAD { Bytes::new() } else { self.body.clone() };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        Answer::Page(response)
    }
}
