//! What the certificate of a client says, for policies.

use gatekeeper::ClientCertificate;
use kernel::Timestamp;
use ring::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::material::hex;

/// Reads a certificate that was verified. `None` when it is in a form that cannot be read, which then counts as none.
pub fn client_certificate(der: &[u8]) -> Option<ClientCertificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, der).as_ref());
    let mut this = ClientCertificate {
        fingerprint,
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        serial: hex(parsed.raw_serial()),
        dns_names: Vec::new(),
        uris: Vec::new(),
        emails: Vec::new(),
        not_after: Timestamp::from_millis(parsed.validity().not_after.timestamp().saturating_mul(1000)),
    };
    let names = parsed.subject_alternative_name().ok()?;
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => this.dns_names.push(name.to_ascii_lowercase()),
            GeneralName::URI(uri) => this.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(email) => this.emails.push((*email).to_owned()),
            _ => {}
        }
    }
    Some(this)
}

/// The common name of a certificate's subject.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}
