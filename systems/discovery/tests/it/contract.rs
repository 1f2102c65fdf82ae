//! Registrations in the database: both engines run it whole.

use std::time::Duration;

use discovery::{
    Error,
    model::{CheckKind, CheckSpec, Guard, Health, InstanceSpec},
};
use kernel::{ProjectId, Stage};

use crate::world::{Engine, World, beating, eventually, principal, project, usable};

macro_rules! on_engine {
    ($engine:ident, $variant:ident, $($name:ident),+) => {
        mod $engine {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(Engine::$variant).await;
            })+
        }
    };
}

macro_rules! contract_suite {
    ($($name:ident),+ $(,)?) => {
        on_engine!(sqlite, Sqlite, $($name),+);
        on_engine!(postgres, Postgres, $($name),+);
    };
}

contract_suite!(
    what_is_registered_is_given_out_and_what_left_is_not,
    the_same_again_changes_nothing,
    projects_are_apart_and_bounded,
    other_nodes_have_changes_within_a_second,
    a_restart_knows_what_is_registered,
    an_operator_drains_and_lets_back,
    whoever_waits_is_woken_on_every_node,
    what_left_is_forgotten_and_a_node_that_slept_reads_anew,
    an_instance_moves_to_another_service,
    what_is_critical_for_too_long_is_removed,
    what_flaps_is_held_down_and_let_back,
);

async fn what_is_registered_is_given_out_and_what_left_is_not(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    assert!(node.shop().usable.is_empty());
    let first = node.register("a", InstanceSpec::new("Shop", "10.0.0.1", 80)).await;
    assert!(first.is_new);
    node.register("b", beating(2, 10)).await;
    let shop = node.shop();
    assert_eq!((usable(&shop), shop.guard, shop.well_count), (vec!["a", "b"], Guard::None, 2));
    assert!(shop.index > first.instance.revision);
    // What probes is not well until it was seen to be.
    let mut probed = InstanceSpec::new("shop", "10.0.0.3", 80);
    probed.checks.push(CheckSpec::of(CheckKind::Tcp));
    node.register("c", probed).await;
    assert_eq!(usable(&node.shop()), ["a", "b"]);
    assert_eq!(node.shop().instances.len(), 3);
    node.say("b", Health::Warning).await;
    assert_eq!(usable(&node.shop()), ["a", "b"], "a warning is well enough");
    node.say("b", Health::Critical).await;
    assert_eq!(usable(&node.shop()), ["a"]);
    let who = principal("default");
    let before = node.shop().index;
    let removed = node.discovery.deregister(&who, "a").await.unwrap();
    assert!(removed.index > before);
    assert_eq!(node.shop().index, removed.index);
    assert!(matches!(node.discovery.deregister(&who, "a").await, Err(Error::InstanceUnknown)));
    assert!(matches!(node.discovery.instance(&project(), "a").await, Err(Error::InstanceUnknown)));
    let beat = node.discovery.heartbeat(&project(), "a", None, Health::Passing, "").await;
    assert!(matches!(beat, Err(Error::InstanceUnknown)), "it is told to register again");
    // The id is free again, and nothing of the old one stays.
    let again = node.register("a", InstanceSpec::new("shop", "10.0.0.9", 80)).await;
    assert!(again.is_new && again.instance.created > removed.index);
}

async fn the_same_again_changes_nothing(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let first = node.register("a", beating(1, 10)).await;
    for _ in 0..5 {
        let again = node.register("a", beating(1, 10)).await;
        assert!(!again.is_new);
        assert_eq!(again.instance.revision, first.instance.revision);
        node.beat("a").await;
    }
    assert_eq!(node.shop().index, first.instance.revision);
    // A node that has not heard of it yet does not write it twice either, but for its revision.
    let other = world.node().await;
    assert!(!other.register("a", beating(1, 10)).await.is_new);
    // A change of how it is registered keeps how it is.
    node.say("a", Health::Warning).await;
    let mut changed = beating(1, 20);
    changed.tags.push("v2".to_owned());
    let changed = node.register("a", changed).await;
    assert!(!changed.is_new && changed.instance.revision > first.instance.revision);
    assert_eq!(changed.instance.state.reported(), Health::Warning);
    assert_eq!(changed.instance.created, first.instance.created);
}

async fn projects_are_apart_and_bounded(engine: Engine) {
    let mut world = World::new(engine).await;
    world.config.max_instances = 3;
    let node = world.node().await;
    let (ours, theirs) = (principal("default"), principal("acme"));
    world.access.create_project(&ours, "acme", None).await.unwrap();
    let register = async |who, id: &str, n| node.discovery.register(who, id, beating(n, 10), None).await;
    for n in 1..=3 {
        register(&ours, &format!("i{n}"), n).await.unwrap();
    }
    assert!(matches!(register(&ours, "i4", 4).await, Err(Error::Full(3))));
    register(&ours, "i3", 9).await.unwrap();
    register(&theirs, "i1", 7).await.unwrap();
    let acme = ProjectId::parse("acme").unwrap();
    assert_eq!(usable(&node.discovery.service(&acme, "shop")), ["i1"]);
    assert_eq!(node.discovery.service(&acme, "shop").instances[0].spec.address, "10.0.0.7");
    assert_eq!(usable(&node.shop()), ["i1", "i2", "i3"]);
    node.discovery.deregister(&theirs, "i1").await.unwrap();
    assert!(matches!(node.discovery.deregister(&theirs, "i2").await, Err(Error::InstanceUnknown)));
    assert_eq!(usable(&node.shop()), ["i1", "i2", "i3"]);
    node.discovery.deregister(&ours, "i1").await.unwrap();
    // Of many at once, as many as there is room for.
    let tried = futures(10, |n| {
        let (discovery, who) = (node.discovery.clone(), ours.clone());
        async move { discovery.register(&who, &format!("x{n}"), beating(n, 10), None).await.is_ok() }
    });
    assert_eq!(tried.await.into_iter().filter(|is_in| *is_in).count(), 1);
}

/// Runs tasks at once.
async fn futures<F>(count: u8, make: impl Fn(u8) -> F) -> Vec<bool>
where
    F: Future<Output = bool> + Send + 'static,
{
    let lifecycle = kernel::Lifecycle::new(kernel::Clock::system(), kernel::Rng::seeded(1));
    let tasks = lifecycle.tasks(Stage::Systems);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(count as usize);
    for n in 0..count {
        let (work, sender) = (make(n), sender.clone());
        tasks.spawn("test", async move { sender.send(work.await).await.unwrap() });
    }
    drop(sender);
    let mut all = Vec::new();
    while let Some(one) = receiver.recv().await {
        all.push(one);
    }
    all
}

async fn other_nodes_have_changes_within_a_second(engine: Engine) {
    let world = World::new(engine).await;
    // In real time, with the background work that nodes do.
    let clock = kernel::Clock::system();
    let here = world.node_on("n1", world.memory.clone(), clock.clone()).await;
    let there = world.node_on("n2", world.memory.clone(), clock.clone()).await;
    there.discovery.start(&world.lifecycle.tasks(Stage::Systems));
    let within = async |what: &str, wanted: &[&str]| {
        let since = clock.monotonic();
        eventually(what, || async { usable(&there.shop()) == wanted }).await;
        let took = clock.monotonic().saturating_sub(since);
        assert!(took < Duration::from_secs(1), "{what} took {took:?}");
    };
    here.register("a", beating(1, 60)).await;
    within("a registration", &["a"]).await;
    here.register("b", beating(2, 60)).await;
    within("another", &["a", "b"]).await;
    here.say("a", Health::Critical).await;
    within("a failure", &["b"]).await;
    here.discovery.deregister(&principal("default"), "a").await.unwrap();
    within("one that leaves", &["b"]).await;
    // A heartbeat finds an instance that this node cannot have heard of yet.
    let third = world.node_on("n3", world.memory.clone(), clock.clone()).await;
    here.register("c", beating(3, 60)).await;
    third.beat("c").await;
}

async fn a_restart_knows_what_is_registered(engine: Engine) {
    let world = World::new(engine).await;
    {
        let node = world.node().await;
        for n in 0..120 {
            node.register(&format!("i{n:03}"), beating(n, 10)).await;
        }
        node.say("i000", Health::Critical).await;
        node.discovery.deregister(&principal("default"), "i001").await.unwrap();
    }
    let node = world.node().await;
    let shop = node.shop();
    assert_eq!((shop.instances.len(), shop.usable.len(), shop.well_count), (119, 118, 118));
}

async fn an_operator_drains_and_lets_back(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let who = principal("default");
    node.register("a", beating(1, 10)).await;
    node.register("b", beating(2, 10)).await;
    let drained = node.discovery.drain(&who, "a", Some("an upgrade")).await.unwrap();
    assert_eq!(drained.state.drain.as_ref().unwrap().reason, "an upgrade");
    assert_eq!(usable(&node.shop()), ["b"]);
    let index = node.shop().index;
    node.discovery.drain(&who, "a", Some("again")).await.unwrap();
    assert_eq!(node.shop().index, index, "to drain twice changes nothing");
    // Its own registration does not undo it.
    let mut changed = beating(1, 10);
    changed.weight = 5;
    node.register("a", changed).await;
    assert_eq!(usable(&node.shop()), ["b"]);
    // Nothing else is left: what drains serves still.
    node.discovery.drain(&who, "b", Some("")).await.unwrap();
    assert_eq!((usable(&node.shop()), node.shop().guard), (vec!["a", "b"], Guard::Draining));
    node.discovery.drain(&who, "a", None).await.unwrap();
    assert_eq!((usable(&node.shop()), node.shop().guard), (vec!["a"], Guard::None));
    let unknown = node.discovery.drain(&who, "x", Some("")).await;
    assert!(matches!(unknown, Err(Error::InstanceUnknown)));
    let reason = "x".repeat(201);
    let long = node.discovery.drain(&who, "a", Some(&reason)).await;
    assert!(matches!(long, Err(Error::InstanceInvalid(_))));
}

async fn whoever_waits_is_woken_on_every_node(engine: Engine) {
    let world = World::new(engine).await;
    let clock = kernel::Clock::system();
    let here = world.node_on("n1", world.memory.clone(), clock.clone()).await;
    let there = world.node_on("n2", world.memory.clone(), clock.clone()).await;
    there.discovery.start(&world.lifecycle.tasks(Stage::Systems));
    let mut subscription = there.discovery.subscribe(&project(), "shop").unwrap();
    let mut other = there.discovery.subscribe(&project(), "other").unwrap();
    assert!(subscription.now().usable.is_empty());
    let mut seen = 0;
    for n in 1..=20_u8 {
        here.register(&format!("i{n:02}"), beating(n, 60)).await;
        while usable(&subscription.now()).len() < usize::from(n) {
            clock.timeout(Duration::from_secs(10), subscription.changed()).await.expect("woken");
        }
        let service = subscription.now();
        assert!(service.index > seen, "the index only grows");
        seen = service.index;
    }
    let quiet = clock.timeout(Duration::from_millis(20), other.changed()).await;
    assert!(quiet.is_none(), "changes of a service wake nobody who waits for another");
    drop((subscription, other));
    assert_eq!(there.discovery.overview().watcher_count, 0);
}

async fn what_left_is_forgotten_and_a_node_that_slept_reads_anew(engine: Engine) {
    let world = World::new(engine).await;
    let (node, sleeper) = (world.node().await, world.node().await);
    let who = principal("default");
    for n in 1..=3 {
        node.register(&format!("i{n}"), InstanceSpec::new("shop", format!("10.0.0.{n}"), 80)).await;
    }
    sleeper.discovery.refresh().await.unwrap();
    let mut waiting = sleeper.discovery.subscribe(&project(), "shop").unwrap();
    let index = sleeper.shop().index;
    assert_eq!(sleeper.shop().instances.len(), 3);
    node.discovery.deregister(&who, "i1").await.unwrap();
    world.sim.advance(Duration::from_hours(2));
    // Whoever looks after that: it may be either, and the sleeper sweeps too without having read.
    node.discovery.sweep().await.unwrap();
    sleeper.discovery.sweep().await.unwrap();
    let row = world.db.get("SELECT COUNT(*) FROM discovery_instances", Vec::new()).await.unwrap().unwrap();
    assert_eq!(row.get::<i64>(0).unwrap(), 2, "what left is forgotten after a while");
    sleeper.discovery.refresh().await.unwrap();
    assert_eq!(usable(&sleeper.shop()), ["i2", "i3"]);
    assert!(sleeper.shop().index > index);
    kernel::Clock::system().timeout(Duration::from_secs(5), waiting.changed()).await.expect("woken");
    // The database is replaced by an older one, as a restore does.
    world.db.exec("UPDATE discovery_revision SET revision = 1, forgotten = 0", Vec::new()).await.unwrap();
    world.db.exec("DELETE FROM discovery_instances WHERE id = 'i3'", Vec::new()).await.unwrap();
    world.db.exec("UPDATE discovery_instances SET revision = 1", Vec::new()).await.unwrap();
    node.discovery.refresh().await.unwrap();
    assert_eq!((usable(&node.shop()), node.shop().index), (vec!["i2"], 1));
}

async fn an_instance_moves_to_another_service(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.register("a", InstanceSpec::new("shop", "10.0.0.1", 80)).await;
    let before = node.shop().index;
    node.register("a", InstanceSpec::new("cart", "10.0.0.1", 80)).await;
    assert!(node.shop().instances.is_empty());
    assert!(node.shop().index > before, "who waits for the old service hears of it");
    assert_eq!(usable(&node.discovery.service(&project(), "CART")), ["a"]);
    let (services, _) = node.discovery.services(&project());
    assert_eq!(services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["cart"]);
}

async fn what_is_critical_for_too_long_is_removed(engine: Engine) {
    let mut world = World::new(engine).await;
    world.config.remove_after = Duration::from_hours(1);
    let node = world.node().await;
    node.register("usual", beating(1, 10)).await;
    let mut soon = beating(2, 10);
    soon.checks[0].remove_after = Some(kernel::Span::secs(60));
    node.register("soon", soon).await;
    node.register("well", InstanceSpec::new("shop", "10.0.0.3", 80)).await;
    for id in ["usual", "soon"] {
        node.say(id, Health::Critical).await;
    }
    world.pass(&[&node], 58).await;
    assert_eq!(node.shop().instances.len(), 3);
    world.pass(&[&node], 4).await;
    let left = |node: &crate::world::Node| node.shop().instances.iter().map(|i| i.id.clone()).collect::<Vec<_>>();
    assert_eq!(left(&node), ["usual", "well"]);
    world.sim.advance(Duration::from_hours(1));
    // It comes back in the last moment.
    node.say("usual", Health::Passing).await;
    node.discovery.sweep().await.unwrap();
    assert_eq!(left(&node), ["usual", "well"]);
    node.say("usual", Health::Critical).await;
    world.sim.advance(Duration::from_hours(1) + Duration::from_secs(1));
    node.discovery.sweep().await.unwrap();
    assert_eq!((left(&node), node.metric("removed_total")), (vec!["well".to_owned()], 2));
}

async fn what_flaps_is_held_down_and_let_back(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.register("calm", InstanceSpec::new("shop", "10.0.0.9", 80)).await;
    node.register("a", beating(1, 600)).await;
    for _ in 0..3 {
        node.say("a", Health::Critical).await;
        world.sim.advance(Duration::from_secs(2));
        node.say("a", Health::Passing).await;
        world.sim.advance(Duration::from_secs(2));
    }
    let held = node.discovery.instance(&project(), "a").await.unwrap();
    assert!(held.state.damper.is_held);
    assert_eq!((held.state.reported(), held.state.health()), (Health::Passing, Health::Critical));
    assert_eq!(usable(&node.shop()), ["calm"]);
    assert_eq!(node.metric("damped_total"), 1);
    world.sim.advance(Duration::from_secs(30));
    node.discovery.sweep().await.unwrap();
    assert_eq!(usable(&node.shop()), ["calm"]);
    // Another fall while it is held makes it longer.
    node.say("a", Health::Critical).await;
    node.say("a", Health::Passing).await;
    world.sim.advance(Duration::from_secs(80));
    node.discovery.sweep().await.unwrap();
    assert_eq!(usable(&node.shop()), ["calm"]);
    world.sim.advance(Duration::from_mins(1));
    let swept = node.discovery.sweep().await.unwrap();
    assert_eq!((swept.let_back, usable(&node.shop())), (1, vec!["a", "calm"]));
    // While it was held it did not count as one that is gone for good.
    assert!(held.state.critical_since.is_some_and(|at| at < held.changed_at.as_millis()));
}
