//! What the crate promises, seen from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "tests"
)]

mod access_log;
mod conditional;
mod docs;
mod extract;
mod grpc;
mod idempotency;
mod page;
mod stack;
mod trace;

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// A whole answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Sends one request and reads the answer whole.
pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// A request from `METHOD /path`, headers as `name: value` lines, and a body.
pub fn request(line: &str, headers: &[&str], body: impl Into<Body>) -> Request<Body> {
    let (method, uri) = line.split_once(' ').unwrap();
    let mut builder = Request::builder().method(method).uri(uri);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        builder = builder.header(name, value);
    }
    builder.body(body.into()).unwrap()
}
