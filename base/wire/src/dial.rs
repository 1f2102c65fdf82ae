//! Connections for protocols that are only passed on: bytes in both directions.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use kernel::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    ErrorKind, Target,
    proxy_protocol::{Transport, encode},
};

/// A connection to a back end, with TLS where its target says so.
#[derive(Debug)]
pub enum Raw {
    /// TCP alone.
    Tcp(TcpStream),
    /// Inside of TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens a connection within the target's time. Where the target wants a PROXY header it begins with one that tells of `client` (the
/// client's address and the one that it connected to) and, in version 2, the extensions `with`
/// ([`tlv`](crate::proxy_protocol::tlv)). No protocol is offered by ALPN.
pub async fn dial(
    target: &Target,
    client: Option<(SocketAddr, SocketAddr)>,
    with: &[(u8, &[u8])],
    clock: &Clock,
) -> Result<Raw, ErrorKind> {
    let open = async {
        let mut tcp = TcpStream::connect(target.address).await.map_err(ErrorKind::Connect)?;
        tcp.set_nodelay(true).map_err(ErrorKind::Connect)?;
        if let Some(version) = target.proxy_header {
            let mut header = Vec::new();
            encode(version, client, Transport::Stream, with, &mut header);
            tcp.write_all(&header).await.map_err(ErrorKind::Connect)?;
        }
        let Some(tls) = &target.tls else { return Ok(Raw::Tcp(tcp)) };
        let mut config = (*tls.config).clone();
        config.alpn_protocols.clear();
        let connector = TlsConnector::from(Arc::new(config));
        let tls = connector.connect(tls.server_name.clone(), tcp).await.map_err(ErrorKind::Tls)?;
        Ok(Raw::Tls(Box::new(tls)))
    };
    clock.timeout(target.connect_timeout, open).await.unwrap_or(Err(ErrorKind::ConnectTimeout))
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
