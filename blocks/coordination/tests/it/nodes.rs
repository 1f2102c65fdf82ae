//! Several nodes on one PostgreSQL.

use std::time::Duration;

use coordination::{
    Filter,
    model::{Compare, KeyRange, Op, OpResult, Relation, Subject, Txn},
};

use crate::world::{Engine, Node, World, put};

/// Adds one to a counter, however often others come between.
async fn increment(node: &Node, key: &str) {
    loop {
        let before = node.get(key).await;
        let value = before.as_ref().map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse::<u64>().unwrap());
        let subject = Subject::ModRevision(before.map_or(0, |kv| kv.mod_revision));
        let is_same = Compare { keys: KeyRange::One(key.to_owned().into()), subject, relation: Relation::Equal };
        let txn = Txn { compares: vec![is_same], success: vec![put(key, &(value + 1).to_string())], ..Txn::default() };
        if let OpResult::Txn { succeeded: true, .. } = node.write(Op::Txn(txn)).await.unwrap().result {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_see_each_other_at_once_and_lose_nothing() {
    let world = World::new(Engine::Postgres);
    let nodes = [world.node().await, world.node().await, world.node().await];
    let mut watcher =
        nodes[2].coordination.watch(&nodes[2].project, KeyRange::prefix("n"), 0, Filter::default()).await.unwrap();
    let tasks: Vec<_> = nodes
        .iter()
        .flat_map(|node| [node.clone(), node.clone()])
        .map(|node| {
            tokio::spawn(async move {
                for _ in 0..20 {
                    increment(&node, "n").await;
                }
            })
        })
        .collect();
    let mut seen = 0;
    while seen < 120 {
        for batch in watcher.next().await.unwrap() {
            seen += 1;
            assert_eq!(batch.events[0].kv.value, seen.to_string().as_bytes(), "every value once, in order");
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Written here, read there, with nothing in between.
    for n in 0..20 {
        let (here, there) = (&nodes[n % 3], &nodes[(n + 1) % 3]);
        here.put("x", &n.to_string()).await;
        assert_eq!(there.get("x").await.unwrap().value, n.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fell_behind_what_was_given_up_begins_anew() {
    let world = World::new(Engine::Postgres);
    let (quick, slow) = (world.node().await, world.node().await);
    slow.put("gone", "1").await;
    slow.put("stays", "1").await;
    let mut watcher = slow.coordination.watch(&slow.project, KeyRange::prefix(""), 3, Filter::default()).await.unwrap();
    assert_eq!(watcher.next().await.unwrap().len(), 1);
    // A node of a project that it holds in memory and does not follow: its writer has stopped.
    slow.lifecycle.shutdown(Duration::from_secs(10)).await;
    quick.write(crate::world::delete("gone", "")).await.unwrap();
    for n in 0..30 {
        quick.put("stays", &n.to_string()).await;
    }
    quick.coordination.compact(&quick.project, 20).await.unwrap();
    quick.coordination.sweep().await;
    let lifecycle = kernel::Lifecycle::new(kernel::Clock::system(), kernel::Rng::seeded(3));
    slow.coordination.start(&lifecycle.tasks(kernel::Stage::Blocks));
    assert_eq!(slow.get("gone").await, None);
    assert_eq!(slow.get("stays").await, quick.get("stays").await);
    assert_eq!(watcher.next().await.unwrap_err(), coordination::Error::Compacted(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_kept_alive_on_one_node_is_not_ended_by_another() {
    let world = World::new(Engine::Postgres);
    let (one, two) = (world.node().await, world.node().await);
    let lease = one.coordination.grant(&one.project, 0, 10).await.unwrap().result;
    one.put_with("held", lease.id).await.unwrap();
    for _ in 0..20 {
        world.sim.advance(Duration::from_secs(5));
        one.coordination.keep_alive(&one.project, lease.id).await.unwrap();
        assert!(two.get("held").await.is_some());
    }
    one.stop().await;
    testkit::eventually(Duration::from_secs(30), "the other node ends it", async || {
        world.sim.advance(Duration::from_secs(1));
        two.get("held").await.is_none()
    })
    .await;
}
