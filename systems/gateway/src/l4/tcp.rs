//! Connections: from the accepted socket to the back end, and the bytes between them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use kernel::{Clock, Shutdown};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use upstream::{EndpointId, KeyParts, Lease, Outcome, Pick, Upstreams};
use wire::{Raw, dial, proxy_protocol};

use super::{
    ListenerProtocol, SniMode,
    compiled::Compiled,
    listeners::Running,
    prefixed::Prefixed,
    pump::{End, pump},
    seats::{Refused, Seat},
};
use crate::tls::{
    Certificates,
    hello::{self, ClientHello, Seen},
};

/// How long a client may take for its PROXY header, and how long for its ClientHello and the handshake.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an error of `accept` that says something about the process.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Endpoints that are tried when the listener does not say.
const CONNECT_ATTEMPTS: u32 = 3;
/// A fatal alert `unrecognized_name` (RFC 8446 §6, RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What connections stand on. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) upstreams: Upstreams,
    pub(super) certificates: Certificates,
    pub(super) clock: Clock,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
struct Client {
    source: SocketAddr,
    destination: SocketAddr,
}

/// Accepts until `stop`, `shutdown` or a broken socket; connections go on by themselves.
pub(super) async fn accept(running: Arc<Running>, listener: TcpListener, shutdown: Shutdown) {
    let (seats, clock) = (&running.seats, &running.ground.clock);
    loop {
        while seats.count() >= running.compiled().spec.limits.max_connections {
            if running.until_stopped(&shutdown, seats.left.notified()).await.is_none() {
                return;
            }
        }
        let Some(accepted) = running.until_stopped(&shutdown, listener.accept()).await else { return };
        match accepted {
            Ok((stream, peer)) => {
                let (running, seat, shutdown) = (running.clone(), seats.sit(), shutdown.clone());
                running.clone().tasks.spawn("gateway-l4-connection", async move {
                    running.serve(stream, peer, seat, &shutdown).await;
                });
            }
            Err(e) if is_of_connection(&e) => {}
            Err(e) => {
                tracing::error!(error = %e, listener = running.compiled().spec.name, "cannot accept connections");
                clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

impl Running {
    async fn serve(&self, stream: TcpStream, peer: SocketAddr, seat: Seat, shutdown: &Shutdown) {
        self.seats.accepted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // What holds now holds for this connection, but for its idle timeout.
        let compiled = self.compiled();
        match self.connection(&compiled, stream, peer, seat, shutdown).await {
            Ok(()) => {}
            Err(why) => {
                self.seats.refuse(why);
                tracing::debug!(listener = compiled.spec.name, %peer, why = why.name(), "connection refused");
            }
        }
    }

    async fn connection(
        &self,
        compiled: &Compiled,
        mut stream: TcpStream,
        peer: SocketAddr,
        mut seat: Seat,
        shutdown: &Shutdown,
    ) -> Result<(), Refused> {
        drop(stream.set_nodelay(true));
        let clock = &self.ground.clock;
        let here = stream.local_addr().unwrap_or(compiled.spec.listen);
        let mut client = Client { source: peer, destination: here };
        if compiled.spec.proxy_protocol.as_ref().is_some_and(|p| p.expects(peer.ip())) {
            let header = shutdown.or(clock.timeout(OPENING_TIMEOUT, proxy_protocol::accept(&mut stream))).await;
            let Some(Some(Ok(header))) = header else { return Err(Refused::ProxyHeader) };
            if let Some((source, destination)) = header.addresses {
                client = Client { source, destination };
            }
        }
        if !seat.name(client.source.ip(), compiled.spec.limits.max_connections_per_address) {
            return Err(Refused::TooMany);
        }
        if compiled.spec.protocol == ListenerProtocol::Tls {
            return self.by_host(compiled, stream, client, shutdown).await;
        }
        let upstream = compiled.spec.upstream.as_deref().unwrap_or_default();
        let (server, lease) = self.connect(compiled, upstream, client, &[]).await?;
        self.pass(stream, server, lease, shutdown).await;
        Ok(())
    }

    /// A client of TLS: where it goes is in its first message.
    async fn by_host(
        &self,
        compiled: &Compiled,
        mut stream: TcpStream,
        client: Client,
        shutdown: &Shutdown,
    ) -> Result<(), Refused> {
        let clock = &self.ground.clock;
        let read = shutdown.or(clock.timeout(OPENING_TIMEOUT, read_hello(&mut stream))).await;
        let Some(Some(Ok((hello, seen)))) = read else { return Err(Refused::NotTls) };
        let name = hello.server_name.as_deref();
        let certificates = &self.ground.certificates;
        if hello.alpn.iter().any(|p| p == crate::tls::ACME_TLS)
            && let Some(config) = certificates.challenge(name).await
        {
            let handshake = TlsAcceptor::from(config).accept(Prefixed::new(seen, stream));
            return match shutdown.or(clock.timeout(OPENING_TIMEOUT, handshake)).await {
                Some(Some(Ok(_))) => Ok(()),
                _ => Err(Refused::Handshake),
            };
        }
        let Some(way) = compiled.way(name) else {
            drop(clock.timeout(OPENING_TIMEOUT, stream.write_all(&UNRECOGNIZED_NAME)).await);
            drop(stream.shutdown().await);
            return Err(Refused::UnknownHost);
        };
        if way.mode == SniMode::PassThrough {
            let told = Told::passed(&hello);
            let (mut server, lease) = self.connect(compiled, &way.upstream, client, &told.extensions()).await?;
            let sent = clock.timeout(OPENING_TIMEOUT, server.write_all(&seen)).await;
            if matches!(sent, Some(Ok(()))) {
                self.pass(stream, server, lease, shutdown).await;
                return Ok(());
            }
            return Err(Refused::Connect);
        }
        let Some(config) = certificates.config(name, &way.alpn) else { return Err(Refused::UnknownHost) };
        let handshake = TlsAcceptor::from(config).accept(Prefixed::new(seen, stream));
        let Some(Some(Ok(stream))) = shutdown.or(clock.timeout(OPENING_TIMEOUT, handshake)).await else {
            return Err(Refused::Handshake);
        };
        let told = Told::terminated(&hello, stream.get_ref().1);
        let (server, lease) = self.connect(compiled, &way.upstream, client, &told.extensions()).await?;
        self.pass(stream, server, lease, shutdown).await;
        Ok(())
    }

    /// A connection to an endpoint: the next one is tried while none took it. Nothing of the client was sent to those.
    async fn connect(
        &self,
        compiled: &Compiled,
        upstream: &str,
        client: Client,
        with: &[(u8, &[u8])],
    ) -> Result<(Raw, Lease), Refused> {
        let Ground { upstreams, clock, .. } = &self.ground;
        let upstream = upstreams.get(upstream).ok_or(Refused::NoEndpoint)?;
        let hash = upstream.hash_key(&KeyParts::of_client(client.source.ip()));
        let mut tried: Vec<EndpointId> = Vec::new();
        for _ in 0..compiled.spec.connect_attempts.unwrap_or(CONNECT_ATTEMPTS) {
            let pick = Pick { hash, exclude: &tried, sticky: None };
            let mut lease = match upstream.pick(&pick) {
                Ok(lease) if tried.contains(&lease.endpoint()) => break,
                Ok(lease) => lease,
                Err(_) if tried.is_empty() => return Err(Refused::NoEndpoint),
                Err(_) => break,
            };
            let started = clock.monotonic();
            let dialed = dial(lease.target(), Some((client.source, client.destination)), with, clock).await;
            let took = clock.monotonic().saturating_sub(started);
            lease.note(Outcome { is_success: dialed.is_ok(), took });
            match dialed {
                Ok(server) => return Ok((server, lease)),
                Err(e) => {
                    let address = lease.target().address;
                    tracing::debug!(listener = compiled.spec.name, %address, error = %e, "endpoint did not take a connection");
                    tried.push(lease.endpoint());
                }
            }
        }
        Err(Refused::Connect)
    }

    /// Both ways until the end; the lease is the connection's place at its endpoint.
    async fn pass<A, B>(&self, client: A, server: B, lease: Lease, shutdown: &Shutdown)
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let idle = || self.compiled().spec.idle();
        let ended = pump(client, server, idle, &self.seats.bytes, &self.ground.clock, shutdown).await;
        if matches!(ended, Ok(End::Idle)) {
            self.seats.idle_closed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        drop(lease);
    }
}

/// Reads until the first message is here; gives it with every byte that was read.
async fn read_hello(stream: &mut TcpStream) -> io::Result<(ClientHello, Vec<u8>)> {
    let mut seen = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match hello::look(&seen) {
            Ok(Seen::Whole(hello)) => return Ok((hello, seen)),
            Ok(Seen::Part) => {}
            Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
        }
    }
}

/// What a back end is told by PROXY v2 beside addresses.
#[derive(Debug, Default)]
struct Told {
    authority: Vec<u8>,
    alpn: Vec<u8>,
    ssl: Vec<u8>,
}

impl Told {
    fn passed(hello: &ClientHello) -> Self {
        Self { authority: hello.server_name.clone().unwrap_or_default().into_bytes(), ..Self::default() }
    }

    /// The extension `SSL` (section 2.2.6) has what was agreed on, and who the client showed to be.
    fn terminated(hello: &ClientHello, tls: &rustls::ServerConnection) -> Self {
        let leaf = tls.peer_certificates().and_then(|chain| chain.first());
        let name = leaf.and_then(|leaf| crate::tls::common_name(leaf));
        let version: &[u8] = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => b"TLSv1.3",
            _ => b"TLSv1.2",
        };
        // CLIENT_SSL, and CLIENT_CERT_CONN | CLIENT_CERT_SESS with a certificate; `verify` is 0 for one that holds.
        let mut ssl = vec![if leaf.is_some() { 7 } else { 1 }];
        ssl.extend_from_slice(&u32::from(leaf.is_none()).to_be_bytes());
        for (kind, value) in [(0x21, version), (0x22, name.as_deref().unwrap_or_default().as_bytes())] {
            if let (false, Ok(length)) = (value.is_empty(), u16::try_from(value.len())) {
                ssl.push(kind);
                ssl.extend_from_slice(&length.to_be_bytes());
                ssl.extend_from_slice(value);
            }
        }
        Self { alpn: tls.alpn_protocol().unwrap_or_default().to_vec(), ssl, ..Self::passed(hello) }
    }

    fn extensions(&self) -> Vec<(u8, &[u8])> {
        use proxy_protocol::tlv::{ALPN, AUTHORITY, SSL};
        let all: [(u8, &[u8]); 3] = [(ALPN, &self.alpn), (AUTHORITY, &self.authority), (SSL, &self.ssl)];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}
