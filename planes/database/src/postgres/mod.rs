//! PostgreSQL: pooled connections, bodies pinned to worker threads, one connection that listens.
//!
//! Nothing here relies on a session beyond its transaction, so it runs behind PgBouncer's transaction pooling; only LISTEN
//! needs a connection of its own, and where it cannot have one, the slow polling takes its place. Prepared statements need
//! PgBouncer 1.21 or newer; [`crate::PostgresOptions::prepared_statements`] switches them off.

mod connect;
mod listen;
mod session;
mod transfer;
mod types;
mod worker;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use kernel::{Backoff, Clock, OnPanic, Rng, Shutdown, Tasks, tasks::panic_message};
use tokio::sync::watch;

use connect::Target;
use listen::{Listener, Outbox};
pub(crate) use session::Session;
use session::{Activity, Committed};
use worker::{Local, Workers};

use crate::{
    Change, Engine, Error, MAX_RERUNS, PostgresOptions, Result, Row, Tx, Value,
    stats::{Counters, Stats},
    topics::Topics,
    tx::On,
    value,
};

/// Between two runs of a body: full jitter below 5, 10, 20, … ms.
const RERUN: Backoff = Backoff { base: Duration::from_millis(5), cap: Duration::from_millis(200) };
/// Longest that closing waits for the last wake-ups to be sent.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Postgres {
    workers: Arc<Workers>,
    outbox: Arc<Outbox>,
    topics: Arc<Topics>,
    counters: Arc<Counters>,
    options: PostgresOptions,
    clock: Clock,
    stop: Shutdown,
    flushed: watch::Receiver<bool>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

impl Postgres {
    pub(crate) async fn connect(
        options: PostgresOptions,
        clock: Clock,
        rng: Rng,
        topics: &Arc<Topics>,
        tasks: &Tasks,
    ) -> Result<Self> {
        let target = Target::new(&options)?;
        let counters = Arc::new(Counters::default());
        let workers = Arc::new(Workers::start(&target, &options, &clock, &rng, &counters)?);
        let (outbox, stop) = (Arc::new(Outbox::default()), Shutdown::new());
        let (flushed_tx, flushed) = watch::channel(false);
        let flushed_tx = Arc::new(flushed_tx);
        let this = Self {
            workers: workers.clone(),
            outbox: outbox.clone(),
            topics: topics.clone(),
            counters: counters.clone(),
            options,
            clock: clock.clone(),
            stop: stop.clone(),
            flushed,
        };
        this.query("SELECT 1", Vec::new()).await?;

        let node = format!("{:016x}", rng.next_u64());
        let (tried_tx, mut tried) = watch::channel(false);
        let listener = Arc::new(Listener {
            target,
            topics: topics.clone(),
            counters,
            node: node.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            stop: stop.clone(),
            tried: tried_tx,
        });
        let restart = OnPanic::Restart(Backoff::STANDARD);
        tasks.supervise("database listen", restart, move |_| {
            let listener = listener.clone();
            async move { Box::pin(listener.run()).await }
        });
        let (poll_topics, poll_clock, interval) = (topics.clone(), clock.clone(), this.options.resync_interval);
        let poll_stop = stop.clone();
        tasks.supervise("database resync", restart, move |_| {
            listen::poll_loop(poll_topics.clone(), interval, poll_clock.clone(), poll_stop.clone())
        });
        tasks.supervise("database notify", restart, move |_| {
            let (outbox, workers, node) = (outbox.clone(), workers.clone(), node.clone());
            let (clock, rng, stop, flushed) = (clock.clone(), rng.clone(), stop.clone(), flushed_tx.clone());
            async move {
                listen::send_loop(outbox, workers, node, clock, rng, stop).await;
                flushed.send_replace(true);
            }
        });
        // From here on wake-ups of other nodes are heard, unless LISTEN cannot be had.
        let first = this.clock.timeout(this.options.connect_timeout, tried.wait_for(|tried| *tried)).await;
        if first.is_none() {
            tracing::warn!("LISTEN is not established yet; watchers are polling");
        }
        Ok(this)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn stats(&self) -> Stats {
        let (capacity, pool) = (self.options.queue_capacity as u64, self.options.pool_size.max(1) as u64);
        self.counters.snapshot(Engine::Postgres, capacity, pool, self.workers.pool_in_use())
    }

    pub(crate) async fn exec(&self, sql: &'static str, params: Vec<Value>) -> Result<u64> {
        self.alone(sql, params, false).await.map(|(_, count)| count)
    }

    pub(crate) async fn exec_returning(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        self.alone(sql, params, false).await.map(|(rows, _)| rows)
    }

    pub(crate) async fn query(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        self.alone(sql, params, true).await.map(|(rows, _)| rows)
    }

    async fn alone(&self, sql: &'static str, params: Vec<Value>, is_read: bool) -> Result<(Vec<Row>, u64)> {
        value::check(&params)?;
        let run = self.workers.run(move |local| async move {
            if !is_read {
                local.counters.jobs.fetch_add(1, Ordering::Relaxed);
            }
            let mut attempt = 0;
            loop {
                let outcome = match Session::open(&local, false).await {
                    Ok(mut session) => session.alone(sql, &params, is_read).await,
                    Err(e) => Err(e),
                };
                if outcome != Err(Error::Retry) || attempt == MAX_RERUNS {
                    return outcome;
                }
                local.back_off(attempt).await;
                attempt += 1;
            }
        });
        run.await?
    }

    pub(crate) fn tx<T, E, F>(self: Arc<Self>, body: F, is_serializable: bool) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        async move {
            let (topics, outbox) = (self.topics.clone(), self.outbox.clone());
            // The wake-ups are part of the task, since the caller may go away while it runs.
            let run = self.workers.run(move |local| async move {
                let (outcome, changes) = local.transact(&body, is_serializable).await;
                outbox.put(&changes);
                for (topic, key) in changes {
                    topics.wake(topic, Change::Key(key));
                }
                outcome
            });
            run.await.map_err(E::from)?
        }
        .boxed()
    }

    pub(crate) async fn close(&self) {
        self.stop.trigger();
        let mut flushed = self.flushed.clone();
        // An error means that the task is gone, which is what is waited for.
        drop(self.clock.timeout(FLUSH_WAIT, flushed.wait_for(|flushed| *flushed)).await);
        self.workers.close().await;
    }
}

/// How one run of a body ended.
enum Attempt<T, E> {
    Done(Result<T, E>, Vec<(&'static str, i64)>),
    /// A conflict with another transaction: nothing was kept, and the body may run again.
    Conflict,
}

/// How the body itself ended.
enum Ended<T, E> {
    Returned(Result<T, E>),
    Pending,
    Panicked(String),
}

impl Local {
    async fn back_off(&self, attempt: u32) {
        self.counters.reruns.fetch_add(1, Ordering::Relaxed);
        self.clock.sleep(RERUN.delay(attempt, &self.rng)).await;
    }

    async fn transact<T, E, F>(
        self: &Arc<Self>,
        body: &F,
        is_serializable: bool,
    ) -> (Result<T, E>, Vec<(&'static str, i64)>)
    where
        E: From<Error>,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E>,
    {
        self.counters.jobs.fetch_add(1, Ordering::Relaxed);
        for attempt in 0..=MAX_RERUNS {
            match self.attempt(body, is_serializable).await {
                Attempt::Done(outcome, changes) => return (outcome, changes),
                Attempt::Conflict if attempt < MAX_RERUNS => self.back_off(attempt).await,
                Attempt::Conflict => {}
            }
        }
        (Err(E::from(Error::Retry)), Vec::new())
    }
}

impl Local {
    async fn attempt<T, E, F>(self: &Arc<Self>, body: &F, is_serializable: bool) -> Attempt<T, E>
    where
        E: From<Error>,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E>,
    {
        let failed = |e: Error| Attempt::Done(Err(E::from(e)), Vec::new());
        let counted = |e: Error| {
            self.counters.error(&e);
            failed(e)
        };
        let mut session = match Session::open(self, is_serializable).await {
            Ok(session) => session,
            Err(e) => return counted(e),
        };
        let activity = session.activity();
        let mut tx = Tx::new(On::Postgres(&mut session));
        let ended = drive(&activity, body, &mut tx).await;
        let (changes, doomed) = (std::mem::take(&mut tx.changes), tx.failed.take());
        let returned = match ended {
            Ended::Returned(returned) if !activity.was_dropped() => returned,
            // Whatever the connection is in the middle of, it is not worth finding out.
            Ended::Returned(_) | Ended::Pending => {
                session.discard();
                return counted(Error::BodyPending);
            }
            Ended::Panicked(message) => {
                session.discard();
                return counted(Error::Panicked(message));
            }
        };
        match (returned, doomed) {
            (_, Some(Error::Retry)) => {
                session.rollback().await;
                Attempt::Conflict
            }
            (Ok(_), Some(e)) => {
                session.rollback().await;
                failed(e)
            }
            (Err(e), _) => {
                session.rollback().await;
                Attempt::Done(Err(e), Vec::new())
            }
            (Ok(value), None) => match session.commit().await {
                Committed::Yes => Attempt::Done(Ok(value), changes),
                Committed::No(Error::Retry) => Attempt::Conflict,
                Committed::No(e) => counted(e),
                // DB-6: it may have happened, so it does not run again.
                Committed::Unknown => counted(Error::Unknown),
            },
        }
    }
}

/// Polls a body to its end: catches its panic, and notices when it waits for something that is not its `tx`.
async fn drive<T, E, F>(activity: &Activity, body: &F, tx: &mut Tx<'_>) -> Ended<T, E>
where
    F: AsyncFn(&mut Tx<'_>) -> Result<T, E>,
{
    let mut future = pin!(async { body(tx).await });
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(out)) => Poll::Ready(Ended::Returned(out)),
        Ok(Poll::Pending) if activity.is_flying() => Poll::Pending,
        Ok(Poll::Pending) => Poll::Ready(Ended::Pending),
        Err(panic) => Poll::Ready(Ended::Panicked(panic_message(panic.as_ref()))),
    })
    .await
}
