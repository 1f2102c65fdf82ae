//! What it needs from others.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tokio::sync::watch;

/// Where back ends of `service = { … }` come from; `systems/discovery`, handed in by the application.
pub trait Registry: Send + Sync {
    /// The endpoints of a service now, and each time they change. A receiver whose sender is gone keeps its last list.
    fn watch(&self, service: &str, tag: Option<&str>) -> watch::Receiver<Arc<[RegisteredEndpoint]>>;
}

/// A back end that registered itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share beside the others; 0 takes no new requests; above 1000 counts as 1000.
    pub weight: u32,
    /// Where it is.
    pub zone: Option<String>,
    /// What the registry's own checks say.
    pub is_healthy: bool,
    /// Whether it is about to leave and takes no new requests.
    pub is_draining: bool,
    /// What else it said of itself.
    pub metadata: BTreeMap<String, String>,
}
