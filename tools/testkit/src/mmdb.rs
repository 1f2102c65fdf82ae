//! A small MMDB file, made as the public description of the format (MaxMind DB 2.0) says: a binary tree over the bits of addresses, then
//! the records, then the metadata.

use std::net::IpAddr;

/// In the tree of IPv6, IPv4 addresses stand below 96 zeros.
fn bits(address: &str, prefix: usize) -> Vec<bool> {
    let (octets, prefix) = match address.parse().expect("an address") {
        IpAddr::V4(v4) => (v4.to_ipv6_compatible().octets(), prefix + 96),
        IpAddr::V6(v6) => (v6.octets(), prefix),
    };
    (0..prefix).map(|i| octets[i / 8] >> (7 - i % 8) & 1 == 1).collect()
}

#[derive(Clone, Copy)]
enum To {
    Nothing,
    Node(usize),
    Record(usize),
}

fn text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 29);
    out.push(2 << 5 | u8::try_from(text.len()).expect("it fits"));
    out.extend_from_slice(text.as_bytes());
}

fn map(out: &mut Vec<u8>, size: u8) {
    out.push(7 << 5 | size);
}

fn number(out: &mut Vec<u8>, kind: u8, n: u32) {
    out.push(kind << 5 | 4);
    out.extend_from_slice(&n.to_be_bytes());
}

/// A database of networks (an address and how many of its bits are meant) and their countries.
///
/// # Panics
/// When an address or a code of a country is none.
pub fn countries(networks: &[(&str, usize, &str)]) -> Vec<u8> {
    let mut nodes = vec![[To::Nothing; 2]];
    let mut data = Vec::new();
    for (address, prefix, country) in networks {
        let record = data.len();
        map(&mut data, 1);
        text(&mut data, "country");
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, country);
        let path = bits(address, *prefix);
        let mut at = 0;
        for (depth, bit) in path.iter().enumerate() {
            let side = usize::from(*bit);
            if depth + 1 == path.len() {
                nodes[at][side] = To::Record(record);
            } else if let To::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([To::Nothing; 2]);
                nodes[at][side] = To::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
    }
    let mut out = Vec::new();
    for to in nodes.iter().flatten() {
        let pointer = match to {
            To::Nothing => nodes.len(),
            To::Node(node) => *node,
            To::Record(at) => nodes.len() + 16 + at,
        };
        // Pointers of 24 bits.
        out.extend_from_slice(&u32::try_from(pointer).expect("it fits").to_be_bytes()[1..]);
    }
    out.extend_from_slice(&[0; 16]);
    out.extend(data);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    map(&mut out, 9);
    for (key, kind, n) in [
        ("binary_format_major_version", 5, 2),
        ("binary_format_minor_version", 5, 0),
        ("ip_version", 5, 6),
        ("record_size", 5, 24),
        ("node_count", 6, u32::try_from(nodes.len()).expect("it fits")),
    ] {
        text(&mut out, key);
        if kind == 5 {
            out.push(kind << 5 | 2);
            out.extend_from_slice(&u16::try_from(n).expect("it fits").to_be_bytes());
        } else {
            number(&mut out, kind, n);
        }
    }
    text(&mut out, "build_epoch");
    // A type above 7 stands in a second byte: uint64 is 9.
    out.extend_from_slice(&[8, 2]);
    out.extend_from_slice(&1_795_478_400_u64.to_be_bytes());
    text(&mut out, "database_type");
    text(&mut out, "Test-Country");
    text(&mut out, "description");
    map(&mut out, 1);
    text(&mut out, "en");
    text(&mut out, "for a test");
    text(&mut out, "languages");
    out.extend_from_slice(&[0, 4]);
    out
}
