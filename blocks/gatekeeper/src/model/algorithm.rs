//! Signatures of tokens (RFC 7518, RFC 8037) and the keys that they are verified with (RFC 7517).
//!
//! A key says by its own form which algorithms it may verify, whatever the token's header says, and none of them is symmetric: neither
//! `none` nor an HMAC made with a public key can be verified at all (RFC 8725 §2.1, §3.1).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{digest, signature};
use serde_json::{Map, Value};

/// The most keys of a set that are looked at.
pub const MAX_KEYS: usize = 100;
/// The most keys that one signature is tried with, where the token does not say which it was made with.
const MAX_TRIES: usize = 8;

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA, PKCS #1 v1.5, SHA-384.
    Rs384,
    /// RSA, PKCS #1 v1.5, SHA-512.
    Rs512,
    /// RSA-PSS, SHA-256.
    Ps256,
    /// RSA-PSS, SHA-384.
    Ps384,
    /// RSA-PSS, SHA-512.
    Ps512,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// ECDSA on P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// By its name, which is compared as it stands; `Ed25519` (RFC 9864) is `EdDSA`.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// A public key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: Option<Box<str>>,
    /// Where the key itself says one; else whatever fits its form.
    algorithm: Option<Algorithm>,
    material: Material,
    thumbprint: [u8; 32],
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a JWK. `None` for what verifies no signature that is known here: symmetric and encryption keys, unknown curves.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(|value| BASE64URL.decode(value).ok());
        let is_for_signatures = text("use").is_none_or(|purpose| purpose == "sig");
        let operations = jwk.get("key_ops").map(|list| list.as_array().map(Vec::as_slice).unwrap_or_default());
        let may_verify = operations.is_none_or(|list| list.iter().any(|name| name == "verify"));
        if !is_for_signatures || !may_verify {
            return None;
        }
        let point = |length: usize| -> Option<Vec<u8>> {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [&[4], &x[..], &y[..]].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                // Some writers put a leading zero, as in ASN.1.
                let trimmed = |bytes: Vec<u8>| bytes.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>();
                Material::Rsa { n: trimmed(bytes("n")?), e: trimmed(bytes("e")?) }
            }
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::parse(name).filter(|algorithm| material.fits(*algorithm))?),
        };
        let thumbprint = material.thumbprint();
        Some(Self { id: text("kid").map(Into::into), algorithm, material, thumbprint })
    }

    /// What tells it from every other key, whatever it is called.
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    fn may(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.material.fits(algorithm)
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        use Algorithm as A;
        let plain = |how: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(how, key).verify(message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512) => {
                // ring asks for 2048 bits at least.
                let how = match algorithm {
                    A::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    A::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    A::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    A::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    A::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    _ => &signature::RSA_PSS_2048_8192_SHA512,
                };
                signature::RsaPublicKeyComponents { n, e }.verify(how, message, signature).is_ok()
            }
            (Material::P256(point), A::Es256) => plain(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), A::Es384) => plain(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(point), A::EdDsa) => plain(&signature::ED25519, point),
            _ => false,
        }
    }
}

impl Material {
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self {
            Self::Rsa { .. } => matches!(algorithm, A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512),
            Self::P256(_) => algorithm == A::Es256,
            Self::P384(_) => algorithm == A::Es384,
            Self::Ed25519(_) => algorithm == A::EdDsa,
        }
    }

    fn thumbprint(&self) -> [u8; 32] {
        let (tag, parts): (u8, [&[u8]; 2]) = match self {
            Self::Rsa { n, e } => (1, [n, e]),
            Self::P256(point) => (2, [point, &[]]),
            Self::P384(point) => (3, [point, &[]]),
            Self::Ed25519(point) => (4, [point, &[]]),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[tag]);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

/// The keys of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

/// What a set says to a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It was made with the key of this thumbprint.
    By([u8; 32]),
    /// It was made with none of the keys that it could have been made with.
    Not,
    /// There is no key of that name.
    UnknownKey,
    /// There are keys of that name, and this algorithm is none of theirs.
    WrongAlgorithm,
}

impl KeySet {
    /// Reads a JWK Set. Keys that verify nothing known here are left out; `Err` where it is no set, or one without any key that does.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let object = super::json::read_object(bytes).ok_or("not a JSON object")?;
        let keys = object.get("keys").and_then(Value::as_array).ok_or("no member `keys`, which a JWK Set has")?;
        let keys: Vec<Key> =
            keys.iter().take(MAX_KEYS).filter_map(Value::as_object).filter_map(Key::from_jwk).collect();
        if keys.is_empty() {
            return Err("no key that verifies RS*, PS*, ES256, ES384 or EdDSA signatures".to_owned());
        }
        Ok(Self(keys))
    }

    /// Whether it has the key of this thumbprint.
    pub fn has(&self, thumbprint: &[u8; 32]) -> bool {
        self.0.iter().any(|key| key.thumbprint == *thumbprint)
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies, with the keys of the name that the token says, or with those that fit where it says none.
    pub fn verify(&self, key_id: Option<&str>, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Verified {
        let named = || self.0.iter().filter(|key| key_id.is_none() || key.id.as_deref() == key_id);
        if named().next().is_none() {
            return Verified::UnknownKey;
        }
        let mut fitting = named().filter(|key| key.may(algorithm)).take(MAX_TRIES).peekable();
        if fitting.peek().is_none() {
            return Verified::WrongAlgorithm;
        }
        let found = fitting.find(|key| key.verifies(algorithm, message, signature));
        found.map_or(Verified::Not, |key| Verified::By(key.thumbprint))
    }
}
