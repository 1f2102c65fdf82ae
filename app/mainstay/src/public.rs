//! What the public listener serves: the routes of the gateway, and the redirects of the URL shortener, which are a route like others, and
//! the only one where there is no document.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use gateway::{
    Body, DataPath,
    proxy::{self, BoxError, Services},
};
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

/// Makes those who answer.
#[derive(Clone)]
pub(crate) struct Front {
    links: Links,
    data_path: DataPath,
}

/// One per worker, on its thread.
pub(crate) struct FrontWorker {
    links: Links,
    gateway: proxy::Worker,
}

/// Short links.
#[derive(Clone)]
struct Links {
    redirects: Redirector,
    visits: RouteHandle,
    forms: RouteHandle,
    proxies: Proxies,
    body_timeout: Duration,
    clock: Clock,
}

impl Front {
    pub(crate) fn new(
        shortener: &Shortener,
        data_path: &DataPath,
        golden: &Golden,
        clock: &Clock,
        config: &PublicConfig,
    ) -> Self {
        Self { links: Links::new(shortener, golden, clock, config), data_path: data_path.clone() }
    }
}

impl Links {
    fn new(shortener: &Shortener, golden: &Golden, clock: &Clock, config: &PublicConfig) -> Self {
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

    async fn submit<B>(&self, visit: &Visit<'_>, length: Option<&HeaderValue>, body: B) -> Answer
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
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

    fn record(&self, answer: &Answer, signals: &RouteHandle, started: Duration) {
        signals.record(answer.status().as_u16(), self.clock.monotonic().saturating_sub(started));
    }

    async fn call<B>(&self, request: Request<B>, client: IpAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let started = self.clock.monotonic();
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        let visit = Visit::of(&request, client);
        let (answer, signals) = if visit.method == Method::POST {
            (self.submit(&visit, request.headers().get(CONTENT_LENGTH), body).await, &self.forms)
        } else {
            // Memory first, once: asked twice, a miss would count twice.
            (self.redirects.resolve(&visit).await, &self.visits)
        };
        self.record(&answer, signals, started);
        // Whole in memory: it never waits.
        answer.into_response().map(Body::stream)
    }
}

impl PublicService for Front {
    type Worker = FrontWorker;

    fn for_worker(&self, worker: usize) -> FrontWorker {
        let links = Links { redirects: self.links.redirects.for_worker(worker), ..self.links.clone() };
        FrontWorker { links, gateway: self.data_path.worker() }
    }
}

impl<B> Services<B> for FrontWorker
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    async fn call(&self, name: &str, request: Request<B>, client: IpAddr) -> Result<Response<Body>, Request<B>> {
        match name {
            "links" => Ok(self.links.call(request, client).await),
            _ => Err(request),
        }
    }
}

impl PublicWorker for FrontWorker {
    type Body = Body;

    fn is_for_lane(&self, _visit: &Visit<'_>) -> bool {
        self.gateway.is_default()
    }

    fn try_cached(&self, visit: &Visit<'_>, started: Duration) -> Option<Answer> {
        let answer = self.links.redirects.try_cached(visit)?;
        self.links.record(&answer, &self.links.visits, started);
        Some(answer)
    }

    async fn ask(&self, visit: &Visit<'_>, started: Duration) -> Answer {
        let answer = self.links.redirects.ask(visit).await;
        self.links.record(&answer, &self.links.visits, started);
        answer
    }

    async fn call(&self, request: Request<Incoming>, peer: &gateway::Peer) -> Response<Body> {
        let forwarded = || request.headers().get_all("x-forwarded-for").into_iter().map(HeaderValue::as_bytes);
        let client = self.links.proxies.client(peer.address.ip(), forwarded);
        if self.gateway.is_default() {
            return self.links.call(request, client).await;
        }
        self.gateway.call(request, peer, client, self).await
    }

    async fn drain(&self) {
        self.gateway.drain().await;
    }
}
