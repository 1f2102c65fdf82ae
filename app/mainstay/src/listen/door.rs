//! How connections of the public listener begin: with a PROXY header where the operator said so, and a handshake under the certificate of
//! the host that is asked for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use gateway::tls::{Certificates, Session};
use kernel::{Clock, Network};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use wire::proxy_protocol;

use super::tls::Tls;
use crate::config::PublicConfig;

/// How long a header may take, and how long a handshake.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// What connections begin with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    certificates: Certificates,
    /// What is shown for hosts that the gateway's document does not name.
    default: Option<Tls>,
    /// Whether the first address speaks TLS.
    is_tls: bool,
    balancers: Arc<[Network]>,
}

/// A connection whose first words were said.
pub(super) struct Opened {
    pub(super) stream: Opening,
    /// The client, as a load balancer tells it.
    pub(super) peer: SocketAddr,
    /// What it connected to.
    pub(super) local: SocketAddr,
    pub(super) session: Session,
}

/// What it is spoken over.
pub(super) enum Opening {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Door {
    pub(crate) fn new(certificates: &Certificates, default: Option<&Tls>, config: &PublicConfig) -> Self {
        Self {
            certificates: certificates.clone(),
            default: default.cloned(),
            is_tls: default.is_some() && config.tls_listen.is_none(),
            balancers: config.proxy_protocol.as_slice().into(),
        }
    }

    /// Without TLS and without load balancers before it.
    #[cfg(test)]
    pub(super) fn plain(clock: &Clock) -> Self {
        let certificates = Certificates::new(clock, None).unwrap();
        Self { certificates, default: None, is_tls: false, balancers: [].into() }
    }

    /// Whether the first address speaks TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Waits until requests can come. `None`: the connection is to be closed.
    pub(super) async fn open(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        is_tls: bool,
        clock: &Clock,
    ) -> Option<Opened> {
        let (mut client, mut local) = (peer, stream.local_addr().unwrap_or(peer));
        let address = peer.ip().to_canonical();
        if self.balancers.iter().any(|network| network.contains(address)) {
            let header = clock.timeout(OPENING_TIMEOUT, proxy_protocol::accept(&mut stream)).await;
            let Some(Ok(header)) = header else {
                tracing::debug!(%peer, "connection closed: a load balancer sent no PROXY header");
                return None;
            };
            (client, local) = header.addresses.unwrap_or((client, local));
        }
        if !is_tls {
            return Some(Opened { stream: Opening::Plain(stream), peer: client, local, session: Session::default() });
        }
        let handshake = self.certificates.accept(stream, self.default.as_ref().map(Tls::config));
        match clock.timeout(OPENING_TIMEOUT, handshake).await? {
            Ok(Some((stream, session))) => {
                Some(Opened { stream: Opening::Tls(Box::new(stream)), peer: client, local, session })
            }
            Ok(None) => None,
            Err(e) => {
                tracing::debug!(%peer, error = %e, "TLS handshake failed");
                None
            }
        }
    }
}
