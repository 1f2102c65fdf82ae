//! Datagrams: what comes from one address is a session with one endpoint.
//!
//! - UDP-1: a session's answers go to its client alone, from the listener's own port.
//! - UDP-2: a datagram is passed whole or dropped; nothing waits for anything.
//! - UDP-3: at most `limits.max_connections` sessions at once, each ended after `idle_timeout` without a datagram.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::Shutdown;
use tokio::net::UdpSocket;
use upstream::{KeyParts, Lease, Outcome, Pick};
use wire::proxy_protocol::{Transport, encode};

use super::{
    listeners::Running,
    seats::{Refused, Seat},
};

/// The largest datagram there is.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// Pause after an error of the listener's socket that is not one of a client.
const PAUSE: Duration = Duration::from_millis(100);

type Sessions = Arc<Mutex<HashMap<SocketAddr, Arc<Session>>>>;

struct Session {
    client: SocketAddr,
    /// Connected to the endpoint: only from there does it take answers.
    socket: UdpSocket,
    /// A PROXY header that each datagram begins with; empty without.
    header: Vec<u8>,
    /// Monotonic, microseconds.
    last: AtomicU64,
    lease: Mutex<Option<Lease>>,
    started: Duration,
}

/// Serves until `stop` or `shutdown`; then sessions end with it.
pub(super) async fn serve(running: Arc<Running>, socket: UdpSocket, shutdown: Shutdown) {
    let socket = Arc::new(socket);
    let sessions = Sessions::default();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let Some(received) = running.until_stopped(&shutdown, socket.recv_from(&mut buffer)).await else { return };
        let (length, client) = match received {
            Ok(received) => received,
            // What a datagram of ours met on its way to a client that is gone.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(e) => {
                tracing::error!(error = %e, listener = running.compiled().spec.name, "cannot receive datagrams");
                running.ground.clock.sleep(PAUSE).await;
                continue;
            }
        };
        let known = lock(&sessions).get(&client).cloned();
        let session = match known {
            Some(session) => session,
            None => match running.open(client, &socket).await {
                Ok((session, seat)) => {
                    lock(&sessions).insert(client, session.clone());
                    let answers = Answers {
                        running: running.clone(),
                        session: session.clone(),
                        listener: socket.clone(),
                        sessions: sessions.clone(),
                    };
                    let shutdown = shutdown.clone();
                    running.tasks.spawn("gateway-l4-session", async move {
                        answers.run(&shutdown).await;
                        drop(seat);
                    });
                    session
                }
                Err(why) => {
                    running.seats.refuse(why);
                    continue;
                }
            },
        };
        session.last.store(micros(running.ground.clock.monotonic()), Ordering::Relaxed);
        if session.send(&buffer[..length]) {
            running.seats.bytes.up.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}

impl Running {
    /// A session with an endpoint for a client that has none.
    async fn open(&self, client: SocketAddr, listener: &UdpSocket) -> Result<(Arc<Session>, Seat), Refused> {
        let compiled = self.compiled();
        let limits = &compiled.spec.limits;
        if self.seats.count() >= limits.max_connections {
            return Err(Refused::TooMany);
        }
        let mut seat = self.seats.sit();
        if !seat.name(client.ip(), limits.max_connections_per_address) {
            return Err(Refused::TooMany);
        }
        let name = compiled.spec.upstream.as_deref().unwrap_or_default();
        let upstream = self.ground.upstreams.get(name).ok_or(Refused::NoEndpoint)?;
        let hash = upstream.hash_key(&KeyParts::of_client(client.ip()));
        let lease = upstream.pick(&Pick { hash, ..Pick::default() }).map_err(|_| Refused::NoEndpoint)?;
        let target = lease.target().clone();
        let any: SocketAddr = match target.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // Neither waits: connecting a socket of datagrams only writes down the address.
        let socket = UdpSocket::bind(any).await.map_err(|_| Refused::Connect)?;
        socket.connect(target.address).await.map_err(|_| Refused::Connect)?;
        let mut header = Vec::new();
        if let Some(version) = target.proxy_header {
            let here = listener.local_addr().unwrap_or(compiled.spec.listen);
            encode(version, Some((client, here)), Transport::Datagram, &[], &mut header);
        }
        self.seats.accepted.fetch_add(1, Ordering::Relaxed);
        let started = self.ground.clock.monotonic();
        let last = AtomicU64::new(micros(started));
        Ok((Arc::new(Session { client, socket, header, last, lease: Mutex::new(Some(lease)), started }), seat))
    }
}

impl Session {
    /// Sends a datagram on, or drops it; whether it went.
    fn send(&self, datagram: &[u8]) -> bool {
        if self.header.is_empty() {
            return self.socket.try_send(datagram).is_ok();
        }
        self.socket.try_send(&[&self.header, datagram].concat()).is_ok()
    }

    /// What the first answer, or its refusal, says of the endpoint.
    fn note(&self, is_success: bool, now: Duration) {
        if let Some(lease) = self.lease.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            lease.note(Outcome { is_success, took: now.saturating_sub(self.started) });
        }
    }
}

/// The way back of a session.
struct Answers {
    running: Arc<Running>,
    session: Arc<Session>,
    listener: Arc<UdpSocket>,
    sessions: Sessions,
}

impl Answers {
    async fn run(&self, shutdown: &Shutdown) {
        let Self { running, session, .. } = self;
        let clock = &running.ground.clock;
        let mut buffer = Vec::new();
        loop {
            let idle = running.compiled().spec.idle();
            let quiet = clock.monotonic().saturating_sub(Duration::from_micros(session.last.load(Ordering::Relaxed)));
            if quiet >= idle {
                running.seats.idle_closed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // Room for an answer is taken when there is one: idle sessions hold none.
            let ready = clock.timeout(idle.saturating_sub(quiet), session.socket.readable());
            match running.until_stopped(shutdown, ready).await {
                None => return,
                Some(None) => continue,
                Some(Some(_)) => {}
            }
            buffer.resize(MAX_DATAGRAM_BYTES, 0);
            loop {
                match session.socket.try_recv(&mut buffer) {
                    Ok(length) => {
                        let now = clock.monotonic();
                        session.last.store(micros(now), Ordering::Relaxed);
                        session.note(true, now);
                        if self.listener.try_send_to(&buffer[..length], session.client).is_ok() {
                            running.seats.bytes.down.fetch_add(length as u64, Ordering::Relaxed);
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        // Nobody listens there (ICMP): the next datagram begins a session with another endpoint.
                        tracing::debug!(error = %e, client = %session.client, "UDP session ended");
                        session.note(false, clock.monotonic());
                        return;
                    }
                }
            }
            buffer = Vec::new();
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        lock(&self.sessions).remove(&self.session.client);
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

fn lock(sessions: &Sessions) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<Session>>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}
