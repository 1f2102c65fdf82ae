//! An installation for a test: a database and as many nodes as it wants.

use std::{path::PathBuf, sync::Arc};

use access::Access;
use bytes::Bytes;
use database::{Db, Durability, PostgresOptions, SqliteOptions, params};
use futures_util::future::BoxFuture;
use gatekeeper::{Fetch, FetchError, Gatekeeper, Limits};
use gateway::{Deps, Gateway, GatewayConfig, model::Document};
use identity::Principal;
use kernel::{Clock, Lifecycle, Problem, Rng, Secret, Stage, Timestamp};
use limiter::{Limiter, LimiterConfig};
use memory::{LocalOptions, Memory};
use serde_json::Value;
use telemetry::Metrics;
use upstream::Upstreams;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) db: Db,
    pub(crate) access: Access,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) folder: tempfile::TempDir,
}

struct Nobody;

impl Fetch for Nobody {
    fn fetch(&self, _: http::Request<Bytes>, _: Limits) -> BoxFuture<'_, Result<http::Response<Bytes>, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError("nobody".to_owned()))))
    }
}

impl World {
    pub(crate) async fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, _) = Clock::simulated(Timestamp::from_millis(1_795_478_400_000));
        let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
        let planes = lifecycle.tasks(Stage::Planes);
        let db = match engine {
            Engine::Sqlite => {
                let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
                Db::open_sqlite(&folder.path().join("test.db"), options, Clock::system(), &planes).unwrap()
            }
            Engine::Postgres => {
                let url = Secret::new(testkit::shared_postgres().fresh_database());
                let options = PostgresOptions { url, ..PostgresOptions::default() };
                Db::connect_postgres(options, Clock::system(), Rng::seeded(2), &planes).await.unwrap()
            }
        };
        let options = access::Options { dev: true, ..access::Options::default() };
        let tasks = lifecycle.tasks(Stage::Blocks);
        let (access, _) = Access::start(db.clone(), options, clock.clone(), Rng::system(), &tasks).await.unwrap();
        Self { clock, db, access, lifecycle, folder }
    }

    /// A node with a data folder of its own name.
    pub(crate) async fn node(&self, name: &str) -> Gateway {
        self.open(name, "").await.unwrap()
    }

    /// A node that follows a file.
    pub(crate) async fn open(&self, name: &str, config_file: &str) -> Result<Gateway, Problem> {
        let metrics = Metrics::new();
        let memory = Memory::local(LocalOptions::default(), self.clock.clone(), Rng::system());
        let limiter = Limiter::open(limiter::Deps {
            config: LimiterConfig::default(),
            db: self.db.clone(),
            memory,
            access: self.access.clone(),
            clock: self.clock.clone(),
            rng: Rng::system(),
            metrics: metrics.clone(),
            built_in: Vec::new(),
        })
        .await
        .unwrap();
        let upstreams = Upstreams::new(upstream::Deps {
            clock: self.clock.clone(),
            rng: Rng::system(),
            zone: None,
            registry: None,
            metrics: metrics.registry("upstream"),
        });
        let gatekeeper = Gatekeeper::new(gatekeeper::Deps {
            clock: self.clock.clone(),
            rng: Rng::system(),
            access: self.access.clone(),
            fetch: Arc::new(Nobody),
            metrics: metrics.clone(),
            tasks: self.lifecycle.tasks(Stage::Blocks),
        });
        Gateway::open(Deps {
            config: GatewayConfig { config_file: config_file.to_owned(), ..GatewayConfig::default() },
            data_dir: self.data(name),
            db: self.db.clone(),
            access: self.access.clone(),
            limiter,
            gatekeeper,
            upstreams,
            services: &["links"],
            clock: self.clock.clone(),
            rng: Rng::system(),
            metrics,
        })
        .await
    }

    /// Waits, with a bound in real time.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        Clock::system().timeout(std::time::Duration::from_secs(20), future).await.expect("in 20 s")
    }

    /// Says which version holds.
    pub(crate) async fn set_head(&self, version: i64) {
        self.db
            .tx(async move |tx| -> Result<(), database::Error> {
                tx.exec("UPDATE gateway_config SET version = $1", params![version]).await.map(drop)
            })
            .await
            .unwrap();
    }

    /// Writes a version past every check.
    pub(crate) async fn write_raw(&self, version: i64, document: &str) {
        let document = document.to_owned();
        self.db
            .tx(async move |tx| -> Result<(), database::Error> {
                let sql = "INSERT INTO gateway_versions (version, document, route_count, upstream_count, message, \
                           written_at, written_by) VALUES ($1, $2, 1, 0, '', 0, 'another')";
                tx.exec(sql, params![version, &document]).await?;
                tx.exec("UPDATE gateway_config SET version = $1", params![version]).await.map(drop)
            })
            .await
            .unwrap();
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn operator() -> Principal {
    Principal::dev()
}

pub(crate) fn document(json: Value) -> Document {
    serde_json::from_value(json).unwrap()
}
