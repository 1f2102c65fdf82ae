//! What names a cell: a keyed hash of 128 bits over domain, rule and values, the same on every node.
//!
//! A hash has one length whatever values are, costs no text on the way, tells whoever reads Redis no user or address, and cannot be
//! aimed at by somebody who does not know the installation's secret. Two keys that share one are not to be expected: at 10¹² keys
//! the chance is below 10⁻¹⁴.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The installation's secret for naming cells.
#[derive(Clone, Copy)]
pub(crate) struct CellKeys([u8; 16]);

impl std::fmt::Debug for CellKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CellKeys(…)")
    }
}

/// A name in the making. Every text goes in with its length, so that no two lists of texts are the same bytes.
#[derive(Clone, Copy)]
pub(crate) struct CellHash(SipHasher13);

impl std::fmt::Debug for CellHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CellHash(…)")
    }
}

impl CellKeys {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&secret[..16]);
        Self(key)
    }

    /// Of a rule: everything but its values.
    pub(crate) fn of_rule(&self, domain: &str, rule: &str) -> CellHash {
        let mut hash = CellHash(SipHasher13::new_with_key(&self.0));
        hash.add(domain, rule);
        hash
    }

    /// Of limits that come with a descriptor; no rule has an empty name.
    pub(crate) fn of_limits_asked_for(&self, domain: &str) -> CellHash {
        self.of_rule(domain, "")
    }
}

impl CellHash {
    pub(crate) fn add(&mut self, key: &str, value: &str) {
        for text in [key, value] {
            self.0.write_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
            self.0.write(text.as_bytes());
        }
    }

    pub(crate) fn finish(self) -> u128 {
        self.0.finish128().as_u128()
    }
}
