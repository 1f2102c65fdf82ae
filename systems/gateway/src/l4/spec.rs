//! `[[listeners]]`: ports below HTTP.

use std::{net::SocketAddr, time::Duration};

use kernel::{FieldError, Network, Span};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::tls::{Hosts, hello::is_host};

/// The most SNI routes of a listener.
pub const MAX_SNI_ROUTES: usize = 1024;

/// A port that is balanced over an upstream below HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSpec {
    /// Unique; in metrics and messages.
    pub name: String,
    /// Address to listen on, `host:port`.
    #[schema(value_type = String)]
    pub listen: SocketAddr,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// Where it goes. With `tls`: where no route of `sni` matches; without one such clients are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// With `tls`: by the host that the client asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<SniRoute>,
    /// Who begins its connections with a PROXY header (TCP and TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyAccept>,
    /// Its bounds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: ListenerLimits,
    /// How long a connection may stay without a byte in either direction, and a UDP session without a datagram. Default: 10 m and
    /// 60 s. At most a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub idle_timeout: Option<Span>,
    /// How many endpoints are tried before a connection is given up, 1 to 10. Nothing was sent to those that failed. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_attempts: Option<u32>,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListenerProtocol {
    /// Bytes in both directions.
    Tcp,
    /// Datagrams; a session is what comes from one address.
    Udp,
    /// TLS, told apart by the host that the client asks for.
    Tls,
}

impl ListenerProtocol {
    /// Its name in documents and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Tls => "tls",
        }
    }
}

/// What happens with clients that ask for certain hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SniRoute {
    /// `shop.example.com`, or `*.example.com` for every name with one label more.
    pub hosts: Vec<String>,
    /// Where it goes.
    pub upstream: String,
    /// Whether TLS ends here.
    #[serde(default)]
    pub mode: SniMode,
    /// With `terminate`: the protocols that are offered by ALPN, best first. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

/// Whether TLS ends at the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SniMode {
    /// The back end has the certificate; nothing is decrypted here.
    #[default]
    PassThrough,
    /// The certificate is one of `[[certificates]]`, and the back end gets what was inside (in TLS again where its upstream has `tls`).
    Terminate,
}

/// Whose connections begin with a PROXY header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyAccept {
    /// Networks of the load balancers before this listener. From them a header has to come; from nobody else is one understood.
    #[schema(value_type = Vec<String>)]
    pub from: Vec<Network>,
}

impl ProxyAccept {
    /// Whether a connection from this address begins with a header.
    pub fn expects(&self, peer: std::net::IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|network| network.contains(peer))
    }
}

/// Bounds of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Connections (UDP: sessions) at once; more connections wait in the kernel's backlog, datagrams of more sessions are dropped.
    pub max_connections: usize,
    /// Connections (UDP: sessions) at once of one address (of IPv6: of one /64); more are closed at once. 0: not limited.
    pub max_connections_per_address: usize,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self { max_connections: 10_000, max_connections_per_address: 0 }
    }
}

fn is_default(limits: &ListenerLimits) -> bool {
    *limits == ListenerLimits::default()
}

impl ListenerSpec {
    /// The idle timeout that holds.
    pub fn idle(&self) -> Duration {
        let default = if self.protocol == ListenerProtocol::Udp { 60 } else { 600 };
        self.idle_timeout.map_or(Duration::from_secs(default), |span| span.0)
    }

    /// The upstreams that it names, for checks of the whole document.
    pub fn upstreams(&self) -> impl Iterator<Item = (String, &str)> {
        let own = self.upstream.iter().map(|u| ("/upstream".to_owned(), u.as_str()));
        own.chain(self.sni.iter().enumerate().map(|(i, route)| (format!("/sni/{i}/upstream"), route.upstream.as_str())))
    }

    /// What is wrong in it by itself; `at` is its JSON pointer.
    pub fn validate(&self, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, detail: String| errors.push(FieldError { field: format!("{at}{field}"), detail });
        if self.listen.port() == 0 {
            wrong("/listen", "expected a port of 1 to 65535".to_owned());
        }
        let is_tls = self.protocol == ListenerProtocol::Tls;
        if !is_tls && self.upstream.is_none() {
            wrong("/upstream", "a listener of tcp or udp needs one".to_owned());
        }
        if is_tls && self.upstream.is_none() && self.sni.is_empty() {
            wrong("/sni", "a listener of tls needs routes here, or an upstream for every client".to_owned());
        }
        if !is_tls && !self.sni.is_empty() {
            wrong("/sni", "only a listener of tls has routes by host".to_owned());
        }
        if self.sni.len() > MAX_SNI_ROUTES {
            wrong("/sni", format!("at most {MAX_SNI_ROUTES} routes"));
        }
        let mut seen = Hosts::default();
        for (i, route) in self.sni.iter().enumerate() {
            if route.hosts.is_empty() {
                wrong(&format!("/sni/{i}/hosts"), "expected at least one host".to_owned());
            }
            for (j, host) in route.hosts.iter().enumerate() {
                let field = format!("/sni/{i}/hosts/{j}");
                match check_host(host) {
                    Err(detail) => wrong(&field, detail),
                    Ok(()) if seen.insert(host, ()).is_some() => wrong(&field, format!("{host} is named twice")),
                    Ok(()) => {}
                }
            }
            if route.mode == SniMode::PassThrough && !route.alpn.is_empty() {
                wrong(&format!("/sni/{i}/alpn"), "with pass_through the back end chooses the protocol".to_owned());
            }
            if route.alpn.iter().any(|p| p.is_empty() || p.len() > 255) {
                wrong(&format!("/sni/{i}/alpn"), "expected names of 1 to 255 bytes such as \"h2\"".to_owned());
            }
        }
        if self.protocol == ListenerProtocol::Udp && self.proxy_protocol.is_some() {
            wrong("/proxy_protocol", "datagrams have no beginning that could tell the client".to_owned());
        }
        if self.proxy_protocol.as_ref().is_some_and(|p| p.from.is_empty()) {
            wrong("/proxy_protocol/from", "expected at least one network".to_owned());
        }
        if self.limits.max_connections == 0 {
            wrong("/limits/max_connections", "expected at least 1".to_owned());
        }
        if self.idle_timeout.is_some_and(|t| t.0.is_zero() || t.0 > Duration::from_hours(24)) {
            wrong("/idle_timeout", "expected more than 0 and at most 24h".to_owned());
        }
        if self.connect_attempts.is_some_and(|n| !(1..=10).contains(&n)) {
            wrong("/connect_attempts", "expected 1 to 10".to_owned());
        }
        errors
    }
}

/// What is wrong in all of them together and in each; `at` is the JSON pointer of the list.
pub fn validate(specs: &[ListenerSpec], at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        errors.extend(spec.validate(&format!("{at}/{i}")));
        let before = &specs[..i];
        let is_udp = |s: &ListenerSpec| s.protocol == ListenerProtocol::Udp;
        if before.iter().any(|other| other.listen == spec.listen && is_udp(other) == is_udp(spec)) {
            let detail = format!("another listener has {}", spec.listen);
            errors.push(FieldError { field: format!("{at}/{i}/listen"), detail });
        }
    }
    errors
}

/// A host name or `*.` and one.
pub(crate) fn check_host(host: &str) -> Result<(), String> {
    let bare = host.strip_prefix("*.").unwrap_or(host);
    if is_host(bare) && bare.parse::<std::net::IpAddr>().is_err() && host == host.to_ascii_lowercase() {
        Ok(())
    } else {
        Err(format!(
            "expected a host name in lower case such as \"shop.example.com\" or \"*.example.com\", not {host:?}"
        ))
    }
}
