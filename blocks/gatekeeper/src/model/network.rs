//! Sets of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks, as ranges that do not overlap, sorted: asking takes a binary search. IPv4 and IPv4 mapped into IPv6 (RFC 4291 §2.5.5.2) are the
/// same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// From CIDR texts (RFC 4632) and single addresses; on failure the index of each that is neither, and why.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<(usize, String)>> {
        let (mut v4, mut v6, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            match parse_one(text) {
                Ok(Range::V4(first, last)) => v4.push((first, last)),
                Ok(Range::V6(first, last)) => v6.push((first, last)),
                Err(why) => wrong.push((index, why)),
            }
        }
        if wrong.is_empty() { Ok(Self { v4: merged(v4), v6: merged(v6) }) } else { Err(wrong) }
    }

    /// Whether it is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => is_in(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => is_in(&self.v6, v6.to_bits()),
        }
    }

    /// Whether it holds no address at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

fn parse_one(text: &str) -> Result<Range, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let given: IpAddr =
        address.parse().map_err(|_| format!("{text:?} is no address and no network such as 10.0.0.0/8"))?;
    let bits = if given.is_ipv4() { 32 } else { 128 };
    let length: u32 = match length {
        None => bits,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|n| *n <= bits).ok_or_else(|| format!("{text:?}: the length is 0 to {bits}"))?
        }
        Some(_) => return Err(format!("{text:?}: the length is 0 to {bits}")),
    };
    let host_bits = bits - length;
    match given {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            check(v4.to_bits() & !mask == 0, text, || Ipv4Addr::from_bits(v4.to_bits() & mask).to_string(), length)?;
            Ok(Range::V4(v4.to_bits(), v4.to_bits() | !mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            check(v6.to_bits() & !mask == 0, text, || Ipv6Addr::from_bits(v6.to_bits() & mask).to_string(), length)?;
            match v6.to_ipv4_mapped() {
                Some(v4) if length >= 96 => parse_one(&format!("{v4}/{}", length - 96)),
                _ => Ok(Range::V6(v6.to_bits(), v6.to_bits() | !mask)),
            }
        }
    }
}

/// Bits past the length are a mistake more often than not: `10.1.2.3/8` lets sixteen million addresses in.
fn check(is_clean: bool, text: &str, meant: impl Fn() -> String, length: u32) -> Result<(), String> {
    if is_clean {
        return Ok(());
    }
    Err(format!("{text:?} has bits past its length; {}/{length}, or the address alone?", meant()))
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|index| address <= ranges[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_hold_what_they_say() {
        let set =
            Networks::parse(["10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "::ffff:172.16.0.0/108", "0.0.0.0/32"])
                .unwrap();
        let rows = [
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            // The same host, as a socket that listens on both shows it.
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("::10.1.2.3", false),
        ];
        for (address, expected) in rows {
            assert_eq!(set.contains(address.parse().unwrap()), expected, "{address}");
        }
        assert!(Networks::parse(["0.0.0.0/0"]).unwrap().contains("::ffff:1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "010.0.0.0/8",
            "::1/129",
            "example.com",
            "10.0.0.0/8/8",
        ] {
            assert!(Networks::parse([text]).is_err(), "{text}");
        }
    }

    proptest! {
        /// Against the definition, one network at a time.
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(nets in prop::collection::vec((any::<u32>(), 20_u32..=32), 0..20), probe in any::<u32>(), near in any::<prop::sample::Index>()) {
            let masked: Vec<(u32, u32)> = nets.iter().map(|(a, l)| (a & u32::MAX.checked_shl(32 - l).unwrap_or(0), *l)).collect();
            let texts: Vec<String> = masked.iter().map(|(a, l)| format!("{}/{l}", Ipv4Addr::from_bits(*a))).collect();
            let set = Networks::parse(texts.iter().map(String::as_str)).unwrap();
            let near = if masked.is_empty() { probe } else { let (a, _) = masked[near.index(masked.len())]; a ^ (probe % 8192) };
            for probe in [probe, near] {
                let expected = masked.iter().any(|(a, l)| (a ^ probe).checked_shr(32 - l).unwrap_or(0) == 0);
                prop_assert_eq!(set.contains(IpAddr::V4(Ipv4Addr::from_bits(probe))), expected);
            }
        }
    }
}
