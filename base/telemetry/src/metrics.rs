//! `/metrics`: every number of the process in OpenMetrics text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::text,
    registry::{Metric, Registry},
};

use crate::{
    Golden,
    golden::GoldenCollector,
    process::ProcessCollector,
    reply::{OPEN_METRICS, Reply},
};

/// All metrics of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registries>>);

#[derive(Default)]
struct Registries {
    rooms: BTreeMap<&'static str, Room>,
    root: Registry,
}

struct Room {
    registry: Registry,
    names: BTreeSet<String>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where `system` registers its metrics: each name becomes `mainstay_<system>_<name>`.
    pub fn registry(&self, system: &'static str) -> RoomRegistry {
        RoomRegistry { metrics: self.clone(), system }
    }

    /// Adds the process: memory, CPU, file descriptors, uptime, tasks, the runtime.
    pub fn add_process(&self, process: ProcessCollector) {
        self.lock().root.register_collector(Box::new(process));
    }

    /// Adds the golden signals.
    pub fn add_golden(&self, golden: Golden) {
        self.lock().root.register_collector(Box::new(GoldenCollector(golden)));
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> Reply {
        let mut body = String::with_capacity(16 * 1024);
        let registries = self.lock();
        let outcome = std::iter::once(&registries.root)
            .chain(registries.rooms.values().map(|room| &room.registry))
            .try_for_each(|registry| text::encode_registry(&mut body, registry))
            .and_then(|()| text::encode_eof(&mut body));
        match outcome {
            Ok(()) => Reply { status: 200, content_type: OPEN_METRICS, body },
            Err(_) => Reply { status: 500, content_type: "text/plain", body: "a collector failed\n".to_owned() },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of [`Metrics`] that belongs to one room.
#[derive(Clone, Debug)]
pub struct RoomRegistry {
    metrics: Metrics,
    system: &'static str,
}

impl RoomRegistry {
    /// Registers a metric and gives it back: `let served = registry.add("redirects", "Redirects served", Counter::default())`.
    ///
    /// Names follow the conventions of Prometheus: base units (`_seconds`, `_bytes`); a counter's `_total` is appended by the
    /// exposition. A name registered before is refused with an error in the log, and its metric stays invisible: two series of one
    /// name would make the whole page unreadable.
    pub fn add<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut registries = self.metrics.lock();
        let room = registries.rooms.entry(self.system).or_insert_with(|| Room {
            registry: Registry::with_prefix(format!("mainstay_{}", self.system)),
            names: BTreeSet::new(),
        });
        if room.names.insert(name.to_owned()) {
            room.registry.register(name, help, metric.clone());
        } else {
            tracing::error!(system = self.system, name, "a metric of this name is registered already");
        }
        metric
    }

    /// Registers values that are read when `/metrics` is. The collector writes whole names itself
    /// (`mainstay_<system>_…` is not put before them).
    pub fn add_collector(&self, collector: impl Collector) {
        self.metrics.lock().root.register_collector(Box::new(collector));
    }
}
