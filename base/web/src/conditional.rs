//! Conditional requests (RFC 9110, section 13) and HTTP dates.
//!
//! A read answers 304 when the client has the current representation; a change with `If-Match` is refused with 412 when the thing
//! changed since the client read it, and, where a room asks for it, with 428 when the header is missing.

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use kernel::Timestamp;
use ring::digest;

use crate::{Reject, error};

/// A strong entity tag: it changes whenever the representation does, in a single byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// From the bytes of the representation: half of their SHA-256.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        Self(format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])))
    }

    /// From a version number that grows with every change.
    pub fn of_version(version: i64) -> Self {
        Self(format!("\"v{version}\""))
    }

    /// The tag as it stands in headers, with its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the `ETag` header.
    pub fn header_value(&self) -> HeaderValue {
        // Quotes, letters, digits, `-` and `_` are always valid.
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("\"\""))
    }
}

/// The conditions of a request. An extractor.
#[derive(Debug, Clone)]
pub struct Conditions {
    method: Method,
    headers: HeaderMap,
}

const CONDITION_HEADERS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::new(&parts.method, &parts.headers))
    }
}

/// What follows from the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Do what was asked.
    Proceed,
    /// Answer 304: the client has it.
    NotModified,
    /// Answer 412.
    Failed,
}

impl Conditions {
    /// The conditions among these headers.
    pub fn new(method: &Method, headers: &HeaderMap) -> Self {
        let mut kept = HeaderMap::new();
        for name in &CONDITION_HEADERS {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        Self { method: method.clone(), headers: kept }
    }

    /// Judges them against the current state, in the order of RFC 9110, section 13.2.2. `etag` is `None` when the thing does not
    /// exist.
    pub fn judge(&self, etag: Option<&ETag>, modified_at: Option<Timestamp>) -> Outcome {
        let reads = self.method == Method::GET || self.method == Method::HEAD;
        if self.headers.contains_key(header::IF_MATCH) {
            if !self.lists(&header::IF_MATCH, etag, false) {
                return Outcome::Failed;
            }
        } else if let (Some(since), Some(modified)) = (self.date(&header::IF_UNMODIFIED_SINCE), modified_at)
            && seconds(modified) > seconds(since)
        {
            return Outcome::Failed;
        }
        if self.headers.contains_key(header::IF_NONE_MATCH) {
            if self.lists(&header::IF_NONE_MATCH, etag, true) {
                return if reads { Outcome::NotModified } else { Outcome::Failed };
            }
        } else if let (true, Some(since), Some(modified)) = (reads, self.date(&header::IF_MODIFIED_SINCE), modified_at)
            && seconds(modified) <= seconds(since)
        {
            return Outcome::NotModified;
        }
        Outcome::Proceed
    }

    /// For a change: refuses with 412 when the conditions do not hold.
    pub fn check(&self, etag: Option<&ETag>, modified_at: Option<Timestamp>) -> Result<(), Reject> {
        match self.judge(etag, modified_at) {
            Outcome::Proceed => Ok(()),
            Outcome::NotModified | Outcome::Failed => Err(Reject::new(
                &error::PRECONDITION_FAILED,
                "Read the current version, apply your change to it, and send it with the new ETag in If-Match.",
            )),
        }
    }

    /// Whether there is any.
    pub fn has_any(&self) -> bool {
        !self.headers.is_empty()
    }

    /// For a change that must not overwrite what its client has not seen: refuses with 428 when `If-Match` is missing.
    pub fn require_if_match(&self) -> Result<(), Reject> {
        if self.headers.contains_key(header::IF_MATCH) {
            return Ok(());
        }
        Err(Reject::new(&error::PRECONDITION_REQUIRED, "Send the ETag that you read in an If-Match header.")
            .parameter("If-Match", "missing"))
    }

    /// For a read: the answer with its `ETag`, or 304 when the client has it.
    pub fn answer(&self, etag: &ETag, response: impl FnOnce() -> Response) -> Response {
        let mut response = match self.judge(Some(etag), None) {
            Outcome::Proceed => response(),
            Outcome::NotModified => StatusCode::NOT_MODIFIED.into_response(),
            Outcome::Failed => {
                return Reject::new(&error::PRECONDITION_FAILED, "The current version has another ETag.")
                    .into_response();
            }
        };
        response.headers_mut().insert(header::ETAG, etag.header_value());
        response
    }

    fn lists(&self, name: &HeaderName, etag: Option<&ETag>, weak: bool) -> bool {
        let Some(etag) = etag else { return false };
        self.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).any(|v| lists(v, etag, weak))
    }

    fn date(&self, name: &HeaderName) -> Option<Timestamp> {
        parse_http_date(self.headers.get(name)?.to_str().ok()?)
    }
}

/// Whether a list of entity tags holds this one. Weak comparison (RFC 9110, 8.8.3.2) looks past `W/`; strong refuses it. What
/// is not a tag matches nothing.
fn lists(mut list: &str, etag: &ETag, weak: bool) -> bool {
    if list.trim() == "*" {
        return true;
    }
    loop {
        // A tag may hold commas, so the list cannot be split at them.
        list = list.trim_start_matches([' ', '\t', ',']);
        let (is_weak, rest) = list.strip_prefix("W/").map_or((false, list), |rest| (true, rest));
        let Some(end) = rest.strip_prefix('"').and_then(|r| r.find('"')) else { return false };
        let (tag, after) = rest.split_at(end + 2);
        if tag == etag.0 && (weak || !is_weak) {
            return true;
        }
        list = after;
    }
}

/// HTTP dates have whole seconds.
fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1_000)
}

/// An instant as HTTP writes it (RFC 9110, 5.6.7): `Tue, 24 Nov 2026 06:00:00 GMT`. Instants before 1970 show as 1970.
pub fn http_date(at: Timestamp) -> String {
    let since = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0));
    // The formatter ends with the year 9999.
    httpdate::fmt_http_date(UNIX_EPOCH + since.min(Duration::from_secs(253_402_300_799)))
}

/// Reads the three forms of HTTP dates.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.plus(since))
}
