//! The embedded engine: SQLite in WAL mode, one writer with group commit, a pool of readers.

mod conn;
mod job;
mod readers;
mod transfer;
mod writer;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::Ordering},
};

use kernel::Clock;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use conn::{Conn, create_private, error as sqlite_error};
pub(crate) use job::{Body, Job, Output, Own, Ran, Statement};
use readers::Readers;
pub(crate) use transfer::blocking;
use writer::Writer;

use crate::{
    DataLock, Engine, Error, Result, Row, Value,
    config::SqliteOptions,
    stats::{Counters, Stats},
    topics::Topics,
};

/// The write-ahead log is made to start over when it has grown past this.
pub(crate) const WAL_LIMIT_BYTES: u64 = 64 << 20;

pub(crate) struct Sqlite {
    path: PathBuf,
    options: SqliteOptions,
    clock: Clock,
    queue: RwLock<Option<mpsc::Sender<Box<dyn Job>>>>,
    ended: watch::Receiver<bool>,
    readers: Readers,
    counters: Arc<Counters>,
    lock: Mutex<Option<Arc<DataLock>>>,
}

impl Sqlite {
    pub(crate) fn open(path: &Path, options: SqliteOptions, clock: Clock, topics: &Arc<Topics>) -> Result<Self> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let lock = Arc::new(DataLock::acquire_file(folder, &beside(path, ".lock"))?);
        let counters = Arc::new(Counters::default());
        let conn = Conn::open_writer(path, &options, &clock, &counters)?;
        let readers = Readers::open(path, &options, &clock, &counters)?;
        let (sender, queue) = mpsc::channel(options.queue_capacity.max(1));
        let (ended_tx, ended) = watch::channel(false);
        let writer = Writer {
            conn,
            queue,
            options: options.clone(),
            wal_path: beside(path, "-wal"),
            clock: clock.clone(),
            topics: topics.clone(),
            counters: counters.clone(),
            lost: None,
        };
        let held = lock.clone();
        std::thread::Builder::new()
            .name("database-writer".to_owned())
            .stack_size(4 << 20)
            .spawn(move || {
                writer.run();
                drop(held);
                ended_tx.send_replace(true);
            })
            .map_err(|e| Error::Other(format!("cannot start the writer's thread: {e}")))?;
        Ok(Self {
            path: path.to_path_buf(),
            options,
            clock,
            queue: RwLock::new(Some(sender)),
            ended,
            readers,
            counters,
            lock: Mutex::new(Some(lock)),
        })
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn stats(&self) -> Stats {
        let pool = self.options.read_connection_count.max(1) as u64;
        let in_use = self.counters.reads_in_use.load(Ordering::Relaxed);
        self.counters.snapshot(Engine::Sqlite, self.options.queue_capacity as u64, pool, in_use)
    }

    /// A connection of its own that reads, for a snapshot that lasts.
    pub(crate) fn open_reader(&self) -> Result<Conn> {
        Conn::open_reader(&self.path, &self.options, &self.clock, &self.counters)
    }

    /// Puts a job into the queue, waiting for a place within the bound.
    async fn enqueue(&self, job: Box<dyn Job>) -> Result<()> {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)?;
        let place = match queue.try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Closed(())) => return Err(Error::Closed),
            Err(mpsc::error::TrySendError::Full(())) => self
                .clock
                .timeout(self.options.queue_wait, queue.reserve())
                .await
                .ok_or(Error::Overloaded)?
                .map_err(|_| Error::Closed)?,
        };
        self.counters.queue_length.fetch_add(1, Ordering::Relaxed);
        place.send(job);
        Ok(())
    }

    /// Runs a job and waits for its answer, which comes after the commit of its group.
    pub(crate) async fn run<T, E: From<Error>, J: Job + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, E>>) -> J,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Box::new(make(reply))).await?;
        // The writer answers everything it takes; it can go without only if its thread died with the job in hand.
        answer.await.unwrap_or_else(|_| Err(E::from(Error::Unknown)))
    }

    pub(crate) async fn statement(&self, sql: &'static str, params: Vec<Value>, is_returning: bool) -> Result<Output> {
        self.run(|reply| Statement::new(sql, params, is_returning, reply)).await
    }

    /// Runs the plane's own work in the writer, in a savepoint of its own.
    pub(crate) async fn own<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(|reply| Own::new(work, reply)).await
    }

    pub(crate) async fn query(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        self.readers.query(sql, params).await
    }

    /// Takes no more work, finishes what is queued, and lets go of the file.
    pub(crate) async fn close(&self) {
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        self.readers.close();
        let mut ended = self.ended.clone();
        // An error means that the thread is gone, which is what is waited for.
        drop(ended.wait_for(|ended| *ended).await);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The file beside `path` whose name ends in `suffix` too.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}
