//! What people read: `/docs` (every operation), `/docs/errors` and `/docs/errors/{CODE}`; and what machines read:
//! `/openapi.json`. All of it is rendered once, at start; nothing comes from the internet and no script runs.

mod markdown;
mod reference;
mod schema;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderValue, header};
use kernel::Code;
use maud::{DOCTYPE, Markup, html};

use crate::{Conditions, ETag, Reject, error, openapi::Document, problem};

/// The policy of these pages: their own style sheet and nothing else.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("docs.css");

/// The page of one error code.
#[derive(Debug, Clone)]
pub struct ErrorPage {
    /// The code.
    pub code: &'static Code,
    /// `docs/errors/<CODE>.md`: what it means, why it happens, what to do.
    pub text: String,
}

/// Routes for all of it. They need no key.
pub fn routes(document: &Document, errors: &[ErrorPage]) -> Router {
    let mut router = Router::new();
    let html = "text/html; charset=utf-8";
    for (path, media, text) in [
        ("/openapi.json", "application/json", document.json().to_string()),
        ("/docs", html, reference::render(document).0),
        ("/docs/errors", html, error_index(errors).0),
        ("/docs/docs.css", "text/css; charset=utf-8", STYLE.to_owned()),
    ] {
        let file = File::new(media, text);
        router = router.route(path, get(async move |conditions: Conditions| file.answer(&conditions)));
    }
    let pages: BTreeMap<&'static str, File> =
        errors.iter().map(|e| (e.code.name, File::new(html, error_page(e).0))).collect();
    let pages = Arc::new(pages);
    router.route(
        "/docs/errors/{code}",
        get(async move |Path(code): Path<String>, conditions: Conditions| match pages.get(code.as_str()) {
            Some(file) => Ok(file.answer(&conditions)),
            None => Err(Reject::new(&error::NOT_FOUND, "No such code; /docs/errors lists them.")),
        }),
    )
}

/// A text that does not change while the process runs.
#[derive(Clone)]
struct File {
    media: &'static str,
    bytes: Bytes,
    etag: ETag,
}

impl File {
    fn new(media: &'static str, text: String) -> Self {
        let bytes = Bytes::from(text);
        Self { media, etag: ETag::of_bytes(&bytes), bytes }
    }

    fn answer(&self, conditions: &Conditions) -> Response {
        let mut response = conditions
            .answer(&self.etag, || ([(header::CONTENT_TYPE, self.media)], self.bytes.clone()).into_response());
        let headers = response.headers_mut();
        // Weak, so that it may be compressed on the way.
        if let Ok(weak) = HeaderValue::from_str(&format!("W/{}", self.etag.as_str())) {
            headers.insert(header::ETAG, weak);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
        response
    }
}

fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/docs/docs.css";
            }
            body { main { (body) } }
        }
    }
}

fn error_index(errors: &[ErrorPage]) -> Markup {
    let mut errors: Vec<&ErrorPage> = errors.iter().collect();
    errors.sort_by_key(|e| e.code.name);
    page(
        "Error codes",
        &html! {
            p { a href="/docs" { "API" } }
            h1 { "Error codes" }
            p { "Every refusal is " code { "application/problem+json" } " (RFC 9457) with one of these codes." }
            ul class="fields" {
                @for e in errors {
                    li {
                        a href={ "/docs/errors/" (e.code.name) } { code { (e.code.name) } }
                        " " span class="type" { (problem::status(e.code.kind).as_u16()) }
                        " " (e.code.title)
                    }
                }
            }
        },
    )
}

fn error_page(error: &ErrorPage) -> Markup {
    let Code { name, kind, title } = error.code;
    // The file starts with the code as its own heading.
    let text = error.text.trim_start();
    let text = text.strip_prefix(&format!("# {name}")).unwrap_or(text);
    page(
        name,
        &html! {
            p { a href="/docs" { "API" } " / " a href="/docs/errors" { "Error codes" } }
            h1 { code { (name) } }
            p class="summary" { (title) " (HTTP " (problem::status(*kind).as_u16()) ")" }
            (markdown::render(text))
        },
    )
}
