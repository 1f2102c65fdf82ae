//! Passwords of basic authentication: how they are kept.
//!
//! Argon2id with OWASP's parameters (Password Storage Cheat Sheet: 19 MiB, 2 rounds, 1 lane), in PHC form. bcrypt is read for whoever comes
//! with a file of `htpasswd -B`; the other forms of htpasswd (MD5, SHA-1, crypt) are broken and refused.

use std::fmt;

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier, phc::PasswordHash as Phc},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use kernel::Rng;

/// The longest password: bcrypt looks at no more than 72 bytes, and a longer one would be another than it seems.
pub(crate) const MAX_PASSWORD_BYTES: usize = 256;
const BCRYPT_BYTES: usize = 72;
/// What a hash may ask for at most, so that no line of a file keeps a processor or the memory busy for long.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_ROUNDS: u32 = 16;
const MAX_LANES: u32 = 8;
const MAX_BCRYPT_COST: u32 = 14;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PasswordHash {
    Argon2(Box<str>),
    Bcrypt(Box<str>),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// Reads the text that is kept; the error says what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = ["$2y$", "$2b$", "$2a$"].iter().find_map(|form| text.strip_prefix(form)) {
            let cost = rest.split('$').next().and_then(|cost| cost.parse::<u32>().ok());
            let is_sound = text.len() == 60 && cost.is_some_and(|cost| (4..=MAX_BCRYPT_COST).contains(&cost));
            return if is_sound { Ok(Self::Bcrypt(text.into())) } else { Err("a bcrypt hash of a cost up to 14") };
        }
        let wrong = "an Argon2id hash ($argon2id$…), or one of bcrypt ($2y$…)";
        let phc = Phc::new(text).map_err(|_| wrong)?;
        let params = argon2::Params::try_from(&phc).map_err(|_| wrong)?;
        if phc.algorithm.as_str() != "argon2id" || phc.hash.is_none() || phc.salt.is_none() {
            return Err(wrong);
        }
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_ROUNDS || params.p_cost() > MAX_LANES {
            return Err("at most 256 MiB, 16 rounds and 8 lanes");
        }
        Ok(Self::Argon2(text.into()))
    }

    /// Whether this is the password. Keeps a core busy for some hundredths of a second: not for a thread that serves.
    pub(crate) fn is(&self, password: &str) -> bool {
        match self {
            Self::Argon2(text) => {
                let phc = Phc::new(text);
                phc.is_ok_and(|phc| Argon2::default().verify_password(password.as_bytes(), &phc).is_ok())
            }
            Self::Bcrypt(text) => password.len() <= BCRYPT_BYTES && bcrypt::verify(password, text).unwrap_or(false),
        }
    }
}

/// The text that is kept of a password, Argon2id in PHC form under a salt of its own. `None` for a password that is
/// empty or longer than 256 bytes.
pub fn hash_password(password: &str, rng: &Rng) -> Option<String> {
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        return None;
    }
    let salt: [u8; 16] = rng.bytes();
    let mut hash = [0; 32];
    let argon2 = Argon2::default();
    argon2.hash_password_into(password.as_bytes(), &salt, &mut hash).ok()?;
    let params = argon2.params();
    let settings = format!("m={},t={},p={}", params.m_cost(), params.t_cost(), params.p_cost());
    Some(format!("$argon2id$v=19${settings}${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash)))
}
