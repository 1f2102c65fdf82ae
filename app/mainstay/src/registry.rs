//! The registry as a source of back ends: what `systems/discovery` knows, in the words of `blocks/upstream`.

use std::{net::SocketAddr, sync::Arc};

use discovery::{
    Discovery,
    model::{Health, Service},
};
use kernel::{Clock, ProjectId, Tasks};
use tokio::sync::watch;
use upstream::{RegisteredEndpoint, Registry};

/// See the module.
pub(crate) struct FromDiscovery {
    discovery: Discovery,
    clock: Clock,
    tasks: Tasks,
}

impl FromDiscovery {
    /// Watches run on `tasks`.
    pub(crate) fn new(discovery: &Discovery, clock: &Clock, tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self { discovery: discovery.clone(), clock: clock.clone(), tasks: tasks.clone() })
    }
}

/// `shop` of the project `default`, or `acme/shop`.
fn named(service: &str) -> (ProjectId, &str) {
    let named = service.split_once('/').and_then(|(project, name)| Some((ProjectId::parse(project)?, name)));
    named.unwrap_or_else(|| (ProjectId::default_project(), service))
}

/// All that are registered with this tag and have been well once: which of them are used, and what when few are well, the upstream
/// decides. Names are left out: an upstream balances addresses.
fn endpoints(service: &Service, tag: Option<&str>) -> Arc<[RegisteredEndpoint]> {
    let asked = service.instances.iter().filter(|one| tag.is_none_or(|tag| one.spec.tags.iter().any(|has| has == tag)));
    let told = asked.filter(|one| one.state.was_well || one.is_well()).filter_map(|one| {
        Some(RegisteredEndpoint {
            address: SocketAddr::new(one.spec.ip()?, one.spec.port),
            weight: one.spec.weight,
            zone: (!one.spec.zone.is_empty()).then(|| one.spec.zone.clone()),
            is_healthy: one.state.health() != Health::Critical,
            is_draining: one.is_draining(),
            metadata: one.spec.meta.clone(),
        })
    });
    told.collect()
}

impl Registry for FromDiscovery {
    fn watch(&self, service: &str, tag: Option<&str>) -> watch::Receiver<Arc<[RegisteredEndpoint]>> {
        let (project, name) = named(service);
        let (name, tag) = (name.to_owned(), tag.map(str::to_owned));
        let known = endpoints(&self.discovery.service(&project, &name), tag.as_deref());
        let (sender, receiver) = watch::channel(known);
        let (discovery, clock, shutdown) = (self.discovery.clone(), self.clock.clone(), self.tasks.shutdown());
        self.tasks.spawn("registry watch", async move {
            let follow = async {
                loop {
                    let Ok(mut subscription) = discovery.subscribe(&project, &name) else {
                        // As many wait as may; this one has to.
                        clock.sleep(std::time::Duration::from_secs(1)).await;
                        continue;
                    };
                    let mut service = subscription.now();
                    loop {
                        let now = endpoints(&service, tag.as_deref());
                        sender.send_if_modified(|before| {
                            let is_new = **before != *now;
                            *before = now.clone();
                            is_new
                        });
                        service = subscription.changed().await;
                    }
                }
            };
            tokio::select! {
                () = follow => {}
                () = sender.closed() => {}
                () = shutdown.wait() => {}
            }
        });
        receiver
    }
}
