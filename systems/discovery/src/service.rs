//! The handle.

mod beats;
mod book;
mod members;
pub(crate) mod probes;
mod register;
mod sweep;
mod watching;

use std::sync::Arc;

use access::Access;
use database::Db;
use kernel::{Clock, CursorKey, Problem, ProjectId, Rng};
use memory::{Memory, OnDown, Space, Use};
use web::{Page, PageQuery};

pub(crate) use self::members::BEAT_INTERVAL;
use self::{beats::Trust, book::Book, members::Members};
pub use self::{
    members::Member,
    register::{Registered, Removed},
    sweep::Swept,
    watching::{MAX_WAIT, Subscription, USUAL_WAIT},
};
use crate::{
    config::DiscoveryConfig,
    error::{Error, Result},
    model::{Instance, Service},
    store,
    telemetry::Telemetry,
};

/// How many changes are read at once.
const PAGE: u32 = 500;

/// Signs of life. What is away is told, not guessed: see `service/beats.rs`.
const BEATS: Use = Use { name: "discovery.beats", on_down: OnDown::Closed };

/// What the registry stands on.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Its section.
    pub config: DiscoveryConfig,
    /// What this node is called.
    pub node_name: String,
    /// Registrations, and how they are.
    pub db: Db,
    /// Signs of life.
    pub memory: Memory,
    /// Secrets and the audit log.
    pub access: Access,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Where its metrics go.
    pub metrics: ::telemetry::Metrics,
}

/// The registry. Cheap to clone.
#[derive(Clone)]
pub struct Discovery(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) config: DiscoveryConfig,
    pub(crate) node_name: String,
    db: Db,
    access: Access,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    memory: Memory,
    beats: Space,
    book: Book,
    members: Members,
    trust: Trust,
    cursors: CursorKey,
    pub(crate) telemetry: Telemetry,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Discovery")
    }
}

/// What the registry as a whole is doing, as this node sees it.
#[derive(Debug, Clone)]
pub struct Overview {
    /// This node.
    pub node: String,
    /// The nodes that are alive.
    pub members: Vec<Member>,
    /// Up to which change this node knows.
    pub revision: i64,
    /// Why nobody is declared dead for want of signs of life right now.
    pub suspended: Option<String>,
    /// Requests and streams on this node that wait for a change.
    pub watcher_count: usize,
}

impl Discovery {
    /// Brings its tables up to date, reads what is registered and makes the handle. [`Discovery::start`] starts what runs in the
    /// background.
    pub async fn open(deps: Deps) -> Result<Self, Problem> {
        let Deps { config, node_name, db, memory, access, clock, rng, metrics } = deps;
        db.migrate("discovery", store::MIGRATIONS).await?;
        let this = Self(Arc::new(Shared {
            beats: memory.with(BEATS),
            book: Book::new(config.panic_percent, config.max_watchers),
            members: Members::new(&rng),
            trust: Trust::new(clock.monotonic()),
            cursors: CursorKey::new(&access.secret("discovery.cursors")),
            telemetry: Telemetry::new(&metrics.registry("discovery")),
            config,
            node_name,
            db,
            access,
            clock,
            rng,
            memory,
        }));
        this.refresh().await?;
        this.beat_node().await?;
        this.show_state();
        Ok(this)
    }

    /// Reads what other nodes have changed, as the background does several times a second.
    pub async fn refresh(&self) -> Result<()> {
        let (latest, forgotten) = store::revision(&self.0.db).await?;
        let known = self.0.book.revision();
        if known > latest || (known < forgotten && known > 0) {
            // The database was replaced by an older one, or this node slept for so long that it cannot hear of what left.
            tracing::warn!(known, latest, forgotten, "everything that is registered is read anew");
            let all = self.read_all(latest).await?;
            self.0.book.replace(all, latest);
            return Ok(());
        }
        loop {
            let known = self.0.book.revision();
            if known >= latest {
                return Ok(());
            }
            let changed = store::changed_since(&self.0.db, known, PAGE).await?;
            // Fewer than a page: up to what was the latest before the question, nothing is missing.
            let last = changed.last().map_or(latest, |last| last.instance.revision);
            let is_whole = changed.len() < PAGE as usize;
            self.0.book.apply(changed, if is_whole { last.max(latest) } else { last });
        }
    }

    async fn read_all(&self, latest: i64) -> Result<Vec<store::Changed>> {
        let (mut all, mut known) = (Vec::new(), 0);
        while known < latest {
            let page = store::changed_since(&self.0.db, known, PAGE).await?;
            let is_whole = page.len() < PAGE as usize;
            known = page.last().map_or(latest, |last| last.instance.revision);
            all.extend(page);
            if is_whole {
                break;
            }
        }
        Ok(all)
    }

    /// A service as this node knows it; one that was never heard of is empty.
    pub fn service(&self, project: &ProjectId, name: &str) -> Arc<Service> {
        self.0.book.service(project, name)
    }

    /// The services of a project that have instances, by name; and the index of the project.
    pub fn services(&self, project: &ProjectId) -> (Vec<Arc<Service>>, i64) {
        self.0.book.services(project, None, usize::MAX)
    }

    /// The revision of the last change to any instance of a project.
    pub(crate) fn project_index(&self, project: &ProjectId) -> i64 {
        self.0.book.services(project, None, 0).1
    }

    /// The same as a page, whose cursor is opaque.
    pub fn service_page(&self, project: &ProjectId, query: &PageQuery) -> Result<(Page<Arc<Service>>, i64)> {
        let scope = format!("discovery services project={project}");
        let position = query.position(&self.0.cursors, &scope)?;
        let after = position.and_then(|bytes| String::from_utf8(bytes).ok());
        let (found, index) = self.0.book.services(project, after.as_deref(), query.limit as usize + 1);
        let place = |last: &Arc<Service>| crate::model::fold(&last.name).into_bytes();
        Ok((Page::new(found, query, &self.0.cursors, &scope, place), index))
    }

    /// An instance as this node knows it; what was registered on another node a moment ago is asked of the database.
    pub async fn instance(&self, project: &ProjectId, id: &str) -> Result<Arc<Instance>> {
        if let Some(known) = self.0.book.instance(project, id) {
            return Ok(known);
        }
        let stored = store::read(&self.0.db, project, id).await?;
        stored.map(Arc::new).ok_or(Error::InstanceUnknown)
    }

    /// The instance that has a check of this id, as this node knows it.
    pub fn instance_of_check(&self, project: &ProjectId, check: &str) -> Option<Arc<Instance>> {
        self.0.book.of_check(project, check)
    }

    /// What the registry as a whole is doing.
    pub fn overview(&self) -> Overview {
        Overview {
            node: self.0.node_name.clone(),
            members: self.0.members.alive(),
            revision: self.0.book.revision(),
            suspended: self.suspended(),
            watcher_count: self.0.book.watcher_count(),
        }
    }

    /// Why this node does less than it promises; `None` when it does not.
    pub fn trouble(&self) -> Option<String> {
        // Without an instance there is nobody to declare dead.
        let why = self.suspended().filter(|_| self.0.book.counts().instances > 0);
        why.map(|why| format!("nobody is declared dead for want of signs of life: {why}"))
    }

    /// Brings the gauges up to date.
    pub(crate) fn show_state(&self) {
        let (shown, counts) = (&self.0.telemetry, self.0.book.counts());
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        shown.instances.set(number(counts.instances));
        shown.well.set(number(counts.well));
        shown.services.set(number(counts.services));
        shown.guarded.set(number(counts.guarded));
        shown.revision.set(self.0.book.revision());
        shown.nodes.set(number(self.0.members.alive().len()));
        shown.suspended.set(i64::from(self.suspended().is_some()));
        shown.watchers.set(number(self.0.book.watcher_count()));
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }
}
