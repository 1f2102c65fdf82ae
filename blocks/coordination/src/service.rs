//! The handle.

mod space;
mod watch;
mod writer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use database::{Db, Engine};
use kernel::{Clock, OnPanic, ProjectId, Rng, Tasks, Timestamp};
use tokio::sync::{Mutex, mpsc, oneshot};

pub(crate) use self::space::{Space, Spaces};
pub use self::watch::{Batch, Filter, Watcher};
pub(crate) use self::writer::Command;
use self::writer::{Done, Request, Writer};
use crate::{
    CoordinationConfig, Error, Result,
    model::{self, KeyRange, KeyValue, MAX_LEASE_SECONDS, Op, OpResult, Range, RangeResult},
    store::{self, StoredLease},
    worker,
};

/// What it needs.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Its section.
    pub config: CoordinationConfig,
    /// Where everything is.
    pub db: Db,
    /// Time.
    pub clock: Clock,
    /// Chance: ids of leases.
    pub rng: Rng,
}

/// Revisioned keys of every project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Coordination(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: CoordinationConfig,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) spaces: Spaces,
    queue: mpsc::Sender<Request>,
    /// Taken by the worker when it starts, and given back when it ends.
    writer: Mutex<Option<Writer>>,
}

/// An answer, and the revision of the keys when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The newest revision then: of a change, its own.
    pub revision: i64,
    /// What was asked for.
    pub result: T,
}

/// A lease as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// For how long it is granted each time.
    pub ttl: Duration,
    /// When it ends unless it is kept alive.
    pub expires_at: Timestamp,
}

/// How a project's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The newest revision.
    pub revision: i64,
    /// History begins after it; 0 when nothing was given up.
    pub compacted: i64,
    /// How many keys there are.
    pub key_count: usize,
    /// What keys and values take, without history.
    pub bytes: usize,
    /// Watchers on this node.
    pub watcher_count: usize,
}

impl From<StoredLease> for Lease {
    fn from(stored: StoredLease) -> Self {
        let ttl = Duration::from_secs(u64::try_from(stored.ttl_seconds).unwrap_or(0));
        Self { id: stored.id, ttl, expires_at: stored.expires_at }
    }
}

impl Coordination {
    /// Brings the schema up to date.
    pub async fn open(deps: Deps) -> Result<Self> {
        deps.db.migrate("coordination", store::MIGRATIONS).await?;
        let (queue, requests) = mpsc::channel(deps.config.queue_capacity.max(1));
        let writer = Writer::new(requests);
        Ok(Self(Arc::new(Shared {
            config: deps.config,
            db: deps.db,
            clock: deps.clock,
            rng: deps.rng,
            spaces: Spaces::default(),
            queue,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// Starts what writes, what ends leases, and what gives up history.
    pub fn start(&self, tasks: &Tasks) {
        let restart = OnPanic::Restart(kernel::Backoff::STANDARD);
        let shared = self.0.clone();
        tasks.supervise("coordination-writer", restart, move |shutdown| {
            let shared = shared.clone();
            async move {
                let mut slot = shared.writer.lock().await;
                if let Some(writer) = slot.as_mut() {
                    writer.run(&shared, &shutdown).await;
                }
            }
        });
        let shared = self.0.clone();
        tasks.supervise("coordination-leases", restart, move |shutdown| worker::end_leases(shared.clone(), shutdown));
        let shared = self.0.clone();
        tasks.supervise("coordination-history", restart, move |shutdown| worker::give_up(shared.clone(), shutdown));
    }

    /// Carries out an operation that may change something.
    pub async fn write(&self, project: &ProjectId, op: Op) -> Result<Answer<OpResult>> {
        model::check(&op)?;
        match self.0.ask(project, Command::Op(op)).await? {
            Answer { revision, result: Done::Op(result) } => Ok(Answer { revision, result }),
            _ => Err(Error::Stopped),
        }
    }

    /// Reads keys. What was acknowledged anywhere before this was called is seen, unless `is_stale_allowed`.
    pub async fn range(
        &self,
        project: &ProjectId,
        range: &Range,
        is_stale_allowed: bool,
    ) -> Result<Answer<RangeResult>> {
        model::check(&Op::Range(range.clone()))?;
        let space = self.0.space(project).await?;
        if !is_stale_allowed {
            self.0.catch_up(project, &space).await?;
        }
        let (newest, found) = space.read(|keys| {
            let is_newest = range.revision <= 0 || range.revision == keys.revision;
            (keys.revision, is_newest.then(|| model::find(keys.range(&range.keys), range)))
        });
        match found {
            Some(result) => Ok(Answer { revision: newest, result }),
            None if range.revision > newest => Err(Error::FutureRevision),
            None => Ok(Answer { revision: newest, result: self.0.past(project, range).await? }),
        }
    }

    /// Grants a lease of at least `ttl` (whole seconds) under an id that is free, or under the one wished for.
    pub async fn grant(&self, project: &ProjectId, id: i64, ttl_seconds: i64) -> Result<Answer<Lease>> {
        if ttl_seconds > MAX_LEASE_SECONDS {
            return Err(Error::LeaseTooLong);
        }
        let least = i64::try_from(self.0.config.min_lease.as_secs()).unwrap_or(1).max(1);
        let id = if id == 0 { self.0.free_id() } else { id };
        self.lease(project, Command::Grant { id, ttl_seconds: ttl_seconds.max(least) }).await
    }

    /// Begins a lease's time anew.
    pub async fn keep_alive(&self, project: &ProjectId, id: i64) -> Result<Answer<Lease>> {
        self.lease(project, Command::KeepAlive { id }).await
    }

    async fn lease(&self, project: &ProjectId, command: Command) -> Result<Answer<Lease>> {
        match self.0.ask(project, command).await? {
            Answer { revision, result: Done::Lease(lease) } => Ok(Answer { revision, result: lease.into() }),
            _ => Err(Error::Stopped),
        }
    }

    /// Ends a lease and deletes its keys.
    pub async fn revoke(&self, project: &ProjectId, id: i64) -> Result<i64> {
        Ok(self.0.ask(project, Command::Revoke { id, if_run_out: false }).await?.revision)
    }

    /// A lease and the keys that end with it; `None` when there is none.
    pub async fn get_lease(&self, project: &ProjectId, id: i64) -> Result<Answer<Option<(Lease, Vec<Bytes>)>>> {
        let space = self.0.space(project).await?;
        self.0.catch_up(project, &space).await?;
        let now = self.0.clock.now();
        let stored = store::get_lease(&self.0.db, project, id).await?.filter(|lease| lease.expires_at > now);
        Ok(space.read(|keys| Answer {
            revision: keys.revision,
            result: stored.map(|stored| (stored.into(), keys.keys_of_lease(id))),
        }))
    }

    /// The leases after an id, in the order of ids; at most `limit`.
    pub async fn leases(&self, project: &ProjectId, after: i64, limit: u32) -> Result<Vec<Lease>> {
        let stored = store::leases(&self.0.db, project, after, limit.min(1000)).await?;
        Ok(stored.into_iter().map(Lease::from).collect())
    }

    /// Gives up history before a revision: what was current then stays readable from there on.
    pub async fn compact(&self, project: &ProjectId, revision: i64) -> Result<i64> {
        Ok(self.0.ask(project, Command::Compact { revision }).await?.revision)
    }

    /// Removes what was compacted now, and not in the steps of the background.
    pub async fn sweep(&self) {
        worker::sweep(&self.0).await;
    }

    /// Changes of keys from a revision on; 0: from now on.
    pub async fn watch(&self, project: &ProjectId, keys: KeyRange, from: i64, filter: Filter) -> Result<Watcher> {
        model::check(&Op::Range(Range::of(keys.clone())))?;
        let space = self.0.space(project).await?;
        // Only what comes after this call: not what was committed elsewhere before it and is not here yet.
        self.0.catch_up(project, &space).await?;
        Ok(Watcher::new(self.0.clone(), project.clone(), space, keys, from, filter))
    }

    /// How a project's keys are.
    pub async fn status(&self, project: &ProjectId) -> Result<Status> {
        let space = self.0.space(project).await?;
        let watcher_count = space.watcher_count();
        Ok(space.read(|keys| Status {
            revision: keys.revision,
            compacted: space.compacted(),
            key_count: keys.len(),
            bytes: keys.bytes(),
            watcher_count,
        }))
    }
}

impl Shared {
    /// Hands a command to the writer, and waits for its answer.
    pub(crate) async fn ask(&self, project: &ProjectId, command: Command) -> Result<Answer<Done>> {
        let (reply, answer) = oneshot::channel();
        let request = Request { project: project.clone(), command, reply };
        self.queue.try_send(request).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// A project's keys in memory, read from the log when they are not there yet.
    pub(crate) async fn space(&self, project: &ProjectId) -> Result<Arc<Space>> {
        if let Some(space) = self.spaces.get(project) {
            return Ok(space);
        }
        self.ask(project, Command::CatchUp).await?;
        self.spaces.get(project).ok_or(Error::Stopped)
    }

    /// Waits until the keys in memory hold all that is committed now. The only process on its database has it all.
    pub(crate) async fn catch_up(&self, project: &ProjectId, space: &Space) -> Result<()> {
        if self.db.engine() == Engine::Sqlite {
            return Ok(());
        }
        let head = store::head(&self.db, project).await?;
        space.note_compacted(head.compacted);
        if head.revision > space.revision() {
            self.ask(project, Command::CatchUp).await?;
        }
        Ok(())
    }

    /// A range as it was at an old revision.
    async fn past(&self, project: &ProjectId, range: &Range) -> Result<RangeResult> {
        let mut kvs: Vec<Arc<KeyValue>> = Vec::new();
        let mut bytes = 0;
        loop {
            let page =
                store::past(&self.db, project, &range.keys, kvs.last().map(|kv| &kv.key), range.revision).await?;
            if page.is_empty() {
                break;
            }
            bytes += page.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
            if bytes > database::MAX_RESULT_BYTES {
                return Err(Error::TooLarge);
            }
            kvs.extend(page);
        }
        // Looked at afterwards: what was swept while this was read is told.
        let compacted = store::head(&self.db, project).await?.compacted;
        if range.revision < compacted {
            return Err(Error::Compacted(compacted));
        }
        Ok(model::find(kvs.iter(), range))
    }

    /// Positive, and so long that two nodes never draw the same.
    fn free_id(&self) -> i64 {
        i64::try_from(self.rng.next_u64() >> 1).unwrap_or(1).max(1)
    }
}
