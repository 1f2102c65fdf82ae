//! The set of upstreams: what a document says, applied without losing what is known.

mod endpoint;
mod key;
mod lease;
mod members;
mod settings;
mod shared;
mod snapshot;
mod source;
mod state;
mod upstream;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use kernel::{Clock, FieldError, Rng, Shutdown, Tasks};
use telemetry::RoomRegistry;
use tokio::sync::broadcast;

pub(crate) use self::{endpoint::Endpoint, members::Wanted, settings::Settings};
pub use self::{
    endpoint::EndpointId,
    key::KeyParts,
    lease::{Lease, Outcome},
    state::{EndpointState, SourceState, UpstreamBreaker, UpstreamState},
    upstream::{Pick, Upstream},
};
use crate::{MAX_UPSTREAMS, model::spec::UpstreamSpec, ports::Registry};

/// Ids of targets that were retired, for workers that are behind by at most so many. Whoever misses one has its idle timeout.
const RETIRED_BACKLOG: usize = 1_024;

/// What it needs.
#[derive(Clone)]
pub struct Deps {
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// The zone of this node, if it has one.
    pub zone: Option<String>,
    /// Where `service = { … }` comes from. Without one, documents that use it are refused.
    pub registry: Option<Arc<dyn Registry>>,
    /// Where its numbers are shown.
    pub metrics: RoomRegistry,
}

/// All upstreams of a node. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Upstreams(Arc<Shared>);

type ByName = BTreeMap<String, Entry>;

struct Shared {
    deps: Deps,
    by_name: ArcSwap<ByName>,
    /// Held while a document is applied.
    applying: Mutex<()>,
    tasks: OnceLock<Tasks>,
    retired: broadcast::Sender<u64>,
}

#[derive(Clone)]
struct Entry {
    upstream: Arc<Upstream>,
    /// Ends its background work.
    stop: Shutdown,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstreams")
    }
}

/// Upstreams, as long as somebody else holds them.
#[derive(Clone)]
pub(crate) struct WeakUpstreams(Weak<Shared>);

impl fmt::Debug for WeakUpstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakUpstreams")
    }
}

impl WeakUpstreams {
    pub(crate) fn states(&self) -> Vec<UpstreamState> {
        self.0.upgrade().map(|shared| Upstreams(shared).states()).unwrap_or_default()
    }
}

impl Upstreams {
    pub(crate) fn downgrade(&self) -> WeakUpstreams {
        WeakUpstreams(Arc::downgrade(&self.0))
    }

    /// None yet.
    pub fn new(deps: Deps) -> Self {
        let this = Self(Arc::new(Shared {
            by_name: ArcSwap::default(),
            applying: Mutex::default(),
            tasks: OnceLock::new(),
            retired: broadcast::Sender::new(RETIRED_BACKLOG),
            deps,
        }));
        crate::telemetry::register(&this.0.deps.metrics, &this);
        this
    }

    /// Takes the upstreams of a document in place of those that there are: all of them, or none when something is wrong (with its place
    /// under `/upstreams`). What did not change keeps its health, latency and connections; back ends that are gone finish what they have.
    ///
    /// Reads the files that `tls` names. After [`Upstreams::start`] it has to be called within the runtime.
    pub fn apply(&self, specs: &[UpstreamSpec]) -> Result<(), Vec<FieldError>> {
        let _applying = self.0.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.by_name.load_full();
        let settings = self.check(specs, &before)?;
        let mut after = ByName::new();
        for settings in settings {
            let name = settings.spec.name.clone();
            if let Some(entry) = before.get(&name) {
                let current = entry.upstream.settings.borrow().clone();
                if !current.is_same(&settings) {
                    entry.upstream.set_settings(settings);
                }
                after.insert(name, entry.clone());
            } else {
                let upstream = Arc::new(Upstream::new(settings, &self.0.deps, self.0.retired.clone()));
                let entry = Entry { upstream, stop: Shutdown::new() };
                if let Some(tasks) = self.0.tasks.get() {
                    self.spawn(tasks, &entry);
                }
                after.insert(name, entry);
            }
        }
        for (name, gone) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            tracing::debug!(upstream = %name, "an upstream is gone");
            gone.stop.trigger();
            gone.upstream.retire();
        }
        self.0.by_name.store(Arc::new(after));
        Ok(())
    }

    fn check(&self, specs: &[UpstreamSpec], before: &ByName) -> Result<Vec<Settings>, Vec<FieldError>> {
        let mut faults = Vec::new();
        if specs.len() > MAX_UPSTREAMS {
            let detail = format!("expected at most {MAX_UPSTREAMS}");
            return Err(vec![FieldError { field: "/upstreams".to_owned(), detail }]);
        }
        let mut names = HashSet::new();
        for (i, spec) in specs.iter().enumerate() {
            let at = format!("/upstreams/{i}");
            faults.extend(spec.validate(&at));
            if !names.insert(&spec.name) {
                let detail = "another upstream has this name".to_owned();
                faults.push(FieldError { field: format!("{at}/name"), detail });
            }
            if spec.service.is_some() && self.0.deps.registry.is_none() {
                let detail = "this server has no service registry".to_owned();
                faults.push(FieldError { field: format!("{at}/service"), detail });
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut settings = Vec::new();
        for (i, spec) in specs.iter().enumerate() {
            let current = before.get(&spec.name).map(|entry| entry.upstream.settings.borrow().clone());
            match Settings::new(spec, &format!("/upstreams/{i}"), &self.0.deps.clock, current.as_deref()) {
                Ok(of_one) => settings.push(of_one),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }

    /// Starts the background work on `tasks`: health checks, DNS, watches of the registry. Call it once.
    pub fn start(&self, tasks: &Tasks) {
        let _applying: MutexGuard<'_, ()> = self.0.applying.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.tasks.set(tasks.clone()).is_ok() {
            self.0.by_name.load().values().for_each(|entry| self.spawn(tasks, entry));
        }
    }

    fn spawn(&self, tasks: &Tasks, entry: &Entry) {
        crate::worker::spawn(tasks, &entry.upstream, &entry.stop, self.0.deps.registry.as_ref());
    }

    /// The upstream of a name. Whoever keeps it may pick from it for as long as they like, also when a later document no longer has it.
    pub fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        self.0.by_name.load().get(name).map(|entry| entry.upstream.clone())
    }

    /// What they look like now, by name.
    pub fn states(&self) -> Vec<UpstreamState> {
        self.0.by_name.load().values().map(|entry| entry.upstream.state()).collect()
    }

    /// Tells ids of targets whose connections are not needed any more: their back end left, was replaced or is drained. For pools.
    pub fn retired(&self) -> broadcast::Receiver<u64> {
        self.0.retired.subscribe()
    }
}
