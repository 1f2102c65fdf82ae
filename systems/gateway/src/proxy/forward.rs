//! To back ends: which upstream, which of its endpoints, how often, and what when nobody can be asked.
//!
//! - FORWARD-1: a request is sent again only when the back end cannot have acted on it, or when doing it twice is the same as once (RFC
//!   9110, 9.2.2, or an `Idempotency-Key`); never when its body can no longer be sent whole.
//! - FORWARD-2: another try goes to another endpoint while there is one that was not tried.
//! - FORWARD-3: tries beyond the first are bounded by the route's budget: an outage is not met with a multiple of its load.
//! - FORWARD-4: what a client did wrong, or that it went away, says nothing about a back end.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use http_body::Body as HttpBody;
use kernel::limits::{format_duration, format_grpc_timeout, parse_duration, parse_grpc_timeout};
use resilience::{Attempts, Decision, Retry, Safe, Verdict};
use smallvec::SmallVec;
use upstream::{EndpointId, KeyParts, NoEndpoint, Outcome, Pick, Upstream};
use wire::{ErrorKind, SendOptions};

use super::{
    asked::cookie, body::BoxError, exchange::Exchange, peer::Peer, refuse::Refusal, request_body::Source, worker::Inner,
};
use crate::model::{
    Route,
    compiled::{Forward, Sticky},
    route::RetryOn,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const MAINSTAY_TIMEOUT: HeaderName = HeaderName::from_static("mainstay-timeout");

/// Where a request goes.
pub(super) struct Chosen<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) upstream: &'a Arc<Upstream>,
    /// The endpoint that the client had before.
    pub(super) endpoint: Option<EndpointId>,
}

/// A request that is ready to be sent, as often as it takes.
pub(super) struct Outgoing<'a, B> {
    pub(super) route: &'a Route,
    pub(super) parts: Parts,
    pub(super) source: Source<B>,
    pub(super) peer: &'a Peer,
    pub(super) client: IpAddr,
    /// The protocol to switch to.
    pub(super) upgrade: Option<HeaderValue>,
    /// When nobody waits any more, monotonic.
    pub(super) deadline: Option<Duration>,
}

/// Chooses the upstream: the canary for those that are meant, else the one that a cookie holds, else by weight.
pub(super) fn choose<'a>(worker: &Inner, route: &Route, forward: &'a Forward, parts: &Parts) -> Chosen<'a> {
    if let Some(canary) = &forward.canary {
        let by_header = canary.header.as_ref().is_some_and(|(name, value)| match value {
            None => parts.headers.contains_key(name),
            Some(value) => parts.headers.get_all(name).iter().any(|v| v == value),
        });
        let by_cookie = || {
            canary.cookie.as_ref().is_some_and(|(name, value)| {
                cookie(&parts.headers, name).is_some_and(|v| value.as_ref().is_none_or(|value| v == &**value))
            })
        };
        if by_header || by_cookie() {
            return Chosen { name: &canary.name, upstream: &canary.upstream, endpoint: None };
        }
    }
    if let Some(sticky) = &forward.sticky
        && let Some(text) = cookie(&parts.headers, &sticky.cookie)
    {
        let now = worker.clock.now();
        for split in forward.to.iter().filter(|split| split.weight > 0) {
            if let Some(endpoint) = worker.shared.seal.read(&scope(route, &split.name), text, now) {
                return Chosen { name: &split.name, upstream: &split.upstream, endpoint: Some(endpoint) };
            }
        }
    }
    let split = match &*forward.to {
        [one] => one,
        _ => forward.split(worker.below(forward.total_weight)),
    };
    Chosen { name: &split.name, upstream: &split.upstream, endpoint: None }
}

/// What a sticky cookie is signed for: with it the cookie also holds the split.
fn scope(route: &Route, upstream: &str) -> String {
    format!("{}\n{upstream}", route.name)
}

/// The cookie for a client whose endpoint is not the one that it came with.
pub(super) fn stick(
    worker: &Inner,
    route: &Route,
    sticky: &Sticky,
    chosen: &Chosen<'_>,
    endpoint: EndpointId,
    is_tls: bool,
) -> Option<HeaderValue> {
    if chosen.endpoint == Some(endpoint) {
        return None;
    }
    worker.shared.seal.write(&scope(route, chosen.name), sticky, endpoint, worker.clock.now(), is_tls)
}

/// When nobody waits any more: by what the route says, and by what the client says it waits.
pub(super) fn deadline(route: &Route, parts: &mut Parts, started: Duration, is_grpc: bool) -> Option<Duration> {
    let header = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let asked = if is_grpc {
        header(&GRPC_TIMEOUT).and_then(parse_grpc_timeout)
    } else {
        header(&MAINSTAY_TIMEOUT).and_then(parse_duration)
    };
    // What the route says by default bounds how long a back end thinks, not how long a large body takes to be sent.
    let own = route.spec.timeouts.total.map(|_| route.timeouts.total);
    let all = match (asked, own) {
        (Some(asked), Some(own)) => Some(asked.min(own)),
        (asked, own) => asked.or(own),
    };
    all.map(|all| started.saturating_add(all))
}

/// Tells the back end how long somebody waits.
fn tell_deadline(parts: &mut Parts, left: Duration, is_grpc: bool) {
    let (name, text) =
        if is_grpc { (GRPC_TIMEOUT, format_grpc_timeout(left)) } else { (MAINSTAY_TIMEOUT, format_duration(left)) };
    if let Ok(value) = HeaderValue::try_from(text) {
        parts.headers.insert(name, value);
    }
}

/// An answer, and who gave it.
pub(super) struct Answered {
    pub(super) response: Response<wire::Body>,
    pub(super) endpoint: EndpointId,
}

/// Sends a request until there is an answer to give on, or a reason to stop.
pub(super) async fn send<B>(
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    out: &mut Outgoing<'_, B>,
    is_grpc: bool,
) -> Result<Answered, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let worker = exchange.worker().clone();
    let route = out.route;
    let hash = chosen.upstream.hash_key(&KeyParts {
        headers: Some(&out.parts.headers),
        path: out.parts.uri.path(),
        query: out.parts.uri.query(),
        client: out.client,
    });
    let rules = route.retry.as_ref();
    let safe = Safe::of_request(out.parts.method.as_str(), out.parts.headers.contains_key(IDEMPOTENCY_KEY));
    let retry = rules.map(|rules| Retry {
        backoff: rules.backoff,
        max_tries: rules.attempts.saturating_add(1),
        per_try: route.timeouts.one_try,
        total: route.timeouts.total,
        budget: rules.budget.clone(),
    });
    let mut attempts = retry.as_ref().map(|retry| Attempts::new(retry, safe));
    let mut tried: SmallVec<[EndpointId; 4]> = SmallVec::new();
    loop {
        let pick = Pick { hash, exclude: &tried, sticky: chosen.endpoint };
        let lease = chosen.upstream.pick(&pick).map_err(|why| unavailable(&why))?;
        let (endpoint, target) = (lease.endpoint(), lease.target().clone());
        let began = worker.clock.monotonic();
        let left = out.deadline.map(|deadline| deadline.saturating_sub(began));
        if let Some(left) = left {
            if left.is_zero() {
                return Err(Refusal::timeout("deadline"));
            }
            tell_deadline(&mut out.parts, left, is_grpc);
        }
        exchange.tries += 1;
        exchange.upstream = Some((chosen.name.clone(), target.address));
        if let Some(attempts) = &mut attempts {
            attempts.begin();
        }
        let options = SendOptions {
            first_byte: route.timeouts.one_try,
            idle: route.timeouts.idle,
            client: Some((out.peer.address, out.peer.local)),
            upgrade: out.upgrade.as_ref(),
            ..SendOptions::default()
        };
        let sending = worker.pool.send(&target, &out.parts, out.source.again(), &options);
        let sent = match left {
            None => Some(sending.await),
            Some(left) => worker.clock.timeout(left, sending).await,
        };
        let took = worker.since(began);
        let (verdict, refusal) = match sent {
            None => {
                lease.report(Outcome { is_success: false, took });
                return Err(Refusal::timeout("deadline"));
            }
            Some(Ok(response)) => {
                let status = response.status();
                let verdict = judge_status(route, status).filter(|_| out.source.can_repeat());
                let left = left_of(&worker, out.deadline);
                let decision = match (verdict, &attempts) {
                    (Some(verdict), Some(attempts)) => attempts.after_failure(verdict, left, &worker.rng),
                    _ => Decision::Stop(resilience::GaveUp::Final),
                };
                let is_success = !is_failure(status);
                let Decision::Wait(wait) = decision else {
                    exchange.hold(lease, is_success, took);
                    return Ok(Answered { response, endpoint });
                };
                lease.report(Outcome { is_success, took });
                drop(response);
                route.stats.retried();
                worker.clock.sleep(wait).await;
                tried.push(endpoint);
                continue;
            }
            Some(Err(e)) if e.is_of_client() => {
                drop(lease);
                return Err(Refusal::of(&e));
            }
            Some(Err(e)) => {
                lease.report(Outcome { is_success: false, took });
                tracing::debug!(error = %e, upstream = %chosen.name, address = %target.address, "a back end failed");
                (judge_error(route, &e), Refusal::of(&e))
            }
        };
        exchange.error = refusal.label;
        if !out.source.can_repeat() {
            return Err(refusal);
        }
        match (verdict, &attempts) {
            (Some(verdict), Some(attempts)) => {
                let left = left_of(&worker, out.deadline);
                match attempts.after_failure(verdict, left, &worker.rng) {
                    Decision::Wait(wait) => worker.clock.sleep(wait).await,
                    Decision::Stop(_) => return Err(refusal),
                }
            }
            // Without rules: once more when nothing was done, at somebody else.
            (Some(Verdict::NothingDone { .. }), None) if exchange.tries < 2 => {}
            _ => return Err(refusal),
        }
        route.stats.retried();
        exchange.error = "";
        tried.push(endpoint);
    }
}

fn left_of(worker: &Inner, deadline: Option<Duration>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_sub(worker.clock.monotonic()))
}

/// Whether a status says that the back end is not well: 501 and 505 are about the request.
fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() && !matches!(status.as_u16(), 501 | 505 | 508)
}

/// What a status means for another try; `None`: the route does not want one.
fn judge_status(route: &Route, status: StatusCode) -> Option<Verdict> {
    let wanted = match status.as_u16() {
        429 => RetryOn::S429,
        500 => RetryOn::S500,
        502 => RetryOn::S502,
        503 => RetryOn::S503,
        504 => RetryOn::S504,
        _ => return None,
    };
    let rules = route.retry.as_ref().filter(|rules| rules.on.contains(&wanted));
    // Where the answer says when to come back, that is meant for the one that gave it: another one is asked.
    rules.map(|_| Verdict::of_status(status.as_u16(), None, None))
}

/// What an error means for another try.
fn judge_error(route: &Route, error: &wire::Error) -> Option<Verdict> {
    let wanted = match error.kind() {
        ErrorKind::Connect(_) | ErrorKind::ConnectTimeout | ErrorKind::Tls(_) => RetryOn::Connect,
        ErrorKind::Reset(_) => RetryOn::Reset,
        ErrorKind::FirstByteTimeout | ErrorKind::IdleTimeout => RetryOn::Timeout,
        _ => return None,
    };
    let verdict =
        if error.is_replayable() { Verdict::NothingDone { after: None } } else { Verdict::Unknown { after: None } };
    match &route.retry {
        Some(rules) => rules.on.contains(&wanted).then_some(verdict),
        None => Some(verdict),
    }
}

/// Nobody can be asked.
fn unavailable(why: &NoEndpoint) -> Refusal {
    match why {
        NoEndpoint::Empty => Refusal::unavailable("no_endpoint"),
        NoEndpoint::Full => Refusal::unavailable("upstream_full"),
        NoEndpoint::BreakerOpen { retry_after } => {
            Refusal::unavailable("breaker_open").after(retry_after.as_secs().saturating_add(1))
        }
    }
}
