//! An installation for a test: a database, a memory plane, a clock that the test moves, and as many nodes as it wants.

use std::time::Duration;

use access::Access;
use database::{Db, Durability, PostgresOptions, SqliteOptions};
use identity::Principal;
use kernel::{Clock, Lifecycle, ProjectId, Rng, Secret, SimClock, Stage, Timestamp};
use limiter::{Check, Deps, Descriptor, Error, Expected, Limiter, LimiterConfig, Matching, Outcome, RuleSet, RuleSpec};
use memory::{LocalOptions, Memory, RedisOptions};
use serde_json::{Value, json};
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
    pub(crate) config: LimiterConfig,
    pub(crate) built_in: Vec<RuleSpec>,
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
        let config = LimiterConfig::default();
        Self { clock, sim, db, access, memory, config, built_in: Vec::new(), lifecycle, _folder: folder }
    }

    /// The same on a Redis.
    pub(crate) async fn on_redis(redis: &testkit::Redis) -> Self {
        let mut world = Self::new(Engine::Sqlite).await;
        world.memory = world.redis(redis);
        world
    }

    /// Connections of a node's own to a Redis.
    pub(crate) fn redis(&self, redis: &testkit::Redis) -> Memory {
        // Long enough for a busy machine: a slow answer would be counted elsewhere.
        let options = RedisOptions { operation_timeout: Duration::from_secs(10), ..RedisOptions::single(redis.url()) };
        Memory::redis(options, Clock::system(), Rng::system(), &self.lifecycle.tasks(Stage::Planes)).unwrap()
    }

    pub(crate) async fn node(&self) -> Node {
        self.open().await.unwrap()
    }

    pub(crate) async fn open(&self) -> Result<Node, kernel::Problem> {
        let metrics = Metrics::new();
        let deps = Deps {
            config: self.config.clone(),
            db: self.db.clone(),
            memory: self.memory.clone(),
            access: self.access.clone(),
            clock: self.clock.clone(),
            rng: Rng::system(),
            metrics: metrics.clone(),
            built_in: self.built_in.clone(),
        };
        Ok(Node { limiter: Limiter::open(deps).await?, metrics })
    }
}

pub(crate) struct Node {
    pub(crate) limiter: Limiter,
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

/// Rules from their JSON.
pub(crate) fn rules(json: Value) -> Vec<RuleSpec> {
    serde_json::from_value(json).unwrap()
}

/// A fixed window for each user.
pub(crate) fn per_user(limit: u64) -> Value {
    json!({
        "name": "per-user", "keys": [{ "key": "user" }],
        "limit": { "algorithm": "fixed_window", "limit": limit, "window": "1m" },
    })
}

pub(crate) fn descriptor(entries: &[(&str, &str)]) -> Descriptor {
    Descriptor::new(entries.iter().copied())
}

impl Node {
    pub(crate) async fn put(&self, domain: &str, json: Value) -> RuleSet {
        self.limiter.put_rules(&principal("default"), domain, rules(json), "", Expected::Any).await.unwrap()
    }

    /// A check of one descriptor in the domain `api`, of cost 1.
    pub(crate) async fn ask(&self, entries: &[(&str, &str)]) -> Outcome {
        self.check(&[descriptor(entries)], 1).await.unwrap()
    }

    pub(crate) async fn check(&self, descriptors: &[Descriptor], cost: u64) -> Result<Outcome, Error> {
        self.limiter.check(&project(), &check(descriptors, cost)).await
    }

    /// How many of `count` checks are allowed.
    pub(crate) async fn allowed(&self, entries: &[(&str, &str)], count: u32) -> u32 {
        let mut allowed = 0;
        for _ in 0..count {
            allowed += u32::from(self.ask(entries).await.is_allowed);
        }
        allowed
    }

    /// The value of a metric such as `decisions_total{outcome="allowed",source="exact"}`; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render().body;
        text.lines()
            .find_map(|line| line.strip_prefix("mainstay_limiter_")?.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0)
    }
}

pub(crate) fn check(descriptors: &[Descriptor], cost: u64) -> Check<'_> {
    Check { domain: "api", descriptors, matching: Matching::Contains, cost }
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

/// Runs a test of a world and its node in process and on Redis.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod local {
            $(#[tokio::test]
            async fn $name() {
                let world = $crate::world::World::new($crate::world::Engine::Sqlite).await;
                super::$name(&world, &world.node().await).await;
            })+
        }

        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let redis = testkit::Redis::start();
                let world = $crate::world::World::on_redis(&redis).await;
                super::$name(&world, &world.node().await).await;
            })+
        }
    };
}
pub(crate) use on_both;
