//! An installation for a test: a database, a memory plane, a clock that the test moves, and as many nodes as it wants.

use std::time::Duration;

use access::Access;
use database::{Db, Durability, PostgresOptions, SqliteOptions};
use discovery::{
    Deps, Discovery, DiscoveryConfig,
    model::{CheckSpec, Health, InstanceSpec, Service},
};
use identity::Principal;
use kernel::{Clock, Lifecycle, ProjectId, Rng, Secret, SimClock, Stage, Timestamp};
use memory::{LocalOptions, Memory, RedisOptions};
use telemetry::Metrics;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// 2026-11-24T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_478_400_000);

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) sim: SimClock,
    pub(crate) db: Db,
    pub(crate) access: Access,
    pub(crate) memory: Memory,
    pub(crate) config: DiscoveryConfig,
    pub(crate) lifecycle: Lifecycle,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, sim) = Clock::simulated(START);
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
        let memory = Memory::local(LocalOptions::default(), clock.clone(), Rng::system());
        let config = DiscoveryConfig::default();
        Self { clock, sim, db, access, memory, config, lifecycle, _folder: folder }
    }

    /// Connections of a node's own to a Redis at this URL.
    pub(crate) fn redis(&self, url: &str) -> Memory {
        let options = RedisOptions { operation_timeout: Duration::from_secs(2), ..RedisOptions::single(url) };
        Memory::redis(options, Clock::system(), Rng::system(), &self.lifecycle.tasks(Stage::Planes)).unwrap()
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_on("n1", self.memory.clone(), self.clock.clone()).await
    }

    pub(crate) async fn node_on(&self, name: &str, memory: Memory, clock: Clock) -> Node {
        let metrics = Metrics::new();
        let deps = Deps {
            config: self.config.clone(),
            node_name: name.to_owned(),
            db: self.db.clone(),
            memory,
            access: self.access.clone(),
            clock,
            rng: Rng::system(),
            metrics: metrics.clone(),
        };
        Node { discovery: Discovery::open(deps).await.unwrap(), metrics }
    }

    /// Lets time pass as the background would see it: second by second.
    pub(crate) async fn pass(&self, nodes: &[&Node], secs: u64) {
        for n in 0..secs {
            self.sim.advance(Duration::from_secs(1));
            for node in nodes {
                if n % 2 == 0 {
                    node.discovery.beat_node().await.unwrap();
                }
                node.discovery.refresh().await.unwrap();
                node.discovery.sweep().await.unwrap();
            }
        }
        for node in nodes {
            node.discovery.refresh().await.unwrap();
        }
    }
}

pub(crate) struct Node {
    pub(crate) discovery: Discovery,
    pub(crate) metrics: Metrics,
}

pub(crate) fn project() -> ProjectId {
    ProjectId::default_project()
}

pub(crate) fn principal(project: &str) -> Principal {
    let mut principal = Principal::dev();
    principal.project = ProjectId::parse(project).unwrap();
    principal
}

/// An instance of `shop` that says that it is alive.
pub(crate) fn beating(n: u8, ttl_secs: u64) -> InstanceSpec {
    let mut spec = InstanceSpec::new("shop", format!("10.0.0.{n}"), 80);
    spec.checks.push(CheckSpec::ttl(Duration::from_secs(ttl_secs)));
    spec
}

/// The ids of those that are given out.
pub(crate) fn usable(service: &Service) -> Vec<&str> {
    service.usable.iter().map(|one| one.id.as_str()).collect()
}

impl Node {
    pub(crate) async fn register(&self, id: &str, spec: InstanceSpec) -> discovery::Registered {
        self.discovery.register(&principal("default"), id, spec, None).await.unwrap()
    }

    pub(crate) async fn beat(&self, id: &str) {
        self.discovery.heartbeat(&project(), id, None, Health::Passing, "").await.unwrap();
    }

    pub(crate) async fn say(&self, id: &str, health: Health) {
        self.discovery.heartbeat(&project(), id, None, health, "said so").await.unwrap();
    }

    pub(crate) fn shop(&self) -> std::sync::Arc<Service> {
        self.discovery.service(&project(), "shop")
    }

    /// The value of a metric such as `removed_total`; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render().body;
        text.lines()
            .find_map(|line| line.strip_prefix("mainstay_discovery_")?.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0)
    }
}

/// Waits until something is so, for events of other threads and processes; fails after ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let clock = Clock::system();
    let until = clock.monotonic() + Duration::from_secs(10);
    while !check().await {
        assert!(clock.monotonic() < until, "{what}: not within ten seconds");
        clock.sleep(Duration::from_millis(5)).await;
    }
}
