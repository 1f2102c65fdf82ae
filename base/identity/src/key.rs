//! API keys: `msk_<id>_<secret><checksum>`.
//!
//! ```text
//! msk_0198f6c2d0e77c4f8a1b2c3d4e5f6071_4fJ…43 characters…x9Qa1B2c3
//!     └ the id, 32 hexadecimal digits │ └ 256 random bits ┘└ CRC-32 of all before it, 6 characters
//! ```
//!
//! - The prefix lets scanners of source code and logs find keys that leaked.
//! - The id is public: it is how a key is named in lists and logs (`key_<the same digits>`).
//! - The checksum is no secret and no protection. It tells a typo or a cut-off copy from a key that was revoked, without a
//!   question to the database. CRC-32 notices every error within 32 neighbouring bits: any one character, any two neighbours.
//! - The secret comes from the operating system and has 256 bits. A slow password hash (Argon2, scrypt) makes guessing
//!   *low-entropy* secrets expensive; against 2^256 there is nothing to slow down, and a slow hash would only give attackers a
//!   way to burn our CPU. So a plain SHA-256 is stored.

use std::fmt;

use kernel::{Clock, Rng};
use ring::digest;
use subtle::ConstantTimeEq as _;

use crate::base62;

kernel::typed_id!(
    /// Names a key; not a secret.
    KeyId,
    "key"
);

/// What every key starts with.
pub const PREFIX: &str = "msk_";
/// Every key has exactly this many characters.
pub const KEY_CHARS: usize = PREFIX.len() + 32 + 1 + base62::CHARS_OF_32_BYTES + base62::CHARS_OF_U32;

/// A whole key, with its secret. It has no `Display`: [`ApiKey::expose`] is the one way to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: KeyId,
    secret: [u8; 32],
}

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not have the form of a key at all.
    #[error("not of the form msk_<id>_<secret>")]
    Form,
    /// It has the form of a key, but its checksum is wrong: a character was changed, lost or exchanged.
    #[error("the checksum does not fit: the key was mistyped or changed")]
    Checksum,
}

impl ApiKey {
    /// A fresh key.
    pub fn generate(clock: &Clock, rng: &Rng) -> Self {
        Self { id: KeyId::new(clock, rng), secret: rng.bytes() }
    }

    /// A key of this id with a fresh secret: a rotation.
    pub fn renew(id: KeyId, rng: &Rng) -> Self {
        Self { id, secret: rng.bytes() }
    }

    /// Reads the text form. Spaces around it are ignored.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).ok_or(KeyError::Form)?;
        if text.len() != KEY_CHARS || !text.is_ascii() {
            // A key that was cut off or ran together with its neighbour: still recognisably one of ours.
            let looks_like_one = rest.len() >= 33 && rest.as_bytes()[..32].iter().all(u8::is_ascii_hexdigit);
            return Err(if looks_like_one { KeyError::Checksum } else { KeyError::Form });
        }
        let (body, checksum) = text.split_at(KEY_CHARS - base62::CHARS_OF_U32);
        if base62::encode_u32(crc32(body.as_bytes())) != checksum {
            return Err(KeyError::Checksum);
        }
        let (id, secret) = body[PREFIX.len()..].split_once('_').ok_or(KeyError::Form)?;
        let id = KeyId::parse(&format!("{}_{id}", KeyId::PREFIX)).ok_or(KeyError::Form)?;
        let secret = base62::decode_32(secret).ok_or(KeyError::Form)?;
        Ok(Self { id, secret })
    }

    /// The text form with the secret, for the one place that shows it to its owner.
    pub fn expose(&self) -> String {
        let id = self.id.to_string();
        let digits = id.strip_prefix(concat!("key", "_")).unwrap_or(&id);
        let body = format!("{PREFIX}{digits}_{}", base62::encode_32(&self.secret));
        let checksum = base62::encode_u32(crc32(body.as_bytes()));
        body + &checksum
    }

    /// Which key it claims to be.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What is stored of its secret.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, …)", self.id)
    }
}

/// SHA-256 of a secret that has at least 128 bits of entropy. Compared in constant time; there is no `==`.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(out)
    }

    /// From what [`Self::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are of the same secret; takes the same time wherever they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// CRC-32 as in ISO 3309 and gzip (reflected polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_check_value() {
        // The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
