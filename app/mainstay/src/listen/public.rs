//! The public listener: one current-thread runtime per core, each with its own `SO_REUSEPORT` socket.
//!
//! Measured against one multi-thread runtime this saves 14 to 18% of the CPU time of a request, since no request and no wake-up
//! ever crosses a core. What the workers share (near cache, counters) is made of atomics and short critical sections; a worker
//! waits for nothing but its sockets; only a link that is not in memory is read from SQLite in place, which takes microseconds and
//! measured several times faster than handing it to another thread.
//!
//! Plain requests of HTTP/1.1 are served in the [`lane`](super::lane); hyper serves HTTP/2 and everything else.

use std::{cell::Cell, convert::Infallible, future::Future, net::IpAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
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
    net::TcpListener,
    sync::{Notify, oneshot},
    task::LocalSet,
};

use super::{
    client::Proxies,
    lane::{self, Lane, Peer},
    tls::Tls,
};
use crate::config::PublicConfig;
use shortener::{Answer, Visit};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What answers requests of the public listener. Cloned once per worker; runs on that worker's thread alone.
pub(crate) trait PublicService: Clone + Send + 'static {
    /// The same for one worker, numbered from 0.
    fn for_worker(&self, worker: usize) -> Self;

    /// Answers a GET or HEAD from memory, or not at all. Never waits. `started` is when it was read, monotonic.
    fn try_cached(&self, visit: &Visit<'_>, started: Duration) -> Option<Answer>;

    /// Answers what memory did not know.
    fn ask(&self, visit: &Visit<'_>, started: Duration) -> impl Future<Output = Answer>;

    /// Answers any request of a peer.
    fn call(&self, request: Request<Incoming>, peer: IpAddr) -> impl Future<Output = Response<Full<Bytes>>>;
}

/// Starts the workers on sockets that were bound beforehand, so that a taken port was told before anything started.
pub(crate) fn serve<S: PublicService>(
    listeners: Vec<std::net::TcpListener>,
    service: &S,
    tls: Option<&Tls>,
    config: &PublicConfig,
    clock: &Clock,
    tasks: &Tasks,
) {
    for (number, listener) in listeners.into_iter().enumerate() {
        let worker = Worker {
            service: service.for_worker(number),
            tls: tls.cloned(),
            max_connections: config.max_connections.max(1),
            header_timeout: config.header_timeout,
            proxies: Proxies::new(&config.trusted_proxies),
            clock: clock.clone(),
        };
        // The supervised task only watches the thread; its panic becomes the task's panic, so that it is counted and restarted.
        tasks.supervise("public-worker", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
            let (worker, listener) = (worker.clone(), listener.try_clone());
            async move {
                let (done, ended) = oneshot::channel();
                let run = move || {
                    let outcome = listener.map_err(|e| e.to_string()).and_then(|l| worker.run(l, &shutdown));
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

#[derive(Clone)]
pub(super) struct Worker<S> {
    pub(super) service: S,
    pub(super) tls: Option<Tls>,
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

impl<S: PublicService> Worker<S> {
    fn run(self, listener: std::net::TcpListener, shutdown: &Shutdown) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::from_std(listener).map_err(|e| e.to_string())?;
            Rc::new(self).accept(listener, shutdown).await;
            Ok(())
        })
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, shutdown: &Shutdown) {
        let graceful = GracefulShutdown::new();
        let open = Rc::new(Open::default());
        let lane = Rc::new(Lane::new(&self.clock, self.header_timeout));
        let watched = lane.clone();
        tokio::task::spawn_local(async move { watched.watch().await });
        loop {
            while open.count.get() >= self.max_connections && !shutdown.is_triggered() {
                shutdown.or(open.closed.notified()).await;
            }
            let Some((stream, peer)) = shutdown.or(super::accept(&listener, &self.clock)).await else { break };
            open.count.set(open.count.get() + 1);
            let guard = OpenGuard(open.clone());
            let connection = Connection {
                worker: self.clone(),
                lane: lane.clone(),
                peer: Peer::new(peer.ip(), &self.proxies),
                watcher: graceful.watcher(),
            };
            let shutdown = shutdown.clone();
            tokio::task::spawn_local(async move {
                let _guard = guard;
                let Some(tls) = &connection.worker.tls else { return connection.serve(stream).await };
                let handshake = connection.worker.clock.timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream));
                if let Some(Some(Ok(stream))) = shutdown.or(handshake).await {
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        connection.serve_by_hyper(stream).await;
                    } else {
                        connection.serve(stream).await;
                    }
                }
            });
        }
        drop(listener);
        tokio::select! {
            // Every connection holds a watcher, those in the lane too.
            () = graceful.shutdown() => {}
            () = lane.close() => {}
        }
    }
}

/// What a connection needs.
pub(super) struct Connection<S> {
    pub(super) worker: Rc<Worker<S>>,
    pub(super) lane: Rc<Lane>,
    pub(super) peer: Peer,
    pub(super) watcher: Watcher,
}

impl<S: PublicService> Connection<S> {
    pub(super) async fn serve<I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        match lane::serve(&self.lane, &self.worker.service, &self.peer, stream).await {
            Ok(None) => {}
            Ok(Some(stream)) => self.serve_by_hyper(stream).await,
            Err(e) => tracing::debug!(error = %e, "public connection ended with an error"),
        }
    }

    pub(super) async fn serve_by_hyper<I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Self { worker, peer, watcher, .. } = self;
        let peer = peer.address();
        let (clock, header_timeout) = (worker.clock.clone(), worker.header_timeout);
        let asked = Rc::new(Cell::new(false));
        let has_asked = asked.clone();
        let service = service_fn(move |request| {
            asked.set(true);
            let worker = worker.clone();
            async move { Ok::<_, Infallible>(worker.service.call(request, peer).await) }
        });
        let mut builder = auto::Builder::new(LocalExecutor);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(header_timeout)).max_concurrent_streams(256);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let silent = super::until_silent(&clock, header_timeout, || has_asked.get());
        tokio::select! {
            ended = watcher.watch(connection) => if let Err(e) = ended {
                tracing::debug!(error = %e, "public connection ended with an error");
            },
            () = silent => tracing::debug!("public connection ended: no request came"),
        }
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
