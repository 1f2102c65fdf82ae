//! HTTP to other servers: what [`Fetch`] asks for, with hyper's client and TLS by rustls.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::rt::{Executor, ReadBufCursor};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioIo, TokioTimer},
};
use kernel::{Clock, Tasks};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Fetch, FetchError, Limits};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept for each server.
const MAX_IDLE: usize = 32;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;
type Pooled = Client<Connector, Full<Bytes>>;

/// A client with a pool of connections, HTTP/1.1. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Pooled,
    clock: Clock,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// One that trusts the public authorities, and those of `ca` (PEM) besides. Its connections live on `tasks`.
    pub fn new(clock: &Clock, tasks: &Tasks, ca: Option<&[u8]>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in ca.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
            roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        }
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = Connector { tls: TlsConnector::from(Arc::new(tls)), clock: clock.clone() };
        let client = Client::builder(Spawner(tasks.clone()))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Self { client, clock: clock.clone() })
    }
}

impl Fetch for HttpClient {
    fn fetch(&self, request: Request<Bytes>, limits: Limits) -> BoxFuture<'_, Result<Response<Bytes>, FetchError>> {
        Box::pin(async move {
            let whom = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let failed = |why: String| FetchError(format!("{whom}: {why}"));
            let work = async {
                let response = self.client.request(request.map(Full::new)).await;
                let (parts, body) = response.map_err(|e| failed(in_full(&e)))?.into_parts();
                let body = Limited::new(body, limits.max_body_bytes).collect().await;
                let body = body.map_err(|e| failed(format!("its answer: {e}")))?.to_bytes();
                Ok(Response::from_parts(parts, body))
            };
            let late = || failed(format!("no answer within {} ms", limits.timeout.as_millis()));
            self.clock.timeout(limits.timeout, work).await.unwrap_or_else(|| Err(late()))
        })
    }
}

/// An error with its causes, of which hyper's own text says nothing.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[derive(Clone)]
struct Spawner(Tasks);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, connection: F) {
        let shutdown = self.0.shutdown();
        // A connection that idles must not hold up the shutdown.
        self.0.spawn("gatekeeper_connection", async move { drop(shutdown.or(connection).await) });
    }
}

#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    clock: Clock,
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let this = self.clone();
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s");
            this.clock.timeout(CONNECT_TIMEOUT, this.connect(uri)).await.unwrap_or_else(|| Err(late()))
        })
    }
}

impl Connector {
    async fn connect(&self, uri: Uri) -> io::Result<Stream> {
        let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or_else(|| wrong("a URL without host"))?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        tcp.set_nodelay(true)?;
        if !is_tls {
            return Ok(Stream::Plain(TokioIo::new(tcp)));
        }
        let name = ServerName::try_from(host).map_err(|_| wrong("a host that no certificate can be for"))?;
        let tls = self.tls.connect(name, tcp).await?;
        Ok(Stream::Tls(TokioIo::new(Box::new(tls))))
    }
}

enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
