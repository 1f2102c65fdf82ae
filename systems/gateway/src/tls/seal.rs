//! Private keys at rest: sealed under a secret of the installation (AES-256-GCM).

use kernel::Rng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Seals and opens. A sealed text opens under the name that it was sealed under alone.
pub(super) struct Seal {
    key: LessSafeKey,
    rng: Rng,
}

impl Seal {
    pub(super) fn new(secret: &[u8; 32], rng: &Rng) -> Result<Self, String> {
        let key = UnboundKey::new(&AES_256_GCM, secret).map_err(|e| e.to_string())?;
        Ok(Self { key: LessSafeKey::new(key), rng: rng.clone() })
    }

    /// Seals a text; the nonce, which is random, stands before it.
    pub(super) fn seal(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, String> {
        let nonce: [u8; NONCE_LEN] = self.rng.bytes();
        let mut sealed = text.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed)
            .map_err(|e| e.to_string())?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens a text that was sealed under `name`.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = || "it was sealed with another root secret, or changed since".to_owned();
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut text = sealed.to_vec();
        let opened = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut text)
            .map_err(|_| wrong())?
            .len();
        text.truncate(opened);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_name_and_secret_alone() {
        let seal = Seal::new(&[7; 32], &Rng::seeded(1)).unwrap();
        let sealed = seal.seal("a", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(seal.open("a", &sealed).unwrap(), b"secret");
        assert!(seal.open("b", &sealed).is_err());
        assert!(Seal::new(&[8; 32], &Rng::seeded(1)).unwrap().open("a", &sealed).is_err());
        assert!(seal.open("a", &sealed[..5]).is_err() && seal.open("a", &[]).is_err());
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert!(seal.open("a", &changed).is_err());
    }
}
