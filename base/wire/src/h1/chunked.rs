//! The chunked transfer coding (RFC 9112, 7.1), read strictly.
//!
//! Lines end with CRLF alone; a size is one to sixteen hexadecimal digits; extensions are passed over, within a bound over the
//! whole body; trailers are bounded in bytes and number. Whoever reads a body more loosely than the next in line lets a client
//! smuggle requests.

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::hop::is_hop_by_hop;

/// The most bytes of all extensions of a body.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
/// The most bytes of a trailer section, and the most of its fields.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
const MAX_TRAILERS: usize = 64;

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
    extension_bytes: usize,
    trailer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a size: its value and digits so far.
    Size(u64, u8),
    /// Blanks between size and extension, or before the end of the line.
    Blank(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    End,
}

/// What a piece of input held.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Part of the body; never empty.
    Data(Bytes),
    /// The body is over; these came after it. What is left of the input is not the body's.
    End(HeaderMap),
    /// All of the input is used up.
    More,
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Self { state: State::Size(0, 0), extension_bytes: 0, trailer: Vec::new() }
    }

    /// Reads on. After an error or the end it is not to be asked again.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Piece, &'static str> {
        while let Some(&byte) = input.first() {
            if let State::Data(left) = self.state {
                let count = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - count as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                return Ok(Piece::Data(input.split_to(count)));
            }
            input.advance(1);
            self.state = match (self.state, byte) {
                (State::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    if digits == 16 {
                        return Err("a chunk size of more than 16 digits");
                    }
                    let digit = char::from(byte).to_digit(16).unwrap_or(0);
                    State::Size(size << 4 | u64::from(digit), digits + 1)
                }
                (State::Size(_, 0), _) => return Err("a chunk without a size"),
                (State::Size(size, _) | State::Blank(size), b' ' | b'\t') => {
                    self.extend()?;
                    State::Blank(size)
                }
                (State::Size(size, _) | State::Blank(size), b';') => State::Extension(size),
                (State::Size(size, _) | State::Blank(size) | State::Extension(size), b'\r') => State::SizeLf(size),
                (State::Size(..) | State::Blank(_), _) => return Err("a bad chunk size"),
                (State::Extension(_), 0..=8 | 10..=31 | 127) => return Err("a control character in a chunk extension"),
                (State::Extension(size), _) => {
                    self.extend()?;
                    State::Extension(size)
                }
                (State::SizeLf(0), b'\n') => State::Trailer,
                (State::SizeLf(size), b'\n') => State::Data(size),
                (State::DataCr, b'\r') => State::DataLf,
                (State::DataLf, b'\n') => State::Size(0, 0),
                (State::SizeLf(_), _) => return Err("a chunk size line that does not end with CRLF"),
                (State::DataCr | State::DataLf, _) => return Err("a chunk longer than its size"),
                (State::Trailer, _) => {
                    self.trailer.push(byte);
                    if byte == b'\n' && !self.trailer.ends_with(b"\r\n") {
                        return Err("a trailer line that does not end with CRLF");
                    }
                    if self.trailer == b"\r\n" || self.trailer.ends_with(b"\r\n\r\n") {
                        self.state = State::End;
                        return Ok(Piece::End(fields(&self.trailer)?));
                    }
                    if self.trailer.len() == MAX_TRAILER_BYTES {
                        return Err("trailers that are too large");
                    }
                    State::Trailer
                }
                (State::Data(_) | State::End, _) => return Err("more after the end"),
            };
        }
        Ok(Piece::More)
    }

    fn extend(&mut self) -> Result<(), &'static str> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err("chunk extensions that are too large") } else { Ok(()) }
    }
}

/// Reads a trailer section. What frames a message or routes it does not belong there and is dropped (RFC 9110, 6.5.1).
fn fields(section: &[u8]) -> Result<HeaderMap, &'static str> {
    let mut fields = HeaderMap::new();
    if section == b"\r\n" {
        return Ok(fields);
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let Ok(httparse::Status::Complete((len, lines))) = httparse::parse_headers(section, &mut lines) else {
        return Err("bad trailers");
    };
    if len != section.len() {
        return Err("bad trailers");
    }
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| "bad trailers")?;
        let value = HeaderValue::from_bytes(line.value).map_err(|_| "bad trailers")?;
        if is_trailer(&name) {
            fields.append(name, value);
        }
    }
    Ok(fields)
}

/// Whether a field may come after a body.
pub(crate) fn is_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_hop_by_hop(name)
        && !matches!(
            name,
            "content-length"
                | "host"
                | "te"
                | "trailer"
                | "expect"
                | "range"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "authorization"
                | "www-authenticate"
                | "cookie"
                | "set-cookie"
                | "cache-control"
                | "max-forwards"
                | "age"
                | "expires"
                | "date"
                | "location"
                | "retry-after"
                | "vary"
                | "warning"
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Body, trailers, and what was not the body's.
    type Read = (Vec<u8>, HeaderMap, Vec<u8>);

    /// Reads `input` cut into pieces of `step` bytes.
    fn read(input: &[u8], step: usize) -> Result<Option<Read>, &'static str> {
        let mut chunked = Chunked::new();
        let mut body = Vec::new();
        for (number, piece) in input.chunks(step).enumerate() {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                match chunked.next(&mut piece)? {
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::More => break,
                    Piece::End(trailers) => {
                        let rest = [&piece[..], &input[((number + 1) * step).min(input.len())..]].concat();
                        return Ok(Some((body, trailers, rest)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn check(input: &str, expected: Result<Option<(&str, &str)>, &str>) {
        for step in [1, 2, 3, 7, input.len().max(1)] {
            let outcome = read(input.as_bytes(), step);
            let seen = outcome.map(|o| o.map(|(body, _, rest)| (body, rest)));
            let expected = expected.map(|o| o.map(|(body, rest)| (body.as_bytes().to_vec(), rest.as_bytes().to_vec())));
            assert_eq!(seen, expected, "{input:?} in pieces of {step}");
        }
    }

    #[test]
    fn what_is_well_formed_is_read() {
        check("0\r\n\r\n", Ok(Some(("", ""))));
        check("3\r\nabc\r\n0\r\n\r\n", Ok(Some(("abc", ""))));
        check("3\r\nabc\r\n2\r\nde\r\n000\r\n\r\nHTTP", Ok(Some(("abcde", "HTTP"))));
        check("A\r\n0123456789\r\n0\r\n\r\n", Ok(Some(("0123456789", ""))));
        check("3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", Ok(Some(("abc", ""))));
        check("3 \t;a\r\nabc\r\n0  \r\n\r\n", Ok(Some(("abc", ""))));
        check("3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", Ok(Some(("abc", ""))));
        check("3\r\nab", Ok(None));
        check("0\r\n\r", Ok(None));
    }

    #[test]
    fn what_is_not_is_refused() {
        check("\r\n", Err("a chunk without a size"));
        check(" 3\r\nabc", Err("a chunk without a size"));
        check("-3\r\n", Err("a chunk without a size"));
        check("+3\r\n", Err("a chunk without a size"));
        check("0x3\r\n", Err("a bad chunk size"));
        check("3\nabc", Err("a bad chunk size"));
        check("3;a\nabc", Err("a control character in a chunk extension"));
        check("3;a\0\r\n", Err("a control character in a chunk extension"));
        check("3\rabc", Err("a chunk size line that does not end with CRLF"));
        check("3 4\r\n", Err("a bad chunk size"));
        check("3\r\nabcd\r\n", Err("a chunk longer than its size"));
        check("3\r\nabc\n0", Err("a chunk longer than its size"));
        check("3\r\nabc\r0", Err("a chunk longer than its size"));
        check("00000000000000003\r\n", Err("a chunk size of more than 16 digits"));
        check("0\r\nx: 1\n\r\n", Err("a trailer line that does not end with CRLF"));
        check("0\r\n bad\r\n\r\n", Err("bad trailers"));
        check("0\r\nx : 1\r\n\r\n", Err("bad trailers"));
        check(&format!("3;{}\r\n", "a".repeat(MAX_EXTENSION_BYTES + 1)), Err("chunk extensions that are too large"));
        check(&format!("0\r\nx: {}", "a".repeat(MAX_TRAILER_BYTES)), Err("trailers that are too large"));
        check(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(MAX_TRAILERS + 1)), Err("bad trailers"));
    }

    #[test]
    fn trailers_that_frame_or_route_are_dropped() {
        let input = "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\nGrpc-Status: 0\r\n\r\n";
        let (_, trailers, _) = read(input.as_bytes(), 1000).unwrap().unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["grpc-status"], "0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_alike_however_they_are_cut(
            input in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), Just(b' '), Just(b'a'), any::<u8>(),
            ], 0..60),
            step in 1_usize..9,
        ) {
            prop_assert_eq!(read(&input, step), read(&input, 1000));
        }

        #[test]
        fn what_was_cut_into_chunks_comes_back(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            step in 1_usize..40,
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend(format!("{:x}\r\n", chunk.len()).bytes());
                input.extend(chunk);
                input.extend(b"\r\n");
            }
            input.extend(b"0\r\n\r\nrest");
            let (body, _, rest) = read(&input, step).unwrap().unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(rest, b"rest");
        }
    }
}
