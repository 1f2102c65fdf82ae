//! W3C trace context in and out (<https://www.w3.org/TR/trace-context/>, version 00).
//!
//! Incoming: [`join`] (a server that already gave the request its ids) or [`adopt`] (just the header), right after the span was
//! made, before it is entered. Outgoing: put [`traceparent`] of the current span into the request. All do nothing while no OTLP
//! endpoint is set.

use std::{fmt, str::FromStr};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::export::Ids;

/// A longer `tracestate` is left out, as the specification allows past 512 characters.
const MAX_TRACESTATE_CHARS: usize = 512;

/// The fields of `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The caller's span; never 0.
    pub span_id: u64,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut next = |chars: usize| parts.next().and_then(|p| lower_hex(p, chars)).ok_or(InvalidTraceParent);
        let (version, trace_id, span_id, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // Version ff is forbidden; 00 ends here; later ones may go on.
        let is_over = parts.next().is_none();
        if version == 0xff || (version == 0 && !is_over) || trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceParent);
        }
        let span_id = u64::try_from(span_id).map_err(|_| InvalidTraceParent)?;
        Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

fn lower_hex(text: &str, chars: usize) -> Option<u128> {
    let fits = text.len() == chars && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// A `traceparent` that must be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct InvalidTraceParent;

/// The ids that a server gave a request, and those that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIds<'a> {
    /// The trace; never all zero.
    pub trace_id: [u8; 16],
    /// The request's own span; never all zero.
    pub span_id: [u8; 8],
    /// The caller's span, when the trace began elsewhere.
    pub parent_id: Option<[u8; 8]>,
    /// Whether the caller records the trace; a trace that begins here goes by `sample_ratio`.
    pub is_sampled: bool,
    /// `tracestate`; empty when there is none.
    pub state: &'a str,
}

/// Makes `span` the very span that `ids` name, so that what clients, log lines and outgoing calls were told is what the
/// collector shows. `false`: the span was entered before, or nothing records spans.
pub fn join(span: &Span, ids: &RequestIds<'_>) -> bool {
    let trace_id = TraceId::from(u128::from_be_bytes(ids.trace_id));
    let parent = match ids.parent_id {
        None => Context::new(),
        Some(parent_id) => remote(trace_id, u64::from_be_bytes(parent_id), ids.is_sampled, Some(ids.state)),
    };
    let joined = span.set_parent(parent).is_ok();
    if joined {
        // The span is started here and now, and takes these ids.
        Ids::with_next(trace_id, SpanId::from(u64::from_be_bytes(ids.span_id)), || drop(span.context()));
    }
    joined
}

fn remote(trace_id: TraceId, span_id: u64, is_sampled: bool, state: Option<&str>) -> Context {
    let state = state
        .filter(|text| text.len() <= MAX_TRACESTATE_CHARS)
        .and_then(|text| TraceState::from_str(text).ok())
        .unwrap_or_default();
    let flags = if is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    Context::new().with_remote_span_context(SpanContext::new(trace_id, SpanId::from(span_id), flags, true, state))
}

/// Makes `span` a child of the caller's span. `false`: the fields are not valid, the span was entered before, or nothing records
/// spans; it then begins a trace of its own.
pub fn adopt(span: &Span, traceparent: &str, tracestate: Option<&str>) -> bool {
    let Ok(parent) = traceparent.trim().parse::<TraceParent>() else { return false };
    span.set_parent(remote(TraceId::from(parent.trace_id), parent.span_id, parent.sampled, tracestate)).is_ok()
}

/// The `traceparent` of `span`, for a request that it makes; `None` when it is not part of a trace.
pub fn traceparent(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| TraceParent {
        trace_id: u128::from_be_bytes(ids.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(ids.span_id().to_bytes()),
        sampled: ids.is_sampled(),
    })
}

/// The `tracestate` that travels with [`traceparent`]; `None` when there is none.
pub fn tracestate(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let state = span.span_context().trace_state().header();
    (!state.is_empty()).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_of_the_specification_are_read_and_others_refused() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed: TraceParent = good.parse().unwrap();
        assert_eq!(parsed.to_string(), good);
        assert!(parsed.sampled);
        assert!(!good.replace("-01", "-00").parse::<TraceParent>().unwrap().sampled);
        assert!(good.replace("00-4", "01-4").parse::<TraceParent>().is_ok(), "a later version is read as 00");
        let longer = format!("{}-more", good.replace("00-4", "cc-4"));
        assert!(longer.parse::<TraceParent>().is_ok(), "and may carry more");
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad}");
        }
    }
}
