//! The sockets of the DNS server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kernel::{Backoff, Clock, OnPanic, Shutdown, Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

use super::answer::{Over, answer};
use crate::service::Discovery;

/// How long a connection may be silent, and how long an answer may take to be read (RFC 7766, section 6.2.3).
const SILENCE: Duration = Duration::from_secs(10);
/// The longest query that is read over UDP.
const MAX_QUERY_BYTES: usize = 4_096;

/// One port, over UDP and TCP.
#[derive(Debug, Clone)]
pub struct Sockets {
    udp: Arc<UdpSocket>,
    tcp: Arc<TcpListener>,
}

impl Sockets {
    /// Binds both; with port 0, both get the same.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        // A free port of one may be taken of the other.
        let mut last = None;
        for _ in 0..if address.port() == 0 { 16 } else { 1 } {
            let tcp = TcpListener::bind(address).await?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => return Ok(Self { udp: Arc::new(udp), tcp: Arc::new(tcp) }),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
    }

    /// Where they are.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Discovery {
    /// Answers over DNS on `tasks` (of the stage of listeners).
    pub fn serve_dns(&self, sockets: &Sockets, tasks: &Tasks) {
        let restart = OnPanic::Restart(Backoff::STANDARD);
        let (this, udp) = (self.clone(), sockets.udp.clone());
        tasks.supervise("discovery dns udp", restart, move |shutdown| datagrams(this.clone(), udp.clone(), shutdown));
        let (this, tcp, own) = (self.clone(), sockets.tcp.clone(), tasks.clone());
        let permits = Arc::new(Semaphore::new(self.shared().config.dns_max_connections));
        tasks.supervise("discovery dns tcp", restart, move |shutdown| {
            connections(this.clone(), tcp.clone(), permits.clone(), own.clone(), shutdown)
        });
    }
}

async fn datagrams(discovery: Discovery, socket: Arc<UdpSocket>, shutdown: Shutdown) {
    let mut bytes = vec![0; MAX_QUERY_BYTES];
    while let Some(received) = shutdown.or(socket.recv_from(&mut bytes)).await {
        // An error is of one datagram, such as one that found nobody.
        let Ok((len, peer)) = received else { continue };
        // Nobody asks from port 0; an answer would go nowhere.
        if peer.port() == 0 {
            continue;
        }
        if let Some(told) = answer(&discovery, &bytes[..len], Over::Udp) {
            drop(socket.send_to(&told, peer).await);
        }
    }
}

async fn connections(
    discovery: Discovery,
    listener: Arc<TcpListener>,
    permits: Arc<Semaphore>,
    tasks: Tasks,
    shutdown: Shutdown,
) {
    let clock = discovery.shared().clock.clone();
    loop {
        let Some(Ok(permit)) = shutdown.or(permits.clone().acquire_owned()).await else { return };
        let Some(accepted) = shutdown.or(listener.accept()).await else { return };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, perhaps: not at once again.
            clock.sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (discovery, clock, shutdown) = (discovery.clone(), clock.clone(), shutdown.clone());
        tasks.spawn("discovery dns connection", async move {
            let _permit = permit;
            shutdown.or(connection(&discovery, stream, &clock)).await;
        });
    }
}

/// Queries and answers, each with its length before it (RFC 1035, section 4.2.2), until the asker ends or is silent.
async fn connection(discovery: &Discovery, mut stream: TcpStream, clock: &Clock) {
    loop {
        let read = async {
            let len = stream.read_u16().await?;
            let mut bytes = vec![0; usize::from(len)];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, std::io::Error>(bytes)
        };
        let Some(Ok(query)) = clock.timeout(SILENCE, read).await else { return };
        let Some(told) = answer(discovery, &query, Over::Tcp) else { return };
        let Ok(len) = u16::try_from(told.len()) else { return };
        let framed = [&len.to_be_bytes()[..], &told].concat();
        let Some(Ok(())) = clock.timeout(SILENCE, stream.write_all(&framed)).await else { return };
    }
}
