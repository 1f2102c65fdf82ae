//! What runs in the background for each upstream, on every node.

mod dns;
mod health;

use std::sync::Arc;

use kernel::{Backoff, OnPanic, Shutdown, Tasks};

use crate::{
    ServiceSpec,
    ports::{RegisteredEndpoint, Registry},
    service::{Settings, Upstream, Wanted},
};

/// Starts the work of one upstream. It ends with `stop` or with the process.
pub(crate) fn spawn(tasks: &Tasks, upstream: &Arc<Upstream>, stop: &Shutdown, registry: Option<&Arc<dyn Registry>>) {
    let (upstream, stop, registry) = (upstream.clone(), stop.clone(), registry.cloned());
    tasks.supervise("upstream", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
        run(upstream.clone(), stop.clone(), registry.clone(), shutdown)
    });
}

/// Follows the settings: what runs is begun anew when they change.
async fn run(upstream: Arc<Upstream>, stop: Shutdown, registry: Option<Arc<dyn Registry>>, shutdown: Shutdown) {
    let mut settings = upstream.settings.subscribe();
    loop {
        let current = settings.borrow_and_update().clone();
        tokio::select! {
            ((), ()) = work(&upstream, &current, registry.as_deref()) => {}
            changed = settings.changed() => if changed.is_err() { return },
            () = stop.wait() => return,
            () = shutdown.wait() => return,
        }
    }
}

async fn work(upstream: &Upstream, settings: &Settings, registry: Option<&dyn Registry>) -> ((), ()) {
    let source = async {
        match (&settings.spec.dns, &settings.spec.service, registry) {
            (Some(spec), ..) => dns::follow(upstream, spec).await,
            (_, Some(service), Some(registry)) => follow_registry(upstream, service, registry).await,
            _ => std::future::pending().await,
        }
    };
    // Neither ends.
    tokio::join!(source, health::watch(upstream, settings))
}

/// Takes what the registry tells. It has its own guards against an answer that is suddenly empty.
async fn follow_registry(upstream: &Upstream, service: &ServiceSpec, registry: &dyn Registry) {
    let mut list = registry.watch(&service.name, service.tag.as_deref());
    loop {
        let told = list.borrow_and_update().clone();
        upstream.answered(told.iter().map(registered).collect());
        if list.changed().await.is_err() {
            // Whoever told it is gone: what was told last is kept.
            upstream.unanswered("the registry does not tell of it any more".to_owned());
            return std::future::pending().await;
        }
    }
}

fn registered(endpoint: &RegisteredEndpoint) -> Wanted {
    Wanted {
        address: endpoint.address,
        weight: endpoint.weight.min(1_000),
        zone: endpoint.zone.clone(),
        priority: 0,
        is_healthy: endpoint.is_healthy,
        is_draining: endpoint.is_draining,
    }
}
