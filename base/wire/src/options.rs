//! What a caller says beside the request.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode};

/// What holds for one request.
#[derive(Clone, Copy)]
pub struct SendOptions<'a> {
    /// The longest wait for the head of the answer once the request is sent whole. Default: 60 s.
    pub first_byte: Duration,
    /// The longest time without a byte in either direction while one is due. A client that does not take its answer is not
    /// counted: nothing is due from the back end then. Default: 60 s.
    pub idle: Duration,
    /// The two ends of the client's connection (the client's, ours), for the PROXY header.
    pub client: Option<(SocketAddr, SocketAddr)>,
    /// The protocol to switch to, as `Upgrade` says it; without it none is asked for, whatever the headers hold.
    pub upgrade: Option<&'a HeaderValue>,
    /// Told of interim answers (1xx but 101), which are dropped without it.
    pub on_interim: Option<&'a dyn Fn(StatusCode, HeaderMap)>,
}

impl Default for SendOptions<'_> {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            client: None,
            upgrade: None,
            on_interim: None,
        }
    }
}

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// The longest head of an answer. Default: 64 KiB.
    pub max_head_bytes: usize,
    /// The most fields in the head of an answer; at most 256. Default: 100.
    pub max_fields: usize,
    /// The most idle connections in all. Default: 1,024.
    pub max_idle: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { max_head_bytes: 64 * 1024, max_fields: 100, max_idle: 1024 }
    }
}

/// What a pool did and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections that were opened.
    pub opened_count: u64,
    /// Requests that went on a connection that had served before.
    pub reused_count: u64,
    /// Requests that were sent again because a reused connection turned out to be closed.
    pub replayed_count: u64,
    /// Connections that wait for a request now.
    pub idle_count: usize,
}
