//! `[[certificates]]`: which certificate is shown for which host, and which clients have to show one.

use std::{path::PathBuf, time::Duration};

use kernel::{FieldError, Span};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Hosts;
use crate::l4::check_host;

/// The most hosts of one certificate (what public authorities allow).
pub const MAX_HOSTS: usize = 100;

/// A certificate of the public listener and of listeners that terminate TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateSpec {
    /// `shop.example.com`, or `*.example.com` for every name with one label more.
    pub hosts: Vec<String>,
    /// Certificate chain in PEM, the server's first. Read again when the file changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cert: Option<PathBuf>,
    /// Private key in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key: Option<PathBuf>,
    /// Got and renewed by itself (RFC 8555), instead of `cert` and `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeSpec>,
    /// Clients of these hosts show certificates of their own (mTLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientSpec>,
}

/// Where a certificate is got.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeSpec {
    /// URL of the directory. Default: Let's Encrypt.
    #[serde(default = "lets_encrypt")]
    pub directory: String,
    /// Told to the authority; it writes when something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The operator has read and accepts the terms of service of the authority. Nothing is asked for without it.
    #[serde(default)]
    pub accept_terms: bool,
    /// How the authority sees that the host is ours.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// Trust anchors for the directory's own TLS, a PEM file. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ca: Option<PathBuf>,
    /// How long before its end a certificate is renewed. Default: a third of its lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub renew_before: Option<Span>,
}

fn lets_encrypt() -> String {
    "https://acme-v02.api.letsencrypt.org/directory".to_owned()
}

/// How control over a host is shown (RFC 8555 §8.3, RFC 8737).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
pub enum AcmeChallenge {
    /// A file below `/.well-known/acme-challenge/`, asked for on port 80.
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate with ALPN `acme-tls/1`, asked for on port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// Certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSpec {
    /// The authorities that are believed, a PEM file. Read again when the file changes.
    #[schema(value_type = String)]
    pub ca: PathBuf,
    /// Whether a client without one is refused.
    #[serde(default)]
    pub mode: ClientMode,
    /// Revocation lists in PEM. Read again when the file changes; one that is missing an issuer does not refuse its clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub crl: Option<PathBuf>,
}

/// Whether a client without a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientMode {
    /// At the handshake.
    #[default]
    Required,
    /// No; policies decide. One that is shown has to hold all the same.
    Optional,
}

impl CertificateSpec {
    /// What is wrong in it by itself; `at` is its JSON pointer.
    pub fn validate(&self, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, detail: String| errors.push(FieldError { field: format!("{at}{field}"), detail });
        if self.hosts.is_empty() || self.hosts.len() > MAX_HOSTS {
            wrong("/hosts", format!("expected 1 to {MAX_HOSTS} hosts"));
        }
        for (i, host) in self.hosts.iter().enumerate() {
            if let Err(detail) = check_host(host) {
                wrong(&format!("/hosts/{i}"), detail);
            }
        }
        match (&self.cert, &self.key, &self.acme) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => {}
            (Some(_), None, _) => wrong("/key", "cert and key go together".to_owned()),
            (None, Some(_), _) => wrong("/cert", "cert and key go together".to_owned()),
            (Some(_), Some(_), Some(_)) => wrong("/acme", "either cert and key, or acme".to_owned()),
            (None, None, None) => wrong("", "expected cert and key, or acme".to_owned()),
        }
        if let Some(acme) = &self.acme {
            if self.hosts.iter().any(|h| h.starts_with("*.")) {
                wrong(
                    "/acme",
                    "wildcards need dns-01, which is not offered: name the hosts, or give cert and key".to_owned(),
                );
            }
            if !acme.accept_terms {
                wrong(
                    "/acme/accept_terms",
                    "set it to true once you have read the authority's terms of service".to_owned(),
                );
            }
            if !acme.directory.starts_with("https://") {
                wrong("/acme/directory", "expected an https URL".to_owned());
            }
            if acme.email.as_ref().is_some_and(|e| !e.contains('@') || e.len() > 254) {
                wrong("/acme/email", "expected an address such as \"ops@example.com\"".to_owned());
            }
            if acme.renew_before.is_some_and(|d| d.0 < Duration::from_secs(1)) {
                wrong("/acme/renew_before", "expected at least 1s".to_owned());
            }
        }
        errors
    }
}

/// What is wrong in all of them together and in each; `at` is the JSON pointer of the list. Two certificates may have the same
/// host (one RSA, one ECDSA), but not with different rules for clients.
pub fn validate(specs: &[CertificateSpec], at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Hosts<usize> = Hosts::default();
    for (i, spec) in specs.iter().enumerate() {
        errors.extend(spec.validate(&format!("{at}/{i}")));
        for (j, host) in spec.hosts.iter().enumerate() {
            let Some(before) = seen.insert(host, i) else { continue };
            let detail = if before == i || spec.acme.is_some() || specs[before].acme.is_some() {
                format!("{host} is named twice")
            } else if specs[before].client != spec.client {
                format!("{host} has other rules for clients in {at}/{before}")
            } else {
                continue;
            };
            errors.push(FieldError { field: format!("{at}/{i}/hosts/{j}"), detail });
        }
    }
    errors
}
