//! Extractors that refuse with a problem which names the field.
//!
//! | extractor | reads | refuses |
//! |---|---|---|
//! | [`Json`] | a body of `application/json` (or `…+json`) | 415, 413, 400 `INVALID_JSON` |
//! | [`Form`] | a body of `application/x-www-form-urlencoded` | 415, 413, 400 `INVALID_FORM` |
//! | [`Query`] | the query string | 400 `INVALID_QUERY` |
//! | [`Path`] | the captured parts of the path | 400 `INVALID_PATH` |
//!
//! A type with `#[serde(deny_unknown_fields)]` refuses what it does not know, by name. Bodies are read up to
//! [`axum::extract::DefaultBodyLimit`], which [`crate::stack()`] sets and a route may override.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        path::ErrorKind,
        rejection::{BytesRejection, PathRejection},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use kernel::Code;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Reject, error};

/// A JSON body; as a response, JSON with status 200.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

/// A form body.
#[derive(Debug, Clone, Copy, Default)]
pub struct Form<T>(pub T);

/// The query string.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

/// The captured parts of the path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(e) => Reject::internal(format_args!("response does not serialize: {e}")).into_response(),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Reject;

    async fn from_request(req: Request, state: &S) -> Result<Self, Reject> {
        if !is_json(req.headers()) {
            return Err(unsupported(req.headers(), "application/json"));
        }
        let body = read_body(req, state).await?;
        parse_json(&body).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Reject;

    async fn from_request(req: Request, state: &S) -> Result<Self, Reject> {
        const FORM: &str = "application/x-www-form-urlencoded";
        if media_type(req.headers()).is_none_or(|m| m != FORM) {
            return Err(unsupported(req.headers(), FORM));
        }
        let body = read_body(req, state).await?;
        let text =
            std::str::from_utf8(&body).map_err(|_| Reject::new(&error::INVALID_FORM, "The body is not UTF-8 text."))?;
        parse_urlencoded(text, &error::INVALID_FORM, "").map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Reject;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Reject> {
        parse_urlencoded(parts.uri.query().unwrap_or_default(), &error::INVALID_QUERY, "?").map(Self)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Reject;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Reject> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(e)) => Err(path_reject(e.into_kind())),
            Err(e) => Err(Reject::internal(format_args!("path extractor: {e}"))),
        }
    }
}

fn path_reject(kind: ErrorKind) -> Reject {
    let reject = |detail: &str| Reject::new(&error::INVALID_PATH, detail);
    match kind {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            reject("A part of the path has the wrong form.").parameter(&key, format!("expected {expected_type}"))
        }
        ErrorKind::DeserializeError { key, message, .. } => {
            reject("A part of the path has the wrong form.").parameter(&key, message)
        }
        ErrorKind::InvalidUtf8InPathParam { key } => {
            reject("A part of the path is not UTF-8 text.").parameter(&key, "not UTF-8")
        }
        ErrorKind::ParseErrorAtIndex { expected_type, .. } | ErrorKind::ParseError { expected_type, .. } => {
            reject(&format!("A part of the path has the wrong form: expected {expected_type}."))
        }
        ErrorKind::Message(message) => reject(&format!("A part of the path has the wrong form: {message}.")),
        // The rest are mistakes in our own source.
        other => Reject::internal(format_args!("path extractor: {other}")),
    }
}

/// The media type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn is_json(headers: &HeaderMap) -> bool {
    if headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json") {
        return true;
    }
    media_type(headers).is_some_and(|m| {
        m == "application/json" || m.strip_prefix("application/").is_some_and(|rest| rest.ends_with("+json"))
    })
}

fn unsupported(headers: &HeaderMap, expected: &str) -> Reject {
    let got = if headers.contains_key(header::CONTENT_TYPE) { "another content type" } else { "no content type" };
    Reject::new(&error::UNSUPPORTED_MEDIA_TYPE, format!("Send the body as {expected}; it came with {got}."))
        .parameter("Content-Type", format!("expected {expected}"))
}

/// Reads a body within the limit of the route.
pub(crate) async fn read_body<S: Send + Sync>(req: Request, state: &S) -> Result<Bytes, Reject> {
    Bytes::from_request(req, state).await.map_err(|e| match e {
        BytesRejection::FailedToBufferBody(e) if e.status() == http::StatusCode::PAYLOAD_TOO_LARGE => {
            Reject::new(&error::BODY_TOO_LARGE, "Send less at once; the limit is `http.body_limit` of the server.")
        }
        _ => Reject::new(&error::BODY_UNREADABLE, "The connection ended or broke before the body was whole."),
    })
}

/// Reads JSON; the refusal names the field.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reject> {
    // Keeping track of where one is costs more than reading; what is right is read without.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut de = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut de).map_err(|e| {
        let path = pointer(e.path());
        let cause = e.into_inner();
        if cause.is_data() {
            let message = without_position(&cause.to_string());
            let reject =
                Reject::new(&error::INVALID_JSON, "The JSON does not have the form that this operation takes.");
            add_field(reject, &path, &message, "/")
        } else {
            let at = (cause.line(), cause.column());
            Reject::new(&error::INVALID_JSON, format!("The body is not JSON: see line {}, column {}.", at.0, at.1))
        }
    })?;
    de.end().map_err(|e| {
        Reject::new(
            &error::INVALID_JSON,
            format!("Something follows the JSON at line {}, column {}.", e.line(), e.column()),
        )
    })?;
    Ok(value)
}

fn parse_urlencoded<T: DeserializeOwned>(text: &str, code: &'static Code, mark: &str) -> Result<T, Reject> {
    // Escapes that are not UTF-8 become U+FFFD, as in browsers (WHATWG URL, "urlencoded parsing").
    let de = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(de).map_err(|e| {
        let path = e.path().iter().next().map(ToString::to_string).unwrap_or_default();
        let message = e.into_inner().to_string();
        let what = if mark == "?" { "A query parameter is wrong." } else { "A field of the form is wrong." };
        add_field(Reject::new(code, what), &path, &message, mark)
    })
}

/// Names the field: the one that serde was in, or the one that its message speaks of.
fn add_field(reject: Reject, path: &str, message: &str, mark: &str) -> Reject {
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next())
        .map(|name| if mark == "/" { name.replace('~', "~0").replace('/', "~1") } else { name.to_owned() });
    let field = match named {
        // serde stands on the field itself when it is unknown or twice there, on its parent when it is missing.
        Some(name) if path.is_empty() => format!("{mark}{name}"),
        Some(name) if path.rsplit('/').next() != Some(&name) => format!("{path}/{name}"),
        _ if path.is_empty() || path.starts_with('/') => path.to_owned(),
        _ => format!("{mark}{path}"),
    };
    reject.field(field, message)
}

/// A serde path as a JSON pointer (RFC 6901); empty for the whole document.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// serde_json appends the position, which the pointer says better.
fn without_position(message: &str) -> String {
    message.rfind(" at line ").map_or(message, |at| &message[..at]).to_owned()
}
