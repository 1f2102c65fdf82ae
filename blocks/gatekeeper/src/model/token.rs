//! Signed tokens (JWT, RFC 7519) in compact form (JWS, RFC 7515), read as RFC 8725 says: nothing of a token is believed before its signature
//! holds, and nothing in it says where its key is (`jku`, `jwk`, `x5u` and `x5c` are not looked at).

use std::{borrow::Cow, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use kernel::Timestamp;
use serde_json::{Map, Value};

use super::{algorithm::Algorithm, json::read_object};

/// The longest token.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;
const MAX_KEY_ID_BYTES: usize = 512;

/// A token whose signature was not looked at yet.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    pub(crate) kind: Option<String>,
    /// What is signed: header and payload as they were sent.
    pub(crate) message: &'a str,
    pub(crate) signature: Vec<u8>,
    payload: Vec<u8>,
}

/// Why a token does not hold; safe to tell its bearer.
pub(crate) type Fault = Cow<'static, str>;

impl<'a> Unverified<'a> {
    /// Reads the compact form. `allowed` is what the policy takes, whatever the token says.
    pub(crate) fn parse(text: &'a str, allowed: &[Algorithm]) -> Result<Self, Fault> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err("The token is longer than 16 KiB".into());
        }
        let not_a_token = || Fault::from("This is no signed token (JWS in compact form)");
        let (message, signature) = text.rsplit_once('.').ok_or_else(not_a_token)?;
        let (header, payload) = message.split_once('.').ok_or_else(not_a_token)?;
        if payload.contains('.') {
            return Err(not_a_token());
        }
        // Strict: no padding, and no bits that are not looked at, so that one token has one text.
        let decode = |part: &str| BASE64URL.decode(part).map_err(|_| not_a_token());
        let header = read_object(&decode(header)?).ok_or_else(not_a_token)?;
        let member = |name: &str| header.get(name).and_then(Value::as_str);
        if header.contains_key("crit") {
            return Err("The token asks for an extension (crit) that is not known here".into());
        }
        let name = member("alg").ok_or_else(not_a_token)?;
        let algorithm = Algorithm::parse(name).filter(|algorithm| allowed.contains(algorithm));
        let algorithm = algorithm.ok_or("The token is signed in a way that is not taken here")?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= MAX_KEY_ID_BYTES => Some(id.clone()),
            Some(_) => return Err(not_a_token()),
        };
        Ok(Self {
            algorithm,
            key_id,
            kind: member("typ").map(str::to_owned),
            message,
            signature: decode(signature)?,
            payload: decode(payload)?,
        })
    }

    /// The claims, once the signature holds.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, Fault> {
        read_object(&self.payload)
            .ok_or_else(|| "The token's claims are no JSON object with names that come once".into())
    }
}

/// What the claims of a token must say.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    /// Empty: any.
    pub(crate) audience: Vec<String>,
    pub(crate) skew: Duration,
    pub(crate) max_age: Option<Duration>,
}

impl Rules {
    /// Until when these claims hold, if they do now.
    pub(crate) fn check(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, Fault> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer.as_str()) {
            return Err("The token is of another issuer".into());
        }
        if !self.audience.is_empty() {
            let is_mine =
                |value: &Value| value.as_str().is_some_and(|aud| self.audience.iter().any(|mine| mine == aud));
            let is_for_me = match claims.get("aud") {
                Some(Value::Array(list)) => list.iter().any(is_mine),
                Some(value) => is_mine(value),
                None => false,
            };
            if !is_for_me {
                return Err("The token was made for another audience".into());
            }
        }
        let expires_at = time(claims, "exp")?.ok_or("The token does not say when it ends (exp)")?;
        let mut until = expires_at.plus(self.skew);
        if now >= until {
            return Err("The token has expired".into());
        }
        if time(claims, "nbf")?.is_some_and(|from| from > now.plus(self.skew)) {
            return Err("The token is not valid yet".into());
        }
        let issued_at = time(claims, "iat")?;
        if issued_at.is_some_and(|at| at > now.plus(self.skew)) {
            return Err("The token was issued in the future".into());
        }
        if let Some(max_age) = self.max_age {
            let issued_at = issued_at.ok_or("The token does not say when it was issued (iat)")?;
            let oldest = issued_at.plus(max_age).plus(self.skew);
            if now >= oldest {
                return Err("The token is older than is taken here".into());
            }
            until = until.min(oldest);
        }
        Ok(until)
    }
}

/// A NumericDate (RFC 7519 §2): seconds, possibly with a fraction.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let seconds = seconds.ok_or_else(|| Fault::from(format!("The token's {name} is no time")))?;
    // Past the year 200,000 it is all the same, and far from where an i64 or an f64 ends.
    #[allow(clippy::cast_possible_truncation, reason = "it is within the bound that is put to it")]
    let millis = (seconds.min(6.0e12) * 1000.0) as i64;
    Ok(Some(Timestamp::from_millis(millis)))
}
