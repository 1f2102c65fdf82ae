//! What the public listener serves: today the redirects of the URL shortener, later the gateway and the edge.

use std::time::Duration;

use gateway::Body;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use kernel::Clock;
use shortener::{Answer, MAX_FORM_BYTES, Redirector, Shortener, Visit};
use telemetry::{Golden, RouteHandle};

use crate::{
    config::PublicConfig,
    listen::{
        client::Proxies,
        public::{PublicService, PublicWorker},
    },
};

/// One per worker.
#[derive(Clone)]
pub(crate) struct Front {
    redirects: Redirector,
    visits: RouteHandle,
    forms: RouteHandle,
    proxies: Proxies,
    body_timeout: Duration,
    clock: Clock,
}

impl Front {
    pub(crate) fn new(shortener: &Shortener, golden: &Golden, clock: &Clock, config: &PublicConfig) -> Self {
        // Visitors belong to no project until a link is found, and one counter for all costs the least.
        let signals = |method| golden.route(method, "public /{code}").handle(None);
        Self {
            redirects: Redirector::new(shortener.clone()),
            visits: signals("GET"),
            forms: signals("POST"),
            proxies: Proxies::new(&config.trusted_proxies),
            body_timeout: config.header_timeout,
            clock: clock.clone(),
        }
    }

    async fn submit(&self, visit: &Visit<'_>, length: Option<&HeaderValue>, body: Incoming) -> Answer {
        let length = length.and_then(|l| l.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        if length > MAX_FORM_BYTES as u64 {
            return self.redirects.refuse_form(true);
        }
        match self.clock.timeout(self.body_timeout, Limited::new(body, MAX_FORM_BYTES).collect()).await {
            Some(Ok(form)) => self.redirects.submit(visit, form.to_bytes()).await,
            Some(Err(e)) => self.redirects.refuse_form(e.is::<LengthLimitError>()),
            None => self.redirects.refuse_form(false),
        }
    }
}

impl PublicService for Front {
    type Worker = Self;

    fn for_worker(&self, worker: usize) -> Self {
        Self { redirects: self.redirects.for_worker(worker), ..self.clone() }
    }
}

impl PublicWorker for Front {
    type Body = Body;

    fn is_for_lane(&self, _visit: &Visit<'_>) -> bool {
        true
    }

    fn try_cached(&self, visit: &Visit<'_>, started: Duration) -> Option<Answer> {
        let answer = self.redirects.try_cached(visit)?;
        self.visits.record(answer.status().as_u16(), self.clock.monotonic().saturating_sub(started));
        Some(answer)
    }

    async fn ask(&self, visit: &Visit<'_>, started: Duration) -> Answer {
        let answer = self.redirects.ask(visit).await;
        self.visits.record(answer.status().as_u16(), self.clock.monotonic().saturating_sub(started));
        answer
    }

    async fn call(&self, request: Request<Incoming>, peer: &gateway::Peer) -> Response<Body> {
        let started = self.clock.monotonic();
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        let headers = request.headers();
        let forwarded = || headers.get_all("x-forwarded-for").into_iter().map(HeaderValue::as_bytes);
        let visit = Visit::of(&request, self.proxies.client(peer.address.ip(), forwarded));
        let (answer, signals) = if visit.method == Method::POST {
            (self.submit(&visit, headers.get(CONTENT_LENGTH), body).await, &self.forms)
        } else {
            // Memory first, once: asked twice, a miss would count twice.
            (self.redirects.resolve(&visit).await, &self.visits)
        };
        signals.record(answer.status().as_u16(), self.clock.monotonic().saturating_sub(started));
        // Whole in memory: it never waits.
        answer.into_response().map(Body::stream)
    }

    async fn drain(&self) {}
}
