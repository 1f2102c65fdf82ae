//! The API, gRPC and console listener: HTTP/1.1 and HTTP/2 on one port, on the multi-thread runtime.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use kernel::{Clock, OnPanic, Shutdown, Tasks};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tower::ServiceExt as _;

use super::{checks::Checks, lane::Rewind, tls::Tls};
use crate::config::ApiConfig;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the accept loop needs; cheap to clone.
#[derive(Clone)]
struct Accept {
    listener: Arc<TcpListener>,
    router: Router,
    checks: Checks,
    tls: Option<Tls>,
    permits: Arc<Semaphore>,
    header_timeout: Duration,
    clock: Clock,
    tasks: Tasks,
}

/// Serves `router` until shutdown, then drains: open requests are answered, idle connections closed.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    router: Router,
    checks: Checks,
    tls: Option<Tls>,
    config: &ApiConfig,
    clock: &Clock,
    tasks: &Tasks,
) -> std::io::Result<()> {
    let accept = Accept {
        listener: Arc::new(TcpListener::from_std(listener)?),
        router,
        checks,
        tls,
        permits: Arc::new(Semaphore::new(config.max_connections)),
        header_timeout: config.header_timeout,
        clock: clock.clone(),
        tasks: tasks.clone(),
    };
    tasks.supervise("api-listener", OnPanic::StopProcess, move |shutdown| accept.clone().run(shutdown));
    Ok(())
}

impl Accept {
    async fn run(self, shutdown: Shutdown) {
        let graceful = GracefulShutdown::new();
        loop {
            let Some(Ok(permit)) = shutdown.or(self.permits.clone().acquire_owned()).await else { break };
            let Some((stream, peer)) = shutdown.or(super::accept(&self.listener, &self.clock)).await else { break };
            let (this, watcher, shutdown) = (self.clone(), graceful.watcher(), shutdown.clone());
            self.tasks.spawn("api-connection", async move {
                let _permit = permit;
                match &this.tls {
                    None => this.connection(stream, peer, watcher, &shutdown).await,
                    Some(tls) => {
                        let handshake = this.clock.timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream));
                        // A handshake is no request yet: shutdown need not wait for it.
                        match shutdown.or(handshake).await {
                            Some(Some(Ok(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                                this.by_hyper(Rewind::new(Vec::new(), stream), peer, watcher).await;
                            }
                            Some(Some(Ok(stream))) => this.connection(stream, peer, watcher, &shutdown).await,
                            Some(Some(Err(e))) => tracing::debug!(error = %e, %peer, "TLS handshake failed"),
                            _ => {}
                        }
                    }
                }
            });
        }
        drop(self.listener);
        graceful.shutdown().await;
    }

    /// Serves checks of rate limits by itself, until something else is asked.
    async fn connection<S>(&self, stream: S, peer: SocketAddr, watcher: Watcher, shutdown: &Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.checks.serve(stream, shutdown).await {
            Ok(Some(stream)) => self.by_hyper(stream, peer, watcher).await,
            Ok(None) => {}
            Err(e) => tracing::debug!(error = %e, %peer, "connection ended with an error"),
        }
    }

    async fn by_hyper<S>(&self, stream: S, peer: SocketAddr, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let has_asked = asked.clone();
        let service = self.router.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(axum::body::Body::new)
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(self.header_timeout))
            .max_concurrent_streams(256);
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        let silent = super::until_silent(&self.clock, self.header_timeout, || has_asked.load(Ordering::Relaxed));
        tokio::select! {
            ended = watcher.watch(connection.into_owned()) => if let Err(e) = ended {
                tracing::debug!(error = %e, %peer, "connection ended with an error");
            },
            () = silent => tracing::debug!(%peer, "connection ended: no request came"),
        }
    }
}
