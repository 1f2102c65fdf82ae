//! What the public listener serves: today the redirects of the URL shortener, later the gateway and the edge.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use kernel::Clock;
use shortener::{Redirector, Shortener, Visit};
use telemetry::{Golden, RouteHandle};

use crate::listen::public::PublicService;

/// One per worker.
#[derive(Clone)]
pub(crate) struct Front {
    redirects: Redirector,
    signals: RouteHandle,
    clock: Clock,
}

impl Front {
    pub(crate) fn new(shortener: &Shortener, golden: &Golden, clock: &Clock) -> Self {
        Self {
            redirects: Redirector::new(shortener.clone()),
            // Visitors belong to no project until a link is found, and one counter for all costs the least.
            signals: golden.route("GET", "public /{code}").handle(None),
            clock: clock.clone(),
        }
    }
}

impl PublicService for Front {
    fn for_worker(&self, worker: usize) -> Self {
        Self { redirects: self.redirects.for_worker(worker), ..self.clone() }
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = self.clock.monotonic();
        // Memory first, once: asked twice, a miss would count twice.
        let answer = self.redirects.resolve(&Visit::of(&request)).await;
        self.signals.record(answer.status().as_u16(), self.clock.monotonic().saturating_sub(started));
        answer
    }
}
