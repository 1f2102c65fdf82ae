//! Active checks: one question to one address. Discovery asks the same ones of what registers.
//!
//! Each question has a connection of its own, that nothing is kept of: what is asked is whether a client that comes now is served.

mod http1;
mod http2;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use kernel::{Clock, Span};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use wire::{
    ClientTls, ProxyVersion,
    proxy_protocol::{self, Transport},
};

use crate::model::spec::HealthSpec;
pub use crate::model::{
    hysteresis::{Health, Hysteresis},
    spec::{ProbeKind, StatusRange},
};

/// What checks call themselves.
const USER_AGENT: &str = "mainstay-health";

/// What is asked, and what answers are well.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// Which question.
    pub question: Question,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Over TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// The connection begins with a PROXY protocol header, which names no client.
    pub proxy_header: Option<ProxyVersion>,
}

/// A question.
#[derive(Debug, Clone)]
pub enum Question {
    /// That a connection is taken, TLS included.
    Tcp,
    /// A GET. What comes after the head of the answer is not read.
    Http {
        /// Path with query.
        path: String,
        /// The `Host`; none: the address.
        host: Option<String>,
        /// Statuses that are well.
        expect: Vec<StatusRange>,
        /// Over HTTP/2 (with prior knowledge, or as TLS agreed) instead of HTTP/1.1.
        is_http2: bool,
    },
    /// `grpc.health.v1.Health/Check`: SERVING is well.
    Grpc {
        /// The service; empty is the server as a whole.
        service: String,
        /// The `:authority`; none: the address.
        host: Option<String>,
    },
}

impl ProbeSpec {
    /// As a document says it, of what speaks HTTP/1.1 or HTTP/2.
    pub fn new(spec: &HealthSpec, is_http2: bool, tls: Option<Arc<ClientTls>>, proxy: Option<ProxyVersion>) -> Self {
        let host = spec.host.clone();
        let question = match spec.kind {
            ProbeKind::Tcp => Question::Tcp,
            ProbeKind::Http => Question::Http { path: spec.path.clone(), host, expect: spec.expect.clone(), is_http2 },
            ProbeKind::Grpc => Question::Grpc { service: spec.service.clone(), host },
        };
        Self { question, timeout: spec.timeout.0, tls, proxy_header: proxy }
    }
}

/// Asks an address once. The error says in a few words what was wrong, for people.
pub async fn probe(spec: &ProbeSpec, address: SocketAddr, clock: &Clock) -> Result<(), String> {
    // Boxed: three protocols make it large, and there may be many at once.
    match clock.timeout(spec.timeout, Box::pin(ask(spec, address))).await {
        Some(outcome) => outcome,
        None => Err(format!("no answer within {}", Span(spec.timeout))),
    }
}

async fn ask(spec: &ProbeSpec, address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|e| format!("connecting: {}", told(&e)))?;
    stream.set_nodelay(true).map_err(|e| told(&e))?;
    if let Some(version) = spec.proxy_header {
        let mut header = Vec::new();
        proxy_protocol::encode(version, None, Transport::Stream, &[], &mut header);
        stream.write_all(&header).await.map_err(|e| told(&e))?;
    }
    match &spec.tls {
        None => question(&spec.question, stream, address, "http").await,
        Some(tls) => {
            let stream = tls.connect(stream).await.map_err(|e| format!("TLS: {}", told(&e)))?;
            question(&spec.question, stream, address, "https").await
        }
    }
}

async fn question<S>(question: &Question, stream: S, address: SocketAddr, scheme: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    match question {
        Question::Tcp => Ok(()),
        Question::Http { path, host, expect, is_http2 } => {
            let host = host.clone().unwrap_or_else(|| address.to_string());
            let status = if *is_http2 {
                http2::get(stream, scheme, &host, path).await?
            } else {
                http1::get(stream, &host, path).await?
            };
            if expect.iter().any(|range| range.contains(status)) { Ok(()) } else { Err(format!("status {status}")) }
        }
        Question::Grpc { service, host } => {
            let host = host.clone().unwrap_or_else(|| address.to_string());
            http2::check(stream, scheme, &host, service).await
        }
    }
}

/// The system's message without its number.
fn told(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
