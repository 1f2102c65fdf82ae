//! Active checks: one question to one address. Discovery asks the same ones of what registers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kernel::Clock;
use tokio::net::TcpStream;
use wire::{ClientTls, ProxyVersion};

pub use crate::model::{
    hysteresis::{Health, Hysteresis},
    spec::{ProbeKind, StatusRange},
};

/// What is asked, and what answers are well.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// Which question.
    pub question: Question,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Over TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// The connection begins with a PROXY protocol header that names no client.
    pub proxy_header: Option<ProxyVersion>,
}

/// A question.
#[derive(Debug, Clone)]
pub enum Question {
    /// That a connection is taken, TLS included.
    Tcp,
    /// A GET.
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
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service; empty is the server as a whole.
        service: String,
        /// The `:authority`; none: the address.
        host: Option<String>,
    },
}

/// Asks an address once. The error says in a few words what was wrong, for people.
pub async fn probe(spec: &ProbeSpec, address: SocketAddr, clock: &Clock) -> Result<(), String> {
    match clock.timeout(spec.timeout, ask(spec, address)).await {
        Some(outcome) => outcome,
        None => Err(format!("no answer within {}", kernel::Span(spec.timeout))),
    }
}

async fn ask(_spec: &ProbeSpec, address: SocketAddr) -> Result<(), String> {
    TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    Ok(())
}
