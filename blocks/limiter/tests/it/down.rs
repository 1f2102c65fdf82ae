//! What limits do while Redis is away.

use limiter::Source;
use serde_json::{Value, json};

use crate::world::{Node, World, descriptor, eventually, project};

fn rule(name: &str, limit: u64, when_down: &str) -> Value {
    json!({
        "name": name, "keys": [{ "key": name }], "when_down": when_down,
        "limit": { "algorithm": "fixed_window", "limit": limit, "window": "365d" },
    })
}

async fn world() -> (testkit::Redis, World, Node) {
    let redis = testkit::Redis::start();
    let world = World::on_redis(&redis).await;
    let node = world.node().await;
    node.put("api", json!([rule("open", 3, "open"), rule("closed", 3, "closed"), rule("local", 3, "local")])).await;
    (redis, world, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_does_as_it_declares_and_it_shows() {
    let (mut redis, world, node) = world().await;
    for key in ["open", "closed", "local"] {
        assert_eq!(node.allowed(&[(key, "a")], 3).await, 3);
    }
    assert_eq!((node.limiter.trouble(), node.limiter.stats(&project()).down_since), (None, None));
    redis.kill();
    for (key, allowed, source) in
        [("open", 9, Source::Open), ("closed", 0, Source::Closed), ("local", 3, Source::Fallback)]
    {
        assert_eq!(node.allowed(&[(key, "a")], 9).await, allowed, "{key}");
        let outcome = node.ask(&[(key, "a")]).await;
        assert_eq!((outcome.decisions.len(), outcome.decisions[0].source), (1, source));
        assert_eq!(outcome.is_allowed, key == "open");
        assert!(outcome.is_allowed || outcome.retry_after.is_some(), "{key}: there is a time to come back");
    }
    // A node beside it counts for itself.
    let other = world.node().await;
    assert_eq!(other.allowed(&[("local", "a")], 9).await, 3);
    let stats = node.limiter.stats(&project());
    assert_eq!(stats.down_since, Some(crate::world::START));
    assert!(node.limiter.trouble().unwrap().contains("Redis"));
    let by = |name: &str| stats.rules.iter().find(|r| &*r.rule == name).unwrap().by_source.clone();
    assert_eq!(by("open"), [(Source::Exact, 3, 0), (Source::Open, 10, 0)]);
    assert_eq!(by("closed"), [(Source::Exact, 3, 0), (Source::Closed, 0, 10)]);
    assert_eq!(by("local"), [(Source::Exact, 3, 0), (Source::Fallback, 3, 7)]);
    assert_eq!(node.metric("decisions_total{outcome=\"refused\",source=\"closed\"}"), 10);
    // Back: asked again; what was counted meanwhile is forgotten, and this Redis began empty.
    redis.restart();
    eventually("counted by Redis", || async { node.ask(&[("open", "b")]).await.decisions[0].source == Source::Exact })
        .await;
    assert_eq!(node.allowed(&[("local", "b")], 9).await, 3);
    eventually("well again", || async { node.limiter.trouble().is_none() }).await;
    assert_eq!(node.limiter.stats(&project()).down_since, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_closed_rule_refuses_is_charged_nowhere() {
    let (mut redis, _world, node) = world().await;
    redis.kill();
    let all = [descriptor(&[("open", "a"), ("closed", "a"), ("local", "a")])];
    for _ in 0..5 {
        let outcome = node.check(&all, 1).await.unwrap();
        assert!(!outcome.is_allowed);
        let told: Vec<_> = outcome.decisions.iter().map(|d| (&*d.rule, d.is_allowed, d.remaining)).collect();
        assert_eq!(told, [("open", true, 3), ("closed", false, 0), ("local", true, 3)]);
    }
    assert_eq!(node.allowed(&[("local", "a")], 9).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_refuses_nobody_then_either() {
    let (mut redis, _world, node) = world().await;
    let mut shadows = Vec::new();
    for when_down in ["open", "closed", "local"] {
        let mut shadow = rule(when_down, 2, when_down);
        shadow["mode"] = json!("shadow");
        shadows.push(shadow);
    }
    node.put("api", json!(shadows)).await;
    redis.kill();
    for _ in 0..5 {
        let outcome = node.ask(&[("open", "a"), ("closed", "a"), ("local", "a")]).await;
        assert!(outcome.is_allowed && outcome.retry_after.is_none());
    }
    let stats = node.limiter.stats(&project()).rules;
    let told: Vec<_> = stats.iter().map(|r| (&*r.rule, r.allowed, r.refused, r.shadow_refused)).collect();
    assert_eq!(told, [("closed", 0, 0, 5), ("local", 2, 0, 3), ("open", 5, 0, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_is_bounded() {
    let redis = testkit::Redis::start();
    let mut world = World::on_redis(&redis).await;
    world.config.fallback_cells = 64;
    let node = world.node().await;
    node.put("api", json!([rule("local", 1, "local")])).await;
    drop(redis);
    let mut refused = 0;
    for _ in 0..2 {
        for key in 0..1000 {
            refused += u32::from(!node.ask(&[("local", &key.to_string())]).await.is_allowed);
        }
    }
    // Had every key been remembered, the second thousand would have been refused.
    assert!(refused <= 64, "{refused}");
}
