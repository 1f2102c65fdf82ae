//! The PROXY protocol, versions 1 and 2: who the client of a connection is, told by the proxy before it.
//!
//! Source: HAProxy, "The PROXY protocol, versions 1 & 2" (2020-03-05), sections 2.1 and 2.2.
//!
//! - PROXY-1: whether a header comes is agreed beforehand and never guessed: [`accept`] is for connections that must begin with one.
//! - PROXY-2: no byte after the header is taken from the stream.
//! - PROXY-3: what does not hold to the format ends the connection; nothing of it is believed. At most [`MAX_BYTES`] are read.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::ProxyVersion;

/// The longest header that is accepted, bytes. The format allows 64 KiB of extensions, which nobody sends.
pub const MAX_BYTES: usize = 4096;
/// The longest line of version 1, with its CRLF (section 2.1).
const MAX_V1_BYTES: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of what follows.
const FIXED_BYTES: usize = 16;

/// Extensions of version 2 (section 2.2.1 to 2.2.8).
pub mod tlv {
    /// The protocol that was chosen by ALPN.
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// CRC-32C of the whole header with this value as zeros.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// At most 128 bytes that name the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What is known of the client's TLS.
    pub const SSL: u8 = 0x20;
}

/// Whether bytes or datagrams follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Stream,
    /// UDP; version 2 alone can say it.
    Datagram,
}

/// A header that came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyHeader {
    /// Client and the address that it connected to. `None` when the proxy speaks for itself (a health check, `LOCAL`) or does not
    /// know (`UNKNOWN`, `UNSPEC`, Unix sockets): then the addresses of the connection hold.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Whether bytes or datagrams were forwarded.
    pub transport: Transport,
    /// The extensions, whole and well-formed.
    extensions: Vec<u8>,
}

impl ProxyHeader {
    /// The client, when it is told.
    pub fn source(&self) -> Option<SocketAddr> {
        self.addresses.map(|(source, _)| source)
    }

    /// The first extension of a kind ([`tlv`]).
    pub fn extension(&self, kind: u8) -> Option<&[u8]> {
        extensions(&self.extensions).find_map(|e| e.ok().filter(|(k, _)| *k == kind)).map(|(_, value)| value)
    }
}

/// What the bytes that came are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The beginning of a header; at least so many bytes are missing, all of which belong to it.
    Part {
        /// At least 1.
        missing: usize,
    },
    /// A header, and how many bytes it is.
    Whole(ProxyHeader, usize),
}

/// Bytes that are no header; why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no PROXY header: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Looks at the beginning of a connection.
pub fn decode(input: &[u8]) -> Result<Decoded, Malformed> {
    let common = input.len().min(SIGNATURE.len());
    if common > 0 && input[..common] == SIGNATURE[..common] {
        return decode_v2(input);
    }
    let line = b"PROXY ";
    let common = input.len().min(line.len());
    if input[..common] != line[..common] {
        return Err(Malformed("it begins otherwise"));
    }
    decode_v1(input)
}

fn decode_v1(input: &[u8]) -> Result<Decoded, Malformed> {
    let seen = &input[..input.len().min(MAX_V1_BYTES)];
    let Some(end) = seen.iter().position(|b| *b == b'\n') else {
        // The shortest line, `PROXY UNKNOWN\r\n`, is 15 bytes; later only the end of the line is sure to be missing.
        return if seen.len() == MAX_V1_BYTES {
            Err(Malformed("the line does not end within 107 bytes"))
        } else {
            Ok(Decoded::Part { missing: 15_usize.saturating_sub(seen.len()).max(1) })
        };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(Malformed("the line does not end with CRLF"))?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed("the line is not ASCII"))?;
    let len = end + 1;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Decoded::Whole(ProxyHeader::default(), len));
    }
    let (source, destination) = (words.next(), words.next());
    let (source_port, destination_port) = (port(words.next())?, port(words.next())?);
    if words.next().is_some() {
        return Err(Malformed("there are words after the ports"));
    }
    let addresses = match family {
        Some("TCP4") => (ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?),
        Some("TCP6") => (ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?),
        _ => return Err(Malformed("the family is not TCP4, TCP6 or UNKNOWN")),
    };
    let addresses = (SocketAddr::new(addresses.0, source_port), SocketAddr::new(addresses.1, destination_port));
    Ok(Decoded::Whole(ProxyHeader { addresses: Some(addresses), ..ProxyHeader::default() }, len))
}

fn ip<A: std::str::FromStr + Into<IpAddr>>(text: Option<&str>) -> Result<IpAddr, Malformed> {
    text.and_then(|t| t.parse::<A>().ok()).map(Into::into).ok_or(Malformed("an address is not one of its family"))
}

fn port(text: Option<&str>) -> Result<u16, Malformed> {
    let text = text.ok_or(Malformed("a port is missing"))?;
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_canonical).ok_or(Malformed("a port is not a number of 0 to 65535"))
}

fn decode_v2(input: &[u8]) -> Result<Decoded, Malformed> {
    let Some((fixed, rest)) = input.split_at_checked(FIXED_BYTES) else {
        return Ok(Decoded::Part { missing: FIXED_BYTES - input.len() });
    };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("its version or command is unknown")),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED_BYTES + length > MAX_BYTES {
        return Err(Malformed("it is longer than 4096 bytes"));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Decoded::Part { missing: length - rest.len() });
    };
    let len = FIXED_BYTES + length;
    if is_local {
        return Ok(Decoded::Whole(ProxyHeader::default(), len));
    }
    let transport = match fixed[13] & 0x0f {
        0 | 1 => Transport::Stream,
        2 => Transport::Datagram,
        _ => return Err(Malformed("its transport is unknown")),
    };
    let split = |count: usize| body.split_at_checked(count).ok_or(Malformed("it is too short for its addresses"));
    let (addresses, extra) = match fixed[13] >> 4 {
        0 => (None, body),
        1 => {
            let (a, extra) = split(12)?;
            let v4 = |at: usize| IpAddr::from([a[at], a[at + 1], a[at + 2], a[at + 3]]);
            (Some(pair(v4(0), v4(4), &a[8..])), extra)
        }
        2 => {
            let (a, extra) = split(36)?;
            let v6 = |at: usize| {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&a[at..at + 16]);
                IpAddr::from(bytes)
            };
            (Some(pair(v6(0), v6(16), &a[32..])), extra)
        }
        3 => (None, split(216)?.1),
        _ => return Err(Malformed("its family is unknown")),
    };
    for extension in extensions(extra) {
        let (kind, value) = extension?;
        if kind == tlv::CRC32C {
            check_sum(&input[..len], value)?;
        }
    }
    // Without a transport (UNSPEC) the addresses mean nothing.
    let addresses = addresses.filter(|_| fixed[13] & 0x0f != 0);
    Ok(Decoded::Whole(ProxyHeader { addresses, transport, extensions: extra.to_vec() }, len))
}

fn pair(source: IpAddr, destination: IpAddr, ports: &[u8]) -> (SocketAddr, SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    (SocketAddr::new(source, port(0)), SocketAddr::new(destination, port(2)))
}

/// Kind and value of each extension.
fn extensions(bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = rest.split_at_checked(3).and_then(|(head, after)| {
            let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes([head[1], head[2]])))?;
            Some((head[0], value, after))
        });
        let Some((kind, value, after)) = whole else {
            rest = &[];
            return Some(Err(Malformed("an extension is longer than what is there")));
        };
        rest = after;
        Some(Ok((kind, value)))
    })
}

fn check_sum(header: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let said = <[u8; 4]>::try_from(value).map_err(|_| Malformed("its checksum is not of four bytes"))?;
    // `value` is a part of `header`.
    let at = value.as_ptr().addr() - header.as_ptr().addr();
    let parts = [&header[..at], &[0; 4], &header[at + 4..]];
    if crc32c(&parts) == u32::from_be_bytes(said) { Ok(()) } else { Err(Malformed("its checksum does not hold")) }
}

/// CRC-32C (Castagnoli), bit by bit: headers are short and rare.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut sum = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

/// Appends a header. `addresses` are those of the client and of what it connected to; `None` says that the connection is the
/// proxy's own. Where one is IPv4 and the other IPv6 both are sent as IPv6. Version 1 has no extensions and no datagrams.
///
/// Extensions that do not fit into 4 KiB are left out.
pub fn encode(
    version: ProxyVersion,
    addresses: Option<(SocketAddr, SocketAddr)>,
    transport: Transport,
    with: &[(u8, &[u8])],
    out: &mut Vec<u8>,
) {
    let addresses = addresses.map(|(source, destination)| {
        let (a, b) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let (a, b) = match (a, b) {
            (IpAddr::V4(a), IpAddr::V6(b)) => (a.to_ipv6_mapped().into(), b.into()),
            (IpAddr::V6(a), IpAddr::V4(b)) => (a.into(), b.to_ipv6_mapped().into()),
            same => same,
        };
        (SocketAddr::new(a, source.port()), SocketAddr::new(b, destination.port()))
    });
    match version {
        ProxyVersion::V1 => {
            let line = addresses.map_or_else(
                || "PROXY UNKNOWN\r\n".to_owned(),
                |(a, b)| {
                    let family = if a.is_ipv4() { "TCP4" } else { "TCP6" };
                    format!("PROXY {family} {} {} {} {}\r\n", a.ip(), b.ip(), a.port(), b.port())
                },
            );
            out.extend_from_slice(line.as_bytes());
        }
        ProxyVersion::V2 => {
            let begin = out.len();
            out.extend_from_slice(SIGNATURE);
            let kind = if transport == Transport::Stream { 1 } else { 2 };
            match addresses {
                None => out.extend_from_slice(&[0x20, 0, 0, 0]),
                Some((a, b)) => {
                    out.extend_from_slice(&[0x21, if a.is_ipv4() { 0x10 } else { 0x20 } | kind, 0, 0]);
                    for address in [a, b] {
                        match address.ip() {
                            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                        }
                    }
                    out.extend_from_slice(&a.port().to_be_bytes());
                    out.extend_from_slice(&b.port().to_be_bytes());
                    for (kind, value) in with {
                        let Ok(length) = u16::try_from(value.len()) else { continue };
                        if out.len() - begin + 3 + value.len() <= MAX_BYTES {
                            out.push(*kind);
                            out.extend_from_slice(&length.to_be_bytes());
                            out.extend_from_slice(value);
                        }
                    }
                }
            }
            let length = u16::try_from(out.len() - begin - FIXED_BYTES).unwrap_or(u16::MAX);
            out[begin + 14..begin + FIXED_BYTES].copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Reads the header that a connection begins with, and nothing behind it. Give it a time limit.
///
/// What is there is looked at before it is taken (`MSG_PEEK`), so that the stream needs no buffer of its own afterwards.
///
/// # Errors
/// `InvalidData` with [`Malformed`] inside, `UnexpectedEof`, and what the socket says.
pub async fn accept(stream: &mut TcpStream) -> io::Result<ProxyHeader> {
    let mut header = Vec::with_capacity(MAX_V1_BYTES);
    loop {
        let missing = match decode(&header).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
            Decoded::Whole(header, _) => return Ok(header),
            Decoded::Part { missing } => missing,
        };
        let had = header.len();
        // A line may be shorter than it could be: look how far it goes.
        header.resize(had + missing.max(MAX_V1_BYTES), 0);
        let seen = stream.peek(&mut header[had..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        header.truncate(had + seen);
        let take = match decode(&header).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
            Decoded::Whole(_, len) => len - had,
            Decoded::Part { .. } => seen,
        };
        header.truncate(had + take);
        stream.read_exact(&mut header[had..]).await?;
    }
}

#[cfg(test)]
mod tests;
