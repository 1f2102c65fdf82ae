//! What back ends get about who asks.

use http::{HeaderMap, HeaderName, HeaderValue};
use kernel::FieldError;
use serde_json::Value;

use crate::{ForwardClaims, Identity};

/// The most headers of a policy.
const MAX_HEADERS: usize = 32;
/// A claim whose text is longer than this is not sent.
const MAX_VALUE_BYTES: usize = 8 * 1024;

/// Headers that a policy never sets: they steer the connection or the message itself.
const FORBIDDEN: [&str; 14] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "host",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "proxy-connection",
    "content-type",
    "content-encoding",
    "cookie",
    "forwarded",
];

/// Headers and the claims that they are made of.
#[derive(Debug, Default)]
pub(super) struct Forwarded(Vec<(HeaderName, Box<str>)>);

impl Forwarded {
    pub(super) fn compile(spec: &ForwardClaims, at: &str, errors: &mut Vec<FieldError>) -> Self {
        if spec.len() > MAX_HEADERS {
            errors.push(FieldError { field: at.to_owned(), detail: format!("at most {MAX_HEADERS} headers") });
        }
        let mut out = Vec::new();
        for (name, claim) in spec {
            match header_name(name) {
                Ok(name) if !claim.is_empty() => out.push((name, claim.as_str().into())),
                Ok(_) => errors.push(FieldError { field: format!("{at}/{name}"), detail: "which claim?".to_owned() }),
                Err(detail) => errors.push(FieldError { field: format!("{at}/{name}"), detail }),
            }
        }
        Self(out)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Adds the headers; a claim that is not there, or cannot stand in a header, gives none.
    pub(super) fn put(&self, identity: &Identity, set: &mut Vec<(HeaderName, HeaderValue)>) {
        for (name, path) in &self.0 {
            let value = match identity.claim(path) {
                Some(value) => header_value(value),
                None if &**path == "sub" => header_value(&Value::String(identity.subject.to_string())),
                None => None,
            };
            set.extend(value.map(|value| (name.clone(), value)));
        }
    }
}

/// A header that policies may set.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| "not the name of a header".to_owned())?;
    if FORBIDDEN.contains(&name.as_str()) {
        return Err("a header that policies may not set".to_owned());
    }
    Ok(name)
}

/// Text as it is, lists and objects as JSON: a list that were joined with commas could be made longer by whoever names its elements.
fn header_value(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Control characters, which could begin another header, are refused by `from_bytes`; spaces at the ends would be lost on the way.
    let is_sound = text.len() <= MAX_VALUE_BYTES && !text.is_empty() && text.trim() == text;
    HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| is_sound)
}

/// Removes a client's own headers of these names, also where `_` stands for `-`: many back ends take both for the same (CGI, RFC 3875
/// §4.1.18).
pub(super) fn remove_protected(headers: &mut HeaderMap, protected: &[HeaderName]) {
    if protected.is_empty() {
        return;
    }
    let is_same = |given: &HeaderName, name: &HeaderName| {
        let (given, name) = (given.as_str().as_bytes(), name.as_str().as_bytes());
        let plain = |b: &u8| if *b == b'_' { b'-' } else { *b };
        given.len() == name.len() && given.iter().map(plain).eq(name.iter().map(plain))
    };
    let found: Vec<HeaderName> =
        headers.keys().filter(|given| protected.iter().any(|name| is_same(given, name))).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}
