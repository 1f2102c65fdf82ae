//! The composition root: opens the planes, starts the rooms on them, and hands each what it needs.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use access::Access;
use axum::Router;
use database::{Db, Engine};
use discovery::Discovery;
use gateway::{DataPath, Gateway};
use kernel::{Clock, Lifecycle, Rng, Secret, Stage};
use limiter::Limiter;
use memory::{EngineKind, Memory};
use resilience::BreakerState;
use shortener::Shortener;
use telemetry::{Check, Condition, Golden, Health, Metrics, golden, process::ProcessCollector};
use web::idempotency::{self, Idempotency};

use crate::{
    commands::serve::Addresses,
    config::Config,
    front, limits,
    listen::checks::{self, Checks},
    numbers::{Breakers, Numbers},
    public::Front,
    registry::FromDiscovery,
    rooms::{Group, Page, Room},
    shed::Shedder,
};

/// How often health is asked, and how long an answer may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that lives in this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct House(Arc<Inner>);

struct Inner {
    config: Config,
    addresses: Addresses,
    dev: bool,
    clock: Clock,
    rng: Rng,
    lifecycle: Lifecycle,
    db: Db,
    memory: Memory,
    access: Access,
    limiter: Limiter,
    gateway: Gateway,
    data_path: DataPath,
    shortener: Shortener,
    idempotency: Idempotency,
    shedder: Option<Shedder>,
    golden: Golden,
    metrics: Metrics,
    health: Health,
    listeners: Check,
    rooms: Vec<Room>,
    first_admin_key: Option<Secret>,
}

impl House {
    /// Opens the planes, brings every schema up to date and starts the rooms.
    pub(crate) async fn open(
        config: Config,
        addresses: Addresses,
        dev: bool,
        clock: &Clock,
        lifecycle: &Lifecycle,
    ) -> Result<Self, String> {
        let rng = Rng::system();
        let golden = Golden::new(clock.clone(), golden::Limits::from(&config.telemetry));
        golden.run(&lifecycle.tasks(Stage::Telemetry));
        let metrics = Metrics::new();
        metrics.add_golden(golden.clone());
        metrics.add_process(ProcessCollector::new(clock.clone(), env!("CARGO_PKG_VERSION"), lifecycle.clone()));
        let health = Health::new(clock.clone(), env!("CARGO_PKG_VERSION"));
        let listeners = health.register("listeners", true);

        make_folder(&config.server.data_dir)?;
        let planes = lifecycle.tasks(Stage::Planes);
        let db = Db::open(&config.database, &config.server.data_dir, clock.clone(), rng.clone(), &planes)
            .await
            .map_err(|e| format!("database: {e}"))?;
        let memory =
            Memory::open(&config.memory, clock.clone(), rng.clone(), &planes).map_err(|e| format!("memory: {e}"))?;
        // A Redis that is there is connected before the node reports itself; one that is not must not hold the start up.
        drop(clock.timeout(PROBE_TIMEOUT, memory.ping()).await);
        probe_planes(&health, &db, &memory, lifecycle);

        let blocks = lifecycle.tasks(Stage::Blocks);
        let options = access::Options { config: config.access.clone(), dev, tls: config.api.tls_cert.is_some() };
        let (access, first) = Access::start(db.clone(), options, clock.clone(), rng.clone(), &blocks)
            .await
            .map_err(|e| format!("access: {e}"))?;
        let shedder = config.api.shedding.then(|| Shedder::new(clock, &config.api, config.http.in_flight_limit));
        let numbers =
            Numbers { shedder: shedder.clone(), db: db.clone(), memory: memory.clone(), access: access.clone() };
        metrics.registry("planes").add_collector(numbers);
        let idempotency = Idempotency::new(
            access.idempotency_store(),
            idempotency::Options::from_config(&config.http),
            clock.clone(),
            rng.clone(),
            blocks.clone(),
        );

        let limiter = Limiter::open(limiter::Deps {
            config: config.limiter.clone(),
            db: db.clone(),
            memory: memory.clone(),
            access: access.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            metrics: metrics.clone(),
            built_in: limits::built_in(&config, dev),
        })
        .await
        .map_err(|e| format!("limiter: {}", told(&e)))?;
        limiter.start(&blocks);

        let discovery = Discovery::open(discovery::Deps {
            config: config.discovery.clone(),
            node_name: crate::commands::serve::node_name(&config),
            db: db.clone(),
            memory: memory.clone(),
            access: access.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            metrics: metrics.clone(),
        })
        .await
        .map_err(|e| format!("discovery: {}", told(&e)))?;
        discovery.start(&lifecycle.tasks(Stage::Systems));
        probe_discovery(&health, &discovery, lifecycle);
        if let Some(address) = config.discovery.dns_listen {
            let sockets = discovery::Sockets::bind(address)
                .await
                .map_err(|e| format!("cannot listen on {address} (discovery.dns_listen): {e}"))?;
            discovery.serve_dns(&sockets, &lifecycle.tasks(Stage::Listeners));
        }

        let registry = FromDiscovery::new(&discovery, clock, &blocks);
        let upstreams = front::upstreams(&metrics, clock, &rng, registry);
        upstreams.start(&blocks);
        let gateway = Gateway::open(gateway::Deps {
            config: config.gateway.clone(),
            data_dir: config.server.data_dir.clone(),
            db: db.clone(),
            access: access.clone(),
            limiter: limiter.clone(),
            gatekeeper: front::gatekeeper(&access, &metrics, clock, &rng, &blocks)?,
            upstreams,
            services: front::SERVICES,
            clock: clock.clone(),
            rng: rng.clone(),
            metrics: metrics.clone(),
        })
        .await
        .map_err(|e| format!("gateway: {}", told(&e)))?;
        gateway.start(&lifecycle.tasks(Stage::Systems));
        gateway.listen(&lifecycle.tasks(Stage::Listeners));
        let data_path = gateway
            .data_path(&config.gateway, &lifecycle.tasks(Stage::Systems))
            .map_err(|e| format!("gateway: {e}"))?;

        let links = shortener::ShortenerConfig {
            // Whoever tries it out has their product on the same machine.
            allow_private_destinations: config.shortener.allow_private_destinations || dev,
            ..config.shortener.clone()
        };
        let shortener = Shortener::open(shortener::Deps {
            // One process holds a SQLite file.
            config: if db.engine() == Engine::Sqlite { links.alone() } else { links },
            public_url: first_of(&config.shortener.public_url, &addresses.public),
            db: db.clone(),
            memory: memory.clone(),
            limiter: limiter.clone(),
            access: access.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            metrics: metrics.clone(),
        })
        .await
        .map_err(|e| format!("shortener: {}", told(&e)))?;
        metrics.registry("planes").add_collector(Breakers { shortener: shortener.clone() });
        shortener.start(&lifecycle.tasks(Stage::Systems));
        if let Some(shedder) = &shedder {
            probe_shedding(&health, shedder, lifecycle);
        }
        probe_rooms(&health, &db, &shortener, lifecycle);
        probe_limiter(&health, &limiter, lifecycle);
        probe_gateway(&health, &gateway, lifecycle);

        let streams = lifecycle.tasks(Stage::Listeners).shutdown();
        let rooms = vec![
            Room {
                name: "shortener",
                title: "Shortener",
                group: Group::Traffic,
                pages: const {
                    &[
                        Page::new("Short links", "/console/links"),
                        Page::new("Imports", "/console/link-imports"),
                        Page::new("Domains", "/console/domains"),
                        Page::new("UTM templates", "/console/utm-templates"),
                        Page {
                            name: "Moderation",
                            path: "/console/moderation",
                            is_for: shortener::console::is_moderator,
                        },
                    ]
                },
                api: shortener::http::routes(shortener.clone()),
                files: shortener::http::file_routes(shortener.clone()),
                console: shortener::console::routes(shortener.clone(), streams.clone()),
                openapi: shortener::http::openapi,
            },
            Room {
                name: "gateway",
                title: "Gateway",
                group: Group::Traffic,
                pages: const {
                    &[
                        Page::new("Gateway", gateway::console::PATH),
                        Page::new("Explain a request", gateway::console::EXPLAIN),
                        Page {
                            name: "Document",
                            path: gateway::console::VERSIONS,
                            is_for: gateway::console::is_operator,
                        },
                    ]
                },
                api: gateway::http::routes(gateway.clone()),
                files: gateway::http::bare_routes(gateway.clone()),
                console: gateway::console::routes(gateway.clone(), data_path.clone(), streams.clone()),
                openapi: gateway::http::openapi,
            },
            Room {
                name: "limiter",
                title: "Limits",
                group: Group::Traffic,
                pages: const { &[Page::new("Limits", limiter::console::PATH)] },
                api: limiter::http::routes(limiter.clone()),
                files: limiter::http::bare_routes(limiter.clone()).merge(limiter::grpc::routes(limiter.clone())),
                console: limiter::console::routes(limiter.clone(), streams.clone()),
                openapi: limiter::http::openapi,
            },
            Room {
                name: "discovery",
                title: "Discovery",
                group: Group::Traffic,
                pages: const { &[Page::new("Discovery", discovery::console::PATH)] },
                api: discovery::http::routes(discovery.clone(), streams.clone()),
                files: discovery::http::bare_routes(discovery.clone(), streams.clone())
                    .merge(discovery::http::consul::routes(discovery.clone(), streams.clone())),
                console: discovery::console::routes(discovery.clone()),
                openapi: discovery::http::openapi,
            },
            Room {
                name: "access",
                title: "Access",
                group: Group::People,
                pages: const { &[Page::new("Keys", "/console/keys"), Page::new("Audit", "/console/audit")] },
                api: access::http::routes(access.clone()),
                files: Router::new(),
                console: access::console::routes(access.clone()),
                openapi: access::http::openapi,
            },
        ];
        let first_admin_key = first.map(|issued| Secret::new(issued.text.expose()));
        Ok(Self(Arc::new(Inner {
            config,
            addresses,
            dev,
            clock: clock.clone(),
            rng,
            lifecycle: lifecycle.clone(),
            db,
            memory,
            access,
            limiter,
            gateway,
            data_path,
            shortener,
            idempotency,
            shedder,
            golden,
            metrics,
            health,
            listeners,
            rooms,
            first_admin_key,
        })))
    }

    /// The API listener's router.
    pub(crate) fn router(&self) -> Result<Router, String> {
        crate::http::router(self)
    }

    /// What the public listener serves.
    pub(crate) fn public(&self) -> Front {
        Front::new(
            &self.0.shortener,
            self.0.gateway.certificates(),
            &self.0.data_path,
            &self.0.golden,
            &self.0.clock,
            &self.0.config.public,
        )
    }

    /// What answers checks of rate limits on the API listener.
    pub(crate) fn checks(&self) -> Checks {
        Checks {
            access: self.0.access.clone(),
            limiter: self.0.limiter.clone(),
            route: self.0.golden.route("POST", checks::PATH),
            clock: self.0.clock.clone(),
            rng: self.0.rng.clone(),
            timeout: self.0.config.api.header_timeout,
        }
    }

    /// The listeners answer: the node is ready as far as they go.
    pub(crate) fn set_started(&self) {
        self.0.listeners.serving();
    }

    /// Not ready from now on, so that load balancers send elsewhere while this node still answers.
    pub(crate) fn set_draining(&self) {
        self.0.health.drain();
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    pub(crate) fn is_dev(&self) -> bool {
        self.0.dev
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn rng(&self) -> &Rng {
        &self.0.rng
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    #[allow(dead_code, reason = "for its pages")]
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.0.gateway
    }

    pub(crate) fn shortener(&self) -> &Shortener {
        &self.0.shortener
    }

    pub(crate) fn idempotency(&self) -> &Idempotency {
        &self.0.idempotency
    }

    pub(crate) fn shedder(&self) -> Option<&Shedder> {
        self.0.shedder.as_ref()
    }

    pub(crate) fn golden(&self) -> &Golden {
        &self.0.golden
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn health(&self) -> &Health {
        &self.0.health
    }

    pub(crate) fn rooms(&self) -> &[Room] {
        &self.0.rooms
    }

    pub(crate) fn first_admin_key(&self) -> Option<&Secret> {
        self.0.first_admin_key.as_ref()
    }

    /// Where state is kept, in words and without any credential.
    pub(crate) fn describe_state(&self) -> String {
        let durable = match self.0.db.engine() {
            Engine::Sqlite => format!("SQLite in {}", self.0.config.server.data_dir.display()),
            Engine::Postgres => "PostgreSQL".to_owned(),
        };
        let fast = match self.0.memory.engine() {
            EngineKind::Local => "memory in this process",
            _ => "Redis",
        };
        format!("{durable}, {fast}")
    }

    /// Lets go of files and connections.
    pub(crate) async fn close(&self) {
        self.0.db.close().await;
    }
}

fn probe_planes(health: &Health, db: &Db, memory: &Memory, lifecycle: &Lifecycle) {
    let tasks = lifecycle.tasks(Stage::Telemetry);
    let db = db.clone();
    health.probe(&tasks, "database", true, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let db = db.clone();
        async move {
            match db.ping().await {
                Ok(()) => Condition::Serving,
                Err(_) => Condition::Stopped("the database does not answer".to_owned()),
            }
        }
    });
    let memory = memory.clone();
    health.probe(&tasks, "memory", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let memory = memory.clone();
        async move {
            match memory.health() {
                memory::Health::Serving => Condition::Serving,
                memory::Health::Degraded { .. } => {
                    Condition::Degraded("Redis does not answer; uses fall back as each declares".to_owned())
                }
            }
        }
    });
}

fn probe_shedding(health: &Health, shedder: &Shedder, lifecycle: &Lifecycle) {
    let (tasks, shedder) = (lifecycle.tasks(Stage::Telemetry), shedder.clone());
    let before = Arc::new(AtomicU64::new(0));
    health.probe(&tasks, "api", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let stats = shedder.stats();
        let refused = stats.refused_counts.iter().sum();
        let is_shedding = before.swap(refused, Ordering::Relaxed) != refused;
        let told = format!("requests are refused: {} at once are what is done in time", stats.limit);
        std::future::ready(if is_shedding { Condition::Degraded(told) } else { Condition::Serving })
    });
}

fn probe_rooms(health: &Health, db: &Db, shortener: &Shortener, lifecycle: &Lifecycle) {
    let tasks = lifecycle.tasks(Stage::Telemetry);
    let (db, shortener) = (db.clone(), shortener.clone());
    let state = db.clone();
    health.probe(&tasks, "access", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let db = state.clone();
        async move {
            match db.ping().await {
                Ok(()) => Condition::Serving,
                Err(_) => Condition::Degraded("without the database only keys seen a moment ago are known".to_owned()),
            }
        }
    });
    health.probe(&tasks, "shortener", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let (db, shortener) = (db.clone(), shortener.clone());
        async move {
            if shortener.breaker().state == BreakerState::Open {
                Condition::Degraded("the database fails or hangs: only links in the cache are served".to_owned())
            } else if db.ping().await.is_err() {
                Condition::Degraded("without the database only links in the cache are served".to_owned())
            } else if shortener.is_degraded() {
                Condition::Degraded("without Redis other nodes hear of changes only when their cache ages".to_owned())
            } else if let Some(trouble) = shortener.block_list_trouble() {
                Condition::Degraded(format!("the block list before stays: {trouble}"))
            } else {
                Condition::Serving
            }
        }
    });
}

fn probe_limiter(health: &Health, limiter: &Limiter, lifecycle: &Lifecycle) {
    let (tasks, limiter) = (lifecycle.tasks(Stage::Telemetry), limiter.clone());
    health.probe(&tasks, "limiter", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let limiter = limiter.clone();
        async move { limiter.trouble().map_or(Condition::Serving, Condition::Degraded) }
    });
}

fn probe_gateway(health: &Health, gateway: &Gateway, lifecycle: &Lifecycle) {
    let (tasks, gateway) = (lifecycle.tasks(Stage::Telemetry), gateway.clone());
    health.probe(&tasks, "gateway", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        let gateway = gateway.clone();
        let told = |why: String| Condition::Degraded(format!("the document before stays: {why}"));
        async move { gateway.trouble().map_or(Condition::Serving, told) }
    });
}

fn probe_discovery(health: &Health, discovery: &Discovery, lifecycle: &Lifecycle) {
    let (tasks, discovery) = (lifecycle.tasks(Stage::Telemetry), discovery.clone());
    health.probe(&tasks, "discovery", false, (PROBE_INTERVAL, PROBE_TIMEOUT), move || {
        std::future::ready(discovery.trouble().map_or(Condition::Serving, Condition::Degraded))
    });
}

/// Makes the data folder where there is none, for this user alone: what is in it opens everything.
pub(crate) fn make_folder(path: &Path) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| format!("cannot make the data folder {}: {e}; choose another with --data DIR", path.display()))
}

fn first_of(set: &str, otherwise: &str) -> String {
    if set.is_empty() { otherwise.to_owned() } else { set.to_owned() }
}

/// A problem for the operator who starts the server: with what users do not see.
fn told(problem: &kernel::Problem) -> String {
    let internal = problem.internal.as_ref().map_or("", kernel::Internal::for_operators);
    format!("{problem} {internal}").trim_end().to_owned()
}
