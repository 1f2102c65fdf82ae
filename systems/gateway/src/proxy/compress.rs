//! Answers made smaller for clients that take it (RFC 9110, 8.4 and 12.5.3).
//!
//! - COMPRESS-1: what is compressed already, partial (206), empty or marked `no-transform` is left alone; a strong `ETag` becomes a weak
//!   one, since the bytes are not the same.
//! - COMPRESS-2: what the back end sent is flushed with its piece: streams (server-sent events, gRPC-Web) do not stall.
//! - COMPRESS-3: `Vary: Accept-Encoding` is on every answer that could have been compressed.

use std::{
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        ETAG, VARY,
    },
};
use http_body::{Body as _, Frame, SizeHint};

use super::body::{Body, BoxError};

/// Smaller bodies cost more than they save.
const MIN_BYTES: u64 = 860;

/// How a body is made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Brotli,
}

impl Coding {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    /// What a client takes and is best: the highest weight, Brotli before gzip.
    pub(super) fn asked_for(headers: &HeaderMap) -> Option<Self> {
        let (mut gzip, mut brotli, mut any) = (None, None, None);
        for value in headers.get_all(ACCEPT_ENCODING) {
            for item in value.to_str().ok()?.split(',') {
                let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
                let weight = weight(parameters)?;
                match name.trim() {
                    name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                        gzip = Some(weight);
                    }
                    name if name.eq_ignore_ascii_case("br") => brotli = Some(weight),
                    "*" => any = Some(weight),
                    _ => {}
                }
            }
        }
        let of = |own: Option<u16>| own.or(any).unwrap_or(0);
        match (of(brotli), of(gzip)) {
            (0, 0) => None,
            (brotli, gzip) if brotli >= gzip => Some(Self::Brotli),
            _ => Some(Self::Gzip),
        }
    }
}

/// Thousandths of `;q=0.5`; 1000 without one.
fn weight(parameters: &str) -> Option<u16> {
    for parameter in parameters.split(';') {
        if let Some(q) = parameter.trim().strip_prefix("q=").or_else(|| parameter.trim().strip_prefix("Q=")) {
            let q: f32 = q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
            return Some((q * 1000.0) as u16);
        }
    }
    Some(1000)
}

/// Whether this kind of content gets smaller.
fn is_compressible(content_type: &[u8]) -> bool {
    let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let kind = std::str::from_utf8(kind).unwrap_or_default().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json"
                | "application/javascript"
                | "application/xml"
                | "application/wasm"
                | "application/x-ndjson"
                | "application/manifest+json"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
                | "image/svg+xml"
                | "image/bmp"
        )
}

/// Compresses an answer if it is one that can be, and the client takes it.
pub(super) fn answer(asked: Option<Coding>, status: StatusCode, headers: &mut HeaderMap, body: Body) -> Body {
    let is_kind = headers.get(CONTENT_TYPE).is_some_and(|kind| is_compressible(kind.as_bytes()));
    let is_final = headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || headers.get(CACHE_CONTROL).is_some_and(|value| contains_token(value, b"no-transform"));
    let may_have_body =
        !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT);
    if !is_kind || is_final || !may_have_body || status.is_informational() {
        return body;
    }
    let varies = headers.get_all(VARY).iter().any(|v| contains_token(v, b"accept-encoding") || v.as_bytes() == b"*");
    if !varies {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    let Some(coding) = asked else { return body };
    if body.is_end_stream() || body.size_hint().upper().is_some_and(|upper| upper < MIN_BYTES) {
        return body;
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    if let Some(etag) = headers.get(ETAG)
        && !etag.as_bytes().starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
    Body::stream(Compressed { inner: body, encoder: Some(Encoder::new(coding)), trailers: None })
}

fn contains_token(value: &HeaderValue, token: &[u8]) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token))
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(5))),
            // Quality 4 and a window of 1 MiB: about gzip's speed, and smaller.
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20))),
        }
    }

    /// Takes a piece, and gives all that stands for it.
    fn piece(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        match self {
            Self::Gzip(gzip) => {
                gzip.write_all(bytes)?;
                gzip.flush()?;
                Ok(std::mem::take(gzip.get_mut()).into())
            }
            Self::Brotli(brotli) => {
                brotli.write_all(bytes)?;
                brotli.flush()?;
                Ok(std::mem::take(brotli.get_mut()).into())
            }
        }
    }

    fn end(self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(gzip) => gzip.finish().map(Bytes::from),
            Self::Brotli(brotli) => Ok(brotli.into_inner().into()),
        }
    }
}

struct Compressed {
    inner: Body,
    encoder: Option<Encoder>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            // The end may come without a frame of its own.
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                Some(Ok(frame)) => frame.into_data(),
                None => Err(Frame::data(Bytes::new())),
            };
            let made = match frame {
                Ok(data) if data.is_empty() => continue,
                Ok(data) => encoder.piece(&data),
                Err(other) => {
                    this.trailers = other.into_trailers().ok();
                    this.encoder.take().map_or_else(|| Ok(Bytes::new()), Encoder::end)
                }
            };
            match made {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(e) => return Poll::Ready(Some(Err(e.into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_best_coding_that_a_client_takes_is_chosen() {
        for (accept, coding) in [
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip", Some(Coding::Gzip)),
            ("br;q=0.1, gzip;q=0.9", Some(Coding::Gzip)),
            ("br;q=0, gzip;q=0", None),
            ("*", Some(Coding::Brotli)),
            ("*;q=0.5, br;q=0", Some(Coding::Gzip)),
            ("identity", None),
            ("gzip;q=2", None),
            ("", None),
        ] {
            assert_eq!(Coding::asked_for(&headers(&[("accept-encoding", accept)])), coding, "{accept}");
        }
        assert_eq!(Coding::asked_for(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn what_is_compressed_comes_back_the_same() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(|n| (n / 7).to_string().into_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Brotli] {
            let mut h = headers(&[("content-type", "application/json"), ("content-length", "9"), ("etag", "\"a\"")]);
            let body = answer(Some(coding), StatusCode::OK, &mut h, text.clone().into_body());
            assert_eq!((h[CONTENT_ENCODING].to_str().unwrap(), h[ETAG].to_str().unwrap()), (coding.name(), "W/\"a\""));
            assert!(!h.contains_key(CONTENT_LENGTH) && h[VARY] == "accept-encoding");
            let small = body.collect().await.unwrap().to_bytes();
            assert!(small.len() < text.len() / 2);
            let mut back = Vec::new();
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut back).unwrap(),
                Coding::Brotli => brotli::Decompressor::new(&small[..], 4096).read_to_end(&mut back).unwrap(),
            };
            assert!(back == text);
        }
    }

    trait IntoBody {
        fn into_body(self) -> Body;
    }

    impl IntoBody for Vec<u8> {
        fn into_body(self) -> Body {
            Body::from(Bytes::from(self))
        }
    }

    #[test]
    fn what_must_stay_as_it_is_is_left_alone() {
        for (status, rows) in [
            (200, &[("content-type", "image/png")][..]),
            (200, &[("content-type", "text/html"), ("content-encoding", "br")]),
            (200, &[("content-type", "text/html"), ("cache-control", "public, no-transform")]),
            (206, &[("content-type", "text/html"), ("content-range", "bytes 0-9/20")]),
            (304, &[("content-type", "text/html")]),
            (200, &[]),
        ] {
            let mut h = headers(rows);
            let before = h.clone();
            drop(answer(
                Some(Coding::Gzip),
                StatusCode::from_u16(status).unwrap(),
                &mut h,
                vec![b'x'; 5000].into_body(),
            ));
            assert_eq!(h, before, "{status} {rows:?}");
        }
        let mut h = headers(&[("content-type", "text/html")]);
        drop(answer(Some(Coding::Gzip), StatusCode::OK, &mut h, vec![b'x'; 10].into_body()));
        assert!(!h.contains_key(CONTENT_ENCODING) && h.contains_key(VARY));
    }
}
