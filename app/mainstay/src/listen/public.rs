//! The public listener: one current-thread runtime per core, each with its own `SO_REUSEPORT` socket.
//!
//! Measured against one multi-thread runtime this saves 14 to 18% of the CPU time of a request, since no request and no wake-up
//! ever crosses a core. What the workers share (near cache, counters) is made of atomics and short critical sections; a worker
//! waits for nothing but its sockets; only a link that is not in memory is read from SQLite in place, which takes microseconds and
//! measured several times faster than handing it to another thread.
//!
//! ```text
//! connection ─▶ lane (redirects from memory) ─▶ wire::Server (plain requests of HTTP/1.1) ─▶ hyper (bodies, upgrades, HTTP/2)
//! ```
//!
//! Each hands the connection on, with what it read, at the first request that is not its own. `wire::Server` comes in only where the
//! gateway has routes.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gateway::{
    proxy::BoxError,
    tls::{Session, client_certificate},
};
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use kernel::{Backoff, Clock, OnPanic, Shutdown, Tasks};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::LocalSet,
};

pub(crate) use super::door::Door;
use super::{
    client::Proxies,
    door::Opening,
    lane::{self, Lane, Peer, Rewind},
};
use crate::config::PublicConfig;
use shortener::{Answer, Visit};

/// What makes those who answer requests of the public listener: one for each worker, on its thread.
pub(crate) trait PublicService: Clone + Send + 'static {
    /// One of them.
    type Worker: PublicWorker;

    /// The one of a worker, numbered from 0.
    fn for_worker(&self, worker: usize) -> Self::Worker;
}

/// What answers requests on the thread of one worker.
pub(crate) trait PublicWorker: 'static {
    /// The body of its answers; it may come from elsewhere as it is sent.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + 'static;

    /// Whether the lane may answer this GET or HEAD; else [`PublicWorker::call`] does, whole as it came.
    fn is_for_lane(&self, visit: &Visit<'_>) -> bool;

    /// Answers a GET or HEAD from memory, or not at all. Never waits. `started` is when it was read, monotonic.
    fn try_cached(&self, visit: &Visit<'_>, started: Duration) -> Option<Answer>;

    /// Answers what memory did not know.
    fn ask(&self, visit: &Visit<'_>, started: Duration) -> impl Future<Output = Answer>;

    /// Whether requests that the lane does not answer are mostly plain ones.
    fn is_proxying(&self) -> bool;

    /// Answers any request of a peer.
    fn call<B>(&self, request: Request<B>, peer: &gateway::Peer) -> impl Future<Output = Response<Self::Body>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin + 'static;

    /// Ends at shutdown what outlives its request, within a bound.
    fn drain(&self) -> impl Future<Output = ()>;
}

/// Starts the workers on sockets that were bound beforehand, so that a taken port was told before anything started.
pub(crate) fn serve<S: PublicService>(
    (plain, secure): (Vec<std::net::TcpListener>, Vec<std::net::TcpListener>),
    service: &S,
    door: &Door,
    config: &PublicConfig,
    clock: &Clock,
    tasks: &Tasks,
) {
    let mut secure = secure.into_iter();
    for (number, listener) in plain.into_iter().enumerate() {
        let secure = secure.next();
        let (service, door, clock) = (service.clone(), door.clone(), clock.clone());
        let (max_connections, header_timeout) = (config.max_connections.max(1), config.header_timeout);
        let proxies = Proxies::new(&config.trusted_proxies);
        let make = move || Worker {
            service: service.for_worker(number),
            door: door.clone(),
            max_connections,
            header_timeout,
            proxies: proxies.clone(),
            clock: clock.clone(),
        };
        // The supervised task only watches the thread; its panic becomes the task's panic, so that it is counted and restarted.
        tasks.supervise("public-worker", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
            let sockets = listener
                .try_clone()
                .and_then(|l| Ok((l, secure.as_ref().map(std::net::TcpListener::try_clone).transpose()?)));
            let make = make.clone();
            async move {
                let (done, ended) = oneshot::channel();
                let run = move || {
                    let outcome = sockets.map_err(|e| e.to_string()).and_then(|s| run(make, s, &shutdown));
                    drop(done.send(outcome));
                };
                let thread = std::thread::Builder::new().name("public".to_owned()).spawn(run);
                let outcome = match thread {
                    Ok(_) => ended.await.unwrap_or_else(|_| Err("its thread panicked".to_owned())),
                    Err(e) => Err(e.to_string()),
                };
                if let Err(e) = outcome {
                    #[allow(clippy::panic, reason = "the supervisor counts it and starts the worker again")]
                    {
                        panic!("public worker ended: {e}");
                    }
                }
            }
        });
    }
}

/// Lives on its thread.
pub(super) struct Worker<S> {
    pub(super) service: S,
    pub(super) door: Door,
    pub(super) max_connections: usize,
    pub(super) header_timeout: Duration,
    pub(super) proxies: Proxies,
    pub(super) clock: Clock,
}

/// Connections open on this worker, and who waits for one to close.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    closed: Notify,
}

struct OpenGuard(Rc<Open>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.closed.notify_one();
    }
}

/// Runs a worker on this thread; it is made inside of its own runtime.
fn run<S: PublicWorker>(
    make: impl FnOnce() -> Worker<S>,
    (plain, secure): (std::net::TcpListener, Option<std::net::TcpListener>),
    shutdown: &Shutdown,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    LocalSet::new().block_on(&runtime, async {
        let plain = TcpListener::from_std(plain).map_err(|e| e.to_string())?;
        let secure = secure.map(TcpListener::from_std).transpose().map_err(|e| e.to_string())?;
        Rc::new(make()).accept(plain, secure, shutdown).await;
        Ok(())
    })
}

impl<S: PublicWorker> Worker<S> {
    async fn accept(self: Rc<Self>, plain: TcpListener, secure: Option<TcpListener>, shutdown: &Shutdown) {
        let graceful = GracefulShutdown::new();
        let open = Rc::new(Open::default());
        let lane = Rc::new(Lane::new(&self.clock, self.header_timeout));
        let watched = lane.clone();
        tokio::task::spawn_local(async move { watched.watch().await });
        let server = wire::Server::new(&self.clock, self.header_timeout);
        let watched = server.clone();
        tokio::task::spawn_local(async move { watched.watch().await });
        loop {
            while open.count.get() >= self.max_connections && !shutdown.is_triggered() {
                shutdown.or(open.closed.notified()).await;
            }
            let Some((stream, peer, is_tls)) = shutdown.or(self.next(&plain, secure.as_ref())).await else { break };
            open.count.set(open.count.get() + 1);
            let guard = OpenGuard(open.clone());
            let (worker, lane, server, watcher) = (self.clone(), lane.clone(), server.clone(), graceful.watcher());
            let shutdown = shutdown.clone();
            tokio::task::spawn_local(async move {
                let _guard = guard;
                let opening = Box::pin(worker.door.open(stream, peer, is_tls, &worker.clock));
                let Some(Some(opened)) = shutdown.or(opening).await else { return };
                let connection = Connection {
                    local: opened.local,
                    peer: Peer::new(opened.peer, &worker.proxies),
                    is_tls,
                    session: opened.session,
                    worker,
                    lane,
                    server,
                    watcher,
                };
                match opened.stream {
                    Opening::Plain(stream) => connection.serve(stream).await,
                    Opening::Tls(stream) if connection.session.is_h2 => connection.serve_by_hyper(*stream).await,
                    Opening::Tls(stream) => connection.serve(*stream).await,
                }
            });
        }
        drop((plain, secure));
        server.close();
        let answered = async {
            tokio::select! {
                // Every connection holds a watcher, those in the lane too.
                () = graceful.shutdown() => {}
                () = lane.close() => {}
            }
        };
        tokio::join!(answered, self.service.drain());
    }
}

impl<S> Worker<S> {
    /// The next connection, and whether it is to speak TLS.
    async fn next(&self, plain: &TcpListener, secure: Option<&TcpListener>) -> (TcpStream, SocketAddr, bool) {
        let Some(secure) = secure else {
            let (stream, peer) = super::accept(plain, &self.clock).await;
            return (stream, peer, self.door.is_tls());
        };
        tokio::select! {
            (stream, peer) = super::accept(plain, &self.clock) => (stream, peer, false),
            (stream, peer) = super::accept(secure, &self.clock) => (stream, peer, true),
        }
    }
}

/// What a connection needs.
pub(super) struct Connection<S> {
    pub(super) worker: Rc<Worker<S>>,
    pub(super) lane: Rc<Lane>,
    pub(super) server: Rc<wire::Server>,
    pub(super) peer: Peer,
    /// Our end.
    pub(super) local: SocketAddr,
    pub(super) is_tls: bool,
    pub(super) session: Session,
    pub(super) watcher: Watcher,
}

impl<S: PublicWorker> Connection<S> {
    pub(super) async fn serve<I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match lane::serve(&self.lane, &self.worker.service, &self.peer, stream).await {
            Ok(None) => {}
            Ok(Some(stream)) if self.worker.service.is_proxying() => self.serve_plain(stream).await,
            Ok(Some(stream)) => self.serve_by_hyper(stream).await,
            Err(e) => tracing::debug!(error = %e, "public connection ended with an error"),
        }
    }

    async fn serve_plain<I>(self, stream: Rewind<I>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (before, stream) = stream.into_parts();
        let plain = Plain { worker: &self.worker.service, peer: self.gateway_peer() };
        match self.server.serve(stream, before, &plain).await {
            Ok(None) => {}
            Ok(Some((before, stream))) => self.serve_by_hyper(Rewind::new(before, stream)).await,
            Err(e) => tracing::debug!(error = %e, "public connection ended with an error"),
        }
    }

    fn gateway_peer(&self) -> gateway::Peer {
        let mut peer = gateway::Peer::new(self.peer.socket(), self.local, self.is_tls, self.peer.is_trusted());
        let shown = &self.session.client_certificate;
        let certificate = shown.as_deref().and_then(client_certificate);
        // One that cannot be read proves nothing, and the rule that asked for it does not count as kept.
        peer.rule = self.session.rule.filter(|_| shown.is_none() || certificate.is_some());
        peer.certificate = certificate.map(Arc::new);
        peer
    }

    pub(super) async fn serve_by_hyper<I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Rc::new(self.gateway_peer());
        let Self { worker, watcher, .. } = self;
        let (clock, header_timeout) = (worker.clock.clone(), worker.header_timeout);
        let asked = Arc::new(AtomicBool::new(false));
        let has_asked = asked.clone();
        let service = service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            let (worker, peer) = (worker.clone(), peer.clone());
            async move { Ok::<_, Infallible>(worker.service.call(request, &peer).await) }
        });
        let mut builder = auto::Builder::new(LocalExecutor);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(header_timeout)).max_concurrent_streams(256);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let silent = super::until_silent(&clock, header_timeout, || has_asked.load(Ordering::Relaxed));
        tokio::select! {
            ended = watcher.watch(connection) => if let Err(e) = ended {
                tracing::debug!(error = %e, "public connection ended with an error");
            },
            () = silent => tracing::debug!("public connection ended: no request came"),
        }
    }
}

/// What answers the plain requests of a connection.
struct Plain<'a, S> {
    worker: &'a S,
    peer: gateway::Peer,
}

impl<S: PublicWorker> wire::Service for Plain<'_, S> {
    type Body = S::Body;

    async fn call(&self, request: Request<wire::NoBody>) -> Response<S::Body> {
        self.worker.call(request, &self.peer).await
    }
}

/// Runs HTTP/2 streams on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
