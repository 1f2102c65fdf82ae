//! The other end of a connection.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gatekeeper::ClientCertificate;
use http::HeaderValue;

/// The other end of a connection. Made once for each, so that what is the same for every request of it is not made anew.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address; IPv4 is never mapped into IPv6.
    pub address: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether it speaks TLS to us.
    pub is_tls: bool,
    /// Whether what it says about whom it speaks for is believed.
    pub is_trusted: bool,
    /// The certificate that it showed and the listener has verified.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The rule for clients that it was checked by; see [`Certificates::admit`](crate::tls::Certificates::admit).
    pub rule: Option<u64>,
    /// Its address as `X-Forwarded-For` has it.
    pub(super) forwarded_for: HeaderValue,
}

impl Peer {
    /// One that was accepted.
    pub fn new(address: SocketAddr, local: SocketAddr, is_tls: bool, is_trusted: bool) -> Self {
        let ip = address.ip().to_canonical();
        let text = ip.to_string();
        // Digits, dots and colons.
        let forwarded_for = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            address: SocketAddr::new(ip, address.port()),
            local,
            is_tls,
            is_trusted,
            certificate: None,
            rule: None,
            forwarded_for,
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// An element of `Forwarded` (RFC 7239).
    pub(super) fn forwarded_element(&self, scheme: &str) -> String {
        format!("for={};proto={scheme}", Node(self.address.ip()))
    }
}

/// A node as RFC 7239 writes it: IPv6 in brackets and quotes.
struct Node(IpAddr);

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "\"[{address}]\""),
        }
    }
}
