//! The first message of TLS, read without answering it: which host the client asks for.
//!
//! Source: RFC 8446 §4.1.2 and §5.1 (RFC 5246 has the same form), RFC 6066 §3 (server name), RFC 7301 (ALPN).
//!
//! - HELLO-1: any bytes give a part, a whole message or a refusal; nothing is read outside of them and at most [`MAX_BYTES`] are
//!   waited for.
//! - HELLO-2: what is read here is what rustls reads of the same bytes.

use std::fmt;

/// The longest message that is waited for, with the headers of its records, bytes. One with post-quantum keys is about 2 KiB.
pub const MAX_BYTES: usize = 16 * 1024;
/// The most plaintext of a record (RFC 8446 §5.1).
const MAX_RECORD_BYTES: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What of it matters for routing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The host name (SNI) in lower case; never an address.
    pub server_name: Option<String>,
    /// The protocols that the client speaks, best first.
    pub alpn: Vec<Vec<u8>>,
}

/// What the bytes that came are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The beginning of one; more has to come.
    Part,
    /// All of one.
    Whole(ClientHello),
}

/// Bytes that are no ClientHello; why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTls(pub &'static str);

impl fmt::Display for NotTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no TLS client: {}", self.0)
    }
}

impl std::error::Error for NotTls {}

/// Looks at the beginning of a connection.
pub fn look(input: &[u8]) -> Result<Seen, NotTls> {
    // The message may lie in several records.
    let mut message = Vec::new();
    let mut rest = input;
    loop {
        if let Some(body) = whole(&message)? {
            return read(body).ok_or(NotTls("its first message breaks the form")).map(Seen::Whole);
        }
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Err(NotTls("it begins with no handshake"));
        }
        if rest.get(1).is_some_and(|major| *major != 3) {
            return Err(NotTls("its version is unknown"));
        }
        let Some((head, after)) = rest.split_at_checked(5) else { break };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 || length > MAX_RECORD_BYTES {
            return Err(NotTls("a record is empty or too long"));
        }
        // What is here of the last record counts already: a refusal need not wait.
        let here = &after[..length.min(after.len())];
        message.extend_from_slice(here);
        rest = &after[here.len()..];
        if here.len() < length {
            if let Some(body) = whole(&message)? {
                return read(body).ok_or(NotTls("its first message breaks the form")).map(Seen::Whole);
            }
            break;
        }
    }
    if input.len() >= MAX_BYTES { Err(NotTls("its first message is longer than 16 KiB")) } else { Ok(Seen::Part) }
}

/// The body of the message, when all of it is here.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, NotTls> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NotTls("its first message is no ClientHello"));
    }
    let Some((head, body)) = message.split_at_checked(4) else { return Ok(None) };
    let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
    if length > MAX_BYTES {
        return Err(NotTls("its first message is longer than 16 KiB"));
    }
    Ok(body.get(..length))
}

fn read(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // version, random
    body.list8()?; // session id
    body.list16()?; // cipher suites
    body.list8()?; // compression methods
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.list16()?);
    if !body.0.is_empty() {
        return None;
    }
    let (mut has_name, mut has_alpn) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let value = extensions.list16()?;
        match kind {
            SERVER_NAME => {
                // Twice the same extension is refused (§4.2): two readers could believe different ones.
                if std::mem::replace(&mut has_name, true) {
                    return None;
                }
                hello.server_name = server_name(value)?;
            }
            ALPN => {
                if std::mem::replace(&mut has_alpn, true) {
                    return None;
                }
                let mut names = Reader(exactly(value)?);
                while !names.0.is_empty() {
                    let name = names.list8()?;
                    if name.is_empty() {
                        return None;
                    }
                    hello.alpn.push(name.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The one host name. `Some(None)` for an address, which RFC 6066 does not allow and clients send.
fn server_name(value: &[u8]) -> Option<Option<String>> {
    let mut names = Reader(exactly(value)?);
    let kind = names.take(1)?[0];
    let name = names.list16()?;
    // One name of the only kind there is; everybody refuses or sends nothing else.
    if kind != 0 || !names.0.is_empty() {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Some(None);
    }
    is_host(bare).then(|| Some(bare.to_ascii_lowercase()))
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63, 253 in all (RFC 1123 §2.1).
pub(crate) fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// What a list of 16 bits of length holds that fills `value`.
fn exactly(value: &[u8]) -> Option<&[u8]> {
    let mut value = Reader(value);
    let inside = value.list16()?;
    (value.0.is_empty() && !inside.is_empty()).then_some(inside)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn list8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length)
    }

    fn list16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.number16()?);
        self.take(length)
    }
}
