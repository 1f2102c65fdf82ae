//! Connections of one peer, and what a worker's share of the pool is made of.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    ErrorKind, PoolLimits, Protocol, Target,
    proxy_protocol::{self, Transport},
    stream::Stream,
    watch::{Place, Watch},
};

/// The room that reads are made into. One for a worker: who waits for an answer holds no buffer.
const INPUT_BYTES: usize = 64 * 1024;
/// With less room than this a new one is taken.
const LEAST_INPUT_BYTES: usize = 16 * 1024;
/// The largest buffer for heads that is kept.
const MOST_OUTPUT_BYTES: usize = 64 * 1024;

/// What the connections of a worker share.
pub(crate) struct Shared {
    pub(crate) watch: Rc<Watch>,
    pub(crate) clock: kernel::Clock,
    pub(crate) limits: PoolLimits,
    /// Empty between polls.
    input: RefCell<BytesMut>,
    output: RefCell<Vec<u8>>,
    pub(crate) idle_count: Cell<usize>,
    pub(crate) opened_count: Cell<u64>,
    pub(crate) reused_count: Cell<u64>,
    pub(crate) replayed_count: Cell<u64>,
}

impl Shared {
    pub(crate) fn new(clock: &kernel::Clock, limits: PoolLimits) -> Rc<Self> {
        Rc::new(Self {
            watch: Watch::new(clock),
            clock: clock.clone(),
            limits,
            input: RefCell::default(),
            output: RefCell::default(),
            idle_count: Cell::new(0),
            opened_count: Cell::new(0),
            reused_count: Cell::new(0),
            replayed_count: Cell::new(0),
        })
    }

    /// Reads once; the bytes are the caller's, their memory is shared with others that are read at about the same time.
    pub(crate) fn poll_read(
        &self,
        cx: &mut std::task::Context<'_>,
        stream: &mut Stream,
    ) -> std::task::Poll<io::Result<bytes::Bytes>> {
        let mut input = self.input.borrow_mut();
        if input.capacity() < LEAST_INPUT_BYTES {
            input.reserve(INPUT_BYTES);
        }
        stream.poll_read_into(cx, &mut input).map_ok(|_| input.split().freeze())
    }

    /// An empty buffer for a head.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.output.take()
    }

    pub(crate) fn put_output(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= MOST_OUTPUT_BYTES {
            buffer.clear();
            self.output.replace(buffer);
        }
    }
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) place: Place,
    opened_at: Duration,
    /// Whom a PROXY header at its beginning speaks for.
    client: Option<(SocketAddr, SocketAddr)>,
    /// When it is too old to be used, while it is idle.
    idle_until: Duration,
}

/// The connections of a worker to one target.
pub(crate) struct Peer {
    pub(crate) target: Arc<Target>,
    pub(crate) shared: Rc<Shared>,
    /// The one used last is last.
    #[allow(clippy::vec_box, reason = "a connection moves twice for each request: as a pointer")]
    idle: RefCell<Vec<Box<Connection>>>,
    pub(crate) is_forgotten: Cell<bool>,
    pub(crate) http2: crate::h2::Connections,
    pub(crate) hyper1: crate::hyper1::Idle,
}

impl Peer {
    pub(crate) fn new(target: &Arc<Target>, shared: &Rc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            target: target.clone(),
            shared: shared.clone(),
            idle: RefCell::default(),
            is_forgotten: Cell::new(false),
            http2: crate::h2::Connections::default(),
            hyper1: crate::hyper1::Idle::default(),
        })
    }

    /// The idle connection that was used last and still can be.
    pub(crate) fn take(
        &self,
        now: Duration,
        client: Option<(SocketAddr, SocketAddr)>,
        is_asked_anew: bool,
    ) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let connection = if self.target.proxy_header.is_some() {
                let at = idle.iter().rposition(|c| c.client == client)?;
                idle.remove(at)
            } else {
                idle.pop()?
            };
            self.shared.idle_count.update(|count| count - 1);
            let mut connection = connection;
            if now < connection.idle_until && connection.stream.is_quiet(is_asked_anew) {
                return Some(connection);
            }
        }
    }

    /// Takes a connection back after its answer. `keep_alive` is how long the server says that it keeps it.
    pub(crate) fn give_back(&self, mut connection: Box<Connection>, now: Duration, keep_alive: Option<Duration>) {
        connection.place.disarm();
        let shared = &self.shared;
        let mut idle = self.idle.borrow_mut();
        let is_full = idle.len() >= self.target.max_idle || shared.idle_count.get() >= shared.limits.max_idle;
        if self.is_forgotten.get() || is_full {
            return;
        }
        let mut idle_until = now.saturating_add(self.target.idle_timeout);
        if let Some(keep_alive) = keep_alive {
            // A request must not meet the server's own closing on the way.
            idle_until = idle_until.min(now + keep_alive.saturating_sub(Duration::from_secs(1)));
        }
        if let Some(max_age) = self.target.max_age {
            idle_until = idle_until.min(connection.opened_at.saturating_add(max_age));
        }
        connection.idle_until = idle_until;
        shared.idle_count.update(|count| count + 1);
        idle.push(connection);
    }

    /// Closes idle connections that are too old or were closed by the other end. Gives whether none is left.
    pub(crate) fn sweep(&self, now: Duration) -> bool {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain_mut(|c| now < c.idle_until && c.stream.is_quiet(false));
        self.shared.idle_count.update(|count| count - (before - idle.len()));
        if idle.is_empty() && idle.capacity() > 8 {
            *idle = Vec::new();
        }
        let is_empty = idle.is_empty();
        self.http2.sweep(now, &self.target) & self.hyper1.sweep(now, &self.target) && is_empty
    }

    /// Closes what is idle, now and from now on.
    pub(crate) fn forget(&self) {
        self.is_forgotten.set(true);
        let idle = self.idle.take();
        self.shared.idle_count.update(|count| count - idle.len());
        self.http2.forget();
        self.hyper1.forget();
    }

    /// Opens a connection, with its PROXY header and TLS, within the target's time.
    pub(crate) async fn connect(&self, client: Option<(SocketAddr, SocketAddr)>) -> Result<Box<Connection>, ErrorKind> {
        let target = &*self.target;
        let open = async {
            let mut tcp = TcpStream::connect(target.address).await.map_err(ErrorKind::Connect)?;
            // Heads and bodies are written whole: waiting for more would only delay them.
            tcp.set_nodelay(true).map_err(ErrorKind::Connect)?;
            if let Some(version) = target.proxy_header {
                let mut header = Vec::new();
                proxy_protocol::encode(version, client, Transport::Stream, &[], &mut header);
                tcp.write_all(&header).await.map_err(ErrorKind::Connect)?;
            }
            let Some(tls) = &target.tls else { return Ok(Stream::Tcp(tcp)) };
            let connector = TlsConnector::from(tls.config.clone());
            let tls = connector.connect(tls.server_name.clone(), tcp).await.map_err(ErrorKind::Tls)?;
            if target.protocol == Protocol::Http2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(ErrorKind::Tls(io::Error::other("the back end does not speak HTTP/2 (ALPN h2)")));
            }
            Ok(Stream::Tls(Box::new(tls)))
        };
        let shared = &self.shared;
        let opened = shared.clock.timeout(target.connect_timeout, open).await;
        let stream = opened.unwrap_or(Err(ErrorKind::ConnectTimeout))?;
        shared.opened_count.update(|count| count + 1);
        Ok(Box::new(Connection {
            stream,
            place: shared.watch.enter(),
            opened_at: shared.watch.now(),
            client,
            idle_until: Duration::ZERO,
        }))
    }
}
