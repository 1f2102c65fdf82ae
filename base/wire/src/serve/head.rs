//! Heads of requests as they are read here, and of answers as they are written.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, DATE},
};
use http_body::Body;

use super::NoBody;
use crate::{h1::upload::Framing, hop::is_hop_by_hop};

/// The most fields of a head; one with more is not plain.
const MAX_FIELDS: usize = 100;

/// What the bytes that came begin with.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
pub(super) enum Begin {
    /// A head that has not come whole; nothing speaks against it yet.
    Part,
    /// A plain request, how many bytes it was, and whether it is the last.
    Plain(Request<NoBody>, usize, bool),
    /// Anything else, mistakes included.
    Other,
}

/// Looks at what came. A request is plain when it is HTTP/1.1, has no body, and asks for nothing but an answer: no upgrade and no
/// expectation.
pub(super) fn begin(input: &Bytes) -> Begin {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let len = match head.parse_with_uninit_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Begin::Part,
        Err(_) => return Begin::Other,
    };
    let (Some(method), Some(target), Some(1)) = (head.method, head.path, head.version) else { return Begin::Other };
    // Clients may send empty lines before a request; what they do besides is hyper's to judge.
    if !input.starts_with(method.as_bytes()) || !target.starts_with('/') || method == "CONNECT" {
        return Begin::Other;
    }
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Begin::Other };
    let Ok(uri) = Uri::from_maybe_shared(input.slice_ref(target.as_bytes())) else { return Begin::Other };
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 6);
    let mut is_last = false;
    let mut hosts = 0;
    for line in &*head.headers {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        match line.name.len() {
            4 if is("host") => hosts += 1,
            6 if is("expect") => return Begin::Other,
            7 if is("upgrade") => return Begin::Other,
            10 if is("connection") => {
                if line.value.eq_ignore_ascii_case(b"close") {
                    is_last = true;
                } else if !line.value.eq_ignore_ascii_case(b"keep-alive") {
                    return Begin::Other;
                }
                // It says nothing to whoever answers.
                continue;
            }
            14 if is("content-length") => return Begin::Other,
            17 if is("transfer-encoding") => return Begin::Other,
            _ => {}
        }
        let Ok(name) = HeaderName::from_bytes(line.name.as_bytes()) else { return Begin::Other };
        let Ok(value) = HeaderValue::from_maybe_shared(input.slice_ref(line.value)) else { return Begin::Other };
        headers.append(name, value);
    }
    if hosts != 1 {
        return Begin::Other;
    }
    let mut request = Request::new(NoBody);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Begin::Plain(request, len, is_last)
}

/// Appends the head of an answer; gives how its body is framed (`None`: it has none) and whether the connection ends with it.
pub(super) fn write<B: Body>(
    out: &mut Vec<u8>,
    answer: &Response<B>,
    is_head: bool,
    is_last: bool,
    date: &str,
) -> (Framing, bool) {
    let status = answer.status();
    let mut put = |piece: &[u8]| out.extend_from_slice(piece);
    put(b"HTTP/1.1 ");
    put(status.as_str().as_bytes());
    put(b" ");
    put(status.canonical_reason().unwrap_or("<none>").as_bytes());
    put(b"\r\n");
    let mut is_last = is_last;
    let mut has_date = false;
    let mut said_length = None;
    for (name, value) in answer.headers() {
        match name.as_str().len() {
            4 if *name == DATE => has_date = true,
            10 if *name == CONNECTION => {
                is_last |= value.as_bytes().eq_ignore_ascii_case(b"close");
                continue;
            }
            14 if *name == CONTENT_LENGTH => {
                said_length = Some(value);
                continue;
            }
            _ if is_hop_by_hop(name.as_str()) => continue,
            _ => {}
        }
        put(name.as_str().as_bytes());
        put(b": ");
        put(value.as_bytes());
        put(b"\r\n");
    }
    if is_last {
        put(b"connection: close\r\n");
    }
    let has_none = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let exact = answer.body().size_hint().exact();
    let framing = if has_none || is_head {
        // What the length would be; what is said of nothing is left out.
        match (said_length, exact) {
            (Some(said), _) if status != StatusCode::NO_CONTENT => {
                put(b"content-length: ");
                put(said.as_bytes());
                put(b"\r\n");
            }
            (None, Some(exact)) if exact > 0 && is_head && !has_none => put_length(out, exact),
            _ => {}
        }
        Framing::None
    } else if let Some(exact) = exact {
        put_length(out, exact);
        if exact == 0 { Framing::None } else { Framing::Length(exact) }
    } else if let Some(said) = said_length.and_then(|said| crate::h1::number(said.as_bytes())) {
        put_length(out, said);
        Framing::Length(said)
    } else {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Framing::Chunked
    };
    if !has_date {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (framing, is_last)
}

fn put_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}
