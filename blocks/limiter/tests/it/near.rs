//! What is decided on a node without asking: refusals a moment ago, and slices of limits.

use std::time::Duration;

use kernel::{Clock, Rng, Stage};
use limiter::{Decision, Expected, Source};
use memory::{Memory, RateTime, RedisOptions};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};
use testkit::Redis;

use crate::world::{Engine, Node, World, check, descriptor, eventually, principal, project, rules};

/// A world whose Redis goes by the clock that the test moves, and `count` nodes on it.
async fn nodes(redis: &Redis, count: usize) -> (World, Vec<Node>) {
    let mut world = World::new(Engine::Sqlite).await;
    world.memory = moved_by_hand(&world, redis);
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(world.node().await);
    }
    (world, nodes)
}

fn moved_by_hand(world: &World, redis: &Redis) -> Memory {
    // Time-outs count on the same clock: none of them may end.
    let never = Duration::from_hours(24 * 365 * 50);
    let options = RedisOptions {
        rate_time: RateTime::Caller,
        operation_timeout: never,
        connect_timeout: never,
        check_interval: never,
        ..RedisOptions::single(redis.url())
    };
    Memory::redis(options, world.clock.clone(), Rng::system(), &world.lifecycle.tasks(Stage::Planes)).unwrap()
}

fn rule(algorithm: &str, limit: u64, sharing: &Value) -> Value {
    let length = if matches!(algorithm, "token_bucket" | "gcra") { "period" } else { "window" };
    let mut limit = json!({ "algorithm": algorithm, "limit": limit });
    limit[length] = "1s".into();
    if algorithm == "gcra" {
        limit["burst"] = limit["limit"].clone();
    }
    json!({ "name": algorithm, "keys": [{ "key": "user" }], "limit": limit, "sharing": sharing })
}

/// Operations on rate cells that the memory plane has seen.
fn asked(world: &World) -> u64 {
    world.memory.stats().uses.iter().map(|u| u.operation_count).sum()
}

async fn ask(node: &Node, user: &str, cost: u64) -> Decision {
    let outcome = node.check(&[descriptor(&[("user", user)])], cost).await.unwrap();
    assert_eq!(outcome.is_allowed, outcome.decisions[0].is_allowed);
    outcome.decisions[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_refused_again_without_asking() {
    let redis = Redis::start();
    let (world, nodes) = nodes(&redis, 2).await;
    let [node, other] = nodes.as_slice() else { unreachable!() };
    let window = |limit: u64| {
        json!([{
            "name": "w", "keys": [{ "key": "user" }], "limit": { "algorithm": "fixed_window", "limit": limit, "window": "10s" },
        }])
    };
    node.put("api", window(5)).await;
    eventually("the other node has the rule", || async { other.limiter.refresh().await.is_ok() }).await;
    assert!(ask(node, "ann", 4).await.is_allowed);
    let refused = ask(node, "ann", 2).await;
    assert_eq!((refused.is_allowed, refused.source, refused.remaining), (false, Source::Exact, 1));

    // The same and more is refused from here, with a wait that grows shorter; less is asked for, and so is another key.
    let before = asked(&world);
    world.sim.advance(Duration::from_millis(300));
    for cost in [2, 3, 1_000_000] {
        let again = ask(node, "ann", cost).await;
        assert_eq!((again.is_allowed, again.source, again.remaining), (false, Source::ShortCut, 1));
        assert_eq!(again.retry_after.unwrap() + Duration::from_millis(300), refused.retry_after.unwrap());
    }
    assert_eq!(asked(&world), before, "nothing was asked");
    assert!(ask(node, "ben", 1).await.is_allowed);
    let less = ask(node, "ann", 1).await;
    assert_eq!((less.is_allowed, less.source), (true, Source::Exact));
    // Not for longer than a second.
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(ask(node, "ann", 2).await.source, Source::Exact);
    world.sim.advance(Duration::from_millis(999));
    assert_eq!(ask(node, "ann", 2).await.source, Source::ShortCut);
    world.sim.advance(Duration::from_millis(1));
    assert_eq!(ask(node, "ann", 2).await.source, Source::Exact);

    // Nor longer than it is so: a window that ends sooner.
    world.sim.advance(Duration::from_secs(10));
    let left = ask(node, "cyd", 5).await.reset_after;
    world.sim.advance(left.saturating_sub(Duration::from_millis(200)));
    assert!(!ask(node, "cyd", 5).await.is_allowed);
    world.sim.advance(Duration::from_millis(199));
    assert_eq!(ask(node, "cyd", 5).await.source, Source::ShortCut);
    world.sim.advance(Duration::from_millis(1));
    assert!(ask(node, "cyd", 5).await.is_allowed);

    // What is given back on this node can be had at once, and within a second on another.
    let user = [descriptor(&[("user", "dan")])];
    let (_, token) = node.limiter.reserve(&project(), &check(&user, 5), Duration::from_secs(5)).await.unwrap();
    for asking in [node, other] {
        assert!(!ask(asking, "dan", 3).await.is_allowed);
        assert_eq!(ask(asking, "dan", 3).await.source, Source::ShortCut);
    }
    node.limiter.settle(&project(), token.unwrap().as_str(), 1).await.unwrap();
    assert!(!ask(other, "dan", 3).await.is_allowed);
    assert!(ask(node, "dan", 3).await.is_allowed);
    world.sim.advance(Duration::from_secs(1));
    assert!(ask(other, "dan", 1).await.is_allowed);

    // A rule that changes is a new question.
    assert!(!ask(node, "dan", 5).await.is_allowed);
    node.put("api", window(20)).await;
    assert!(ask(node, "dan", 5).await.is_allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_cut_answers_for_all_limits_of_a_check_or_for_none() {
    let redis = Redis::start();
    let (world, nodes) = nodes(&redis, 1).await;
    let node = &nodes[0];
    let fixed = |name: &str, key: &str, limit: u64, mode: &str| {
        json!({
            "name": name, "keys": [{ "key": key }], "mode": mode,
            "limit": { "algorithm": "fixed_window", "limit": limit, "window": "10s" },
        })
    };
    node.put(
        "api",
        json!([fixed("u", "user", 2, "enforce"), fixed("r", "route", 50, "enforce"), fixed("s", "route", 1, "shadow")]),
    )
    .await;
    let both = [descriptor(&[("user", "ann"), ("route", "/a")])];
    for expected in [true, true, false, false] {
        assert_eq!(node.check(&both, 1).await.unwrap().is_allowed, expected);
    }
    let again = node.check(&both, 1).await.unwrap();
    let seen: Vec<_> = again.decisions.iter().map(|d| (&*d.rule, d.is_allowed, d.remaining, d.source)).collect();
    let cut = Source::ShortCut;
    assert_eq!(seen, [("u", false, 0, cut), ("r", true, 48, cut), ("s", false, 0, cut)]);
    // Another user on the same route: the shadow alone refuses nobody.
    let other = [descriptor(&[("user", "ben"), ("route", "/a")])];
    assert!(node.check(&other, 1).await.unwrap().is_allowed);
    // The same user on a route that is not known here: asked.
    let before = asked(&world);
    let elsewhere = [descriptor(&[("user", "ann"), ("route", "/b")])];
    assert!(!node.check(&elsewhere, 1).await.unwrap().is_allowed);
    assert_eq!(asked(&world), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_key_is_served_from_slices() {
    let redis = Redis::start();
    let (world, nodes) = nodes(&redis, 1).await;
    let node = &nodes[0];
    node.put("api", json!([rule("fixed_window", 1000, &json!({ "leased": 10 }))])).await;
    // Cold: each is asked for. A key that is asked for now and then never takes a slice.
    for _ in 0..3 {
        assert_eq!(ask(node, "cold", 1).await.source, Source::Exact);
        world.sim.advance(Duration::from_millis(500));
    }
    let before = asked(&world);
    let mut leased = 0;
    for n in 1..=400_u64 {
        let decision = ask(node, "hot", 1).await;
        assert!(decision.is_allowed);
        assert_eq!(decision.remaining, 1000 - n, "what is left in the slice is counted as left");
        leased += u64::from(decision.source == Source::Leased);
    }
    assert_eq!(leased, 399);
    let trips = asked(&world) - before;
    // 1 exact, then slices of 4, 8, 16, 32, 64, 100, 100, …
    assert_eq!(trips, 1 + 5 + 3, "{trips} round trips for 400 checks");
    // A slice lives half a second at most, and is not looked at by costs above it.
    let before = asked(&world);
    assert_eq!(ask(node, "hot", 150).await.source, Source::Exact);
    world.sim.advance(Duration::from_millis(500));
    ask(node, "hot", 1).await;
    assert_eq!(asked(&world) - before, 2);
    // A rule that changes drops it.
    ask(node, "hot", 1).await;
    node.put("api", json!([rule("fixed_window", 3, &json!("exact"))])).await;
    assert_eq!(ask(node, "hot", 1).await.source, Source::Exact);
}

/// Served on one node: when, how much.
type Served = (u64, u64);

/// More than stated in the worst window, as far as the algorithm states it.
fn excess(algorithm: &str, served: &[Served], limit: u64) -> u64 {
    let second = 1_000_000;
    let most = match algorithm {
        "token_bucket" | "gcra" => {
            let mut worst = 0;
            for (i, first) in served.iter().enumerate() {
                let mut sum = 0;
                for last in &served[i..] {
                    sum += last.1;
                    let refilled = (last.0 - first.0) * limit / second;
                    worst = worst.max(sum.saturating_sub(limit + refilled));
                }
            }
            return worst;
        }
        _ => {
            let mut sums = std::collections::BTreeMap::<u64, u64>::new();
            for (at, count) in served {
                *sums.entry(at / second).or_default() += count;
            }
            sums.into_values().max().unwrap_or(0)
        }
    };
    most.saturating_sub(limit)
}

/// Three nodes, random traffic: at most what the algorithm states and what slices may add.
#[test]
fn slices_add_no_more_than_stated() {
    const NODES: usize = 3;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let redis = Redis::start();
    let (world, nodes) = runtime.block_on(nodes(&redis, NODES));
    let (limit, share) = (60, 20);
    let slice = limit * share / 100;
    for algorithm in ["fixed_window", "sliding_counter", "token_bucket", "gcra"] {
        runtime.block_on(async {
            let put = rules(json!([rule(algorithm, limit, &json!({ "leased": share }))]));
            nodes[0].limiter.put_rules(&principal("default"), "api", put, "", Expected::Any).await.unwrap();
            for node in &nodes {
                node.limiter.refresh().await.unwrap();
            }
        });
        let bound = if matches!(algorithm, "token_bucket" | "gcra") { NODES as u64 * slice } else { 0 };
        let step = (0..NODES, 1_u64..4, 1_usize..30, prop_oneof![3 => 0_u64..20, 2 => 0_u64..300, 1 => 0_u64..1500]);
        let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
        let worst = std::cell::Cell::new(0);
        let outcome = TestRunner::new(config).run(&prop::collection::vec(step, 1..60), |steps| {
            let user = format!("{:016x}", Rng::system().next_u64());
            let mut served = Vec::new();
            for (node, cost, times, wait_ms) in steps {
                for _ in 0..times {
                    let decision = runtime.block_on(ask(&nodes[node], &user, cost));
                    let now = u64::try_from(world.clock.now().as_millis()).unwrap() * 1000;
                    if decision.is_allowed {
                        served.push((now, cost));
                    }
                }
                world.sim.advance(Duration::from_millis(wait_ms));
            }
            let found = excess(algorithm, &served, limit);
            worst.set(worst.get().max(found));
            prop_assert!(found <= bound, "{found} above the limit, stated {bound}");
            Ok(())
        });
        outcome.unwrap_or_else(|e| panic!("{algorithm}: {e}"));
        println!("{algorithm}: error found {}, stated {bound}", worst.get());
    }
    assert!(nodes.iter().all(|node| node.metric("decisions_total{outcome=\"allowed\",source=\"leased\"}") > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_outlast_an_outage_and_then_each_rule_does_as_it_declares() {
    let mut redis = Redis::start();
    let mut world = World::new(Engine::Sqlite).await;
    world.memory = world.redis(&redis);
    world.clock = Clock::system();
    let node = world.node().await;
    let mut leased = rule("token_bucket", 1000, &json!({ "leased": 50 }));
    leased["when_down"] = "closed".into();
    node.put("api", json!([leased])).await;
    for _ in 0..600 {
        assert!(ask(&node, "ann", 1).await.is_allowed);
    }
    redis.stop();
    // What was taken before is there; when it is used up or over, the rule is closed.
    eventually("the rule is closed", || async { ask(&node, "ann", 1).await.source == Source::Closed }).await;
    assert!(!ask(&node, "ann", 1).await.is_allowed);
    redis.restart();
    eventually("served again", || async { ask(&node, "ann", 1).await.is_allowed }).await;
}
