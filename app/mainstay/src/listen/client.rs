//! Who asks: the peer of the connection, or whom a proxy that the operator trusts names in `X-Forwarded-For`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use kernel::config::{ConfigValue, Value};

/// An address, or all that share its first bits (RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, `2001:db8::/32`, or one address. Bits after the prefix have to be zero, as they are in no network.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(width), |p| p.parse().ok().filter(|p| *p <= width))?;
        let this = Self { address, prefix };
        (this.masked(address) == bits(address)).then_some(this)
    }

    /// Whether `address`, which is not mapped, lies in it.
    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == bits(self.address)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        bits(address) & mask
    }
}

/// The address from the top of a number as wide as IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl ConfigValue for Network {
    const KIND: &'static str = "network";
    const TEXT: bool = true;

    fn read(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or("expected an address or a network such as \"10.0.0.0/8\"")?;
        Self::parse(text).ok_or_else(|| {
            format!(
                "expected an address or a network such as \"10.0.0.0/8\" without bits after its prefix, not {text:?}"
            )
        })
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// The proxies that are believed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Arc<[Network]>);

impl Proxies {
    pub(crate) fn new(trusted: &[Network]) -> Self {
        Self(trusted.into())
    }

    /// Whether this peer may speak for others.
    pub(crate) fn are_trusted(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(peer))
    }

    /// The client: walking back from `peer` through the values of `X-Forwarded-For`, last line and last entry first, the first
    /// address that is no trusted proxy. What stands before it was written by whoever wanted, and is not read. Behind an entry
    /// that is no address (`unknown`, an obfuscated name) nobody can be told apart: then it is the proxy that wrote it.
    pub(crate) fn client<'a, I>(&self, peer: IpAddr, forwarded_for: impl FnOnce() -> I) -> IpAddr
    where
        I: DoubleEndedIterator<Item = &'a [u8]>,
    {
        let mut client = peer.to_canonical();
        if !self.are_trusted(client) {
            return client;
        }
        for entry in forwarded_for().rev().flat_map(|line| line.rsplit(|b| *b == b',')) {
            let Some(address) = std::str::from_utf8(entry).ok().and_then(address) else { break };
            client = address;
            if !self.are_trusted(client) {
                break;
            }
        }
        client
    }
}

/// An entry: an address, which some proxies give with a port or in brackets.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    let bare = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse().map(|a: SocketAddr| a.ip())).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn networks_hold_what_shares_their_prefix() {
        for (text, address, is_in) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::a00:1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/33", "2001:db8:7fff::", true),
            ("2001:db8::/33", "2001:db8:8000::", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(network(text).contains(address.parse().unwrap()), is_in, "{text} {address}");
        }
        for bad in ["", "10", "10.0.0.0/33", "::/129", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/x", "example.com"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert_eq!(Network::read(&Value::String("10.0.0.0/8".to_owned())).unwrap().show(), "\"10.0.0.0/8\"");
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let proxies = Proxies::new(&[network("10.0.0.0/8"), network("2001:db8::/32")]);
        for (peer, lines, client) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9", "10.0.0.3,10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("2001:db8::1", &["[2001:db9::7]:80, [2001:db8::2]"], "2001:db9::7"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            let got = proxies.client(peer.parse().unwrap(), || lines.iter().map(|l| l.as_bytes()));
            assert_eq!(got, client.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
        let nobody = Proxies::default();
        let got = nobody.client("127.0.0.1".parse().unwrap(), || ["1.1.1.1".as_bytes()].into_iter());
        assert!(got.is_loopback());
    }
}
