//! Connections of one worker.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, request::Parts};
use kernel::Clock;

use crate::{
    Body, BoxError, Codec, Error, PoolLimits, PoolStats, Protocol, SendOptions, Target,
    conn::{Peer, Shared},
    h1, h2, hyper1,
    watch::LEAST_WAIT,
};

/// How often idle connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The connections of one worker. Cheap to clone; belongs to one thread, and sends inside its `LocalSet`.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
}

struct Inner {
    shared: Rc<Shared>,
    peers: RefCell<HashMap<u64, Rc<Peer>>>,
    is_kept: Cell<bool>,
}

impl Pool {
    /// A pool without connections.
    pub fn new(clock: &Clock, limits: PoolLimits) -> Self {
        let shared = Shared::new(clock, limits);
        Self { inner: Rc::new(Inner { shared, peers: RefCell::default(), is_kept: Cell::new(false) }) }
    }

    /// Sends a request on an idle connection (the one used last) or a new one; data of its body flows while the answer comes.
    ///
    /// Of `parts` the method, the path and query of the target, and the fields are sent; the host is that of the `Host` field, else of
    /// the target, else the address. Hop-by-hop fields, `Content-Length` and `Expect` are not: a body is framed by what it says of
    /// itself, and `options` asks for upgrades. Answers come without their hop-by-hop fields.
    ///
    /// A request without a body whose method is idempotent is sent again, once, when a connection that had served before turns out to
    /// be closed. An answer that comes whole before all of the request was sent ends the sending, and the connection.
    ///
    /// Errors are [`ErrorKind`](crate::ErrorKind)s. Dropping the future closes the connection that it used.
    pub async fn send<B>(
        &self,
        target: &Arc<Target>,
        parts: &Parts,
        body: B,
        options: &SendOptions<'_>,
    ) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        self.keep();
        let peer = self.peer(target);
        let body = (!body.is_end_stream()).then_some(body);
        match (target.protocol, target.codec) {
            (Protocol::Http1, Codec::Own) => h1::send(&peer, parts, body, options).await,
            (Protocol::Http1, Codec::Hyper) => Box::pin(hyper1::send(&peer, parts, body, options)).await,
            (Protocol::Http2, _) => Box::pin(h2::send(&peer, parts, body, options)).await,
        }
    }

    /// Lets go of a target: its idle connections close, its busy ones after their answer.
    pub fn forget(&self, target: u64) {
        if let Some(peer) = self.inner.peers.borrow_mut().remove(&target) {
            peer.forget();
        }
    }

    /// What it did and holds. Streams of HTTP/2 count as reuse; its connections are not idle.
    pub fn stats(&self) -> PoolStats {
        let shared = &self.inner.shared;
        PoolStats {
            opened_count: shared.opened_count.get(),
            reused_count: shared.reused_count.get(),
            replayed_count: shared.replayed_count.get(),
            idle_count: shared.idle_count.get(),
        }
    }

    fn peer(&self, target: &Arc<Target>) -> Rc<Peer> {
        let mut peers = self.inner.peers.borrow_mut();
        peers.entry(target.id).or_insert_with(|| Peer::new(target, &self.inner.shared)).clone()
    }

    /// Starts the task that watches deadlines and idle connections; it ends with the pool.
    fn keep(&self) {
        if !self.inner.is_kept.replace(true) {
            tokio::task::spawn_local(keep(Rc::downgrade(&self.inner)));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.watch.sooner.notify_one();
        for peer in self.peers.take().into_values() {
            peer.forget();
        }
    }
}

async fn keep(pool: Weak<Inner>) {
    let mut sweeps_at = Duration::ZERO;
    while let Some(inner) = pool.upgrade() {
        let shared = inner.shared.clone();
        let now = shared.watch.now();
        if now >= sweeps_at {
            inner.peers.borrow_mut().retain(|_, peer| {
                let is_empty = peer.sweep(now);
                // Who is in the middle of an exchange holds it, and gives its connection back to it.
                !(is_empty && Rc::strong_count(peer) == 1)
            });
            sweeps_at = now + SWEEP_INTERVAL;
        }
        drop(inner);
        let next = shared.watch.look(now, sweeps_at);
        let wait = next.saturating_sub(now).max(LEAST_WAIT);
        tokio::select! {
            () = shared.clock.sleep(wait) => {}
            () = shared.watch.sooner.notified() => {}
        }
    }
}
