//! What a client's certificate says. Whether it is to be believed, the listener that took it has verified.

use kernel::Timestamp;

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
