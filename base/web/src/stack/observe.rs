//! Sees every request end: answered, refused, panicked, or abandoned by its client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    response::Response,
};
use bytes::Bytes;
use http::Method;
use http_body::{Body as _, Frame, SizeHint};
use kernel::ProjectId;

use super::StackOptions;
use crate::{RequestContext, problem::ProblemCode};

/// The status that stands for "the client went away before the answer", as nginx counts it. It is never sent.
pub const CLIENT_CLOSED_REQUEST: u16 = 499;
/// The route of requests that no route took: one name, so that scanners cannot make metrics grow.
const UNMATCHED: &str = "unmatched";

/// One finished request, for the golden signals.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// The route's pattern, such as `/v1/links/{code}`; `unmatched` when none took it.
    pub route: &'a str,
    /// The method; `OTHER` for one that HTTP does not define.
    pub method: &'a str,
    /// The status; 499 when the client went away.
    pub status: u16,
    /// Until the answer started.
    pub duration: Duration,
    /// Whose it was, once the auth layer knew.
    pub project: Option<&'a ProjectId>,
    /// The code of the problem that was answered.
    pub code: Option<&'static str>,
    /// Whether the handler panicked.
    pub panicked: bool,
}

/// Told of every finished request, when its answer starts. Must not block. Implemented by closures.
pub trait OnRequest: Send + Sync + 'static {
    /// A request has been answered or abandoned.
    fn finished(&self, request: &Finished<'_>);
}

impl<F: Fn(&Finished<'_>) + Send + Sync + 'static> OnRequest for F {
    fn finished(&self, request: &Finished<'_>) {
        self(request);
    }
}

/// Marks the response that stands for a panic.
#[derive(Clone, Copy)]
pub(super) struct Panicked;

/// Watches one request; dropped unfinished, it reports an abandoned one.
pub(super) struct Observed {
    options: Arc<StackOptions>,
    context: RequestContext,
    route: Option<MatchedPath>,
    method: &'static str,
    path: String,
    started: Duration,
    done: bool,
}

impl Observed {
    pub(super) fn new(
        options: &Arc<StackOptions>,
        context: &RequestContext,
        req: &Request,
        route: Option<MatchedPath>,
    ) -> Self {
        Self {
            options: options.clone(),
            context: context.clone(),
            route,
            method: method_name(req.method()),
            // Without the query, which may hold what does not belong into logs.
            path: req.uri().path().to_owned(),
            started: options.clock.monotonic(),
            done: false,
        }
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
    }

    pub(super) fn span(&self) -> tracing::Span {
        let trace = self.context.trace();
        tracing::info_span!(
            "request",
            otel.name = format!("{} {}", self.method, self.route()),
            otel.kind = "server",
            method = self.method,
            route = self.route(),
            request_id = self.context.request_id(),
            trace_id = trace.trace_id_hex(),
            span_id = trace.span_id_hex(),
            project = tracing::field::Empty,
            status = tracing::field::Empty,
        )
    }

    /// Reports the answer's start with the status that it stands for, and lets its body report its end.
    pub(super) fn finish(mut self, status: http::StatusCode, response: Response) -> Response {
        self.done = true;
        let status = status.as_u16();
        let code = response.extensions().get::<ProblemCode>().map(|c| c.0);
        let panicked = response.extensions().get::<Panicked>().is_some();
        let duration = self.report(status, code, panicked);
        let (parts, inner) = response.into_parts();
        let log = AccessLog { observed: self, status, code, duration, bytes: 0, is_whole: false };
        Response::from_parts(parts, Body::new(CountedBody { inner, log }))
    }

    fn report(&self, status: u16, code: Option<&'static str>, panicked: bool) -> Duration {
        let duration = self.elapsed();
        if let Some(hook) = &self.options.on_request {
            hook.finished(&Finished {
                route: self.route(),
                method: self.method,
                status,
                duration,
                project: self.context.project(),
                code,
                panicked,
            });
        }
        duration
    }

    fn elapsed(&self) -> Duration {
        self.options.clock.monotonic().saturating_sub(self.started)
    }

    fn log(&self, status: u16, code: Option<&'static str>, duration: Duration, bytes: u64, is_whole: bool) {
        macro_rules! access {
            ($level:expr) => {
                tracing::event!(
                    target: "access",
                    $level,
                    method = self.method,
                    route = self.route(),
                    path = self.path,
                    status,
                    code = code.unwrap_or_default(),
                    bytes,
                    is_whole,
                    duration_ms = duration.as_secs_f64() * 1_000.0,
                    total_ms = self.elapsed().as_secs_f64() * 1_000.0,
                    request_id = self.context.request_id(),
                    trace_id = self.context.trace().trace_id_hex(),
                    project = self.context.project().map_or("", ProjectId::as_str),
                )
            };
        }
        // Probes every few seconds would bury the rest.
        if self.options.exempt_paths.contains(&self.path) || self.options.quiet_paths.contains(&self.path) {
            access!(tracing::Level::DEBUG);
        } else {
            access!(tracing::Level::INFO);
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.done {
            let duration = self.report(CLIENT_CLOSED_REQUEST, None, false);
            self.log(CLIENT_CLOSED_REQUEST, None, duration, 0, false);
        }
    }
}

fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => "OTHER",
    }
}

/// Logged when it is dropped: with the body, whole or not.
struct AccessLog {
    observed: Observed,
    status: u16,
    code: Option<&'static str>,
    duration: Duration,
    bytes: u64,
    is_whole: bool,
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.observed.log(self.status, self.code, self.duration, self.bytes, self.is_whole);
    }
}

/// Counts what passes.
struct CountedBody {
    inner: Body,
    log: AccessLog,
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.log.is_whole |= self.inner.is_end_stream();
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.log.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(None) => self.log.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
