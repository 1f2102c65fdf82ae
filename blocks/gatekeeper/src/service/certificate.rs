//! The certificate that the client showed.

use std::sync::Arc;

use http::HeaderName;
use kernel::{Clock, FieldError};
use serde_json::{Map, Value};

use super::{
    claims::Forwarded,
    going::{Checked, Going, Said, Seen},
};
use crate::{ClientCertificate, ClientCertificateSpec, Error, Identity, Method, model::certificate::hex};

const MAX_ENTRIES: usize = 1_000;

pub(super) struct Certificate {
    policy: Arc<str>,
    clock: Clock,
    names: Vec<Name>,
    fingerprints: Vec<[u8; 32]>,
    forwarded: Forwarded,
    is_optional: bool,
}

enum Name {
    /// `billing.internal`
    Dns(Box<str>),
    /// `*.internal`: `.internal`
    DnsBelow(Box<str>),
    /// `spiffe://example.org/billing`
    Uri(Box<str>),
    /// `spiffe://example.org/*`: `spiffe://example.org/`
    UriBelow(Box<str>),
}

impl Certificate {
    pub(super) fn compile(
        spec: &ClientCertificateSpec,
        policy: &Arc<str>,
        clock: &Clock,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut wrong = |field: String, detail: &str| {
            errors.push(FieldError { field: format!("{at}/{field}"), detail: detail.to_owned() });
        };
        for (field, count) in [("names", spec.names.len()), ("fingerprints", spec.fingerprints.len())] {
            if count > MAX_ENTRIES {
                wrong(field.to_owned(), "at most 1000");
            }
        }
        let (mut names, mut fingerprints) = (Vec::new(), Vec::new());
        for (index, text) in spec.names.iter().enumerate() {
            match Name::parse(text) {
                Some(name) => names.push(name),
                None => wrong(format!("names/{index}"), "a DNS name, *.name, a URI, or a URI that ends in /*"),
            }
        }
        for (index, text) in spec.fingerprints.iter().enumerate() {
            match parse_fingerprint(text) {
                Some(fingerprint) => fingerprints.push(fingerprint),
                None => wrong(format!("fingerprints/{index}"), "a SHA-256: 64 hexadecimal digits, with or without :"),
            }
        }
        Self {
            policy: policy.clone(),
            clock: clock.clone(),
            names,
            fingerprints,
            forwarded: Forwarded::compile(&spec.forward_claims, &format!("{at}/forward_claims"), errors),
            is_optional: spec.optional,
        }
    }

    pub(super) fn protected(&self) -> impl Iterator<Item = &HeaderName> {
        self.forwarded.names()
    }

    pub(super) fn check(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        let Some(shown) = seen.client_certificate else {
            if self.is_optional {
                return Ok(Said::anonymous());
            }
            return Err(Error::Certificate("The route takes only clients that show a certificate.").into());
        };
        // The handshake looked at it when the connection began, which may be days ago.
        if self.clock.now() > shown.not_after {
            return Err(Error::Certificate("The client's certificate has expired.").into());
        }
        let is_anybody = self.names.is_empty() && self.fingerprints.is_empty();
        let is_known =
            || self.fingerprints.contains(&shown.fingerprint) || self.names.iter().any(|name| name.is_of(shown));
        if !is_anybody && !is_known() {
            return Err(Error::Certificate("The client's certificate is none of those that the route takes.").into());
        }
        let identity = self.identity(shown);
        self.forwarded.put(&identity, &mut going.set);
        going.identity = Some(identity);
        Ok(Said::passed("a certificate that the route takes"))
    }

    fn identity(&self, shown: &ClientCertificate) -> Identity {
        let list = |texts: &[String]| Value::from(texts.to_vec());
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), Value::from(shown.subject.as_str()));
        claims.insert("issuer".to_owned(), Value::from(shown.issuer.as_str()));
        claims.insert("serial".to_owned(), Value::from(shown.serial.as_str()));
        claims.insert("fingerprint".to_owned(), Value::from(hex(&shown.fingerprint)));
        claims.insert("dns_names".to_owned(), list(&shown.dns_names));
        claims.insert("uris".to_owned(), list(&shown.uris));
        claims.insert("emails".to_owned(), list(&shown.emails));
        Identity {
            policy: self.policy.clone(),
            method: Method::ClientCertificate,
            subject: shown.subject.as_str().into(),
            project: None,
            claims: claims.into(),
        }
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        if text.contains("://") {
            let is_sound = text.bytes().all(|b| b.is_ascii_graphic());
            let stem = text.strip_suffix('*').filter(|stem| stem.ends_with('/') && !stem.ends_with("://"));
            return match stem {
                Some(stem) if is_sound && !stem.contains('*') => Some(Self::UriBelow(stem.into())),
                None if is_sound && !text.contains('*') => Some(Self::Uri(text.into())),
                _ => None,
            };
        }
        let (is_wild, name) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let is_label =
            |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !name.split('.').all(is_label) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        Some(if is_wild { Self::DnsBelow(format!(".{name}").into()) } else { Self::Dns(name.into()) })
    }

    fn is_of(&self, shown: &ClientCertificate) -> bool {
        match self {
            Self::Dns(name) => shown.dns_names.iter().any(|given| **given == **name),
            // One label, as in RFC 6125 §6.4.3. A certificate's own wildcard is a name of servers and matches nothing.
            Self::DnsBelow(end) => shown.dns_names.iter().any(|given| {
                given.strip_suffix(&**end).is_some_and(|label| !label.is_empty() && !label.contains(['.', '*']))
            }),
            Self::Uri(uri) => shown.uris.iter().any(|given| **given == **uri),
            // `..` would lead out of what is meant.
            Self::UriBelow(stem) => shown.uris.iter().any(|given| {
                given
                    .strip_prefix(&**stem)
                    .is_some_and(|rest| !rest.is_empty() && rest.split('/').all(|s| s != "..") && !rest.contains('%'))
            }),
        }
    }
}

fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(out)
}
