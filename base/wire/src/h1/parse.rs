//! Heads of answers (RFC 9112, 4 to 6), read strictly: whatever two readers could take for different messages is refused.

use std::{mem::MaybeUninit, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{ErrorKind, hop::is_hop_by_hop};

/// The most fields of a head, whatever the limit says.
pub(crate) const MAX_FIELDS: usize = 256;

/// The head of an answer, without its hop-by-hop fields.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) length: Length,
    /// Whether the connection serves another request afterwards.
    pub(crate) is_reusable: bool,
    /// How long the server says that it keeps the connection.
    pub(crate) keep_alive: Option<Duration>,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Exactly(u64),
    Chunked,
    UntilClose,
    /// No body; the bytes that follow are of another protocol.
    Switched,
}

/// What an answer is read for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
    pub(crate) is_upgrade: bool,
    pub(crate) max_fields: usize,
}

/// Reads a head from the front of `input`; gives how many bytes it was. `None`: it is not here whole.
pub(crate) fn parse(input: &Bytes, asked: Asked) -> Result<Option<(Head, usize)>, ErrorKind> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let lines = &mut lines[..asked.max_fields.min(MAX_FIELDS)];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, lines);
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ErrorKind::TooLarge("the number of its fields is")),
        Err(e) => return Err(ErrorKind::Malformed(text(e))),
    };
    let malformed = |what| Err(ErrorKind::Malformed(what));
    let is_http_11 = response.version == Some(1);
    let Some(status) = response.code.and_then(|code| StatusCode::from_u16(code).ok()) else {
        return malformed("a status code outside of 100 to 999");
    };
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    let mut content_length = None;
    let mut is_chunked = false;
    let mut keep_alive = None;
    let (mut is_close, mut is_keep_alive) = (false, false);
    let mut named = Vec::new();
    for line in &*response.headers {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        match line.name.len() {
            10 if is("connection") => {
                for token in line.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"close") {
                        is_close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        is_keep_alive = true;
                    } else if let Ok(name) = HeaderName::from_bytes(token) {
                        named.push(name);
                    }
                }
                continue;
            }
            10 if is("keep-alive") => {
                keep_alive = seconds(line.value);
                continue;
            }
            14 if is("content-length") => {
                if content_length.is_some() {
                    return malformed("more than one Content-Length");
                }
                content_length = Some(number(line.value).ok_or(ErrorKind::Malformed("a bad Content-Length"))?);
            }
            17 if is("transfer-encoding") => {
                if is_chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return malformed("a Transfer-Encoding that is not chunked");
                }
                is_chunked = true;
                continue;
            }
            _ => {}
        }
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let Ok(name) = name else { return malformed("a bad field name") };
        // What an upgrade switches to is the answer.
        if is_hop_by_hop(name.as_str()) && !(status == StatusCode::SWITCHING_PROTOCOLS && name == "upgrade") {
            continue;
        }
        let Ok(value) = HeaderValue::from_maybe_shared(input.slice_ref(line.value)) else {
            return malformed("a bad field value");
        };
        headers.append(name, value);
    }
    for name in named {
        if name != "content-length" && name != "upgrade" {
            headers.remove(name);
        }
    }
    if is_chunked && content_length.is_some() {
        return malformed("both Transfer-Encoding and Content-Length");
    }
    if is_chunked && !is_http_11 {
        return malformed("Transfer-Encoding in HTTP/1.0");
    }
    let length = match status.as_u16() {
        101 if asked.is_upgrade => Length::Switched,
        101 => return malformed("a switch of protocols that was not asked for"),
        200..=299 if asked.is_connect => Length::Switched,
        100..=199 | 304 => Length::Exactly(0),
        204 => {
            headers.remove(http::header::CONTENT_LENGTH);
            Length::Exactly(0)
        }
        _ if asked.is_head => Length::Exactly(0),
        _ if is_chunked => Length::Chunked,
        _ => content_length.map_or(Length::UntilClose, Length::Exactly),
    };
    let is_reusable = !is_close && (is_http_11 || is_keep_alive) && !matches!(length, Length::UntilClose);
    Ok(Some((Head { status, headers, length, is_reusable, keep_alive }, len)))
}

/// `1*DIGIT` (RFC 9110, 8.6): no sign, no list, nothing past 64 bits.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, b| {
        b.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(b - b'0'))
    })
}

/// `timeout` of `Keep-Alive`.
fn seconds(value: &[u8]) -> Option<Duration> {
    value
        .split(|b| *b == b',')
        .find_map(|part| number(part.trim_ascii().strip_prefix(b"timeout=")?))
        .map(Duration::from_secs)
}

fn text(e: httparse::Error) -> &'static str {
    match e {
        httparse::Error::HeaderName => "a bad field name",
        httparse::Error::HeaderValue => "a bad field value",
        httparse::Error::NewLine => "a bad line end",
        httparse::Error::Status => "a bad status line",
        httparse::Error::Token => "a bad token",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "not HTTP/1",
    }
}
