//! Several nodes over one PostgreSQL and one Redis.

use ::http::Method;
use kernel::{ProjectId, Secret};
use shortener::model::ClickCounts;

use crate::world::{Engine, World, connect, eventually, principal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_invalidation_costs_no_more_than_the_maximum_age() {
    // Two nodes whose memory planes do not know one another: every invalidation is lost.
    let world = World::new(Engine::Postgres).await;
    let (one, two) = (world.node().await, world.apart().await);
    let code = one.shorten("https://example.com/").await;
    assert_eq!(two.status(&code).await, 302);
    one.shortener.delete(&principal("default"), &code, None).await.unwrap();
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
    proxy.cut_after(b"COMMIT");
    let first = shaky.shortener.flush_clicks().await;
    assert!(first.is_err(), "the answer was lost");
    eventually("the connection is made anew", || async { shaky.shortener.flush_clicks().await.is_ok() }).await;
    let seen = node.shortener.get(&ProjectId::default_project(), &code).await.unwrap();
    assert_eq!(seen.total, ClickCounts { people: 5, bots: 0 });
}
