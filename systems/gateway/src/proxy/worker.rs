//! What the workers share, and what each has of its own.

use std::{cell::Cell, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderValue;
use kernel::{Clock, Rng, Tasks};
use limiter::Limiter;
use wire::{Pool, PoolLimits};

use super::{
    asked::Via,
    log::{AccessLog, FLUSH_INTERVAL, Format, WorkerLog},
    mirror::Mirrors,
    recent::{Difference, Differences, MirrorNumbers, Slow, SlowRequest},
    sticky::Seal,
    upgrade::Relays,
};
use crate::model::Table;

/// What the data path stands on.
pub struct Deps {
    /// The routes of now; whoever changes them stores another table.
    pub table: Arc<ArcSwap<Table>>,
    /// Back ends that were let go, by the ids of their targets.
    pub upstreams: upstream::Upstreams,
    /// Rate limits; without it none are asked.
    pub limiter: Option<Limiter>,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// What cookies are signed with: the same on every node, secret.
    pub secret: [u8; 32],
    /// What this installation calls itself in `Via`: the same on every node, and different in every installation.
    pub via: String,
    /// Where the access log goes (`-` is standard output), and how its lines look. `None`: there is none.
    pub access_log: Option<(PathBuf, Format)>,
    /// Whether answers say in `Server-Timing` what the back end took.
    pub server_timing: bool,
    /// Where the log's writer runs.
    pub tasks: Tasks,
}

/// What all workers share. Cheap to clone.
#[derive(Clone)]
pub struct DataPath(Arc<Shared>);

pub(super) struct Shared {
    pub(super) table: Arc<ArcSwap<Table>>,
    upstreams: upstream::Upstreams,
    pub(super) limiter: Option<Limiter>,
    clock: Clock,
    rng: Rng,
    pub(super) seal: Seal,
    pub(super) via: Via,
    log: Option<AccessLog>,
    pub(super) slow: Slow,
    pub(super) differences: Differences,
    pub(super) server_timing: bool,
}

impl std::fmt::Debug for DataPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataPath")
    }
}

impl DataPath {
    /// Starts what all workers share.
    pub fn new(deps: Deps) -> Self {
        let Deps { table, upstreams, limiter, clock, rng, secret, via, access_log, server_timing, tasks } = deps;
        let log = access_log.map(|(path, format)| AccessLog::start(&path, format, &clock, &tasks));
        Self(Arc::new(Shared {
            table,
            upstreams,
            limiter,
            seal: Seal::new(&secret),
            via: Via::new(&via),
            log,
            slow: Slow::new(&clock),
            differences: Differences::default(),
            server_timing,
            clock,
            rng,
        }))
    }

    /// A worker of this thread. Call it inside of its `LocalSet`.
    pub fn worker(&self) -> Worker {
        Worker::new(self.0.clone())
    }

    /// The slowest requests of the last minutes on this node, the slowest first.
    pub fn slow(&self) -> Vec<SlowRequest> {
        self.0.slow.list()
    }

    /// What mirrors answered otherwise lately, the last first.
    pub fn differences(&self) -> Vec<Difference> {
        self.0.differences.list()
    }

    /// How many requests were mirrored on this node.
    pub fn mirrors(&self) -> MirrorNumbers {
        self.0.differences.numbers()
    }

    /// Lines of the access log that were left out, since the disk did not keep up.
    pub fn lost_log_lines(&self) -> u64 {
        self.0.log.as_ref().map_or(0, AccessLog::lost_lines)
    }
}

/// The data path of one thread. Cheap to clone.
#[derive(Clone)]
pub struct Worker(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) pool: Pool,
    pub(super) log: Option<WorkerLog>,
    pub(super) relays: Rc<Relays>,
    pub(super) mirrors: Mirrors,
    /// Ids of requests: one random number for the worker, and a count.
    id_prefix: [u8; 16],
    next_id: Cell<u32>,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        let (clock, rng) = (shared.clock.clone(), shared.rng.clone());
        let inner = Rc::new(Inner {
            pool: Pool::new(&clock, PoolLimits::default()),
            log: shared.log.as_ref().map(AccessLog::for_worker),
            relays: Rc::default(),
            mirrors: Mirrors::default(),
            id_prefix: hex(rng.next_u64()),
            next_id: Cell::new(0),
            shared,
            clock,
            rng,
        });
        let (weak, clock) = (Rc::downgrade(&inner), inner.clock.clone());
        tokio::task::spawn_local(async move {
            loop {
                clock.sleep(FLUSH_INTERVAL).await;
                let Some(inner) = weak.upgrade() else { return };
                if let Some(log) = &inner.log {
                    log.flush();
                }
                inner.shared.slow.tick();
            }
        });
        let (pool, mut retired) = (inner.pool.clone(), inner.shared.upstreams.retired());
        tokio::task::spawn_local(async move {
            loop {
                match retired.recv().await {
                    Ok(target) => pool.forget(target),
                    // Those that were missed time out when they have idled long enough.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        Self(inner)
    }

    /// At shutdown: lets upgraded connections say goodbye, within a bound.
    pub async fn drain(&self) {
        self.0.relays.drain(&self.0.clock).await;
        if let Some(log) = &self.0.log {
            log.flush();
        }
    }

    /// Upgraded connections that are open on this worker.
    pub fn open_relays(&self) -> usize {
        self.0.relays.open()
    }
}

impl Inner {
    /// An id that no other request has: 16 random digits of the worker, and a count.
    pub(super) fn next_id(&self) -> HeaderValue {
        let number = self.next_id.get();
        self.next_id.set(number.wrapping_add(1));
        let mut id = [0; 24];
        id[..16].copy_from_slice(&self.id_prefix);
        for (place, byte) in id[16..].chunks_exact_mut(2).zip(number.to_be_bytes()) {
            (place[0], place[1]) = digits(byte);
        }
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0"))
    }

    /// One of so many, at random.
    pub(super) fn below(&self, bound: u32) -> u32 {
        u32::try_from(self.rng.below(bound.into())).unwrap_or(0)
    }

    /// Time since `started`.
    pub(super) fn since(&self, started: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(started)
    }
}

fn digits(byte: u8) -> (u8, u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)])
}

fn hex(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (place, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        (place[0], place[1]) = digits(byte);
    }
    text
}
