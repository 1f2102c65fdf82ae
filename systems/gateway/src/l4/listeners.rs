//! The listeners of this node: applied from a document without touching what did not change.
//!
//! - L4-1: a document whose ports cannot all be had changes nothing.
//! - L4-2: a listener that stays (by address and kind of socket) keeps its socket and its connections; new connections see what changed.
//! - L4-3: one that goes stops accepting at once; its connections end by themselves, or with the process.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use arc_swap::ArcSwap;
use kernel::{Clock, FieldError, Shutdown, Tasks};
use socket2::{Domain, Protocol, Socket, Type};
use upstream::Upstreams;

use super::{
    ListenerProtocol, ListenerSpec,
    compiled::Compiled,
    seats::{Refused, Seats},
    tcp::{self, Ground},
    udp,
};
use crate::tls::Certificates;

/// Connections that the kernel keeps while the process is busy.
const BACKLOG: i32 = 4096;

/// What they stand on.
pub struct Deps {
    /// Where connections go.
    pub upstreams: Upstreams,
    /// What is shown where TLS ends.
    pub certificates: Certificates,
    /// Time.
    pub clock: Clock,
    /// Where they run: the stage of listeners.
    pub tasks: Tasks,
}

/// The listeners of a node. Cheap to clone.
#[derive(Clone)]
pub struct Listeners(Arc<Inner>);

struct Inner {
    ground: Ground,
    tasks: Tasks,
    running: Mutex<BTreeMap<Key, Arc<Running>>>,
}

/// A socket: its address, and whether it is one of datagrams.
type Key = (SocketAddr, bool);

/// One that listens.
pub(super) struct Running {
    pub(super) ground: Ground,
    pub(super) tasks: Tasks,
    compiled: ArcSwap<Compiled>,
    pub(super) seats: Arc<Seats>,
    stop: Shutdown,
}

/// A listener for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerState {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it speaks.
    pub protocol: ListenerProtocol,
    /// Connections or sessions now.
    pub connection_count: usize,
    /// Connections or sessions so far.
    pub accepted_count: u64,
    /// Those that were not served, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Those that were closed because nothing came.
    pub idle_count: u64,
    /// Bytes from clients to back ends.
    pub bytes_up: u64,
    /// Bytes from back ends to clients.
    pub bytes_down: u64,
}

enum Bound {
    Tcp(tokio::net::TcpListener),
    Udp(tokio::net::UdpSocket),
}

impl Listeners {
    /// None yet.
    pub fn new(deps: Deps) -> Self {
        let Deps { upstreams, certificates, clock, tasks } = deps;
        let ground = Ground { upstreams, certificates, clock };
        Self(Arc::new(Inner { ground, tasks, running: Mutex::default() }))
    }

    /// Takes over a document's `[[listeners]]`, which passed [`super::validate`]. On an error nothing changes; `at` is the JSON pointer
    /// of the list. Call it inside the runtime.
    pub fn apply(&self, specs: &[ListenerSpec], at: &str) -> Result<(), Vec<FieldError>> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut bound, mut errors) = (Vec::new(), Vec::new());
        for (i, spec) in specs.iter().enumerate().filter(|(_, spec)| !running.contains_key(&key(spec))) {
            match bind(spec) {
                Ok(socket) => bound.push((spec, socket)),
                Err(detail) => errors.push(FieldError { field: format!("{at}/{i}/listen"), detail }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        running.retain(|key, old| {
            let stays = specs.iter().find(|spec| self::key(spec) == *key);
            match stays {
                Some(spec) if old.compiled().spec != *spec => {
                    old.compiled.store(Arc::new(Compiled::new(spec)));
                    // Its limits may have grown.
                    old.seats.left.notify_one();
                }
                Some(_) => {}
                None => old.stop.trigger(),
            }
            stays.is_some()
        });
        for (spec, socket) in bound {
            running.insert(key(spec), self.0.start(spec, socket));
        }
        Ok(())
    }

    /// Ports of a document that cannot be had; nothing is changed.
    pub fn check(&self, specs: &[ListenerSpec], at: &str) -> Vec<FieldError> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let new = specs.iter().enumerate().filter(|(_, spec)| !running.contains_key(&key(spec)));
        let fault = |(i, spec): (usize, &ListenerSpec)| {
            bind(spec).err().map(|detail| FieldError { field: format!("{at}/{i}/listen"), detail })
        };
        new.filter_map(fault).collect()
    }

    /// What there is, by address.
    pub fn states(&self) -> Vec<ListenerState> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().map(|one| one.state()).collect()
    }
}

impl Inner {
    fn start(&self, spec: &ListenerSpec, socket: Bound) -> Arc<Running> {
        let running = Arc::new(Running {
            ground: self.ground.clone(),
            tasks: self.tasks.clone(),
            compiled: ArcSwap::from_pointee(Compiled::new(spec)),
            seats: Arc::default(),
            stop: Shutdown::new(),
        });
        let (this, shutdown) = (running.clone(), self.tasks.shutdown());
        match socket {
            Bound::Tcp(listener) => self.tasks.spawn("gateway-l4-tcp", tcp::accept(this, listener, shutdown)),
            Bound::Udp(socket) => self.tasks.spawn("gateway-l4-udp", udp::serve(this, socket, shutdown)),
        }
        running
    }
}

impl Running {
    pub(super) fn compiled(&self) -> Arc<Compiled> {
        self.compiled.load_full()
    }

    /// Runs `future` until it is done, the listener goes or the process stops.
    pub(super) async fn until_stopped<F: Future>(&self, shutdown: &Shutdown, future: F) -> Option<F::Output> {
        shutdown.or(self.stop.or(future)).await.flatten()
    }

    fn state(&self) -> ListenerState {
        let compiled = self.compiled();
        let seats = &self.seats;
        let count = |why: Refused| (why.name(), seats.refused[why as usize].load(Ordering::Relaxed));
        ListenerState {
            name: compiled.spec.name.clone(),
            listen: compiled.spec.listen,
            protocol: compiled.spec.protocol,
            connection_count: seats.count(),
            accepted_count: seats.accepted.load(Ordering::Relaxed),
            refused: Refused::ALL.map(count).to_vec(),
            idle_count: seats.idle_closed.load(Ordering::Relaxed),
            bytes_up: seats.bytes.up.load(Ordering::Relaxed),
            bytes_down: seats.bytes.down.load(Ordering::Relaxed),
        }
    }
}

fn key(spec: &ListenerSpec) -> Key {
    (spec.listen, spec.protocol == ListenerProtocol::Udp)
}

fn bind(spec: &ListenerSpec) -> Result<Bound, String> {
    let is_udp = spec.protocol == ListenerProtocol::Udp;
    let make = || -> std::io::Result<Bound> {
        let (kind, protocol) = if is_udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
        let socket = Socket::new(Domain::for_address(spec.listen), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if !is_udp {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&spec.listen.into())?;
        if is_udp {
            return Ok(Bound::Udp(tokio::net::UdpSocket::from_std(socket.into())?));
        }
        socket.listen(BACKLOG)?;
        Ok(Bound::Tcp(tokio::net::TcpListener::from_std(socket.into())?))
    };
    make().map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => format!("{} is taken by another process or listener", spec.listen),
        std::io::ErrorKind::PermissionDenied => format!("not allowed to listen on {}", spec.listen),
        _ => format!("cannot listen on {}: {e}", spec.listen),
    })
}
