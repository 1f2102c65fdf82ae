//! Cookies that only this installation can read, write or change.
//!
//! A cookie is sealed with AES-256-GCM under a key of its own, which is made of the installation's secret and 24 random bytes, so that any number of
//! cookies can be sealed. What it is for (session or login, of which policy, with which provider) is sealed along: it opens nowhere else.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use http::{HeaderMap, HeaderValue, header};
use kernel::Rng;
use ring::{aead, hmac};
use serde::{Serialize, de::DeserializeOwned};

use super::super::places;

const SALT_BYTES: usize = 24;
/// Browsers take 4096 bytes of name, value and attributes.
const CHUNK_BYTES: usize = 3_600;
/// The most cookies that one value is spread over.
const MAX_CHUNKS: usize = 4;

pub(super) struct Sealer {
    key: hmac::Key,
    rng: Rng,
}

impl Sealer {
    pub(super) fn new(secret: &[u8; 32], rng: &Rng) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), rng: rng.clone() }
    }

    fn cipher(&self, salt: &[u8]) -> Option<aead::LessSafeKey> {
        let key = hmac::sign(&self.key, salt);
        aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref()).ok().map(aead::LessSafeKey::new)
    }

    /// The text of a cookie; `None` when the value cannot be written.
    pub(super) fn seal(&self, purpose: &str, value: &impl Serialize) -> Option<String> {
        let salt: [u8; SALT_BYTES] = self.rng.bytes();
        let mut sealed = serde_json::to_vec(value).ok()?;
        // The key seals this one value, so its nonce may be any.
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let cipher = self.cipher(&salt)?;
        cipher.seal_in_place_append_tag(nonce, aead::Aad::from(purpose.as_bytes()), &mut sealed).ok()?;
        Some(BASE64URL.encode([&salt[..], &sealed].concat()))
    }

    /// What was sealed for this purpose; `None` for everything else.
    pub(super) fn open<T: DeserializeOwned>(&self, purpose: &str, text: &str) -> Option<T> {
        let bytes = BASE64URL.decode(text).ok()?;
        let (salt, sealed) = bytes.split_at_checked(SALT_BYTES)?;
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let mut sealed = sealed.to_vec();
        let cipher = self.cipher(salt)?;
        let plain = cipher.open_in_place(nonce, aead::Aad::from(purpose.as_bytes()), &mut sealed).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

/// The cookies of one session: their name, and how many there are.
#[derive(Debug, Clone)]
pub(super) struct Jar {
    /// Without prefix.
    base: String,
}

impl Jar {
    pub(super) fn new(base: &str) -> Self {
        Self { base: base.to_owned() }
    }

    /// Over TLS nothing but this very host, over TLS, can set it (`__Host-`, RFC 6265bis §4.1.3.2).
    fn name(&self, is_tls: bool) -> String {
        if is_tls { format!("__Host-{}", self.base) } else { self.base.clone() }
    }

    fn chunk_name(name: &str, index: usize) -> String {
        if index == 0 { name.to_owned() } else { format!("{name}.{index}") }
    }

    /// Every cookie of the policy, of sessions and of logins.
    pub(super) fn is_mine(&self, name: &str) -> bool {
        let name = name.strip_prefix("__Host-").unwrap_or(name);
        name.strip_prefix(self.base.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("_login_"))
    }

    /// The value, put together again.
    pub(super) fn read(&self, headers: &HeaderMap, is_tls: bool) -> Option<String> {
        let name = self.name(is_tls);
        let get = |name: &str| places::cookies(headers).find(|(n, _)| *n == name).map(|(_, value)| value);
        let (count, first) = get(&name)?.split_once('.')?;
        let count: usize = count.parse().ok().filter(|count| (1..=MAX_CHUNKS).contains(count))?;
        let mut value = first.to_owned();
        for index in 1..count {
            value.push_str(get(&Self::chunk_name(&name, index))?);
        }
        Some(value)
    }

    /// Sets it, and ends what was there before; `false` when it is too long for cookies.
    pub(super) fn write(
        &self,
        value: &str,
        is_tls: bool,
        max_age_s: u64,
        request: &HeaderMap,
        response: &mut HeaderMap,
    ) -> bool {
        let name = self.name(is_tls);
        let chunks: Vec<&str> =
            value.as_bytes().chunks(CHUNK_BYTES).filter_map(|chunk| std::str::from_utf8(chunk).ok()).collect();
        if chunks.is_empty() || chunks.len() > MAX_CHUNKS {
            return false;
        }
        for (index, chunk) in chunks.iter().enumerate() {
            let value = if index == 0 { format!("{}.{chunk}", chunks.len()) } else { (*chunk).to_owned() };
            set_cookie(response, &Self::chunk_name(&name, index), &value, is_tls, max_age_s);
        }
        for index in chunks.len()..MAX_CHUNKS {
            let old = Self::chunk_name(&name, index);
            if places::cookies(request).any(|(n, _)| n == old) {
                set_cookie(response, &old, "", is_tls, 0);
            }
        }
        true
    }

    /// Ends the session's cookies.
    pub(super) fn clear(&self, is_tls: bool, request: &HeaderMap, response: &mut HeaderMap) {
        let name = self.name(is_tls);
        for index in 0..MAX_CHUNKS {
            let old = Self::chunk_name(&name, index);
            if places::cookies(request).any(|(n, _)| n == old) {
                set_cookie(response, &old, "", is_tls, 0);
            }
        }
    }

    /// The cookie of one login: several tabs may be at it.
    pub(super) fn login_name(&self, state: &str, is_tls: bool) -> String {
        let short: String = state.chars().take(12).collect();
        format!("{}_login_{short}", self.name(is_tls))
    }

    /// The names of the logins under way.
    pub(super) fn logins(&self, headers: &HeaderMap, is_tls: bool) -> Vec<String> {
        let prefix = format!("{}_login_", self.name(is_tls));
        places::cookies(headers)
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(&prefix))
            .map(str::to_owned)
            .collect()
    }
}

pub(super) fn set_cookie(headers: &mut HeaderMap, name: &str, value: &str, is_tls: bool, max_age_s: u64) {
    let secure = if is_tls { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}");
    // Names and base64 only.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(header::SET_COOKIE, value);
    }
}
