//! What a client's certificate says. Whether it is to be believed, the listener that took it has verified.

use kernel::Timestamp;
use ring::digest;
use x509_parser::{extensions::GeneralName, prelude::*};

/// The most alternative names of a certificate that are looked at.
const MAX_NAMES: usize = 100;

/// A client's certificate (X.509, RFC 5280), verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of its DER form.
    pub fingerprint: [u8; 32],
    /// Its subject, such as `CN=billing, O=Example`.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// DNS names among its alternative names, in lower case.
    pub dns_names: Vec<String>,
    /// URIs among its alternative names.
    pub uris: Vec<String>,
    /// E-mail addresses among its alternative names.
    pub emails: Vec<String>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Reads the DER form, once a connection. It proves nothing: the TLS handshake has to have verified it.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        if !rest.is_empty() {
            return Err("bytes after the certificate".to_owned());
        }
        let (mut dns_names, mut uris, mut emails) = (Vec::new(), Vec::new(), Vec::new());
        // Two extensions of one kind are no certificate (RFC 5280 §4.2), and an error here.
        if let Some(names) = certificate.subject_alternative_name().map_err(|e| e.to_string())? {
            for name in names.value.general_names.iter().take(MAX_NAMES) {
                match name {
                    // A name with a NUL in it is another one for whoever reads C strings.
                    GeneralName::DNSName(name) if is_plain(name) => dns_names.push(name.to_ascii_lowercase()),
                    GeneralName::URI(uri) if is_plain(uri) => uris.push((*uri).to_owned()),
                    GeneralName::RFC822Name(email) if is_plain(email) => emails.push((*email).to_owned()),
                    _ => {}
                }
            }
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Ok(Self {
            fingerprint,
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: hex(certificate.raw_serial()),
            dns_names,
            uris,
            emails,
            not_after: Timestamp::from_millis(certificate.validity().not_after.timestamp().saturating_mul(1000)),
        })
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Lower case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| char::from(DIGITS[usize::from(digit)]));
    digits.collect()
}
