//! What is known of one request, from its head to the last byte of its answer; told to counters, log and rings when it ends.
//!
//! - EXCHANGE-1: each request of a route is counted once, however it ends: answered, refused, cut, or left by its client.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Version, header, request::Parts, uri::PathAndQuery};
use kernel::Timestamp;
use upstream::{Lease, Outcome};

use super::{
    asked::Asked,
    log::{Line, text_of, version_name},
    recent::SlowRequest,
    worker::Inner,
};
use crate::model::Route;

/// The status of a request whose client went away before there was an answer, as nginx counts it. It is never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// One request.
pub(super) struct Exchange {
    worker: Rc<Inner>,
    route: Option<Arc<Route>>,
    started: Duration,
    method: Method,
    target: Option<PathAndQuery>,
    pub(super) request_id: HeaderValue,
    /// Of the answer; 0 before there is one.
    pub(super) status: u16,
    /// Of the answer's body, as they went to the client.
    pub(super) bytes: u64,
    pub(super) tries: u32,
    /// What went wrong, in a word.
    pub(super) error: &'static str,
    pub(super) upstream: Option<(Arc<str>, SocketAddr)>,
    /// Until the head of the back end's answer.
    pub(super) head_took: Option<Duration>,
    /// The back end is held until the answer is through.
    lease: Option<(Lease, bool, Duration)>,
    has_place: bool,
    kept: Option<Box<Kept>>,
}

/// What only the log wants to know.
struct Kept {
    at: Timestamp,
    client: String,
    scheme: &'static str,
    host: Box<str>,
    version: Version,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user: Option<Arc<str>>,
}

impl Exchange {
    pub(super) fn new(worker: &Rc<Inner>, started: Duration, parts: &Parts) -> Self {
        Self {
            worker: worker.clone(),
            route: None,
            started,
            method: parts.method.clone(),
            target: parts.uri.path_and_query().cloned(),
            request_id: worker.next_id(),
            status: 0,
            bytes: 0,
            tries: 0,
            error: "",
            upstream: None,
            head_took: None,
            lease: None,
            has_place: false,
            kept: None,
        }
    }

    /// Keeps what the log will tell.
    pub(super) fn keep(&mut self, asked: &Asked) {
        if self.worker.log.is_none() {
            return;
        }
        let headers = &asked.parts.headers;
        self.kept = Some(Box::new(Kept {
            at: self.worker.clock.now(),
            client: text_of(&asked.client),
            scheme: asked.scheme,
            host: asked.authority().into(),
            version: asked.parts.version,
            user_agent: headers.get(header::USER_AGENT).cloned(),
            referer: headers.get(header::REFERER).cloned(),
            user: None,
        }));
    }

    /// Says which route it takes, and takes a place in it; `false` when there is none.
    pub(super) fn enter(&mut self, route: &Arc<Route>) -> bool {
        self.has_place = route.stats.try_enter(route.max_concurrency);
        self.route = Some(route.clone());
        self.has_place
    }

    /// Says who asks, for the log.
    pub(super) fn set_user(&mut self, user: &Arc<str>) {
        if let Some(kept) = &mut self.kept {
            kept.user = Some(user.clone());
        }
    }

    /// When it began, monotonic.
    pub(super) fn started(&self) -> Duration {
        self.started
    }

    pub(super) fn worker(&self) -> &Rc<Inner> {
        &self.worker
    }

    /// Holds a back end until the answer is through, and tells then how it did; `took` is what its head took.
    pub(super) fn hold(&mut self, lease: Lease, is_success: bool, took: Duration) {
        self.lease = Some((lease, is_success, took));
        self.head_took = Some(took);
    }

    /// Tells now how the back end did: what follows has no end that says anything about it.
    pub(super) fn settle(&mut self) {
        if let Some((lease, is_success, took)) = &mut self.lease {
            lease.note(Outcome { is_success: *is_success, took: *took });
        }
    }

    /// The back end failed in the middle of its answer.
    pub(super) fn failed(&mut self, label: &'static str, is_of_back_end: bool) {
        self.error = label;
        if let Some((_, is_success, _)) = self.lease.as_mut().filter(|_| is_of_back_end) {
            *is_success = false;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.worker.clock.monotonic().saturating_sub(self.started);
        if let Some((lease, is_success, took)) = self.lease.take() {
            lease.report(Outcome { is_success, took });
        }
        if let Some(route) = &self.route {
            route.stats.record(self.status, took);
            if self.has_place {
                route.stats.leave();
            }
        }
        let worker = &*self.worker;
        if self.status == 0 && self.error.is_empty() {
            self.error = "client_gone";
        }
        let status = if self.status == 0 { CLIENT_CLOSED_REQUEST } else { self.status };
        let route = self.route.as_ref().map_or("", |route| &*route.name);
        let upstream = self.upstream.as_ref().map_or("", |(name, _)| &**name);
        if worker.shared.slow.wants(took) {
            worker.shared.slow.note(SlowRequest {
                at: worker.clock.now(),
                took,
                upstream_took: self.head_took,
                method: self.method.clone(),
                path: self.target.as_ref().map_or("", |t| t.path()).to_owned(),
                status,
                route: route.to_owned(),
                upstream: upstream.to_owned(),
                endpoint: self.upstream.as_ref().map(|(_, address)| *address),
                tries: self.tries,
                error: self.error,
                request_id: String::from_utf8_lossy(self.request_id.as_bytes()).into_owned(),
            });
        }
        let (Some(log), Some(kept)) = (&worker.log, &self.kept) else { return };
        let endpoint = self.upstream.as_ref().map(|(_, address)| text_of(address));
        let bytes = |value: &Option<HeaderValue>| value.clone().unwrap_or(HeaderValue::from_static(""));
        let (user_agent, referer) = (bytes(&kept.user_agent), bytes(&kept.referer));
        log.write(&Line {
            at: kept.at,
            client: &kept.client,
            method: self.method.as_str(),
            scheme: kept.scheme,
            host: kept.host.as_bytes(),
            path: self.target.as_ref().map_or("", |t| t.path()),
            query: self.target.as_ref().and_then(|t| t.query()).unwrap_or_default(),
            version: version_name(kept.version),
            status,
            bytes: self.bytes,
            took,
            upstream_took: self.head_took,
            route,
            upstream,
            endpoint: endpoint.as_deref().unwrap_or_default(),
            tries: self.tries,
            error: self.error,
            request_id: self.request_id.as_bytes(),
            user: kept.user.as_deref().unwrap_or_default(),
            user_agent: user_agent.as_bytes(),
            referer: referer.as_bytes(),
        });
    }
}
