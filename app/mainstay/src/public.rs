//! What the public listener serves: the routes of the gateway, and the redirects of the URL shortener, which are a route like others, and
//! the only one where there is no document.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use gateway::{
    Body, DataPath,
    proxy::{self, BoxError, Services},
    tls::{Certificates, Misdirected},
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
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
    certificates: Certificates,
}

/// One per worker, on its thread.
pub(crate) struct FrontWorker {
    links: Links,
    gateway: proxy::Worker,
    certificates: Certificates,
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
        certificates: &Certificates,
        data_path: &DataPath,
        golden: &Golden,
        clock: &Clock,
        config: &PublicConfig,
    ) -> Self {
        Self {
            links: Links::new(shortener, golden, clock, config),
            data_path: data_path.clone(),
            certificates: certificates.clone(),
        }
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
        FrontWorker { links, gateway: self.data_path.worker(), certificates: self.certificates.clone() }
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

impl FrontWorker {
    /// What an authority is told that looks whether a host is ours (RFC 8555 §8.3). What nobody waits for goes the way of other requests.
    async fn challenge<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let token = request.uri().path().strip_prefix("/.well-known/acme-challenge/")?;
        if request.method() != Method::GET || !self.certificates.expects_http_challenges() {
            return None;
        }
        Some(text(StatusCode::OK, self.certificates.http_challenge(token).await?))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Body::stream(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

impl PublicWorker for FrontWorker {
    type Body = Body;

    fn is_for_lane(&self, _visit: &Visit<'_>) -> bool {
        self.gateway.is_default() && self.certificates.is_plain()
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

    fn is_proxying(&self) -> bool {
        !self.gateway.is_default()
    }

    async fn call<B>(&self, request: Request<B>, peer: &gateway::Peer) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin + 'static,
    {
        if let Some(answer) = self.challenge(&request).await {
            return answer;
        }
        let host = request.uri().host().or_else(|| request.headers().get(HOST)?.to_str().ok()).unwrap_or_default();
        let seen;
        let peer = match self.certificates.admit(peer.rule, host) {
            Ok(true) => peer,
            Ok(false) if peer.certificate.is_none() => peer,
            Ok(false) => {
                // It was shown for another host, and says nothing here.
                let mut nobody = peer.clone();
                nobody.certificate = None;
                seen = nobody;
                &seen
            }
            Err(Misdirected) => {
                return text(StatusCode::MISDIRECTED_REQUEST, "this host wants a connection of its own\n");
            }
        };
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
