//! Who asks: the peer of the connection, or whom a proxy that the operator trusts names in `X-Forwarded-For`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use kernel::Network;

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
        text.parse().unwrap()
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
