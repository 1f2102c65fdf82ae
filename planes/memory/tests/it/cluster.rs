//! What only a Cluster does: slots that move, a node that is lost.

use std::time::Duration;

use bytes::Bytes;
use memory::{Error, Event, Health, OnDown, RedisOptions, Use};
use testkit::{Redis, eventually};

use crate::support::{Engine, PATIENCE, Soon, key};

const CLOSED: Use = Use { name: "test.closed", on_down: OnDown::Closed };
const LONG: Option<Duration> = Some(Duration::from_hours(1));

/// Which of three nodes the Cluster began with for a slot.
fn owner(slot: usize) -> usize {
    if slot <= 5460 {
        0
    } else if slot <= 10922 {
        1
    } else {
        2
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_on_the_move_is_followed() {
    let mut cluster = Redis::cluster(3);
    let e = Engine::on(RedisOptions::cluster(cluster.urls()));
    let space = e.memory.with(CLOSED);
    let (k, n) = (key(&["moving"]), key(&["moving-n"]));
    for (key, is_counter) in [(&k, false), (&n, true)] {
        let nodes = cluster.nodes();
        let slot = nodes[0].command(&["CLUSTER", "KEYSLOT", key.as_str()]).trim_start_matches(':').to_owned();
        let from = owner(slot.parse().unwrap());
        let to = (from + 1) % 3;
        let id = |node: &Redis| node.command(&["CLUSTER", "MYID"]);
        let (from_id, to_id) = (id(&nodes[from]), id(&nodes[to]));
        let set_slot = |node: &Redis, how: &str, id: &str| {
            assert_eq!(node.command(&["CLUSTER", "SETSLOT", &slot, how, id]), "+OK");
        };
        set_slot(&nodes[to], "IMPORTING", &from_id);
        set_slot(&nodes[from], "MIGRATING", &to_id);
        // The old node has no such key and says where to ask.
        if is_counter {
            assert_eq!(space.increment(key, 1, LONG).await.unwrap(), 1);
            assert_eq!(space.increment(key, 1, LONG).await.unwrap(), 2);
        } else {
            space.set(key, "v", LONG).await.unwrap();
            assert_eq!(space.get(key).await.unwrap(), Some(Bytes::from("v")));
        }
        assert_eq!(nodes[to].command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), ":1", "it is on the new node");
        // And once it has moved for good, the new node alone serves it.
        for node in [to, from, 3 - to - from] {
            set_slot(&nodes[node], "NODE", &to_id);
        }
        if is_counter {
            assert_eq!(space.increment(key, 1, LONG).await.unwrap(), 3);
        } else {
            assert_eq!(space.get(key).await.unwrap(), Some(Bytes::from("v")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_degrades_and_a_message_reaches_readers_on_any_node() {
    let mut cluster = Redis::cluster(3);
    let options = RedisOptions { check_interval: Duration::from_millis(100), ..RedisOptions::cluster(cluster.urls()) };
    let mut back = options.clone();
    back.urls.rotate_left(1);
    let (e, other) = (Engine::exactly(options), Engine::on(back));
    let space = e.memory.with(CLOSED);
    // Two processes that listen through different nodes hear one another.
    let news = key(&["news"]);
    let mut reader = other.memory.with(CLOSED).subscribe(&news).await.unwrap();
    e.memory.ping().await.unwrap();
    space.publish(&news, "hello").await.unwrap();
    assert_eq!(reader.soon().await, Some(Event::Message("hello".into())));

    let keys: Vec<_> = (0..30).map(|i| key(&["lost", &i.to_string()])).collect();
    for k in &keys {
        eventually(PATIENCE, "written", async || space.set(k, "v", LONG).await.is_ok()).await;
    }
    cluster.nodes()[2].kill();
    eventually(PATIENCE, "degraded", async || e.memory.health() != Health::Serving).await;
    // Whatever is on the lost node fails, typed and in bounded time.
    eventually(PATIENCE, "an operation on the lost node is refused", async || {
        let mut refused = 0;
        for k in &keys {
            match space.get(k).await {
                Ok(_) => {}
                Err(Error::Unavailable(_)) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
        refused > 0
    })
    .await;
    cluster.nodes()[2].restart();
    cluster.await_ok();
    eventually(PATIENCE, "serving", async || e.memory.health() == Health::Serving).await;
    for k in &keys {
        eventually(PATIENCE, "written again", async || space.set(k, "v", LONG).await.is_ok()).await;
    }
}
