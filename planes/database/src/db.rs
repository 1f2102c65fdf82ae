//! The handle.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use kernel::{Clock, Rng, Tasks};
use tokio::sync::{broadcast, oneshot};

use crate::{
    Change, DatabaseConfig, Engine, Error, Migration, PostgresOptions, Result, Row, SqliteOptions, Tx, Value, migrate,
    postgres::Postgres,
    sql,
    sqlite::{self, Output, Sqlite},
    stats::{Counters, Stats},
    topics::Topics,
};

/// The file of the embedded engine inside the data folder.
pub const SQLITE_FILE_NAME: &str = "mainstay.db";

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) on: On,
    topics: Arc<Topics>,
    migrations: Mutex<BTreeMap<&'static str, &'static [Migration]>>,
}

/// The engine behind a handle.
pub(crate) enum On {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.engine()).finish()
    }
}

impl Db {
    /// Opens what the configuration says: PostgreSQL where a URL is set, else SQLite in `data_folder`.
    pub async fn open(
        config: &DatabaseConfig,
        data_folder: &Path,
        clock: Clock,
        rng: Rng,
        tasks: &Tasks,
    ) -> Result<Self> {
        if config.url.is_empty() {
            Self::open_sqlite(&data_folder.join(SQLITE_FILE_NAME), SqliteOptions::from(config), clock, tasks)
        } else {
            Self::connect_postgres(PostgresOptions::from(config), clock, rng, tasks).await
        }
    }

    /// Opens the SQLite file `path`, making it where it does not exist, and locks it against other processes
    /// ([`Error::InUse`]). `tasks` closes it on shutdown, after everything that uses it.
    pub fn open_sqlite(path: &Path, options: SqliteOptions, clock: Clock, tasks: &Tasks) -> Result<Self> {
        let topics = Arc::new(Topics::default());
        let sqlite = Arc::new(Sqlite::open(path, options, clock, &topics)?);
        Ok(Self::new(On::Sqlite(sqlite), topics, tasks))
    }

    /// Connects to PostgreSQL.
    pub async fn connect_postgres(options: PostgresOptions, clock: Clock, rng: Rng, tasks: &Tasks) -> Result<Self> {
        let topics = Arc::new(Topics::default());
        let postgres = Arc::new(Postgres::connect(options, clock, rng, &topics, tasks).await?);
        Ok(Self::new(On::Postgres(postgres), topics, tasks))
    }

    /// A handle that nobody but its owner closes.
    pub(crate) fn detached(on: On, topics: Arc<Topics>) -> Self {
        Self(Arc::new(Inner { on, topics, migrations: Mutex::default() }))
    }

    fn new(on: On, topics: Arc<Topics>, tasks: &Tasks) -> Self {
        let this = Self::detached(on, topics);
        // A weak reference: when the last handle goes, the engine ends without waiting for shutdown.
        let (weak, shutdown): (Weak<Inner>, _) = (Arc::downgrade(&this.0), tasks.shutdown());
        tasks.spawn("database close", async move {
            shutdown.wait().await;
            if let Some(inner) = weak.upgrade() {
                inner.close().await;
            }
        });
        this
    }

    pub(crate) fn on(&self) -> &On {
        &self.0.on
    }

    /// Which engine is behind it.
    pub fn engine(&self) -> Engine {
        match self.0.on {
            On::Sqlite(_) => Engine::Sqlite,
            On::Postgres(_) => Engine::Postgres,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<()> {
        self.query("SELECT 1", Vec::new()).await.map(drop)
    }

    /// Takes no more work, finishes what it has, and lets go of files and connections. Later calls give [`Error::Closed`].
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Runs `body` in a transaction: all of it is committed and durable when this returns `Ok`, or none of it happens.
    ///
    /// The body is shipped to the engine. It may run more than once, so it has no effect but through its `tx`; it awaits
    /// nothing but its `tx` ([`Error::BodyPending`]); its own error rolls back. Dropping the returned future does not stop a
    /// body that has begun.
    ///
    /// On PostgreSQL the isolation is READ COMMITTED: where a body writes what it computed from what it read, it locks the
    /// row (`/*pg FOR UPDATE */`), says the condition in the `UPDATE`, or uses [`Db::tx_serializable`].
    pub fn tx<T, E, F>(&self, body: F) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.tx_with(body, false)
    }

    /// As [`Db::tx`], as if transactions ran one after another on both engines (SERIALIZABLE on PostgreSQL, where conflicts
    /// run the body again, at most [`crate::MAX_RERUNS`] times, then [`Error::Retry`]).
    pub fn tx_serializable<T, E, F>(&self, body: F) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.tx_with(body, true)
    }

    fn tx_with<T, E, F>(&self, body: F, is_serializable: bool) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &self.0.on {
            On::Sqlite(db) => {
                let db = db.clone();
                async move { db.run(|reply: oneshot::Sender<_>| sqlite::Body::new(body, reply)).await }.boxed()
            }
            On::Postgres(db) => db.clone().tx(body, is_serializable),
        }
    }

    fn counters(&self) -> &Counters {
        match &self.0.on {
            On::Sqlite(db) => db.counters(),
            On::Postgres(db) => db.counters(),
        }
    }

    fn counted<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|e| self.counters().error(e))
    }

    /// Runs one statement as a transaction of its own; gives how many rows it changed.
    pub async fn exec(&self, sql: &'static str, params: Vec<Value>) -> Result<u64> {
        let run = async {
            sql::check(sql)?;
            match &self.0.on {
                On::Sqlite(db) => match db.statement(sql, params, false).await? {
                    Output::Count(count) => Ok(count),
                    Output::Rows(rows) => Ok(rows.len() as u64),
                },
                On::Postgres(db) => db.exec(sql, params).await,
            }
        };
        self.counted(run.await)
    }

    /// Runs one statement with `RETURNING` as a transaction of its own; gives its rows.
    pub async fn exec_returning(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        let run = async {
            sql::check(sql)?;
            match &self.0.on {
                On::Sqlite(db) => match db.statement(sql, params, true).await? {
                    Output::Rows(rows) => Ok(rows),
                    Output::Count(_) => Ok(Vec::new()),
                },
                On::Postgres(db) => db.exec_returning(sql, params).await,
            }
        };
        self.counted(run.await)
    }

    /// Reads what is committed. At most [`crate::MAX_RESULT_BYTES`].
    pub async fn query(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        let run = async {
            sql::check(sql)?;
            match &self.0.on {
                On::Sqlite(db) => db.query(sql, params).await,
                On::Postgres(db) => db.query(sql, params).await,
            }
        };
        self.counted(run.await)
    }

    /// Reads the first row, if there is one.
    pub async fn get(&self, sql: &'static str, params: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Hears of changes to `topic` from now on, made by any node. A wake-up is a hint: reread from your cursor. Treat
    /// `Lagged` as [`Change::Resync`], and `Closed` as the end.
    pub fn watch(&self, topic: &'static str) -> broadcast::Receiver<Change> {
        self.0.topics.watch(topic)
    }

    /// Brings the schema of `system` up to date, and remembers its steps for [`Db::backup`] and [`crate::copy`].
    ///
    /// [`Error::Migration`] when an applied step was changed, or the database is newer than the binary; then nothing is done.
    pub async fn migrate(&self, system: &'static str, migrations: &'static [Migration]) -> Result<()> {
        let migrated = self.counted(migrate::migrate(self, system, migrations).await);
        if migrated.is_ok() {
            self.0.migrations.lock().unwrap_or_else(PoisonError::into_inner).insert(system, migrations);
        }
        migrated
    }

    /// The systems that were migrated through this handle.
    pub(crate) fn migrations(&self) -> BTreeMap<&'static str, &'static [Migration]> {
        self.0.migrations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters of now.
    pub fn stats(&self) -> Stats {
        match &self.0.on {
            On::Sqlite(db) => db.stats(),
            On::Postgres(db) => db.stats(),
        }
    }
}

impl Inner {
    async fn close(&self) {
        match &self.on {
            On::Sqlite(db) => db.close().await,
            On::Postgres(db) => db.close().await,
        }
    }
}
