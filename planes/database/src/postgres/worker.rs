//! The threads that run transactions.
//!
//! A body's future need not be `Send`, so it stays on one thread from its first poll to its last: a worker with a
//! current-thread runtime. Its connections live on the same runtime, so a statement costs no hop between threads.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use deadpool_postgres::Pool;
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use kernel::{Clock, Rng};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::{JoinSet, LocalSet},
};

use super::connect::Target;
use crate::{Error, PostgresOptions, Result, stats::Counters};

/// What every task on a worker can use.
pub(crate) struct Local {
    pub(super) pool: Pool,
    pub(super) target: Target,
    pub(super) options: PostgresOptions,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) counters: Arc<Counters>,
}

type Task = Box<dyn FnOnce(Arc<Local>) -> LocalBoxFuture<'static, ()> + Send>;

struct Worker {
    queue: mpsc::Sender<Task>,
    /// Tasks given to it and not done.
    load: Arc<AtomicU64>,
    pool: Pool,
    ended: watch::Receiver<bool>,
}

/// All workers, with the bound on what they have in hand.
pub(super) struct Workers {
    list: Mutex<Vec<Arc<Worker>>>,
    permits: Arc<Semaphore>,
    options: PostgresOptions,
    clock: Clock,
    counters: Arc<Counters>,
}

/// Counts a task for as long as it is in hand.
struct InHand {
    load: Arc<AtomicU64>,
    counters: Arc<Counters>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.counters.queue_length.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub(super) fn start(
        target: &Target,
        options: &PostgresOptions,
        clock: &Clock,
        rng: &Rng,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let pool_size = options.pool_size.max(1);
        let worker_count = options.worker_count.clamp(1, pool_size);
        let capacity = options.queue_capacity.max(1);
        let workers = (0..worker_count).map(|index| {
            // The connections are dealt out: the first workers take what does not divide.
            let size = pool_size / worker_count + usize::from(index < pool_size % worker_count);
            let local = Arc::new(Local {
                pool: target.pool(size, options)?,
                target: target.clone(),
                options: options.clone(),
                clock: clock.clone(),
                rng: rng.clone(),
                counters: counters.clone(),
            });
            Worker::start(local, capacity).map(Arc::new)
        });
        Ok(Self {
            list: Mutex::new(workers.collect::<Result<_>>()?),
            permits: Arc::new(Semaphore::new(capacity)),
            options: options.clone(),
            clock: clock.clone(),
            counters: counters.clone(),
        })
    }

    /// Runs a task on the worker that has the least to do.
    pub(super) async fn run<T, F, Fut>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Local>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self
                .clock
                .timeout(self.options.queue_wait, self.permits.clone().acquire_owned())
                .await
                .ok_or(Error::Overloaded)?
                .map_err(|_| Error::Closed)?,
        };
        let answer = self.dispatch(permit, task)?;
        // A worker answers everything it takes; it can go without only if it died with the task in hand.
        answer.await.map_err(|_| Error::Unknown)
    }

    fn dispatch<T, F, Fut>(&self, permit: OwnedSemaphorePermit, task: F) -> Result<oneshot::Receiver<T>>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Local>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let workers = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = workers.iter().min_by_key(|w| w.load.load(Ordering::Relaxed)).ok_or(Error::Closed)?;
        worker.load.fetch_add(1, Ordering::Relaxed);
        self.counters.queue_length.fetch_add(1, Ordering::Relaxed);
        let in_hand = InHand { load: worker.load.clone(), counters: self.counters.clone(), _permit: permit };
        let (reply, answer) = oneshot::channel();
        let boxed: Task = Box::new(move |local| {
            async move {
                let _in_hand = in_hand;
                if !reply.is_closed() {
                    let out = task(local).await;
                    // Nobody waits any more: the caller has gone.
                    drop(reply.send(out));
                }
            }
            .boxed_local()
        });
        // There are as many places as permits, so only a closed queue refuses.
        worker.queue.try_send(boxed).map_err(|_| Error::Closed)?;
        Ok(answer)
    }

    pub(super) fn pool_in_use(&self) -> u64 {
        let workers = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = workers.iter().map(|w| {
            let status = w.pool.status();
            status.size.saturating_sub(status.available)
        });
        in_use.sum::<usize>() as u64
    }

    /// Takes no more tasks and waits for those in hand.
    pub(super) async fn close(&self) {
        self.permits.close();
        let workers = std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner));
        let ended: Vec<_> = workers.iter().map(|w| w.ended.clone()).collect();
        drop(workers);
        for mut ended in ended {
            // An error means that the thread is gone, which is what is waited for.
            drop(ended.wait_for(|ended| *ended).await);
        }
    }
}

impl Worker {
    fn start(local: Arc<Local>, capacity: usize) -> Result<Self> {
        let fail = |e: std::io::Error| Error::Other(format!("cannot start a database worker: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let (queue, tasks) = mpsc::channel(capacity);
        let (ended_tx, ended) = watch::channel(false);
        let pool = local.pool.clone();
        std::thread::Builder::new()
            .name("database-worker".to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, serve(local, tasks));
                drop(runtime);
                ended_tx.send_replace(true);
            })
            .map_err(fail)?;
        Ok(Self { queue, load: Arc::default(), pool, ended })
    }
}

async fn serve(local: Arc<Local>, mut tasks: mpsc::Receiver<Task>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            task = tasks.recv() => match task {
                Some(task) => {
                    running.spawn_local(task(local.clone()));
                }
                None => break,
            },
            Some(done) = running.join_next() => report(done),
        }
    }
    while let Some(done) = running.join_next().await {
        report(done);
    }
    local.pool.close();
}

/// Bodies are caught before they get here, so this is a fault of the plane itself.
fn report(done: Result<(), tokio::task::JoinError>) {
    if let Err(e) = done {
        tracing::error!(error = %e, "a database task panicked");
    }
}
