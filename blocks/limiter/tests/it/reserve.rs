//! Reserving and settling, in process and on Redis.

use std::time::Duration;

use limiter::{Error, ReservationToken};
use serde_json::json;

use crate::world::{Engine, Node, World, check, descriptor, eventually, on_both, principal, project, rules};

on_both!(
    the_difference_is_charged_or_given_back_once,
    a_request_stays_a_request_whatever_its_tokens_were,
    places_are_held_and_given_back,
    a_token_works_for_its_project_and_as_it_is,
    what_shadows_refuse_is_not_given_back,
    two_that_settle_at_once_settle_once,
);

const LEASE: Duration = Duration::from_mins(1);

fn window(name: &str, limit: u64) -> serde_json::Value {
    json!({
        "name": name, "keys": [{ "key": "user" }],
        "limit": { "algorithm": "fixed_window", "limit": limit, "window": "365d" },
    })
}

impl Node {
    async fn reserve(&self, entries: &[(&str, &str)], cost: u64) -> Option<ReservationToken> {
        let descriptors = [descriptor(entries)];
        let (outcome, token) = self.limiter.reserve(&project(), &check(&descriptors, cost), LEASE).await.unwrap();
        assert_eq!(outcome.is_allowed, token.is_some());
        token
    }

    async fn left(&self, entries: &[(&str, &str)]) -> Vec<u64> {
        let descriptors = [descriptor(entries)];
        let outcome = self.limiter.peek(&project(), &check(&descriptors, 0)).await.unwrap();
        outcome.decisions.iter().map(|d| d.remaining).collect()
    }
}

async fn the_difference_is_charged_or_given_back_once(_: &World, node: &Node) {
    node.put("api", json!([window("w", 100)])).await;
    let user = [("user", "a")];
    for (reserved, actual, left) in [(30, 10, 90), (10, 30, 60), (20, 20, 40), (40, 0, 40)] {
        let token = node.reserve(&user, reserved).await.unwrap();
        let settled = node.limiter.settle(&project(), token.as_str(), actual).await.unwrap();
        assert_eq!((settled.is_first, settled.reserved, settled.charged), (true, reserved, actual));
        assert_eq!(node.left(&user).await, [left], "{reserved} {actual}");
        // Again, with whatever cost.
        for again in [actual, 0, 100] {
            assert!(!node.limiter.settle(&project(), token.as_str(), again).await.unwrap().is_first);
        }
        assert_eq!(node.left(&user).await, [left], "{reserved} {actual}");
    }
    assert!(node.reserve(&user, 41).await.is_none(), "more than is left");
    // What was used beyond the limit is owed.
    let token = node.reserve(&user, 40).await.unwrap();
    node.limiter.settle(&project(), token.as_str(), 90).await.unwrap();
    assert_eq!(node.left(&user).await, [0]);
    assert!(!node.ask(&user).await.is_allowed);
    let wrong = node.limiter.settle(&project(), token.as_str(), 1_000_000_001).await;
    assert!(matches!(wrong, Err(Error::CheckInvalid { .. })));
}

async fn a_request_stays_a_request_whatever_its_tokens_were(_: &World, node: &Node) {
    let mut tokens = window("tokens", 1000);
    tokens["cost_from"] = json!("tokens");
    node.put("api", json!([window("requests", 10), tokens])).await;
    let token = node.reserve(&[("user", "a"), ("tokens", "500")], 1).await.unwrap();
    assert_eq!(node.left(&[("user", "a")]).await, [9, 500]);
    let settled = node.limiter.settle(&project(), token.as_str(), 123).await.unwrap();
    assert_eq!((settled.reserved, settled.charged), (500, 123));
    assert_eq!(node.left(&[("user", "a")]).await, [9, 877]);
}

async fn places_are_held_and_given_back(_: &World, node: &Node) {
    let place = json!({ "algorithm": "concurrency", "limit": 2, "lease": "10s" });
    let mut places = window("places", 2);
    places["limit"] = place;
    node.put("api", json!([window("w", 100), places])).await;
    let user = [("user", "a")];
    let first = node.reserve(&user, 5).await.unwrap();
    let second = node.reserve(&user, 5).await.unwrap();
    assert_eq!(node.left(&user).await, [90, 0]);
    assert!(node.reserve(&user, 5).await.is_none());
    assert_eq!(node.left(&user).await, [90, 0], "all or none");
    let checked = node.check(&[descriptor(&user)], 1).await;
    assert!(matches!(checked, Err(Error::CheckInvalid { .. })), "nobody could give the place back");
    node.limiter.settle(&project(), first.as_str(), 7).await.unwrap();
    assert_eq!(node.left(&user).await, [88, 1]);
    node.limiter.settle(&project(), first.as_str(), 7).await.unwrap();
    assert_eq!(node.left(&user).await, [88, 1], "a place is given back once");
    let third = node.reserve(&user, 5).await.unwrap();
    assert!(node.reserve(&user, 5).await.is_none());
    for token in [second, third] {
        node.limiter.settle(&project(), token.as_str(), 5).await.unwrap();
    }
    assert_eq!(node.left(&user).await, [83, 2]);
}

async fn a_token_works_for_its_project_and_as_it_is(world: &World, node: &Node) {
    world.access.create_project(&principal("default"), "acme", None).await.unwrap();
    node.put("api", json!([window("w", 100)])).await;
    let user = [("user", "a")];
    let token = node.reserve(&user, 30).await.unwrap().as_str().to_owned();
    let acme = kernel::ProjectId::parse("acme").unwrap();
    let wrong = |result: Result<_, Error>| assert!(matches!(result, Err(Error::ReservationInvalid)), "{result:?}");
    wrong(node.limiter.settle(&acme, &token, 0).await);
    for forged in ["", "x", "AAAA", &token[1..], &format!("{token}A"), &"A".repeat(5000)] {
        wrong(node.limiter.settle(&project(), forged, 0).await);
    }
    // Every single character.
    for at in 0..token.len() {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        wrong(node.limiter.settle(&project(), &forged, 0).await);
    }
    assert_eq!(node.left(&user).await, [70]);
    // Another node settles it; its time over, nobody does.
    let other = world.node().await;
    assert!(other.limiter.settle(&project(), &token, 0).await.unwrap().is_first);
    assert_eq!(node.left(&user).await, [100]);
    let late = node.reserve(&user, 30).await.unwrap();
    world.sim.advance(LEASE);
    assert!(matches!(node.limiter.settle(&project(), late.as_str(), 0).await, Err(Error::ReservationExpired)));
    assert_eq!(node.left(&user).await, [70], "what was reserved stays charged");
    for lease in [Duration::ZERO, Duration::from_millis(999), limiter::MAX_LEASE + Duration::from_secs(1)] {
        let descriptors = [descriptor(&user)];
        let refused = node.limiter.reserve(&project(), &check(&descriptors, 1), lease).await;
        assert!(matches!(refused, Err(Error::CheckInvalid { field, .. }) if field == "/lease_ms"));
    }
}

async fn what_shadows_refuse_is_not_given_back(_: &World, node: &Node) {
    let mut shadow = window("shadow", 10);
    shadow["mode"] = json!("shadow");
    node.put("api", json!([window("w", 100), shadow])).await;
    let user = [("user", "a")];
    let fits = node.reserve(&user, 8).await.unwrap();
    // The shadow refuses: nothing is charged there, and nothing may come back.
    let beyond = node.reserve(&user, 8).await.unwrap();
    node.limiter.settle(&project(), beyond.as_str(), 0).await.unwrap();
    assert_eq!(node.left(&user).await, [92, 2]);
    node.limiter.settle(&project(), fits.as_str(), 0).await.unwrap();
    assert_eq!(node.left(&user).await, [100, 10]);
}

async fn two_that_settle_at_once_settle_once(world: &World, node: &Node) {
    node.put("api", json!([window("w", 1000)])).await;
    let other = world.node().await;
    let (user, project) = ([("user", "a")], project());
    for i in 1..20 {
        let token = node.reserve(&user, 10).await.unwrap();
        let (a, b) = tokio::join!(
            node.limiter.settle(&project, token.as_str(), 0),
            other.limiter.settle(&project, token.as_str(), 0)
        );
        assert!(a.unwrap().is_first != b.unwrap().is_first, "{i}");
    }
    assert_eq!(node.left(&user).await, [1000]);
}

#[tokio::test]
async fn a_place_that_nobody_gives_back_is_free_after_the_lease_of_its_rule() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let place = json!({ "algorithm": "concurrency", "limit": 1, "lease": "10s" });
    node.put("api", json!([{ "name": "c", "limit": place }])).await;
    let lost = node.reserve(&[], 1).await.unwrap();
    assert!(node.reserve(&[], 1).await.is_none());
    world.sim.advance(Duration::from_secs(10) - Duration::from_millis(1));
    assert!(node.reserve(&[], 1).await.is_none());
    world.sim.advance(Duration::from_millis(1));
    let next = node.reserve(&[], 1).await.unwrap();
    // Who comes too late takes nobody's place away.
    node.limiter.settle(&project(), lost.as_str(), 1).await.unwrap();
    assert!(node.reserve(&[], 1).await.is_none());
    node.limiter.settle(&project(), next.as_str(), 1).await.unwrap();
    assert!(node.reserve(&[], 1).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_settling_says_so_and_works_later() {
    let mut redis = testkit::Redis::start();
    let world = World::on_redis(&redis).await;
    let node = world.node().await;
    let mut rule = window("w", 100);
    rule["when_down"] = json!("local");
    node.limiter
        .put_rules(&principal("default"), "api", rules(json!([rule])), "", limiter::Expected::Any)
        .await
        .unwrap();
    let user = [("user", "a")];
    let token = node.reserve(&user, 30).await.unwrap();
    redis.kill();
    let away = node.limiter.settle(&project(), token.as_str(), 0).await;
    assert!(matches!(away, Err(Error::Unavailable)), "{away:?}");
    // What is reserved meanwhile is settled where it was counted.
    let here = node.reserve(&user, 60).await.unwrap();
    assert!(node.reserve(&user, 60).await.is_none());
    assert!(node.limiter.settle(&project(), here.as_str(), 10).await.unwrap().is_first);
    assert!(!node.limiter.settle(&project(), here.as_str(), 10).await.unwrap().is_first);
    assert_eq!(node.left(&user).await, [90]);
    redis.restart();
    // It began empty; there is nothing to give back, and that is no failure.
    eventually("settled", || async { node.limiter.settle(&project(), token.as_str(), 0).await.is_ok() }).await;
    assert_eq!(node.left(&user).await, [100]);
}
