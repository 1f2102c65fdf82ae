//! Signs of life, and what their absence says: in process and on a Redis that fails.

use std::time::Duration;

use discovery::model::{Guard, Health};
use kernel::{Clock, Stage};
use memory::{LocalOptions, Memory};

use crate::world::{Engine, World, beating, eventually, principal, project, usable};

#[tokio::test]
async fn who_is_silent_for_its_time_is_critical_and_comes_back_with_a_word() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    for n in 1..=4 {
        node.register(&format!("i{n}"), beating(n, 10)).await;
    }
    for _ in 0..6 {
        world.pass(&[&node], 5).await;
        for id in ["i1", "i2", "i3"] {
            node.beat(id).await;
        }
    }
    let shop = node.shop();
    assert_eq!((usable(&shop), shop.guard), (vec!["i1", "i2", "i3"], Guard::None));
    let silent = node.discovery.instance(&project(), "i4").await.unwrap();
    assert_eq!(silent.state.checks["service:i4"].output, "no sign of life for 10s");
    // BEAT-1: not before its time.
    world.pass(&[&node], 8).await;
    assert_eq!(usable(&node.shop()), ["i1", "i2", "i3"]);
    node.beat("i4").await;
    assert_eq!(usable(&node.shop()), ["i1", "i2", "i3", "i4"]);
}

#[tokio::test]
async fn when_all_fall_silent_the_list_is_not_empty_and_says_why() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    for n in 1..=4 {
        node.register(&format!("i{n}"), beating(n, 10)).await;
    }
    // All the marks are old enough to mean something.
    for _ in 0..3 {
        world.pass(&[&node], 5).await;
        for n in 1..=4 {
            node.beat(&format!("i{n}")).await;
        }
    }
    world.pass(&[&node], 30).await;
    let shop = node.shop();
    assert_eq!((shop.well_count, shop.guard), (0, Guard::Panic));
    assert_eq!(usable(&shop), ["i1", "i2", "i3", "i4"], "GUARD-2");
    node.beat("i1").await;
    assert_eq!(node.shop().guard, Guard::Panic, "one of four is fewer than 30 percent");
    node.beat("i2").await;
    assert_eq!((usable(&node.shop()), node.shop().guard), (vec!["i1", "i2"], Guard::None));
}

#[tokio::test]
async fn a_plane_that_forgets_kills_nobody() {
    let mut world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    for n in 1..=3 {
        node.register(&format!("i{n}"), beating(n, 10)).await;
    }
    for _ in 0..4 {
        world.pass(&[&node], 5).await;
        for n in 1..=3 {
            node.beat(&format!("i{n}")).await;
        }
    }
    // Another plane in the place of the one before: as a Redis that restarts without its data.
    world.memory = Memory::local(LocalOptions::default(), world.clock.clone(), kernel::Rng::system());
    let blank = world.node().await;
    // A node that just started says nothing about anybody (BEAT-4); let it have watched for long.
    world.sim.advance(Duration::from_mins(1));
    for _ in 0..9 {
        world.pass(&[&blank], 1).await;
        assert_eq!(blank.shop().well_count, 3, "BEAT-3");
    }
    for id in ["i1", "i2"] {
        blank.beat(id).await;
    }
    world.pass(&[&blank], 2).await;
    assert_eq!(usable(&blank.shop()), ["i1", "i2"], "who stays silent after it was forgotten is dead after all");
}

/// Three nodes in real time on one Redis, which the test breaks. Instances wait for a sign of life for two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_nobody_dies_and_afterwards_everybody_has_their_time_again() {
    let world = World::new(Engine::Sqlite).await;
    let clock = Clock::system();
    let mut redis = testkit::Redis::start();
    let mut nodes = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let node = world.node_on(name, world.redis(&redis.url()), clock.clone()).await;
        node.discovery.start(&world.lifecycle.tasks(Stage::Systems));
        nodes.push(node);
    }
    let ttl = 3;
    for n in 1..=4_u8 {
        nodes[0].register(&format!("i{n}"), beating(n, ttl)).await;
    }
    // Three of four say that they are alive, each to another node; the fourth dies.
    let beat = async || {
        for n in 1..=3 {
            let told = nodes[n - 1].discovery.heartbeat(&project(), &format!("i{n}"), None, Health::Passing, "").await;
            assert!(told.is_ok(), "{told:?}");
        }
    };
    eventually("the one that is silent is dead, and only that", || async {
        beat().await;
        let shop = nodes[1].shop();
        assert!(shop.well_count >= 3, "{:?}", usable(&shop));
        usable(&shop) == ["i1", "i2", "i3"]
    })
    .await;

    redis.kill();
    let since = clock.monotonic();
    while clock.monotonic().saturating_sub(since) < Duration::from_secs(2 * ttl + 1) {
        beat().await;
        for node in &nodes {
            assert_eq!(usable(&node.shop()), ["i1", "i2", "i3"], "BEAT-2");
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
    for node in &nodes {
        assert!(node.discovery.trouble().is_some(), "it is told");
    }
    // It comes back, and has forgotten everything.
    redis.restart();
    let since = clock.monotonic();
    while clock.monotonic().saturating_sub(since) < Duration::from_secs(ttl + 2) {
        beat().await;
        for node in &nodes {
            assert_eq!(usable(&node.shop()), ["i1", "i2", "i3"]);
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
    // And then the dead are found again.
    let who = principal("default");
    nodes[0].discovery.deregister(&who, "i3").await.unwrap();
    let two = async || {
        for n in 1..=2 {
            nodes[n - 1].beat(&format!("i{n}")).await;
        }
    };
    nodes[0].register("i5", beating(5, ttl)).await;
    let until = clock.monotonic() + Duration::from_secs(30);
    while usable(&nodes[2].shop()) != ["i1", "i2"] {
        assert!(clock.monotonic() < until, "the dead are not found: {:?}", usable(&nodes[2].shop()));
        two().await;
        clock.sleep(Duration::from_millis(100)).await;
    }
}

/// One of three nodes is cut off from Redis; whoever talks to it lives on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_a_node_that_cannot_reach_redis_counts() {
    let world = World::new(Engine::Sqlite).await;
    let clock = Clock::system();
    let redis = testkit::Redis::start();
    let proxy = testkit::CutProxy::to_port(redis.port());
    let through = format!("redis://{}", proxy.address());
    let mut nodes = Vec::new();
    for (name, url) in [("n1", redis.url()), ("n2", redis.url()), ("cut", through)] {
        let node = world.node_on(name, world.redis(&url), clock.clone()).await;
        node.discovery.start(&world.lifecycle.tasks(Stage::Systems));
        nodes.push(node);
    }
    for n in 1..=2_u8 {
        nodes[0].register(&format!("i{n}"), beating(n, 6)).await;
    }
    // As long as it takes for silence to mean something.
    let since = clock.monotonic();
    while clock.monotonic().saturating_sub(since) < Duration::from_secs(7) {
        nodes[0].beat("i1").await;
        nodes[2].beat("i2").await;
        clock.sleep(Duration::from_millis(200)).await;
    }
    proxy.cut();
    let since = clock.monotonic();
    while clock.monotonic().saturating_sub(since) < Duration::from_secs(14) {
        nodes[0].beat("i1").await;
        nodes[2].beat("i2").await;
        assert_eq!(usable(&nodes[0].shop()), ["i1", "i2"]);
        clock.sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(nodes[0].discovery.overview().suspended, Some("node cut does not reach Redis".to_owned()));
}
