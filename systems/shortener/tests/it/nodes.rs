//! Several nodes over one PostgreSQL and one Redis.

use std::time::Duration;

use ::http::Method;
use database::Db;
use kernel::{Clock, ProjectId, Rng, Secret, Stage};
use memory::{Memory, RedisOptions};
use shortener::model::ClickCounts;

use crate::world::{Engine, Node, World, connect, eventually, principal};

/// A world on PostgreSQL and nodes that share it and a Redis, each with connections of its own.
struct House {
    world: World,
    redis: testkit::Redis,
    url: Secret,
}

impl House {
    async fn new() -> Self {
        let url = testkit::shared_postgres().fresh_database();
        let world = World::on_postgres(Secret::new(url.clone()), |_| {}).await;
        Self { world, redis: testkit::Redis::start(), url: Secret::new(url) }
    }

    async fn node(&self) -> Node {
        let db: Db = connect(self.url.clone(), &self.world.lifecycle).await;
        let options = RedisOptions::single(self.redis.url());
        let planes = self.world.lifecycle.tasks(Stage::Planes);
        let memory = Memory::redis(options, Clock::system(), Rng::system(), &planes).unwrap();
        let node = self.world.node_on(db, memory).await;
        node.shortener.start(&self.world.lifecycle.tasks(Stage::Systems));
        self.tick_until("the node hears", async || !node.shortener.is_degraded()).await;
        node
    }

    /// Lets the simulated time of the nodes go on, so that their background work does, until something is so.
    async fn tick_until(&self, what: &str, mut check: impl AsyncFnMut() -> bool) {
        let clock = Clock::system();
        let until = clock.monotonic() + Duration::from_secs(20);
        while !check().await {
            assert!(clock.monotonic() < until, "{what}: not within twenty seconds");
            clock.sleep(Duration::from_millis(5)).await;
            self.world.sim.advance(Duration::from_millis(5));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_on_one_node_is_heard_by_the_others() {
    let house = House::new().await;
    let (one, two) = (house.node().await, house.node().await);
    let code = one.shorten("https://example.com/").await;
    assert_eq!((one.status(&code).await, two.status(&code).await), (302, 302));
    one.shortener.delete(&principal("default"), None, &code, None).await.unwrap();
    assert_eq!(one.status(&code).await, 404, "at once where it was deleted");
    house
        .tick_until("the other node heard of it", async || {
            two.metric("cache_invalidations_total{outcome=\"remote\"}") > 0
        })
        .await;
    assert_eq!(two.status(&code).await, 404);
    // An alias that is known as unknown elsewhere is forgotten when it is made.
    assert_eq!(two.status("fresh").await, 404);
    let heard = two.metric("cache_invalidations_total{outcome=\"remote\"}");
    one.alias("fresh", "https://example.com/").await.unwrap();
    house.tick_until("heard", async || two.metric("cache_invalidations_total{outcome=\"remote\"}") > heard).await;
    assert_eq!(two.status("fresh").await, 302);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takedowns_and_blocks_reach_every_node() {
    let house = House::new().await;
    let (one, two) = (house.node().await, house.node().await);
    let code = one.shorten("https://www.evil.example/").await;
    assert_eq!((one.status(&code).await, two.status(&code).await), (302, 302));
    let (moderator, place) = (principal("default"), shortener::LinkPlace { host: None, code: &code });
    one.shortener.take_down(&moderator, place, shortener::model::Takedown::Abuse, "phishing").await.unwrap();
    assert_eq!(one.status(&code).await, 403, "at once where it was taken down");
    house.tick_until("the other node heard of it", async || two.status(&code).await == 403).await;
    one.shortener.restore(&moderator, place, "").await.unwrap();
    house.tick_until("the other node heard of it", async || two.status(&code).await == 302).await;
    let block = one.shortener.add_block(&moderator, "evil.example", "phishing").await.unwrap();
    house.tick_until("the other node heard of the block", async || two.status(&code).await == 403).await;
    one.shortener.remove_block(&moderator, block.id).await.unwrap();
    house.tick_until("the other node heard of its end", async || two.status(&code).await == 302).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_deleted_link_is_followed_for_two_seconds_at_most() {
    let mut house = House::new().await;
    let (one, two) = (house.node().await, house.node().await);
    let code = one.shorten("https://example.com/").await;
    assert_eq!(two.status(&code).await, 302);
    house.redis.stop();
    house
        .tick_until("the nodes know that they hear nothing", async || {
            one.shortener.is_degraded() && two.shortener.is_degraded()
        })
        .await;
    // Loaded while degraded, so that it is as fresh as it can be.
    assert_eq!(two.status(&code).await, 302);
    one.shortener.delete(&principal("default"), None, &code, None).await.unwrap();
    assert_eq!(one.status(&code).await, 404);
    house.world.sim.advance(house.world.config.cache_max_age_degraded);
    assert_eq!(two.status(&code).await, 404);
    // Creations go on meanwhile.
    let made = two.shorten("https://example.com/").await;
    assert_eq!(one.status(&made).await, 302);
    // When Redis is back, what was missed is made good.
    house.redis.restart();
    house
        .tick_until("the nodes hear again", async || !one.shortener.is_degraded() && !two.shortener.is_degraded())
        .await;
    let gaps = two.metric("cache_invalidations_total{outcome=\"all\"}");
    assert!(gaps >= 1, "a gap was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_invalidation_costs_no_more_than_the_maximum_age() {
    // Two nodes whose memory planes do not know one another: every invalidation is lost.
    let world = World::new(Engine::Postgres).await;
    let (one, two) = (world.node().await, world.apart().await);
    let code = one.shorten("https://example.com/").await;
    assert_eq!(two.status(&code).await, 302);
    one.shortener.delete(&principal("default"), None, &code, None).await.unwrap();
    assert_eq!(two.status(&code).await, 302, "it was told nothing");
    world.sim.advance(world.config.cache_max_age);
    assert_eq!(two.status(&code).await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clicks_whose_commit_was_in_doubt_count_once() {
    let world = World::new(Engine::Postgres).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    // The same clicks, written over a connection that is cut between COMMIT and its answer.
    let port: u16 = world.url.as_ref().unwrap().port().unwrap();
    let proxy = testkit::CutProxy::to_port(port);
    let mut through = world.url.clone().unwrap();
    through.set_port(Some(proxy.port())).unwrap();
    let db = connect(Secret::new(through.to_string()), &world.lifecycle).await;
    let shaky = world.node_on(db, world.memory.clone()).await;
    for _ in 0..5 {
        let got = shaky.visit_as(Method::GET, &format!("/{code}"), "curl/8").await;
        assert_eq!(got.status, 302);
    }
    // With its end: BEGIN speaks of READ COMMITTED.
    proxy.cut_after(b"COMMIT\0");
    let first = shaky.shortener.flush_clicks().await;
    assert_eq!(first.unwrap_err().code.name, "DATABASE_OUTCOME_UNKNOWN");
    assert_eq!(proxy.trap_count(), 1);
    eventually("the connection is made anew", || async { shaky.shortener.flush_clicks().await.is_ok() }).await;
    let seen = node.shortener.get(&ProjectId::default_project(), &code).await.unwrap();
    assert_eq!(seen.total, ClickCounts { people: 5, bots: 0 });

    // The same when it is the append to the log whose answer is lost: only the segment names the project.
    shaky.visit_as(Method::GET, &format!("/{code}"), "curl/8").await;
    proxy.cut_after(b"default");
    assert_eq!(shaky.shortener.log_clicks().await.unwrap_err().code.name, "DATABASE_OUTCOME_UNKNOWN");
    assert_eq!((proxy.trap_count(), shaky.shortener.pending_clicks()), (2, 1));
    eventually("the connection is made anew", || async { shaky.shortener.flush_clicks().await.is_ok() }).await;
    let seen = node.shortener.get(&ProjectId::default_project(), &code).await.unwrap();
    assert_eq!(seen.total, ClickCounts { people: 6, bots: 0 });
    assert_eq!(shaky.shortener.pending_clicks(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_over_all_nodes() {
    let house = House::new().await;
    let mut world =
        House { world: World::on_postgres(house.url.clone(), |c| c.creation_limit_per_minute = 10).await, ..house };
    let (one, two) = (world.node().await, world.node().await);
    let minute = || Clock::system().now().floor(Duration::from_mins(1));
    let (mut made, before) = (0, minute());
    for i in 0..40 {
        let node = if i % 2 == 0 { &one } else { &two };
        made += u32::from(node.create(crate::world::link("https://example.com/")).await.is_ok());
    }
    // Redis goes by its own clock, whose minute may have turned meanwhile.
    assert!(made == 10 || (minute() != before && made <= 20), "{made}");
    // Without Redis each node counts for itself, from nothing.
    world.redis.stop();
    // A refusal is remembered for a second.
    world.world.sim.advance(Duration::from_secs(1));
    let mut made = 0;
    for i in 0..60 {
        let node = if i % 2 == 0 { &one } else { &two };
        made += u32::from(node.create(crate::world::link("https://example.com/")).await.is_ok());
    }
    assert_eq!(made, 20);
}
