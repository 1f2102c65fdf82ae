//! The middleware that every request passes: [`stack`].
//!
//! From the outside in, each with its reason:
//!
//! | layer | why |
//! |---|---|
//! | context | request id (the client's `X-Request-Id` if valid, else UUIDv7), W3C trace, deadline: everything below can name them |
//! | observe | one access log event and one [`OnRequest`] call for every request, also for refused, abandoned and panicked ones |
//! | security headers | a browser that is handed an answer does not sniff, frame or run it |
//! | CORS | off unless origins are configured; outside of the refusals, so that pages can read those too |
//! | in-flight limit | past it: 503 with `Retry-After` at once, no queue; health and metrics always pass |
//! | [`Admission`] | what else decides who is let in: the adaptive limit, which sheds the less important first |
//! | catch panic | a bug in one handler is one 500 and a log line, not a lost connection |
//! | deadline | 504 when the answer has not started in time; `Mainstay-Timeout: 2s` shortens it |
//! | compression | gzip or br; not for small bodies, streams of events, or answers with a strong ETag (which names the bytes) |
//! | body limit | 413; a route may set its own [`DefaultBodyLimit`] |
//!
//! gRPC passes the same layers: `grpc-timeout` shortens its deadline, and every refusal becomes a gRPC status ([`grpc_code`]).
//!
//! What it does not do: authenticate (the auth layer of `blocks/access`), limit rates, terminate TLS. The in-flight limit and
//! the deadline end where the answer starts: streams live on. A panic while a body streams ends the connection.

mod admission;
mod grpc;
mod observe;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use kernel::{Clock, Problem, Rng, config::ConfigError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, Predicate,
        predicate::{DefaultPredicate, SizeAbove},
    },
    cors::{AllowOrigin, Any, CorsLayer},
};
use tracing::Instrument as _;

pub use admission::{Admission, Admitted, Arriving};
pub use grpc::{code as grpc_code, refusal_headers as grpc_refusal};
pub use observe::{CLIENT_CLOSED_REQUEST, Finished, OnRequest};

use crate::{Deadline, HttpConfig, Reject, RequestContext, error, problem, trace::TraceContext};

/// The response header with the id of the request; also read from requests.
pub const REQUEST_ID: &str = "request-id";
/// The request header with the client's id for the request.
pub const X_REQUEST_ID: &str = "x-request-id";
/// The request header that shortens the deadline: `250ms`, `2s`.
pub const TIMEOUT: &str = "mainstay-timeout";
/// The policy of answers that set none: an API answer is no page.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Called with a request's span and trace, so that telemetry can make the caller's span its parent.
pub type OnSpan = Arc<dyn Fn(&tracing::Span, &TraceContext) + Send + Sync>;

/// For requests that wait by design, such as long polls: how long they may. They do so beside the in-flight limit and [`Admission`],
/// which would take waiting for work; whoever answers them bounds how many there are. `None` for all others.
pub type Patience = Arc<dyn Fn(&http::Uri) -> Option<Duration> + Send + Sync>;

/// What [`stack`] needs.
#[derive(Clone)]
pub struct StackOptions {
    /// Limits.
    pub config: HttpConfig,
    /// Time.
    pub clock: Clock,
    /// Randomness, for ids.
    pub rng: Rng,
    /// Told of every finished request.
    pub on_request: Option<Arc<dyn OnRequest>>,
    /// Told of every span that is opened for a request.
    pub on_span: Option<OnSpan>,
    /// Paths that pass the in-flight limit and are logged at debug level: health and metrics.
    pub exempt_paths: Vec<String>,
    /// Further paths that are logged at debug level: what is asked before every request of another server would bury the rest.
    pub quiet_paths: Vec<String>,
    /// Counts requests under way.
    pub in_flight: InFlight,
    /// Asked for every request within the in-flight limit.
    pub admission: Option<Arc<dyn Admission>>,
    /// Tells requests that wait by design.
    pub patience: Option<Patience>,
}

impl StackOptions {
    /// As configured, with the usual exempt paths and nobody told.
    pub fn new(config: HttpConfig, clock: Clock, rng: Rng) -> Result<Self, Vec<ConfigError>> {
        let errors = config.check();
        if !errors.is_empty() {
            return Err(errors);
        }
        let in_flight = InFlight::new(config.in_flight_limit);
        let exempt_paths = ["/health/live", "/health/ready", "/metrics"].map(str::to_owned).to_vec();
        Ok(Self {
            config,
            clock,
            rng,
            on_request: None,
            on_span: None,
            exempt_paths,
            quiet_paths: Vec::new(),
            in_flight,
            admission: None,
            patience: None,
        })
    }
}

/// Counts requests under way and refuses more than its limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InFlight {
    free: Arc<Semaphore>,
    limit: usize,
}

impl InFlight {
    /// At most `limit` at once.
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Under way now.
    pub fn count(&self) -> usize {
        self.limit - self.free.available_permits()
    }

    /// The most there can be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn enter(&self) -> Result<SemaphorePermit<'_>, Reject> {
        self.free.try_acquire().map_err(|_| overloaded(Duration::from_secs(1)))
    }
}

fn overloaded(after: Duration) -> Reject {
    Problem::new(&error::OVERLOADED, "Try again after Retry-After, with growing waits.").retry_after(after).into()
}

/// Puts the whole middleware around `router`, and 404 and 405 as problems under it.
pub fn stack(router: Router, options: StackOptions) -> Router {
    let body_limit = DefaultBodyLimit::max(options.config.body_limit.as_usize());
    let compression = CompressionLayer::new()
        .quality(CompressionLevel::Precise(4)) // most of the gain for little of the time
        .compress_when(
            DefaultPredicate::new().and(SizeAbove::new(options.config.compression_minimum.0)).and(without_strong_etag),
        );
    let cors = cors(&options.config.cors_origins);
    let options = Arc::new(options);

    // Innermost first.
    let mut router = router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(body_limit)
        .layer(compression)
        .layer(from_fn_with_state(options.clone(), guard));
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    router.layer(from_fn_with_state(options, surround))
}

/// The outer half: context, observation, headers.
async fn surround(State(options): State<Arc<StackOptions>>, req: Request, next: Next) -> Response {
    let headers = req.headers();
    let is_grpc = grpc::is_grpc(headers);
    let trace = TraceContext::from_headers(headers, &options.rng);
    let patience = options.patience.as_ref().and_then(|patience| patience(req.uri()));
    let timeout = timeout(headers, patience.unwrap_or(options.config.request_timeout));
    let deadline = Deadline::after(&options.clock, timeout.as_ref().map_or(Duration::MAX, |t| *t));
    let context = RequestContext::new(request_id(headers, &options), trace, deadline);
    let route = req.extensions().get::<MatchedPath>().cloned();
    let observed = observe::Observed::new(&options, &context, &req, route);
    let span = observed.span();
    if let Some(on_span) = &options.on_span {
        on_span(&span, context.trace());
    }
    let work = async {
        match timeout {
            Ok(_) => {
                let mut req = req;
                if let Some(context) = RequestContext::current() {
                    req.extensions_mut().insert(context);
                }
                next.run(req).await
            }
            Err(reject) => reject.into_response(),
        }
    };
    let mut response = context.clone().scope(work.instrument(span.clone())).await;
    let status = if is_grpc { grpc::seen_status(&response) } else { response.status() };
    if is_grpc && let Some(reject) = response.extensions_mut().remove::<Reject>() {
        response = grpc::refusal(&reject, response);
    }
    span.record("status", status.as_u16());
    if let Some(project) = context.project() {
        span.record("project", project.as_str());
    }
    finish_headers(response.headers_mut(), &context);
    observed.finish(status, response)
}

/// The inner half: what protects the server from load and from itself.
async fn guard(State(options): State<Arc<StackOptions>>, req: Request, next: Next) -> Response {
    let is_patient = options.patience.as_ref().is_some_and(|patience| patience(req.uri()).is_some());
    let exempt = is_patient || options.exempt_paths.iter().any(|p| p == req.uri().path());
    let _permit = match (!exempt).then(|| options.in_flight.enter()).transpose() {
        Ok(permit) => permit,
        Err(reject) => return reject.into_response(),
    };
    let admission = options.admission.as_ref().filter(|_| !exempt);
    let admitted = match admission.map(|admission| admission::ask(&**admission, &req)).transpose() {
        Ok(admitted) => admitted,
        Err(after) => return overloaded(after).into_response(),
    };
    let response = work(&options, req, next).await;
    if let Some(admitted) = admitted {
        admitted.answered(response.status());
    }
    response
}

/// Runs the handler within its deadline; a panic ends here.
async fn work(options: &StackOptions, req: Request, next: Next) -> Response {
    let left = RequestContext::current().map_or(options.config.request_timeout, |c| c.deadline().remaining());
    let work = AssertUnwindSafe(next.run(req)).catch_unwind();
    match options.clock.timeout(left, work).await {
        Some(Ok(response)) => response,
        Some(Err(panic)) => {
            let mut response =
                Reject::internal(format_args!("handler panicked: {}", kernel::tasks::panic_message(&*panic)))
                    .into_response();
            response.extensions_mut().insert(observe::Panicked);
            response
        }
        None => Reject::new(
            &error::REQUEST_TIMEOUT,
            "The work may have been done or not. A POST with an Idempotency-Key is safe to send again.",
        )
        .into_response(),
    }
}

fn request_id(headers: &HeaderMap, options: &StackOptions) -> String {
    [X_REQUEST_ID, REQUEST_ID]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .filter(|id| is_request_id(id))
        .map_or_else(|| kernel::id::uuid_v7(&options.clock, &options.rng).to_string(), str::to_owned)
}

/// 1 to 128 letters, digits, `-`, `_` and `.`: safe in logs, headers and URLs.
fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn timeout(headers: &HeaderMap, most: Duration) -> Result<Duration, Reject> {
    type Parse = fn(&str) -> Option<Duration>;
    let forms: [(_, Parse, _, _); 2] = [
        (TIMEOUT, kernel::limits::parse_duration, "Mainstay-Timeout", "expected a duration such as 250ms, 5s or 1m"),
        (
            grpc::TIMEOUT,
            kernel::limits::parse_grpc_timeout,
            "grpc-timeout",
            "expected up to eight digits and one of H, M, S, m, u, n",
        ),
    ];
    forms.into_iter().try_fold(most, |least, (name, parse, shown, expected)| {
        let Some(value) = headers.get(name) else { return Ok(least) };
        value.to_str().ok().and_then(parse).map(|asked| asked.min(least)).ok_or_else(|| {
            Reject::new(&error::INVALID_HEADER, "A header has the wrong form.").parameter(shown, expected)
        })
    })
}

fn finish_headers(headers: &mut HeaderMap, context: &RequestContext) {
    if let Ok(id) = HeaderValue::from_str(context.request_id()) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// A strong ETag names bytes; compressing them would make it lie, and weakening it would break `If-Match`.
fn without_strong_etag(_: http::StatusCode, _: http::Version, headers: &HeaderMap, _: &http::Extensions) -> bool {
    headers.get(header::ETAG).is_none_or(|tag| tag.as_bytes().starts_with(b"W/"))
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = if origins.iter().any(|o| o == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|o| HeaderValue::from_str(o).ok()))
    };
    let name = HeaderName::from_static;
    // No credentials: the API is called with a key in Authorization, never with cookies.
    Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                name("idempotency-key"),
                name("mainstay-project"),
                name(TIMEOUT),
                name(X_REQUEST_ID),
                name("traceparent"),
                name("tracestate"),
            ])
            .expose_headers([
                header::ETAG,
                header::LOCATION,
                header::RETRY_AFTER,
                name("idempotent-replayed"),
                name(REQUEST_ID),
            ])
            .max_age(Duration::from_mins(10)),
    )
}
