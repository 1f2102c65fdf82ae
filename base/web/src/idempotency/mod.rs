//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent twice is done once.
//!
//! | the key comes | answer |
//! |---|---|
//! | for the first time | the handler's |
//! | again, same request, the first has been answered | the first answer again, with `Idempotent-Replayed: true` |
//! | again, same request, the first still runs | 409 `IDEMPOTENCY_KEY_RUNNING` with `Retry-After` |
//! | again, another request | 422 `IDEMPOTENCY_KEY_REUSED` |
//!
//! The same request means: method, path with query, and SHA-256 of the body. A key belongs to an [`IdempotencyScope`] (project
//! and principal) that the auth layer sets, and is forgotten after `http.idempotency_ttl`.
//!
//! - The handler of a keyed request runs to its end even when the client goes away or its deadline passes; its answer waits
//!   for the next try.
//! - Refusals that say "not now" or "not like this" are not kept: 400, 401, 403, 408, 413, 415, 429 and every 5xx release the
//!   key, also a panic. So are answers larger than `http.idempotency_answer_limit`, which reach the client but run again.
//! - When the process dies in the middle, the key is held until its lease ends ([`Options::lease`]); then the same request
//!   may run again.
//! - What may run again is made exactly-once by [`IdempotencyToken`]: 16 bytes that are the same for every try. A handler
//!   stores them in a unique column with what it creates, in one transaction, and on a conflict answers what is there.

mod store;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{OptionalFromRequestParts, OriginalUri, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use http_body_util::BodyExt as _;
use kernel::{Clock, Rng, Tasks};
use ring::digest;
use tokio::sync::oneshot;
use tracing::Instrument as _;

pub use store::{Begun, BoxFuture, Claim, IdempotencyStore, MemoryStore, Record, StoredAnswer, check_contract, decide};

use crate::{HttpConfig, Reject, RequestContext, error, extract};

/// The request header.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The response header of an answer that was kept.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// The longest key, in characters.
pub const MAX_KEY_CHARS: usize = 255;

/// Whose keys they are: project and principal. The auth layer puts it into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyScope(pub String);

/// 16 bytes that are the same for every try of one request under one key. `Option<IdempotencyToken>` is an extractor: `None`
/// when the request came without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyToken(pub [u8; 16]);

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyToken {
    type Rejection = Reject;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Reject> {
        Ok(parts.extensions.get::<Self>().copied())
    }
}

/// How keys are held.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a key is remembered.
    pub ttl: Duration,
    /// How long a running request holds its key when its process dies; longer than any request takes.
    pub lease: Duration,
    /// The largest answer that is kept, in bytes.
    pub answer_limit_bytes: usize,
    /// Whether a POST without a key is refused.
    pub required: bool,
}

impl Options {
    /// As configured; keys are optional.
    pub fn from_config(config: &HttpConfig) -> Self {
        Self {
            ttl: config.idempotency_ttl,
            lease: config.request_timeout.saturating_mul(2),
            answer_limit_bytes: config.idempotency_answer_limit.as_usize(),
            required: false,
        }
    }
}

/// The middleware. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency(Arc<Inner>);

struct Inner {
    store: Arc<dyn IdempotencyStore>,
    options: Options,
    clock: Clock,
    rng: Rng,
    tasks: Tasks,
}

impl Idempotency {
    /// Over a store. Keyed requests run on `tasks`.
    pub fn new(store: Arc<dyn IdempotencyStore>, options: Options, clock: Clock, rng: Rng, tasks: Tasks) -> Self {
        Self(Arc::new(Inner { store, options, clock, rng, tasks }))
    }

    /// Puts the middleware around the POST routes of `router`; other methods pass. It has to be inside of the auth layer, which
    /// sets the [`IdempotencyScope`].
    pub fn layer<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router.route_layer(from_fn_with_state(self.clone(), run))
    }
}

async fn run(State(this): State<Idempotency>, req: Request, next: Next) -> Response {
    if req.method() != Method::POST {
        return next.run(req).await;
    }
    match this.serve(req, next).await {
        Ok(response) => response,
        Err(reject) => reject.into_response(),
    }
}

impl Idempotency {
    async fn serve(self, req: Request, next: Next) -> Result<Response, Reject> {
        let Some(key) = read_key(req.headers())? else {
            if self.0.options.required {
                return Err(Reject::new(
                    &error::IDEMPOTENCY_KEY_MISSING,
                    "Send an Idempotency-Key: a fresh UUID for each thing to create, the same one when you try again.",
                )
                .parameter("Idempotency-Key", "missing"));
            }
            return Ok(next.run(req).await);
        };
        let Some(IdempotencyScope(scope)) = req.extensions().get::<IdempotencyScope>().cloned() else {
            return Err(Reject::internal("the idempotency layer is not inside of an auth layer: no IdempotencyScope"));
        };
        let (parts, body) = req.into_parts();
        let limited = Request::from_parts(parts.clone(), body);
        let body = extract::read_body(limited, &()).await?;
        let claim = self.claim(scope, key, &parts, &body);
        match self.0.store.begin(&claim).await? {
            Begun::First => self.first(claim, parts, body, next).await,
            Begun::Replay(answer) => Ok(replay(answer)),
            Begun::Running { until } => {
                // The lease is an upper bound; most requests end far sooner.
                let after = until.since(self.0.clock.now()).min(Duration::from_secs(1));
                let problem = kernel::Problem::new(
                    &error::IDEMPOTENCY_KEY_RUNNING,
                    "Send the same request again after Retry-After: it will be answered as the first was.",
                );
                Err(problem.retry_after(after).into())
            }
            Begun::OtherRequest => Err(Reject::new(
                &error::IDEMPOTENCY_KEY_REUSED,
                "This key stands for a request with another method, path, query or body. Use a fresh key for a new request.",
            )
            .parameter("Idempotency-Key", "used with another request")),
        }
    }

    fn claim(&self, scope: String, key: String, parts: &Parts, body: &[u8]) -> Claim {
        let now = self.0.clock.now();
        // Nested routers see a shorter path.
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        let fingerprint = fingerprint(&parts.method, uri, body);
        Claim {
            token: token(&scope, &key, &fingerprint),
            scope,
            key,
            fingerprint,
            holder: self.0.rng.bytes(),
            now,
            lease_until: now.plus(self.0.options.lease),
            expires_at: now.plus(self.0.options.ttl),
        }
    }

    /// Runs the handler on a task of its own, so that a client that goes away does not stop it half-way.
    async fn first(self, claim: Claim, mut parts: Parts, body: Bytes, next: Next) -> Result<Response, Reject> {
        parts.extensions.insert(claim.token);
        let req = Request::from_parts(parts, Body::from(body));
        let (tx, rx) = oneshot::channel();
        let this = self.clone();
        let work = async move {
            let outcome = AssertUnwindSafe(next.run(req)).catch_unwind().await;
            let outcome = match outcome {
                Ok(response) => Ok(this.settle(&claim, response).await),
                Err(panic) => {
                    this.release(&claim).await;
                    Err(panic)
                }
            };
            // Nobody listens any more when the client has gone; the answer is kept for its next try.
            drop(tx.send(outcome));
        }
        .instrument(tracing::Span::current());
        match RequestContext::current() {
            Some(context) => self.0.tasks.spawn("idempotent request", context.scope(work)),
            None => self.0.tasks.spawn("idempotent request", work),
        }
        match rx.await {
            Ok(Ok(response)) => Ok(response),
            // The panic goes on where it would have gone without us: to the layer that counts and answers it.
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => {
                Err(Reject::new(&kernel::error::UNAVAILABLE, "The server is stopping; send the same request again."))
            }
        }
    }

    /// Keeps the answer or releases the key, and passes the answer on.
    async fn settle(&self, claim: &Claim, response: Response) -> Response {
        if !is_kept(response.status()) {
            self.release(claim).await;
            return response;
        }
        let (parts, body) = response.into_parts();
        match read_up_to(body, self.0.options.answer_limit_bytes).await {
            Ok(bytes) => {
                let answer = StoredAnswer::new(parts.status, &parts.headers, bytes.clone());
                if let Err(problem) = self.0.store.finish(claim, answer).await {
                    // The work is done and the client may know; the key stays held until its lease ends.
                    let internal = problem.internal.as_ref().map_or("", kernel::Internal::for_operators);
                    tracing::warn!(problem = %problem, internal, "the answer of a keyed request was not kept");
                }
                Response::from_parts(parts, Body::from(bytes))
            }
            Err(rest) => {
                self.release(claim).await;
                Response::from_parts(parts, rest)
            }
        }
    }

    async fn release(&self, claim: &Claim) {
        if let Err(problem) = self.0.store.release(claim).await {
            tracing::warn!(problem = %problem, "a key was not released; it is held until its lease ends");
        }
    }
}

/// Whether an answer with this status is given again; see the top of this module.
pub fn is_kept(status: StatusCode) -> bool {
    !status.is_server_error() && !matches!(status.as_u16(), 400 | 401 | 403 | 408 | 413 | 415 | 429)
}

/// The key of a request: bare, or quoted as a structured field string (RFC 8941); 1 to 255 visible ASCII characters. For a route
/// that keeps the promise itself because its bodies are too large to be held.
pub fn read_key(headers: &HeaderMap) -> Result<Option<String>, Reject> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = |detail: &str| {
        Err(Reject::new(
            &error::IDEMPOTENCY_KEY_INVALID,
            format!("Send one key of 1 to {MAX_KEY_CHARS} visible ASCII characters, such as a UUID."),
        )
        .parameter("Idempotency-Key", detail))
    };
    if values.next().is_some() {
        return invalid("sent more than once");
    }
    let Ok(text) = value.to_str() else { return invalid("not ASCII") };
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        None => text,
        Some(quoted) => match quoted.strip_suffix('"') {
            Some(inner) => inner,
            None => return invalid("a quote is not closed"),
        },
    };
    if key.is_empty() || key.len() > MAX_KEY_CHARS {
        return invalid("too short or too long");
    }
    if !key.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b'"' && b != b'\\' && b != b',') {
        return invalid("holds a space, quote, backslash or comma");
    }
    Ok(Some(key.to_owned()))
}

/// SHA-256 over parts, each preceded by its length, so that no two lists of parts are the same text.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn fingerprint(method: &Method, uri: &Uri, body: &[u8]) -> [u8; 32] {
    sha256(&[method.as_str().as_bytes(), uri.path().as_bytes(), uri.query().unwrap_or_default().as_bytes(), body])
}

/// The request is part of it: a key that was forgotten and is used for something new does not meet what it made before.
fn token(scope: &str, key: &str, fingerprint: &[u8; 32]) -> IdempotencyToken {
    let hash = sha256(&[b"idempotency token", scope.as_bytes(), key.as_bytes(), fingerprint]);
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    IdempotencyToken(out)
}

/// Reads a body of at most `limit_bytes`; a larger or broken one is given back as a stream that starts from its beginning.
async fn read_up_to(mut body: Body, limit_bytes: usize) -> Result<Bytes, Body> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let (failed, data) = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => (None, data),
            Ok(Err(_trailers)) => continue,
            Err(e) => (Some(e), Bytes::new()),
        };
        read.extend_from_slice(&data);
        if failed.is_some() || read.len() > limit_bytes {
            let start = stream::iter([Ok(read.freeze())].into_iter().chain(failed.map(Err)));
            return Err(Body::from_stream(start.chain(body.into_data_stream())));
        }
    }
    Ok(read.freeze())
}

fn replay(answer: StoredAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The headers that belong to an answer rather than to its delivery.
const KEPT_HEADERS: &[HeaderName] = &[
    header::CONTENT_TYPE,
    header::CONTENT_LANGUAGE,
    header::LOCATION,
    header::ETAG,
    header::LAST_MODIFIED,
    header::CACHE_CONTROL,
    header::LINK,
];
