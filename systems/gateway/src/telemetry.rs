//! Metrics of the document; each shows as `mainstay_gateway_…`.

use ::telemetry::RoomRegistry;
use prometheus_client::metrics::gauge::Gauge;

use crate::model::Table;

/// The room's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    /// `config_version`: of the document that holds on this node; 0 where it is not in the database.
    version: Gauge,
    /// `config_stale`: 1 while the document that should hold cannot, and the one before stays.
    stale: Gauge,
    /// `routes`: how many there are.
    routes: Gauge,
}

impl Telemetry {
    pub(crate) fn new(registry: &RoomRegistry) -> Self {
        let gauge = |name: &str, help: &str| registry.add(name, help, Gauge::default());
        Self {
            version: gauge("config_version", "Version of the document that holds on this node"),
            stale: gauge("config_stale", "1 while the document that should hold cannot, and the one before stays"),
            routes: gauge("routes", "Routes of the document"),
        }
    }

    pub(crate) fn applied(&self, table: &Table) {
        self.version.set(table.version);
        self.routes.set(i64::try_from(table.routes().len()).unwrap_or(i64::MAX));
        self.stale.set(0);
    }

    pub(crate) fn is_stale(&self, is: bool) {
        self.stale.set(i64::from(is));
    }
}
