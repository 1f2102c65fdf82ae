//! The data path: from a request on the public listener to a back end, and back.

mod body;

pub use body::{Body, BoxError};

use std::net::SocketAddr;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address; IPv4 is never mapped into IPv6.
    pub address: SocketAddr,
    /// Whether it speaks TLS to us.
    pub is_tls: bool,
    /// Whether what it says about whom it speaks for is believed.
    pub is_trusted: bool,
}
