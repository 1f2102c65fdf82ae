//! Hosts that a short link must not lead to: those that mean something else to each visitor, or nothing.
//!
//! A short link to `http://192.168.0.1/reboot` makes whoever follows it send a request inside of their own network. Only the text of
//! the URL is judged, never what DNS says of a name: that can change right after.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Top-level names that are not in the public DNS: RFC 6761, RFC 6762 (section 3 and appendix G), RFC 8375, ICANN's `.internal`.
const PRIVATE_SUFFIXES: [&str; 9] =
    ["localhost", "local", "internal", "home.arpa", "lan", "intranet", "corp", "home", "private"];

/// Networks of IPv4 that are not globally reachable: the IANA special-purpose registry (RFC 6890), multicast (RFC 5771) and what is
/// reserved above. As address and length of the prefix.
const PRIVATE_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Whether a host of a parsed URL is private, and not the same for everybody.
pub fn is_private(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => is_private_name(name),
        Host::Ipv4(address) => is_private_v4(*address),
        Host::Ipv6(address) => is_private_v6(*address),
    }
}

fn is_private_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // One label is looked for in the visitor's own search list.
    !name.contains('.')
        || PRIVATE_SUFFIXES
            .iter()
            .any(|suffix| name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    PRIVATE_V4.iter().any(|(network, bits)| (u32::from(address) ^ u32::from(*network)) >> (32 - bits) == 0)
}

/// Only 2000::/3 is given out (RFC 4291, IANA); loopback, unique local, link-local and multicast addresses lie outside.
fn is_private_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4 = |high: u16, low: u16| is_private_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        // What reaches a.b.c.d: ::ffff:a.b.c.d, 64:ff9b::a.b.c.d (NAT64, RFC 6052), 2002:a.b.c.d:: (6to4, RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // 2001::/23 is for protocols, Teredo among them; 2001:db8::/32 and 3fff::/20 are for documentation.
        [0x2001, second, ..] => second < 0x200 || second == 0xdb8,
        [0x3fff, second, ..] => second < 0x1000,
        [first, ..] => first >> 13 != 1,
    }
}

/// The host of a URL as it is compared: in lower case by the parser, without the dot that a name may end with.
pub fn host_of(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    Some(host.strip_suffix('.').unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(url: &str) -> bool {
        is_private(&Url::parse(url).unwrap_or_else(|e| panic!("{url}: {e}")).host().unwrap())
    }

    #[test]
    fn what_is_private() {
        for url in [
            "http://localhost/",
            "http://LOCALHOST:8080/",
            "http://localhost./",
            "http://app.localhost/",
            "http://printer.local/",
            "http://metadata.google.internal/",
            "http://nas.home.arpa/",
            "http://router.lan/",
            "http://intranet/",
            "http://%6c%6fcalhost/",
            "http://ｌｏｃａｌｈｏｓｔ/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.0x1/",
            "http://0177.0.0.01/",
            "http://017700000001/",
            "http://１２７.0.0.1/",
            "http://127。0。0。1/",
            "http://0/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://100.64.0.1/",
            "http://100.127.255.255/",
            "http://169.254.169.254/latest/meta-data/",
            "http://172.16.0.1/",
            "http://172.31.255.255/",
            "http://192.0.0.1/",
            "http://192.0.2.1/",
            "http://192.168.1.1/",
            "http://198.19.0.1/",
            "http://198.51.100.7/",
            "http://203.0.113.7/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b:1::8.8.8.8]/",
            "http://[2002:c0a8:101::1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001::1]/",
            "http://[2001:db8::1]/",
            "http://[3fff:fff::1]/",
            "http://[100::1]/",
            "http://[fc00::1]/",
            "http://[fd12:3456::1]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
        ] {
            assert!(judge(url), "{url} should be private");
        }
    }

    #[test]
    fn what_is_public() {
        for url in [
            "https://example.com/",
            "https://example.com./",
            "https://bücher.example/",
            "https://mylocalhost.example/",
            "https://localhost.example.com/",
            "https://notlocal.example/",
            "https://local.example/",
            "http://8.8.8.8/",
            "http://134744072/",
            "http://100.63.255.255/",
            "http://100.128.0.1/",
            "http://172.15.0.1/",
            "http://172.32.0.1/",
            "http://192.0.3.1/",
            "http://198.17.0.1/",
            "http://198.20.0.1/",
            "http://223.255.255.255/",
            "http://[2606:4700:4700::1111]/",
            "http://[2001:4860:4860::8888]/",
            "http://[2001:200::1]/",
            "http://[3fff:1000::1]/",
            "http://[::ffff:8.8.8.8]/",
            "http://[64:ff9b::8.8.8.8]/",
            "http://[2002:808:808::1]/",
        ] {
            assert!(!judge(url), "{url} should be public");
        }
    }

    proptest! {
        /// However an address is spelled, it is judged as the address that it is.
        #[test]
        fn spellings_do_not_matter(bits in any::<u32>(), spelling in 0..6_u8) {
            let address = Ipv4Addr::from(bits);
            let [a, b, c, d] = address.octets();
            let text = match spelling {
                0 => format!("{bits}"),
                1 => format!("{bits:#x}"),
                2 => format!("0{bits:o}"),
                3 => format!("{a:#x}.0{b:o}.{}", u32::from(c) << 8 | u32::from(d)),
                4 => format!("[::ffff:{address}]"),
                _ => format!("[64:ff9b::{address}]"),
            };
            prop_assert_eq!(judge(&format!("http://{text}/")), is_private_v4(address));
        }

        /// The standard library's own judgement is never stricter than ours.
        #[test]
        fn what_the_standard_library_calls_private_is_private(bits in any::<u32>(), high in any::<u128>()) {
            let v4 = Ipv4Addr::from(bits);
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_unspecified() || v4.is_broadcast() || v4.is_documentation();
            prop_assert!(!is_special || is_private_v4(v4), "{v4}");
            let v6 = Ipv6Addr::from(high);
            let is_special = v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast()
                || v6.is_loopback() || v6.is_unspecified();
            prop_assert!(!is_special || is_private_v6(v6), "{v6}");
        }
    }
}
