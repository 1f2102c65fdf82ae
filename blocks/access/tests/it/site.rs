//! An installation on one engine, with as many nodes as a test wants.

use std::time::Duration;

use access::{Access, AccessConfig, Issued, NewKey, Options, Principal};
use database::{Db, PostgresOptions, SqliteOptions};
use identity::Scopes;
use kernel::{Clock, Lifecycle, ProjectId, Rng, Secret, SimClock, Stage, Timestamp};

/// Runs each test of a module on both engines.
macro_rules! both_engines {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::site::Site::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::site::Site::postgres()).await;
            })*
        }
    };
}

pub(crate) enum Engine {
    Sqlite { folder: tempfile::TempDir, db: tokio::sync::OnceCell<Db> },
    Postgres { url: String },
}

/// The durable part, and a clock that all its nodes share.
pub(crate) struct Site {
    engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) time: SimClock,
    lifecycle: Lifecycle,
    planes: Lifecycle,
}

impl Site {
    fn new(engine: Engine) -> Self {
        let (clock, time) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
        // The planes live by the real clock: their time-outs are not what is tested here.
        let new = || Lifecycle::new(Clock::system(), Rng::system());
        Self { engine, clock, time, lifecycle: new(), planes: new() }
    }

    pub(crate) fn sqlite() -> Self {
        Self::new(Engine::Sqlite { folder: tempfile::tempdir().unwrap(), db: tokio::sync::OnceCell::new() })
    }

    pub(crate) fn postgres() -> Self {
        Self::new(Engine::Postgres { url: testkit::shared_postgres().fresh_database() })
    }

    /// The database as one node sees it: on SQLite all nodes of a test share the one process that may hold the file.
    pub(crate) async fn db(&self) -> Db {
        let tasks = self.planes.tasks(Stage::Planes);
        match &self.engine {
            Engine::Sqlite { folder, db } => {
                let open = async || {
                    Db::open_sqlite(&folder.path().join("test.db"), SqliteOptions::default(), Clock::system(), &tasks)
                };
                db.get_or_try_init(open).await.unwrap().clone()
            }
            Engine::Postgres { url } => {
                let options =
                    PostgresOptions { url: Secret::new(url.clone()), pool_size: 8, ..PostgresOptions::default() };
                Db::connect_postgres(options, Clock::system(), Rng::system(), &tasks).await.unwrap()
            }
        }
    }

    pub(crate) async fn start(&self, options: Options) -> access::error::Result<(Access, Option<Issued>)> {
        let tasks = self.lifecycle.tasks(Stage::Blocks);
        Access::start(self.db().await, options, self.clock.clone(), Rng::system(), &tasks).await
    }

    /// A node, after the first start.
    pub(crate) async fn node(&self) -> Access {
        self.start(Options::default()).await.unwrap().0
    }

    /// A node and the first key.
    pub(crate) async fn first_node(&self) -> (Access, Principal, String) {
        let (access, first) = self.start(Options::default()).await.unwrap();
        let text = first.expect("the first start gives a key").text.expose();
        let admin = access.authenticate(&text, None).await.unwrap();
        (access, admin, text)
    }

    /// Ends the background work, which writes what it holds; the database goes on.
    pub(crate) async fn stop_blocks(&self) {
        let report = self.lifecycle.shutdown(Duration::from_secs(10)).await;
        assert_eq!(report.aborted, Vec::<&str>::new());
    }
}

pub(crate) fn options(change: impl FnOnce(&mut AccessConfig)) -> Options {
    let mut config = AccessConfig::default();
    change(&mut config);
    Options { config, ..Options::default() }
}

pub(crate) fn new_key(name: &str, scopes: &str) -> NewKey {
    NewKey { name: name.to_owned(), scopes: Scopes::parse(scopes).unwrap(), expires_at: None }
}

pub(crate) fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

/// An administrator working in another project, which is made if it is missing.
pub(crate) async fn admin_in(access: &Access, admin: &Principal, name: &str) -> Principal {
    match access.create_project(admin, name, None).await {
        Ok(_) | Err(access::Error::ProjectExists) => {}
        Err(e) => panic!("{e}"),
    }
    access.choose_project(admin.clone(), Some(name)).await.unwrap()
}
