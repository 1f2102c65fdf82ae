//! A handshake with a client, under the certificate of the host that it asks for.

use std::{io, sync::Arc};

use kernel::{Backoff, OnPanic, Tasks};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{Certificates, RELOAD_INTERVAL};

/// The protocol by which an authority looks at a certificate (RFC 8737).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// What a handshake told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// The host that the client asked for, in lower case.
    pub server_name: Option<String>,
    /// The rule for clients that it was checked by ([`Certificates::admit`]).
    pub rule: Option<u64>,
    /// The client's certificate, verified, in DER.
    pub client_certificate: Option<Vec<u8>>,
    /// Whether HTTP/2 was chosen.
    pub is_h2: bool,
}

impl Certificates {
    /// Shakes hands under the certificate of the host that the client asks for, else under `default`, else not at all. Give it a
    /// time limit. `None`: it was an authority that looked at a certificate of ours, and the connection is done.
    ///
    /// # Errors
    /// What the socket says, and `InvalidData` for a client that speaks no TLS, asks for an unknown host or whose certificate does not
    /// hold; it was told by an alert.
    pub async fn accept<S>(
        &self,
        stream: S,
        default: Option<Arc<ServerConfig>>,
    ) -> io::Result<Option<(TlsStream<S>, Session)>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        let server_name = hello.server_name().map(str::to_ascii_lowercase);
        if hello.alpn().is_some_and(|mut alpn| alpn.any(|protocol| protocol == ACME_TLS)) {
            let answer = self.challenge(server_name.as_deref()).await;
            start.into_stream(answer.unwrap_or_else(|| self.refusal())).await?;
            return Ok(None);
        }
        let entry = server_name.as_deref().and_then(|name| self.entry(name));
        let (config, rule) = match entry {
            Some(entry) => (entry.config.clone(), entry.rule),
            None => (default.unwrap_or_else(|| self.refusal()), None),
        };
        let stream = start.into_stream(config).await?;
        let tls = stream.get_ref().1;
        let session = Session {
            server_name,
            rule,
            client_certificate: tls.peer_certificates().and_then(|c| c.first()).map(|leaf| leaf.to_vec()),
            is_h2: tls.alpn_protocol() == Some(b"h2"),
        };
        Ok(Some((stream, session)))
    }

    /// Looks at the files again and again.
    pub(super) fn watch_files(&self, tasks: &Tasks) {
        let this = self.clone();
        tasks.supervise("gateway-certificates", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
            let this = this.clone();
            async move {
                while shutdown.or(this.clock().sleep(RELOAD_INTERVAL)).await.is_some() {
                    let reader = this.clone();
                    // Disks may hang; whoever serves must not.
                    drop(shutdown.or(tokio::task::spawn_blocking(move || reader.reload())).await);
                }
            }
        });
    }
}

/// Tells the client that there is nothing here under that name.
pub(super) fn refusal() -> Result<Arc<ServerConfig>, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoKey));
    config.alpn_protocols = vec![ACME_TLS.to_vec(), b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct NoKey;

impl ResolvesServerCert for NoKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
