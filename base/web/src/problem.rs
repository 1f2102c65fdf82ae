//! Problem details (RFC 9457): how every failure looks on the wire.
//!
//! ```json
//! { "type": "/docs/errors/INVALID_JSON", "title": "The body is not the JSON that this operation takes", "status": 400,
//!   "code": "INVALID_JSON", "detail": "…", "instance": "0198f6c2-…",
//!   "errors": [{ "pointer": "#/url", "detail": "missing" }] }
//! ```
//!
//! - `type` is the page of the code, relative to this server; `code` is stable and what programs should look at.
//! - `instance` is the id of the request, the same as in the `Request-Id` header and in the server's log.
//! - `errors` names what was wrong: `pointer` (RFC 6901, as a fragment) into the body, or `parameter` for a part of the query,
//!   path or headers.
//!
//! What is for operators ([`kernel::Internal`]) goes to the log and nowhere else.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use kernel::{Code, FieldError, Kind, Problem};
use serde::Serialize;

use crate::{context::RequestContext, error};

/// The media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The one table from kinds of failure to statuses.
pub const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Gone => StatusCode::GONE,
        Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Limited => StatusCode::TOO_MANY_REQUESTS,
        Kind::Legal => StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// A refusal on its way to the client. Made from anything that is a [`Problem`], so that handlers use `?`.
///
/// A plain field name (`alias`) or JSON pointer (`/tags/0`) in [`Problem::fields`] speaks of the body; a name that starts with
/// `?` (`?limit`, see [`Reject::parameter`]) speaks of the query, path or headers.
#[derive(Debug, Clone)]
pub struct Reject(Box<Problem>);

impl Reject {
    /// A refusal with its detail.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// A failure of our own; `message` goes to the log only.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Problem::internal(message).into()
    }

    /// Names a part of the query, path or headers that is wrong.
    #[must_use]
    pub fn parameter(mut self, name: &str, detail: impl Into<String>) -> Self {
        self.0.fields.push(FieldError { field: format!("?{name}"), detail: detail.into() });
        self
    }

    /// Names a field of the body that is wrong: a plain name or a JSON pointer.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.fields.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }

    /// The problem inside.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        // RFC 6585 has a status of its own for a precondition that is missing rather than false.
        if self.0.code.name == error::PRECONDITION_REQUIRED.name {
            return StatusCode::PRECONDITION_REQUIRED;
        }
        status(self.0.code.kind)
    }
}

impl<P: Into<Problem>> From<P> for Reject {
    fn from(problem: P) -> Self {
        Self(Box::new(problem.into()))
    }
}

/// The code of the problem that a response carries: an extension of the response, for logs and metrics.
#[derive(Debug, Clone, Copy)]
pub struct ProblemCode(pub &'static str);

#[derive(Serialize)]
struct Wire<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<WireField<'a>>,
}

#[derive(Serialize)]
struct WireField<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    detail: &'a str,
}

impl<'a> WireField<'a> {
    fn new(field: &'a FieldError) -> Self {
        let detail = &field.detail;
        if let Some(name) = field.field.strip_prefix('?') {
            return Self { pointer: None, parameter: Some(name), detail };
        }
        let pointer = if field.field.is_empty() || field.field.starts_with('/') {
            format!("#{}", field.field)
        } else {
            format!("#/{}", field.field.replace('~', "~0").replace('/', "~1"))
        };
        Self { pointer: Some(pointer), parameter: None, detail }
    }
}

impl IntoResponse for Reject {
    fn into_response(self) -> Response {
        let context = RequestContext::current();
        self.render(context.as_ref().map(RequestContext::request_id)).map(Body::from)
    }
}

impl Reject {
    /// The response, for listeners whose bodies are not axum's; also logs it.
    pub fn render(self, request_id: Option<&str>) -> http::Response<Bytes> {
        let status = self.status();
        let problem = &*self.0;
        log(problem, status, request_id.unwrap_or_default());
        let wire = Wire {
            r#type: format!("/docs/errors/{}", problem.code.name),
            title: problem.code.title,
            status: status.as_u16(),
            code: problem.code.name,
            detail: &problem.detail,
            instance: request_id,
            errors: problem.fields.iter().map(WireField::new).collect(),
        };
        // Strings and numbers only: this cannot fail.
        let body = serde_json::to_vec(&wire).unwrap_or_default();
        let mut response = http::Response::new(Bytes::from(body));
        *response.status_mut() = status;
        response.extensions_mut().insert(ProblemCode(problem.code.name));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s(after)));
        }
        // For the stack, which tells clients of gRPC in their own way.
        response.extensions_mut().insert(self);
        response
    }
}

/// Whole seconds, rounded up, at least one: a client that comes back then is not too early.
fn retry_after_s(after: std::time::Duration) -> u64 {
    after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1)
}

fn log(problem: &Problem, status: StatusCode, request_id: &str) {
    let code = problem.code.name;
    let internal = problem.internal.as_ref().map_or("", kernel::Internal::for_operators);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(code, internal, request_id, "request failed");
    } else if !internal.is_empty() {
        tracing::warn!(code, internal, request_id, "request refused");
    } else {
        tracing::debug!(code, detail = problem.detail, request_id, "request refused");
    }
}

/// The fallback of the router: 404 as a problem.
#[allow(clippy::unused_async, reason = "axum handlers are async")]
pub async fn not_found() -> Reject {
    Reject::new(&error::NOT_FOUND, "See /docs for what is served.")
}

/// The fallback of every path that exists: 405 as a problem. (axum adds the `Allow` header.)
#[allow(clippy::unused_async, reason = "axum handlers are async")]
pub async fn method_not_allowed() -> Reject {
    Reject::new(&error::METHOD_NOT_ALLOWED, "The Allow header names the methods that this path takes.")
}
