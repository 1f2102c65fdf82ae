//! What the gatekeeper needs from outside.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};

/// Asks other servers: for keys of issuers, at OpenID providers, for forward auth.
///
/// An implementation
/// 1. sends the request as it is, to the absolute URI in it, `https` with the certificates of public authorities (or those it was given);
/// 2. follows no redirect: 3xx is an answer like any other;
/// 3. ends within [`Limits::timeout`], connecting included;
/// 4. never holds more than [`Limits::max_body_bytes`] of the answer's body, and fails where it is longer.
pub trait Fetch: Send + Sync {
    /// The answer, whatever its status.
    fn fetch(&self, request: Request<Bytes>, limits: Limits) -> BoxFuture<'_, Result<Response<Bytes>, FetchError>>;
}

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the last byte of the answer.
    pub timeout: Duration,
    /// The longest body.
    pub max_body_bytes: usize,
}

/// No answer; in words for operators.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);
