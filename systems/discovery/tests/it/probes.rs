//! Active checks of instances that come, fail and come back, by several nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use discovery::model::{CheckKind, CheckSpec, InstanceSpec};
use kernel::{Clock, Span, Stage, Tasks};
use tokio::net::TcpListener;

use crate::world::{Engine, World, eventually, usable};

/// Takes connections until it is dropped, and counts them.
struct Backend {
    port: u16,
    count: Arc<AtomicUsize>,
    stop: kernel::Shutdown,
}

impl Backend {
    async fn start(tasks: &Tasks, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), kernel::Shutdown::new());
        let backend = Self { port: listener.local_addr().unwrap().port(), count: count.clone(), stop: stop.clone() };
        tasks.spawn("backend", async move {
            while let Some(Ok(_)) = stop.or(listener.accept()).await {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        backend
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

fn probed(port: u16) -> InstanceSpec {
    let mut spec = InstanceSpec::new("shop", "127.0.0.1", port);
    let check = CheckSpec { interval: Some(Span::secs(1)), unhealthy_after: 2, ..CheckSpec::of(CheckKind::Tcp) };
    spec.checks.push(check);
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_is_given_out_and_who_stops_is_not_by_any_node() {
    let world = World::new(Engine::Sqlite).await;
    let tasks = world.lifecycle.tasks(Stage::Systems);
    let clock = Clock::system();
    let mut nodes = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let node = world.node_on(name, world.memory.clone(), clock.clone()).await;
        node.discovery.start(&tasks);
        nodes.push(node);
    }
    eventually("all nodes see one another", || async {
        nodes.iter().all(|node| node.discovery.overview().members.len() == 3)
    })
    .await;
    let (stays, goes) = (Backend::start(&tasks, 0).await, Backend::start(&tasks, 0).await);
    nodes[0].register("stays", probed(stays.port)).await;
    nodes[1].register("goes", probed(goes.port)).await;
    for node in &nodes {
        eventually("both are found", || async { usable(&node.shop()) == ["goes", "stays"] }).await;
    }
    // PROBE-1 of three nodes: an interval of a second is asked about once a second, not three times.
    let (since, before) = (clock.monotonic(), stays.count());
    eventually("some probes", || async { stays.count() >= before + 4 }).await;
    let took = clock.monotonic().saturating_sub(since);
    assert!(took >= Duration::from_millis(2_500), "4 probes within {took:?}");
    let port = goes.port;
    goes.stop.trigger();
    for node in &nodes {
        eventually("who stopped is out", || async { usable(&node.shop()) == ["stays"] }).await;
    }
    let _back = Backend::start(&tasks, port).await;
    for node in &nodes {
        eventually("who is back is in", || async { usable(&node.shop()) == ["goes", "stays"] }).await;
    }
}
