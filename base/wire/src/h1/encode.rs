//! Heads of requests.

use http::{
    HeaderValue, Method,
    header::{HOST, TE},
    request::Parts,
};

use super::upload::Framing;
use crate::{Target, hop::is_hop_by_hop};

/// Appends the head of a request. How the body is framed is decided here alone: what the fields say of it (and of the connection)
/// is left out, and so is `Expect`, which the listener has answered.
pub(super) fn encode(
    out: &mut Vec<u8>,
    parts: &Parts,
    framing: Framing,
    target: &Target,
    upgrade: Option<&HeaderValue>,
) {
    let mut put = |piece: &[u8]| out.extend_from_slice(piece);
    put(parts.method.as_str().as_bytes());
    put(b" ");
    if parts.method == Method::CONNECT {
        put(parts.uri.authority().map_or("", |a| a.as_str()).as_bytes());
    } else {
        put(parts.uri.path_and_query().map_or("/", |p| p.as_str()).as_bytes());
    }
    put(b" HTTP/1.1\r\nhost: ");
    match (parts.headers.get(HOST), parts.uri.authority()) {
        (Some(host), _) => put(host.as_bytes()),
        // What stands before an @ is nobody's business.
        (None, Some(authority)) => put(authority.as_str().rsplit('@').next().unwrap_or_default().as_bytes()),
        (None, None) => put(target.address.to_string().as_bytes()),
    }
    let mut has_te = false;
    for (name, value) in &parts.headers {
        let is_left_out = match name.as_str().len() {
            2 if *name == TE => {
                has_te = true;
                false
            }
            4 => *name == HOST,
            6 => *name == http::header::EXPECT,
            14 => *name == http::header::CONTENT_LENGTH || is_hop_by_hop(name.as_str()),
            _ => is_hop_by_hop(name.as_str()),
        };
        if !is_left_out {
            put(b"\r\n");
            put(name.as_str().as_bytes());
            put(b": ");
            put(value.as_bytes());
        }
    }
    match (upgrade, has_te) {
        (Some(protocol), _) => {
            put(b"\r\nconnection: upgrade\r\nupgrade: ");
            put(protocol.as_bytes());
        }
        (None, true) => put(b"\r\nconnection: te"),
        (None, false) => {}
    }
    match framing {
        Framing::None if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) => {
            put(b"\r\ncontent-length: 0");
        }
        Framing::None => {}
        Framing::Length(length) => {
            put(b"\r\ncontent-length: ");
            put(length.to_string().as_bytes());
        }
        Framing::Chunked => put(b"\r\ntransfer-encoding: chunked"),
    }
    put(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::{
        Framing::{Chunked, Length, None},
        *,
    };

    #[test]
    fn a_head_says_only_what_is_meant_for_the_back_end() {
        let check = |method: &str, uri: &str, fields: &[(&'static str, &'static str)], framing, expected: &str| {
            let mut request = http::Request::builder().method(method).uri(uri);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let mut out = Vec::new();
            let upgrade = HeaderValue::from_static("websocket");
            let upgrade = fields.contains(&("x", "upgrade")).then_some(&upgrade);
            encode(&mut out, &parts, framing, &Target::new("127.0.0.1:80".parse().unwrap()), upgrade);
            assert_eq!(String::from_utf8(out).unwrap(), expected.replace('\n', "\r\n"));
        };
        check("GET", "/a?b", &[("host", "h")], None, "GET /a?b HTTP/1.1\nhost: h\n\n");
        check("GET", "http://u:p@h:1/a", &[], None, "GET /a HTTP/1.1\nhost: h:1\n\n");
        check("GET", "http://h", &[], None, "GET / HTTP/1.1\nhost: h\n\n");
        check("OPTIONS", "*", &[], None, "OPTIONS * HTTP/1.1\nhost: 127.0.0.1:80\n\n");
        check("CONNECT", "h:443", &[], None, "CONNECT h:443 HTTP/1.1\nhost: h:443\n\n");
        check("POST", "/", &[("host", "h")], None, "POST / HTTP/1.1\nhost: h\ncontent-length: 0\n\n");
        let length = "PUT / HTTP/1.1\nhost: h\nx: y\ncontent-length: 3\n\n";
        check("PUT", "/", &[("host", "h"), ("x", "y"), ("content-length", "99")], Length(3), length);
        let chunked = "POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked\n\n";
        check("POST", "/", &[("host", "h"), ("host", "i"), ("transfer-encoding", "gzip")], Chunked, chunked);
        let hop = [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("expect", "100-continue"),
            ("proxy-authorization", "x"),
            ("te", "trailers"),
        ];
        check("GET", "/", &hop, None, "GET / HTTP/1.1\nhost: 127.0.0.1:80\nte: trailers\nconnection: te\n\n");
        let upgrade = "GET / HTTP/1.1\nhost: h\nx: upgrade\nconnection: upgrade\nupgrade: websocket\n\n";
        check("GET", "/", &[("host", "h"), ("x", "upgrade")], None, upgrade);
    }
}
