//! Heads of HTTP/1.1 as bytes: what is read of a simple request, and what is written of its answer.

use std::{
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
};

use futures_util::FutureExt as _;
use http::{
    Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE},
};
use http_body_util::BodyExt as _;
use shortener::{Answer, Visit};

use super::super::client::Proxies;

/// The most lines of a head that are looked at; one with more is not simple.
const MAX_LINES: usize = 64;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: IpAddr,
    port: u16,
    /// When it may speak for others.
    proxies: Option<Proxies>,
}

impl Peer {
    pub(crate) fn new(socket: SocketAddr, proxies: &Proxies) -> Self {
        let address = socket.ip().to_canonical();
        Self { address, port: socket.port(), proxies: proxies.are_trusted(address).then(|| proxies.clone()) }
    }

    /// Its address, not mapped.
    pub(crate) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Whether it may speak for others.
    pub(crate) fn is_trusted(&self) -> bool {
        self.proxies.is_some()
    }
}

/// What the bytes that came begin with.
#[derive(Debug)]
pub(super) enum Begin<'a> {
    /// A request head that has not come whole; nothing speaks against it yet.
    Part,
    /// A whole request: GET or HEAD without a body.
    Simple(Simple<'a>),
    /// Anything else, mistakes included.
    Other,
}

/// A request that can be answered from its head.
#[derive(Debug)]
pub(super) struct Simple<'a> {
    pub(super) visit: Visit<'a>,
    /// How many bytes it has.
    pub(super) len: usize,
    /// Whether the client wants the connection closed.
    pub(super) is_last: bool,
}

/// Looks at what came. A request counts as simple only when nothing in it asks for more than an answer: no body, no
/// expectation, no upgrade, and a target that an `http::Uri` takes as it stands.
pub(super) fn begin<'a>(input: &'a [u8], peer: &Peer) -> Begin<'a> {
    let method = match input {
        [b'G', b'E', b'T', b' ', ..] => &Method::GET,
        [b'H', b'E', b'A', b'D', b' ', ..] => &Method::HEAD,
        _ if b"GET ".starts_with(input) || b"HEAD ".starts_with(input) => return Begin::Part,
        _ => return Begin::Other,
    };
    let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Begin::Part,
        Err(_) => return Begin::Other,
    };
    let (Some(target), Some(1)) = (request.path, request.version) else { return Begin::Other };
    if !target.starts_with('/') || !target.bytes().all(|b| IS_PLAIN[usize::from(b)]) {
        return Begin::Other;
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut visit = Visit { query, client: peer.address, ..Visit::new(method, path) };
    let mut is_last = false;
    for line in &*request.headers {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        // Lengths first: most names are told apart by them.
        let place = match line.name.len() {
            4 if is("host") => &mut visit.host,
            6 if is("expect") => return Begin::Other,
            7 if is("referer") => &mut visit.referer,
            7 if is("upgrade") => return Begin::Other,
            10 if is("user-agent") => &mut visit.user_agent,
            10 if is("connection") => {
                if line.value.eq_ignore_ascii_case(b"close") {
                    is_last = true;
                } else if !line.value.eq_ignore_ascii_case(b"keep-alive") {
                    return Begin::Other;
                }
                continue;
            }
            14 if is("content-length") => return Begin::Other,
            15 if is("accept-language") => &mut visit.accept_language,
            17 if is("transfer-encoding") => return Begin::Other,
            _ => continue,
        };
        place.get_or_insert(line.value);
    }
    if let Some(proxies) = &peer.proxies {
        let forwarded = || request.headers.iter().filter(|l| l.name.eq_ignore_ascii_case("x-forwarded-for"));
        visit.client = proxies.client(peer.address, || forwarded().map(|line| line.value));
    }
    Begin::Simple(Simple { visit, len, is_last })
}

/// Characters of a target that mean the same to everybody: RFC 3986's, without `#` and what is reserved for nothing.
const IS_PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?%";
    let mut at = 0;
    while at < plain.len() {
        table[plain[at] as usize] = true;
        at += 1;
    }
    table
};

/// Appends an answer as hyper would write it; gives whether the connection ends with it.
pub(super) fn write(out: &mut Vec<u8>, answer: Answer, is_head: bool, is_last: bool, date: &[u8]) -> bool {
    let put_status = |out: &mut Vec<u8>, status: StatusCode| {
        let reason = status.canonical_reason().unwrap_or("<none>");
        put(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes(), b"\r\n"]);
    };
    match answer {
        Answer::Redirect(redirect) => {
            put_status(out, redirect.status);
            for (name, value) in redirect.headers() {
                put(out, &[name.as_str().as_bytes(), b": ", value, b"\r\n"]);
            }
            if is_last {
                put(out, &[b"connection: close\r\n"]);
            }
            if !is_head {
                put(out, &[b"content-length: 0\r\n"]);
            }
            put(out, &[b"date: ", date, b"\r\n\r\n"]);
            is_last
        }
        Answer::Page(page) => {
            let (parts, body) = page.into_parts();
            // Whole in memory, so it is there at once and cannot fail.
            let body = body.collect().now_or_never().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
            let body = body.unwrap_or_default();
            put_status(out, parts.status);
            for (name, value) in &parts.headers {
                put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
            }
            let said = parts.headers.get(CONNECTION);
            if is_last && said.is_none() {
                put(out, &[b"connection: close\r\n"]);
            }
            let has_none = parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
            let is_said = parts.headers.contains_key(CONTENT_LENGTH);
            if !(has_none || is_said || is_head && body.is_empty()) {
                put(out, &[b"content-length: ", body.len().to_string().as_bytes(), b"\r\n"]);
            }
            if !parts.headers.contains_key(DATE) {
                put(out, &[b"date: ", date, b"\r\n"]);
            }
            put(out, &[b"\r\n"]);
            if !is_head && !has_none {
                put(out, &[&body]);
            }
            is_last || said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(b"close"))
        }
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
