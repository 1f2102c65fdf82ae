//! Hashes that are the same on every node and in every version.

use std::{hash::Hasher as _, net::SocketAddr};

use siphasher::sip::SipHasher13;

/// The hash of a key of a request.
pub fn of_key(key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6d61_696e_7374_6179, 0x7570_7374_7265_616d);
    hasher.write(key);
    hasher.finish()
}

/// The hash of an address, by which endpoints are told apart.
pub fn of_address(address: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    match address.ip() {
        std::net::IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        std::net::IpAddr::V6(ip) => bytes[..16].copy_from_slice(&ip.octets()),
    }
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    of_key(&bytes)
}

/// Another hash from a hash (the finaliser of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
pub const fn mix(hash: u64) -> u64 {
    let a = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

/// A number in `0..bound` from half of a hash; 0 when `bound` is 0.
#[allow(clippy::cast_possible_truncation, reason = "less than bound, which fits")]
pub fn below(hash: u32, bound: usize) -> usize {
    ((u64::from(hash) * bound as u64) >> 32) as usize
}

/// The two halves of a hash.
#[allow(clippy::cast_possible_truncation, reason = "halves")]
pub const fn halves(hash: u64) -> (u32, u32) {
    ((hash >> 32) as u32, hash as u32)
}
