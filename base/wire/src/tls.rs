//! TLS to back ends, by rustls with ring.

use std::{fmt, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Protocol;

/// How TLS is spoken to a back end. Texts are PEM.
#[derive(Clone, Copy)]
pub struct TlsOptions<'a> {
    /// The name (or IP address) that its certificate must be for.
    pub server_name: &'a str,
    /// Certificates to trust. Without: those that Mozilla trusts.
    pub ca: Option<&'a [u8]>,
    /// The certificate chain and the key to present, for back ends that ask.
    pub client: Option<(&'a [u8], &'a [u8])>,
    /// What is agreed on by ALPN; the target's protocol.
    pub protocol: Protocol,
}

/// TLS to a back end, ready to use; shared by every connection to it, which resume each other's sessions.
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

impl ClientTls {
    /// Reads certificates and key. The error says which text is wrong, and how.
    pub fn new(options: &TlsOptions<'_>) -> Result<Self, String> {
        let server_name = ServerName::try_from(options.server_name.to_owned())
            .map_err(|_| format!("{:?} is neither a host name nor an IP address", options.server_name))?;
        let mut roots = RootCertStore::empty();
        match options.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in certificates(pem).map_err(|e| format!("ca: {e}"))? {
                    roots.add(certificate).map_err(|e| format!("ca: {e}"))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let mut config = match options.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain).map_err(|e| format!("client_cert: {e}"))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("client_key: {e}"))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| format!("client_cert: {e}"))?
            }
        };
        config.alpn_protocols = vec![match options.protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Shakes hands on a connection of one's own, outside of a pool. Waits as long as the back end does.
    pub async fn connect(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(self.config.clone()).connect(self.server_name.clone(), stream).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// The certificates of a PEM text; at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    if all.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(all) }
}
