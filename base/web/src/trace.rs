//! W3C Trace Context (Level 1 Recommendation, 2021, with the randomness flag of Level 2): `traceparent` and `tracestate`.
//!
//! A header that breaks the rules is not repaired: it is ignored and a new trace starts, as the specification asks.

use std::fmt;

use http::HeaderMap;
use kernel::Rng;

/// The header with ids and flags.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what other systems keep in the trace.
pub const TRACESTATE: &str = "tracestate";
const MAX_STATE_MEMBERS: usize = 32;
/// A longer `tracestate` is dropped (the specification asks for at least this much).
const MAX_STATE_CHARS: usize = 512;

/// `traceparent` as it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never all zero.
    pub trace_id: [u8; 16],
    /// The caller's span; never all zero.
    pub parent_id: [u8; 8],
    /// Bit 0: the caller samples this trace. Bit 1: the trace id is random.
    pub flags: u8,
}

impl TraceParent {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`, lower case only. A later version may append fields after another `-`; version `ff`
    /// and ids of zeros are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let [version] = hex::<1>(bytes.get(0..2)?)?;
        let shape = bytes.len() >= 55
            && [2, 35, 52].iter().all(|&i| bytes[i] == b'-')
            && match version {
                0xff => false,
                0 => bytes.len() == 55,
                _ => bytes.len() == 55 || bytes[55] == b'-',
            };
        if !shape {
            return None;
        }
        let trace_id = hex::<16>(&bytes[3..35])?;
        let parent_id = hex::<8>(&bytes[36..52])?;
        let [flags] = hex::<1>(&bytes[53..55])?;
        // Of a later version only the sampled bit is understood.
        let flags = if version == 0 { flags } else { flags & 1 };
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(Self { trace_id, parent_id, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", Hex(&self.trace_id), Hex(&self.parent_id), self.flags)
    }
}

/// The trace of a request, with the span that this server gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// This server's span, the child of `parent_id`.
    pub span_id: [u8; 8],
    /// The caller's span, when the request came with a valid `traceparent`.
    pub parent_id: Option<[u8; 8]>,
    /// Flags as in [`TraceParent::flags`].
    pub flags: u8,
    /// `tracestate`, to be sent on unchanged; empty when there is none.
    pub state: String,
}

const FLAG_SAMPLED: u8 = 1;
const FLAG_RANDOM: u8 = 2;

impl TraceContext {
    /// Continues the caller's trace, or starts one.
    pub fn from_headers(headers: &HeaderMap, rng: &Rng) -> Self {
        let span_id = nonzero(rng);
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = match (parents.next(), parents.next()) {
            (Some(one), None) => one.to_str().ok().and_then(TraceParent::parse),
            _ => None,
        };
        match parent {
            Some(p) => Self {
                trace_id: p.trace_id,
                span_id,
                parent_id: Some(p.parent_id),
                flags: p.flags & (FLAG_SAMPLED | FLAG_RANDOM),
                state: read_state(headers).unwrap_or_default(),
            },
            None => Self {
                trace_id: nonzero(rng),
                span_id,
                parent_id: None,
                flags: FLAG_SAMPLED | FLAG_RANDOM,
                state: String::new(),
            },
        }
    }

    /// Whether the trace is recorded.
    pub fn sampled(&self) -> bool {
        self.flags & FLAG_SAMPLED != 0
    }

    /// The trace id in hexadecimal.
    pub fn trace_id_hex(&self) -> String {
        Hex(&self.trace_id).to_string()
    }

    /// This server's span id in hexadecimal.
    pub fn span_id_hex(&self) -> String {
        Hex(&self.span_id).to_string()
    }

    /// The `traceparent` of calls made for this request.
    pub fn traceparent(&self) -> String {
        TraceParent { trace_id: self.trace_id, parent_id: self.span_id, flags: self.flags }.to_string()
    }
}

/// Joins and checks `tracestate`; `None` when a member breaks the rules, which loses the state but not the trace.
fn read_state(headers: &HeaderMap) -> Option<String> {
    let mut keys: Vec<&str> = Vec::new();
    let mut out = String::new();
    for value in headers.get_all(TRACESTATE) {
        for member in value.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue; // empty members are allowed
            }
            let (key, value) = member.split_once('=')?;
            if !is_state_key(key) || !is_state_value(value) || keys.contains(&key) || keys.len() == MAX_STATE_MEMBERS {
                return None;
            }
            keys.push(key);
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(member);
        }
    }
    (out.len() <= MAX_STATE_CHARS).then_some(out)
}

fn is_state_key(key: &str) -> bool {
    let rest_ok = |s: &str| {
        s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/'))
    };
    let starts = |s: &str, digit: bool| {
        s.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || (digit && b.is_ascii_digit())) && rest_ok(s)
    };
    match key.split_once('@') {
        None => key.len() <= 256 && starts(key, false),
        Some((tenant, system)) => {
            tenant.len() <= 241 && starts(tenant, true) && system.len() <= 14 && starts(system, false)
        }
    }
}

fn is_state_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b',' && b != b'=')
}

fn nonzero<const N: usize>(rng: &Rng) -> [u8; N] {
    let mut id = rng.bytes::<N>();
    // All zero means "invalid" on the wire.
    if id == [0; N] {
        id[N - 1] = 1;
    }
    id
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(out)
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
