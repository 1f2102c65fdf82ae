//! Where requests go: one address, and how it is spoken to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::ClientTls;

/// What is spoken to a back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112), one request at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2 (RFC 9113): by ALPN with TLS, with prior knowledge without.
    Http2,
}

/// Who reads and writes HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// This crate's own codec.
    #[default]
    Own,
    /// hyper's client connection: a second opinion, for tests that send the same bytes through both and for an operator who wants to rule
    /// the own codec out.
    Hyper,
}

/// A version of the PROXY protocol (haproxy's `doc/proxy-protocol.txt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// One address, and how it is spoken to. Immutable; its pools are keyed by [`Target::id`], so a change is a new target.
///
/// Made from [`Target::new`] by update: `Target { protocol: Protocol::Http2, ..Target::new(address) }`.
#[derive(Debug, Clone)]
pub struct Target {
    /// Unique in this process.
    pub id: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks. Default: HTTP/1.1.
    pub protocol: Protocol,
    /// Who reads and writes HTTP/1. Default: the own codec.
    pub codec: Codec,
    /// TLS to it; made for the same protocol. Default: none.
    pub tls: Option<Arc<ClientTls>>,
    /// The longest wait for the connection, TLS included. Default: 1 s.
    pub connect_timeout: Duration,
    /// A PROXY header opens each connection, which then serves one client alone. Default: none.
    pub proxy_header: Option<ProxyVersion>,
    /// The most idle connections that each worker keeps. Default: 64.
    pub max_idle: usize,
    /// How long a connection stays idle before it is closed. Default: 60 s.
    pub idle_timeout: Duration,
    /// A connection older than this serves no further request. Default: no limit.
    pub max_age: Option<Duration>,
}

impl Target {
    /// HTTP/1.1 without TLS to `address`, under an id that was never used.
    pub fn new(address: SocketAddr) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            address,
            protocol: Protocol::Http1,
            codec: Codec::Own,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            proxy_header: None,
            max_idle: 64,
            idle_timeout: Duration::from_mins(1),
            max_age: None,
        }
    }
}
