//! An installation for a test: a database, a memory plane, a clock that the test moves, and as many nodes as it wants.

use std::time::Duration;

use ::http::{HeaderMap, Method, StatusCode, header};
use access::Access;
use database::{Db, Durability, PostgresOptions, SqliteOptions};
use http_body_util::BodyExt as _;
use identity::Principal;
use kernel::{Clock, Lifecycle, ProjectId, Rng, Secret, SimClock, Stage, Timestamp};
use limiter::{Limiter, LimiterConfig};
use memory::{LocalOptions, Memory};
use shortener::{Created, Deps, Error, NewLink, Redirector, Shortener, ShortenerConfig, Visit};
use telemetry::Metrics;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) sim: SimClock,
    pub(crate) db: Db,
    /// Of PostgreSQL, where that is the engine.
    pub(crate) url: Option<url::Url>,
    pub(crate) access: Access,
    pub(crate) memory: Memory,
    pub(crate) config: ShortenerConfig,
    pub(crate) lifecycle: Lifecycle,
    _folder: tempfile::TempDir,
}

/// 2026-11-24T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_478_400_000);

impl World {
    pub(crate) async fn new(engine: Engine) -> Self {
        Self::with(engine, |_| {}).await
    }

    pub(crate) async fn with(engine: Engine, change: impl FnOnce(&mut ShortenerConfig)) -> Self {
        match engine {
            Engine::Sqlite => Self::build(None, change).await,
            Engine::Postgres => {
                Self::on_postgres(Secret::new(testkit::shared_postgres().fresh_database()), change).await
            }
        }
    }

    pub(crate) async fn on_postgres(url: Secret, change: impl FnOnce(&mut ShortenerConfig)) -> Self {
        Self::build(Some(url), change).await
    }

    async fn build(url: Option<Secret>, change: impl FnOnce(&mut ShortenerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, sim) = Clock::simulated(START);
        let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
        let planes = lifecycle.tasks(Stage::Planes);
        let db = match &url {
            None => {
                let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
                Db::open_sqlite(&folder.path().join("test.db"), options, Clock::system(), &planes).unwrap()
            }
            Some(url) => connect(url.clone(), &lifecycle).await,
        };
        let access = access(&db, &clock, &lifecycle).await;
        let mut config = ShortenerConfig { creation_limit_per_minute: 0, ..ShortenerConfig::default() };
        change(&mut config);
        let memory = memory(&clock);
        let url = url.map(|url| url.expose().parse().unwrap());
        Self { clock, sim, db, url, access, memory, config, lifecycle, _folder: folder }
    }

    /// A node whose memory plane no other node knows.
    pub(crate) async fn apart(&self) -> Node {
        self.node_on(self.db.clone(), memory(&self.clock)).await
    }

    /// A node of this installation.
    pub(crate) async fn node(&self) -> Node {
        self.node_on(self.db.clone(), self.memory.clone()).await
    }

    /// A node with planes of its own.
    pub(crate) async fn node_on(&self, db: Db, memory: Memory) -> Node {
        let metrics = Metrics::new();
        let limiter = Limiter::open(limiter::Deps {
            config: LimiterConfig::default(),
            db: db.clone(),
            memory: memory.clone(),
            access: self.access.clone(),
            clock: self.clock.clone(),
            rng: Rng::system(),
            metrics: metrics.clone(),
            built_in: self.config.built_in_limits(),
        })
        .await
        .unwrap();
        let shortener = Shortener::open(Deps {
            config: self.config.clone(),
            public_url: "https://go.example.com".to_owned(),
            db,
            memory,
            limiter,
            access: self.access.clone(),
            clock: self.clock.clone(),
            rng: Rng::system(),
            metrics: metrics.clone(),
        })
        .await
        .unwrap();
        Node { redirector: Redirector::new(shortener.clone()), shortener, metrics }
    }
}

pub(crate) async fn connect(url: Secret, lifecycle: &Lifecycle) -> Db {
    let options = PostgresOptions { url, ..PostgresOptions::default() };
    Db::connect_postgres(options, Clock::system(), Rng::seeded(2), &lifecycle.tasks(Stage::Planes)).await.unwrap()
}

pub(crate) struct Node {
    pub(crate) shortener: Shortener,
    pub(crate) redirector: Redirector,
    pub(crate) metrics: Metrics,
}

/// What a visitor got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.get(header::LOCATION).map(|v| v.to_str().unwrap())
    }
}

pub(crate) fn principal(project: &str) -> Principal {
    let mut principal = Principal::dev();
    principal.project = ProjectId::parse(project).unwrap();
    principal
}

pub(crate) fn link(url: &str) -> NewLink {
    NewLink { url: url.to_owned(), ..NewLink::default() }
}

impl Node {
    pub(crate) async fn create(&self, new: NewLink) -> Result<Created, Error> {
        self.shortener.create(&principal("default"), new).await
    }

    /// Makes a link and gives its code.
    pub(crate) async fn shorten(&self, url: &str) -> String {
        self.create(link(url)).await.unwrap().link.code.to_string()
    }

    pub(crate) async fn alias(&self, alias: &str, url: &str) -> Result<Created, Error> {
        self.create(NewLink { alias: Some(alias.to_owned()), ..link(url) }).await
    }

    pub(crate) async fn visit(&self, path: &str) -> Got {
        self.visit_as(Method::GET, path, "Mozilla/5.0 Firefox/133.0").await
    }

    pub(crate) async fn visit_as(&self, method: Method, path: &str, agent: &'static str) -> Got {
        let visit = Visit { user_agent: Some(agent.as_bytes()), ..Visit::new(&method, path) };
        let (parts, body) = self.redirector.resolve(&visit).await.into_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// The status of a visit.
    pub(crate) async fn status(&self, code: &str) -> u16 {
        self.visit(&format!("/{code}")).await.status.as_u16()
    }

    /// The value of a metric such as `clicks_total{outcome="dropped"}`; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render().body;
        text.lines()
            .find_map(|line| line.strip_prefix("mainstay_shortener_")?.strip_prefix(name)?.trim().parse().ok())
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

async fn access(db: &Db, clock: &Clock, lifecycle: &Lifecycle) -> Access {
    let options = access::Options { dev: true, ..access::Options::default() };
    let tasks = lifecycle.tasks(Stage::Blocks);
    Access::start(db.clone(), options, clock.clone(), Rng::system(), &tasks).await.unwrap().0
}

fn memory(clock: &Clock) -> Memory {
    Memory::local(LocalOptions::default(), clock.clone(), Rng::system())
}
