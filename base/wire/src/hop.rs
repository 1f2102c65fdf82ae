//! Hop-by-hop fields (RFC 9110, 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

/// What the hop-by-hop fields that were taken away asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// The protocol to switch to: `Upgrade`, when `Connection` names it.
    pub upgrade: Option<HeaderValue>,
    /// Whether `Connection` asked for the connection to be closed.
    pub is_close: bool,
}

/// Names of fields that are for the next hop alone, whether `Connection` names them or not.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        7 => name == "upgrade",
        10 => matches!(name, "connection" | "keep-alive"),
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        _ => false,
    }
}

/// Takes away what is for this hop alone: `Connection` and what it names, `Keep-Alive`, `Transfer-Encoding`, `Upgrade` and the
/// `Proxy-…` fields. `TE` stays as `trailers` when it says so, which gRPC needs. `Host` and `Content-Length` stay even when named:
/// whoever could take them away would change what the request is.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> HopByHop {
    let mut hop = HopByHop::default();
    if let http::header::Entry::Occupied(connection) = headers.entry(CONNECTION) {
        let (_, values) = connection.remove_entry_mult();
        let mut is_upgrade = false;
        let mut named = Vec::new();
        for value in values {
            for token in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if token.eq_ignore_ascii_case(b"close") {
                    hop.is_close = true;
                } else if token.eq_ignore_ascii_case(b"upgrade") {
                    is_upgrade = true;
                } else if !token.eq_ignore_ascii_case(b"keep-alive")
                    && let Ok(name) = HeaderName::from_bytes(token)
                    && ![HOST, CONTENT_LENGTH, TE].contains(&name)
                {
                    named.push(name);
                }
            }
        }
        if is_upgrade {
            hop.upgrade = headers.remove(UPGRADE);
        }
        for name in named {
            headers.remove(name);
        }
    }
    if headers.contains_key(TE) {
        let has_trailers = headers.get_all(TE).iter().any(|value| {
            value.as_bytes().split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        });
        headers.remove(TE);
        if has_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        for name in [UPGRADE, TRANSFER_ENCODING, http::header::PROXY_AUTHENTICATE, http::header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
        for name in ["keep-alive", "proxy-connection", "http2-settings"] {
            headers.remove(name);
        }
    }
    hop
}
