//! Certificates, keys and trust anchors as they are read from PEM.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use kernel::Timestamp;
use rustls::{
    RootCertStore,
    client::verify_server_name,
    crypto::ring::{self, sign::any_supported_type},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ClientMode, ClientSpec};

/// The largest PEM file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A chain with its key.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: Facts,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who issued it.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
}

impl Facts {
    fn of(leaf: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| format!("its first certificate: {e}"))?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
        Ok(Self {
            issuer: parsed.issuer().to_string(),
            serial: hex(parsed.raw_serial()),
            not_before: at(parsed.validity().not_before),
            not_after: at(parsed.validity().not_after),
        })
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(digit).collect()
}

impl Material {
    /// Reads a chain and its key. The error names the one of the two that is wrong.
    pub(super) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, (Which, String)> {
        let chain = certificates(chain).map_err(|e| (Which::Chain, e))?;
        let facts = Facts::of(&chain[0]).map_err(|e| (Which::Chain, e))?;
        let private =
            PrivateKeyDer::from_pem_slice(key).map_err(|e| (Which::Key, format!("no PEM private key: {e}")))?;
        let private = any_supported_type(&private).map_err(|e| (Which::Key, e.to_string()))?;
        let key = CertifiedKey::new(chain, private);
        match key.keys_match() {
            // Whether they match cannot be told of every kind of key.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err((Which::Key, "the key is not the one of the certificate".to_owned())),
        }
        Ok(Self { key: Arc::new(key), facts })
    }

    /// Whether it is for `host`, which may begin with `*.`.
    pub(super) fn is_for(&self, host: &str) -> bool {
        // A wildcard is for every name of its level: one that nobody has taken stands for all.
        let name = host.strip_prefix("*.").map_or_else(|| host.to_owned(), |rest| format!("mainstay-any.{rest}"));
        let Ok(name) = ServerName::try_from(name) else { return false };
        self.key
            .end_entity_cert()
            .and_then(ParsedCertificate::try_from)
            .and_then(|leaf| verify_server_name(&leaf, &name))
            .is_ok()
    }
}

/// The one of a pair that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Chain,
    Key,
}

/// The certificates of a PEM text; at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| format!("no PEM: {e}"))?;
    if all.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(all) }
}

/// Trust anchors of a PEM text.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    Ok(roots)
}

/// What checks the certificates of clients. The error names the field of the specification.
pub(super) fn verifier(
    spec: &ClientSpec,
    ca: &[u8],
    crl: Option<&[u8]>,
) -> Result<Arc<dyn ClientCertVerifier>, (&'static str, String)> {
    let roots = roots(ca).map_err(|e| ("ca", e))?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(ring::default_provider()));
    if let Some(crl) = crl {
        let lists = CertificateRevocationListDer::pem_slice_iter(crl).collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|e| ("crl", format!("no PEM: {e}")))?;
        if lists.is_empty() {
            return Err(("crl", "it holds no revocation list".to_owned()));
        }
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if spec.mode == ClientMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| (if crl.is_some() { "crl" } else { "ca" }, e.to_string()))
}

/// What tells whether a file was written since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(u64, u64, i64, i64)>>);

impl Stamp {
    /// Of several files; a missing one counts as such.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let one = |path: &PathBuf| fs::metadata(path).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        Self(paths.into_iter().map(one).collect())
    }
}

/// Reads a file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("{} is larger than 4 MiB", path.display()));
    }
    Ok(bytes)
}
