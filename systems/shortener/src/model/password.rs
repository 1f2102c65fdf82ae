//! Passwords of links: how they are kept.
//!
//! PBKDF2-HMAC-SHA-256 (RFC 8018) with the 600,000 rounds that OWASP's Password Storage Cheat Sheet asks for, under a salt of its
//! own each. The text is PHC's: `$pbkdf2-sha256$i=600000$SALT$HASH`, so that rounds can grow and old texts stay readable.

use std::{fmt, num::NonZeroU32};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};

/// The longest password, in bytes: longer ones are hashed first by HMAC anyway, and a form has to end somewhere.
pub const MAX_PASSWORD_BYTES: usize = 200;
/// The shortest password, in characters.
pub const MIN_PASSWORD_CHARS: usize = 4;
/// The salt, in bytes: twice what NIST SP 800-132 asks for at least.
pub const SALT_BYTES: usize = 16;

const ROUNDS: u32 = 600_000;
/// What a kept text may ask for at most, so that no text keeps a processor busy for long.
const MAX_ROUNDS: u32 = 10_000_000;
const HASH_BYTES: usize = 32;
const SCHEME: &str = "pbkdf2-sha256";

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash {
    rounds: NonZeroU32,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

/// A password to be set, as its owner gave it. Shows itself nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Whatever was given.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it can be set: 4 characters to 200 bytes, no control characters, which a form cannot send.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self(text) = self;
        if text.chars().count() < MIN_PASSWORD_CHARS {
            return Err("at least 4 characters");
        }
        if text.len() > MAX_PASSWORD_BYTES {
            return Err("at most 200 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("no control characters");
        }
        Ok(())
    }

    /// The text, for hashing.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// As `null`: what is read from a request can be written, for its description, and gives nothing away.
impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl PasswordHash {
    /// Of a password under a random salt. Keeps a core busy for about a tenth of a second: not for a thread that serves.
    pub fn new(password: &str, salt: [u8; SALT_BYTES]) -> Self {
        // A constant that is not 0.
        let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MAX);
        let mut hash = [0; HASH_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut hash);
        Self { rounds, salt, hash }
    }

    /// Whether this is the password, in a time that says nothing about where it differs. As slow as [`PasswordHash::new`].
    pub fn is(&self, password: &str) -> bool {
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, self.rounds, &self.salt, password.as_bytes(), &self.hash).is_ok()
    }

    /// Reads the text that is kept; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('$')?.split('$');
        let (scheme, rounds, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let rounds = rounds.strip_prefix("i=")?.parse().ok().filter(|n| *n <= MAX_ROUNDS).and_then(NonZeroU32::new)?;
        (scheme == SCHEME && parts.next().is_none()).then_some(())?;
        Some(Self {
            rounds,
            salt: BASE64.decode(salt).ok()?.try_into().ok()?,
            hash: BASE64.decode(hash).ok()?.try_into().ok()?,
        })
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        format!("${SCHEME}$i={}${}${}", hash.rounds, BASE64.encode(hash.salt), BASE64.encode(hash.hash))
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the hash of a password")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_fits() {
        let hash = PasswordHash::new("correct horse", [7; SALT_BYTES]);
        assert!(hash.is("correct horse"));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!hash.is(wrong), "{wrong:?}");
        }
        assert_ne!(hash, PasswordHash::new("correct horse", [8; SALT_BYTES]));
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }

    #[test]
    fn the_text_is_what_other_implementations_compute() {
        // Python: hashlib.pbkdf2_hmac("sha256", b"correct horse", bytes(range(16)), 600000)
        let text = "$pbkdf2-sha256$i=600000$AAECAwQFBgcICQoLDA0ODw$lqWQTC4IyNpCMF28xdfPGOrSY21J9ZUmtgbyZpYoFHM";
        let salt = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(String::from(PasswordHash::new("correct horse", salt)), text);
        assert!(PasswordHash::parse(text).unwrap().is("correct horse"));
    }

    #[test]
    fn what_is_no_hash_is_not_read() {
        let (salt, hash) = ("AAECAwQFBgcICQoLDA0ODw", "lqWQTC4IyNpCMF28xdfPGOrSY21J9ZUmtgbyZpYoFHM");
        assert!(PasswordHash::parse(&format!("$pbkdf2-sha256$i=1${salt}${hash}")).is_some());
        for text in [
            String::new(),
            "secret".to_owned(),
            format!("$argon2id$i=1${salt}${hash}"),
            format!("$pbkdf2-sha256$i=0${salt}${hash}"),
            format!("$pbkdf2-sha256$i=10000001${salt}${hash}"),
            format!("$pbkdf2-sha256$i=1$${hash}"),
            format!("$pbkdf2-sha256$i=1${salt}$"),
            format!("$pbkdf2-sha256$i=1${salt}${hash}$"),
        ] {
            assert_eq!(PasswordHash::parse(&text), None, "{text:?}");
        }
    }

    #[test]
    fn passwords_that_can_be_set() {
        for (password, expected) in [
            ("1234", true),
            ("größ", true),
            ("with spaces inside", true),
            ("123", false),
            ("", false),
            ("line\nbreak", false),
            (&"x".repeat(200), true),
            (&"x".repeat(201), false),
        ] {
            assert_eq!(Password::new(password).check().is_ok(), expected, "{password:?}");
        }
    }
}
