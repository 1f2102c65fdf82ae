//! A server that is stopped, stalls, comes back or never was there; each use does what it declared.

use std::time::Duration;

use bytes::Bytes;
use kernel::{Clock, Lifecycle, Rng, Stage};
use memory::{Error, Event, Health, Memory, OnDown, RedisOptions, Space, Ttl, Use};
use testkit::{CutProxy, Redis, eventually};

use crate::support::{Engine, PATIENCE, Soon, key};

const OPEN: Use = Use { name: "test.open", on_down: OnDown::Open };
const CLOSED: Use = Use { name: "test.closed", on_down: OnDown::Closed };
const LOCAL: Use = Use { name: "test.local", on_down: OnDown::BoundedLocal };
const LONG: Option<Duration> = Some(Duration::from_hours(1));

/// The time-out of production; everything about it is measured against a multiple, since tests share the machine.
fn options(url: String) -> RedisOptions {
    RedisOptions { check_interval: Duration::from_millis(100), ..RedisOptions::single(url) }
}

async fn await_health(memory: &Memory, serving: bool) {
    let what = if serving { "serving" } else { "degraded" };
    eventually(PATIENCE, what, async || (memory.health() == Health::Serving) == serving).await;
}

#[allow(clippy::needless_pass_by_value, reason = "reads better where it is used")]
fn unavailable<T: std::fmt::Debug>(r: Result<T, Error>) {
    assert!(matches!(r, Err(Error::Unavailable(_))), "{r:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_use_does_what_it_declared_while_redis_is_down_and_rejoins() {
    let mut server = Redis::start();
    let e = Engine::exactly(options(server.url()));
    let (open, closed, local) = (e.memory.with(OPEN), e.memory.with(CLOSED), e.memory.with(LOCAL));
    let k = key(&["outage"]);
    e.memory.ping().await.unwrap();
    for space in [&open, &closed, &local] {
        space.set(&k, "kept", LONG).await.unwrap();
        assert_eq!(space.get(&k).await.unwrap(), Some(Bytes::from("kept")));
    }

    server.stop();
    await_health(&e.memory, false).await;
    let before = e.memory.stats();

    // Open: as an empty plane that forgets at once.
    open.set(&k, "lost", LONG).await.unwrap();
    assert_eq!(open.get(&k).await.unwrap(), None);
    assert!(open.set_if_absent(&k, "x", LONG).await.unwrap());
    assert!(open.set_if_absent(&k, "x", LONG).await.unwrap());
    assert_eq!(open.increment(&k, 3, LONG).await.unwrap(), 3);
    assert_eq!(open.increment(&k, 3, LONG).await.unwrap(), 3);
    assert_eq!(open.set_members(&k).await.unwrap(), Vec::<Bytes>::new());
    assert_eq!(open.ttl(&k).await.unwrap(), Ttl::Absent);
    assert!(open.join(&k, "ann", Duration::from_secs(9)).await.unwrap());
    open.publish(&k, "nobody").await.unwrap();
    // Limits hold all the same.
    assert!(matches!(open.set(&k, vec![0; memory::MAX_VALUE_BYTES + 1], None).await, Err(Error::TooLarge { .. })));

    // Closed: a typed refusal.
    unavailable(closed.get(&k).await);
    unavailable(closed.set(&k, "x", None).await);
    unavailable(closed.publish(&k, "x").await);
    unavailable(closed.subscribe(&k).await.map(drop));
    unavailable(e.memory.ping().await);

    // Bounded local: this process alone, from empty.
    assert_eq!(local.get(&k).await.unwrap(), None);
    let n = key(&["outage", "n"]);
    assert_eq!(local.increment(&n, 2, LONG).await.unwrap(), 2);
    assert_eq!(local.increment(&n, 2, LONG).await.unwrap(), 4);

    // Counted, by use.
    let after = e.memory.stats();
    let of = |stats: &memory::Stats, name: &str| *stats.uses.iter().find(|u| u.declared.name == name).unwrap();
    assert_eq!(of(&after, OPEN.name).opened_count - of(&before, OPEN.name).opened_count, 10);
    assert_eq!(of(&after, CLOSED.name).refused_count - of(&before, CLOSED.name).refused_count, 4);
    assert_eq!(of(&after, LOCAL.name).local_count - of(&before, LOCAL.name).local_count, 3);
    assert_eq!(after.local.entry_count, 1);

    server.restart();
    await_health(&e.memory, true).await;
    // The server is asked again, by everybody, and what stood in is gone: a next outage begins from empty.
    assert_eq!(local.get(&n).await.unwrap(), None);
    assert_eq!(local.increment(&n, 1, LONG).await.unwrap(), 1);
    assert_eq!(closed.get(&n).await.unwrap(), Some(Bytes::from("1")));
    assert_eq!(e.memory.stats().local.entry_count, 0);
    assert_eq!(e.memory.stats().connect_count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_told_of_the_gap_and_goes_on() {
    let mut server = Redis::start();
    let e = Engine::exactly(options(server.url()));
    let space = e.memory.with(CLOSED);
    let (news, quiet) = (key(&["news"]), key(&["quiet"]));
    let mut reader = space.subscribe(&news).await.unwrap();
    let mut other = space.subscribe(&quiet).await.unwrap();
    space.publish(&news, "before").await.unwrap();
    assert_eq!(reader.soon().await, Some(Event::Message("before".into())));

    server.kill();
    eventually(PATIENCE, "the loss is seen", async || !reader.is_live()).await;
    // Who declared it may subscribe meanwhile, and hears its own process.
    let local = e.memory.with(LOCAL);
    let mut late = local.subscribe(&news).await.unwrap();
    await_health(&e.memory, false).await;
    local.publish(&news, "here").await.unwrap();
    assert_eq!(late.soon().await, Some(Event::Message("here".into())));

    server.restart();
    // Every reader, also of a channel on which nothing happened: nobody can know that.
    for subscription in [&mut other, &mut late] {
        assert_eq!(subscription.soon().await, Some(Event::Gap));
    }
    while reader.soon().await.unwrap() != Event::Gap {}
    await_health(&e.memory, true).await;
    space.publish(&news, "after").await.unwrap();
    for subscription in [&mut reader, &mut late] {
        assert_eq!(subscription.soon().await, Some(Event::Message("after".into())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stalls_is_noticed_by_the_time_out_and_nothing_queues() {
    let server = Redis::start();
    let proxy = CutProxy::to_port(server.port());
    let e = Engine::exactly(RedisOptions {
        max_in_flight: 4,
        check_interval: Duration::from_hours(1), // only trouble makes it look
        ..options(format!("redis://127.0.0.1:{}", proxy.port()))
    });
    let space = e.memory.with(CLOSED);
    e.memory.ping().await.unwrap();
    await_health(&e.memory, true).await;

    proxy.stall();
    let clock = Clock::system();
    let began = clock.monotonic();
    let all = (0..64).map(|i| {
        let space = space.clone();
        async move { space.get(&key(&["stall", &i.to_string()])).await }
    });
    let answers = futures_util::future::join_all(all).await;
    // Four waited for the time-out; the others were refused at once, and none was kept.
    let refused = answers.iter().filter(|a| **a == Err(Error::Overloaded)).count();
    assert_eq!(refused, 60, "{answers:?}");
    assert_eq!(e.memory.stats().in_flight_count, 0);
    await_health(&e.memory, false).await;
    let took = clock.monotonic().checked_sub(began).unwrap();
    assert!(took < Duration::from_secs(5), "two time-outs of 250 ms took {took:?}");

    // Known to be down: at once.
    let began = clock.monotonic();
    for _ in 0..100 {
        unavailable(space.get(&key(&["stall"])).await);
    }
    let took = clock.monotonic().checked_sub(began).unwrap();
    assert!(took < Duration::from_secs(5), "100 refusals took {took:?}, which would be 25 s if each waited");

    proxy.heal();
    await_health(&e.memory, true).await;
    space.set(&key(&["stall"]), "v", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_yet_degrades_and_does_not_keep_from_starting() {
    let mut server = Redis::start();
    let url = server.url();
    server.stop();
    let e = Engine::exactly(options(url));
    let (open, closed) = (e.memory.with(OPEN), e.memory.with(CLOSED));
    let k = key(&["late"]);
    unavailable(closed.get(&k).await);
    assert_eq!(open.get(&k).await.unwrap(), None);
    assert!(matches!(e.memory.health(), Health::Degraded { .. }));
    server.restart();
    await_health(&e.memory, true).await;
    closed.set(&k, "v", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_survive_that_the_server_forgets_them_and_a_full_server_is_typed() {
    let server = Redis::start();
    let e = Engine::exactly(options(server.url()));
    let (closed, open) = (e.memory.with(CLOSED), e.memory.with(OPEN));
    let k = key(&["scripts"]);
    assert_eq!(closed.increment(&k, 1, LONG).await.unwrap(), 1);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(closed.increment(&k, 1, LONG).await.unwrap(), 2, "once, although it was sent twice");

    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = key(&["full"]);
    assert_eq!(closed.set(&full, "v", None).await, Err(Error::Full));
    assert_eq!(closed.set_add(&full, ["v"], None).await, Err(Error::Full));
    open.set(&full, "v", None).await.unwrap();
    assert_eq!(closed.get(&k).await.unwrap(), Some(Bytes::from("2")), "reading goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_mid_use_is_made_anew_and_counts_nothing_twice() {
    let server = Redis::start();
    let proxy = CutProxy::to_port(server.port());
    let e = Engine::exactly(options(format!("redis://127.0.0.1:{}", proxy.port())));
    let space: Space = e.memory.with(CLOSED);
    let k = key(&["cut"]);
    e.memory.ping().await.unwrap();
    let mut acknowledged = 0;
    let mut unknown = 0;
    for i in 0..300 {
        if i % 50 == 25 {
            proxy.cut_once();
        }
        match space.increment(&k, 1, LONG).await {
            Ok(_) => acknowledged += 1,
            Err(Error::Unavailable(_)) => {
                unknown += 1;
                eventually(PATIENCE, "a new connection", async || e.memory.ping().await.is_ok()).await;
            }
            Err(e) => panic!("{e}"),
        }
    }
    eventually(PATIENCE, "a connection", async || e.memory.ping().await.is_ok()).await;
    let sum: i64 = String::from_utf8(space.get(&k).await.unwrap().unwrap().to_vec()).unwrap().parse().unwrap();
    assert!(unknown > 0, "the cuts were felt");
    assert!((acknowledged..=acknowledged + unknown).contains(&sum), "{acknowledged} ≤ {sum} ≤ +{unknown}");
}

#[tokio::test]
async fn shutdown_ends_subscriptions_and_bad_options_are_refused() {
    let server = Redis::start();
    let (clock, rng) = (Clock::system(), Rng::system());
    let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
    let tasks = lifecycle.tasks(Stage::Planes);
    let memory = Memory::redis(options(server.url()), clock.clone(), rng.clone(), &tasks).unwrap();
    let mut reader = memory.with(CLOSED).subscribe(&key(&["end"])).await.unwrap();
    let report = lifecycle.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.aborted, Vec::<&str>::new());
    assert_eq!(reader.soon().await, None);

    for url in ["nonsense", "http://x", "redis://u:geheim@[bad", ""] {
        let refused = Memory::redis(RedisOptions::single(url), clock.clone(), rng.clone(), &tasks);
        let Err(Error::Config(text)) = refused else { panic!("{url} was taken") };
        assert!(!text.contains("geheim"), "{text}");
    }
    let two = RedisOptions {
        urls: vec![kernel::Secret::new("redis://a"), kernel::Secret::new("redis://b")],
        ..options(server.url())
    };
    assert!(matches!(Memory::redis(two, clock, rng, &tasks), Err(Error::Config(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_and_a_server_without_it_is_unavailable() {
    let server = Redis::start();
    let (clock, rng) = (Clock::system(), Rng::system());
    let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
    let tasks = lifecycle.tasks(Stage::Planes);
    let url = server.url().replace("redis://", "rediss://");
    let memory = Memory::redis(options(url), clock, rng, &tasks).unwrap();
    eventually(
        PATIENCE,
        "the handshake fails",
        async || matches!(memory.health(), Health::Degraded { reason } if reason != "connecting"),
    )
    .await;
    unavailable(memory.with(CLOSED).get(&key(&["tls"])).await);
    // A missing cryptography provider would panic here.
    assert!(lifecycle.stats().values().all(|s| s.panic_count == 0), "{:?}", lifecycle.stats());
}
