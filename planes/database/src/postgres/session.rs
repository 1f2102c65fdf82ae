//! One pooled connection in the hands of one transaction or statement.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use deadpool_postgres::{Object, PoolError};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_postgres::RowStream;

use super::{
    types::{decode, error, is_refusal, is_stale, types},
    worker::Local,
};
use crate::{Engine, Error, Result, Row, Value, row::Collected, sql, stats::Counters};

/// Statements that each connection keeps prepared (a statement counts once per combination of parameter types).
const STATEMENT_CACHE: usize = 1024;

/// How many rows of a batch are on their way before the first answer is waited for.
const SENT_AHEAD: usize = 128;

/// What a transaction is doing right now, for whoever polls its body.
#[derive(Debug, Default)]
pub(crate) struct Activity(AtomicU8);

impl Activity {
    const IDLE: u8 = 0;
    const FLYING: u8 = 1;
    const DROPPED: u8 = 2;

    fn fly(self: &Arc<Self>) -> Flight {
        self.0.store(Self::FLYING, Ordering::Relaxed);
        Flight { activity: self.clone(), is_over: false }
    }

    /// A statement is waiting for the server.
    pub(super) fn is_flying(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::FLYING
    }

    /// A statement was dropped before its answer came: what it did is not known here.
    pub(super) fn was_dropped(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::DROPPED
    }
}

struct Flight {
    activity: Arc<Activity>,
    is_over: bool,
}

impl Flight {
    fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = if self.is_over { Activity::IDLE } else { Activity::DROPPED };
        self.activity.0.store(now, Ordering::Relaxed);
    }
}

/// How far a transaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No transaction: the connection may go back to the pool.
    Clean,
    /// BEGIN was sent.
    Open,
}

/// A connection; it goes back to the pool only when no transaction is open on it (DB-5).
pub(crate) struct Session {
    client: Option<Object>,
    local: Arc<Local>,
    activity: Arc<Activity>,
    state: State,
    is_serializable: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.state != State::Clean {
            self.discard();
        }
    }
}

/// How COMMIT ended.
pub(super) enum Committed {
    /// It happened.
    Yes,
    /// It did not.
    No(Error),
    /// Nobody knows.
    Unknown,
}

impl Session {
    /// Takes a connection from the pool, waiting within the bound.
    pub(super) async fn open(local: &Arc<Local>, is_serializable: bool) -> Result<Self> {
        let client = local.pool.get().await.map_err(|e| match e {
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Error::Overloaded,
            PoolError::Timeout(_) => Error::Conn("connecting took too long".to_owned()),
            PoolError::Backend(e) => match error(&e) {
                Error::Other(text) => Error::Conn(text),
                e => e,
            },
            PoolError::Closed => Error::Closed,
            other => Error::Conn(other.to_string()),
        })?;
        Ok(Self {
            client: Some(client),
            local: local.clone(),
            activity: Arc::default(),
            state: State::Clean,
            is_serializable,
        })
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.local.counters
    }

    pub(super) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Closes the connection instead of giving it back; the server rolls back.
    pub(super) fn discard(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
        self.state = State::Clean;
    }

    pub(super) fn client(&self) -> Result<&Object> {
        match &self.client {
            Some(client) if !client.is_closed() => Ok(client),
            _ => Err(Error::Conn("the connection was lost".to_owned())),
        }
    }

    /// Runs a statement of a transaction; gives how many rows it changed.
    pub(crate) async fn exec(&mut self, sql: &'static str, params: &[Value]) -> Result<u64> {
        self.in_transaction(sql::live(sql, Engine::Postgres), params).await.map(|(_, count)| count)
    }

    /// Runs a statement of a transaction; gives its rows.
    pub(crate) async fn query(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>> {
        self.in_transaction(sql::live(sql, Engine::Postgres), params).await.map(|(rows, _)| rows)
    }

    /// Runs a statement of a transaction once for each of `rows`, sending ahead; gives how many rows all of them changed.
    pub(crate) async fn exec_many(&mut self, sql: &'static str, rows: &[Vec<Value>]) -> Result<u64> {
        let begin = self.begin();
        let client = self.client()?;
        let flight = self.activity.fly();
        let sql = sql::live(sql, Engine::Postgres);
        let all = async {
            if let Some(begin) = begin {
                client.batch_execute(begin).await.map_err(|e| error(&e))?;
            }
            // The first goes alone: it prepares the statement for all.
            let Some((first, rest)) = rows.split_first() else { return Ok(0) };
            let (_, mut count) = run(client, &self.local, sql, first, Collected::new()).await?;
            let sent = rest.iter().map(|params| run(client, &self.local, sql, params, Collected::new()));
            let mut answers = futures_util::stream::iter(sent).buffered(SENT_AHEAD);
            while let Some((_, changed)) = answers.try_next().await? {
                count += changed;
            }
            Ok(count)
        };
        let outcome = self.local.clock.timeout(self.local.options.statement_timeout, all).await;
        flight.over();
        outcome.unwrap_or_else(|| {
            self.cancel();
            self.discard();
            Err(Error::Timeout)
        })
    }

    /// Runs several statements of a transaction, without a bound on their time.
    pub(crate) async fn batch(&mut self, sql: &'static str) -> Result<()> {
        let begin = self.begin();
        let client = self.client()?;
        let flight = self.activity.fly();
        let run = async {
            if let Some(begin) = begin {
                client.batch_execute(begin).await?;
            }
            client.batch_execute(sql::live(sql, Engine::Postgres)).await
        };
        let outcome = run.await.map_err(|e| error(&e));
        flight.over();
        outcome
    }

    /// Begins a transaction of the plane's own kind.
    pub(super) async fn begin_with(&mut self, begin: &'static str) -> Result<()> {
        self.state = State::Open;
        self.client()?.batch_execute(begin).await.map_err(|e| error(&e))
    }

    /// The BEGIN that is still to be sent. The state says so before it is sent, so that a drop at any point discards.
    fn begin(&mut self) -> Option<&'static str> {
        if self.state == State::Open {
            return None;
        }
        self.state = State::Open;
        Some(if self.is_serializable {
            "BEGIN ISOLATION LEVEL SERIALIZABLE"
        } else {
            "BEGIN ISOLATION LEVEL READ COMMITTED"
        })
    }

    async fn in_transaction(&mut self, sql: &str, params: &[Value]) -> Result<(Vec<Row>, u64)> {
        let begin = self.begin();
        let client = self.client()?;
        let flight = self.activity.fly();
        let statement = run(client, &self.local, sql, params, Collected::new());
        let both = async {
            match begin {
                // Sent ahead of the first statement without waiting for its answer: one round trip less.
                Some(begin) => {
                    let (begun, out) = futures_util::future::join(client.batch_execute(begin), statement).await;
                    begun.map_err(|e| error(&e)).and(out)
                }
                None => statement.await,
            }
        };
        let outcome = self.local.clock.timeout(self.local.options.statement_timeout, both).await;
        flight.over();
        outcome.unwrap_or_else(|| {
            self.cancel();
            self.discard();
            Err(Error::Timeout)
        })
    }

    /// Asks the server to stop what this connection runs.
    fn cancel(&self) {
        if let Some(client) = &self.client {
            let (target, token) = (self.local.target.clone(), client.cancel_token());
            let (clock, bound) = (self.local.clock.clone(), self.local.options.connect_timeout);
            tokio::task::spawn_local(async move { clock.timeout(bound, target.cancel(token)).await });
        }
    }

    /// Ends the transaction without keeping anything.
    pub(super) async fn rollback(&mut self) {
        if self.state == State::Clean {
            return;
        }
        let rolled_back = match self.client() {
            Ok(client) => {
                self.local.clock.timeout(self.local.options.statement_timeout, client.batch_execute("ROLLBACK")).await
            }
            Err(_) => None,
        };
        match rolled_back {
            Some(Ok(())) => self.state = State::Clean,
            _ => self.discard(),
        }
    }

    /// Ends the transaction and keeps it.
    pub(super) async fn commit(&mut self) -> Committed {
        if self.state == State::Clean {
            return Committed::Yes;
        }
        let before = self.local.clock.monotonic();
        let client = match self.client() {
            Ok(client) => client,
            // COMMIT was not sent, so the server rolled back.
            Err(e) => {
                self.discard();
                return Committed::No(e);
            }
        };
        let outcome =
            self.local.clock.timeout(self.local.options.statement_timeout, client.batch_execute("COMMIT")).await;
        self.local.counters.commit(self.local.clock.monotonic().saturating_sub(before));
        match outcome {
            Some(Ok(())) => {
                self.state = State::Clean;
                Committed::Yes
            }
            // The server answered that it did not: a conflict or a deferred constraint.
            Some(Err(e)) if is_refusal(&e) => {
                self.state = State::Clean;
                Committed::No(error(&e))
            }
            _ => {
                self.discard();
                Committed::Unknown
            }
        }
    }

    /// Runs one statement as a transaction of its own.
    pub(super) async fn alone(
        &mut self,
        sql: &'static str,
        params: &[Value],
        is_read: bool,
    ) -> Result<(Vec<Row>, u64)> {
        let collected = if is_read { Collected::new() } else { Collected::unbounded() };
        let client = self.client()?;
        let statement = run(client, &self.local, sql::live(sql, Engine::Postgres), params, collected);
        let outcome = self.local.clock.timeout(self.local.options.statement_timeout, statement).await;
        match outcome {
            Some(Err(Error::Conn(text))) => {
                // The server's last word may come before the end of the connection: the next user must not get it.
                self.discard();
                // Its COMMIT is part of a write: whether one that was lost happened cannot be known.
                Err(if is_read { Error::Conn(text) } else { Error::Unknown })
            }
            Some(outcome) => outcome,
            None => {
                self.cancel();
                self.discard();
                Err(if is_read { Error::Timeout } else { Error::Unknown })
            }
        }
    }
}

async fn run(
    client: &Object,
    local: &Local,
    sql: &str,
    params: &[Value],
    mut collected: Collected,
) -> Result<(Vec<Row>, u64)> {
    let types = types(params);
    let started = if local.options.prepared_statements {
        if client.statement_cache.size() >= STATEMENT_CACHE {
            client.statement_cache.clear();
        }
        let statement = client.prepare_typed_cached(sql, &types).await.map_err(|e| error(&e))?;
        let used = statement.params().len();
        if used > params.len() {
            return Err(Error::Other(format!("${used} is used, but {} parameters were given", params.len())));
        }
        client.query_raw(&statement, params).await
    } else {
        client.query_typed_raw(sql, params.iter().zip(types)).await
    };
    let outcome: Result<RowStream, tokio_postgres::Error> = started;
    let stale = |e: &tokio_postgres::Error| {
        if is_stale(e) {
            client.statement_cache.clear();
        }
        error(e)
    };
    let mut rows = pin!(outcome.map_err(|e| stale(&e))?);
    while let Some(row) = rows.try_next().await.map_err(|e| stale(&e))? {
        if let Err(e) = decode(&row).and_then(|values| collected.push(values)) {
            // The rest of the answer has to come off the line, and the statement may still fail.
            while rows.next().await.is_some() {}
            return Err(e);
        }
    }
    Ok((collected.into_rows(), rows.rows_affected().unwrap_or(0)))
}
