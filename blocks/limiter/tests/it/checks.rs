//! What checks promise, in process and on Redis.

use std::{sync::Arc, time::Duration};

use limiter::{Check, Descriptor, Error, LimitOverride, Matching, Source};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{Engine, Node, World, check, descriptor, on_both, per_user, project};

async fn node() -> (World, Node) {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    (world, node)
}

on_both!(
    every_algorithm_limits,
    several_rules_are_charged_all_or_none,
    a_rule_in_shadow_mode_never_refuses,
    overrides_hold_for_their_values,
    costs_come_from_where_the_rule_says,
    one_cell_is_charged_once,
    a_limit_may_come_with_the_question,
    peeking_changes_nothing,
);

async fn every_algorithm_limits(_: &World, node: &Node) {
    for (limit, at_once) in [
        (json!({ "algorithm": "token_bucket", "limit": 5, "period": "1h" }), 5),
        (json!({ "algorithm": "token_bucket", "limit": 5, "period": "1h", "burst": 8 }), 8),
        (json!({ "algorithm": "gcra", "limit": 5, "period": "1h" }), 1),
        (json!({ "algorithm": "gcra", "limit": 5, "period": "1h", "burst": 3 }), 3),
        (json!({ "algorithm": "fixed_window", "limit": 5, "window": "365d" }), 5),
        (json!({ "algorithm": "sliding_log", "limit": 5, "window": "1h" }), 5),
        (json!({ "algorithm": "sliding_counter", "limit": 5, "window": "365d" }), 5),
        (json!({ "algorithm": "calendar", "limit": 5, "calendar": { "unit": "month", "zone": "Asia/Tokyo" } }), 5),
        (json!({ "algorithm": "fixed_window", "limit": 0, "window": "1h" }), 0),
    ] {
        let name = limit["algorithm"].as_str().unwrap();
        let most = limit["limit"].as_u64().unwrap();
        node.put("api", json!([{ "name": name, "keys": [{ "key": "user" }], "limit": limit }])).await;
        let user = format!("{limit}");
        let mut allowed = 0;
        for i in 0..10 {
            let outcome = node.ask(&[("user", &user)]).await;
            allowed += u32::from(outcome.is_allowed);
            let [decision] = &outcome.decisions[..] else { panic!("{outcome:?}") };
            assert_eq!(
                (&*decision.rule, decision.limit, decision.is_allowed),
                (name, most, outcome.is_allowed),
                "{limit} {i}"
            );
            assert_eq!(outcome.retry_after.is_none(), outcome.is_allowed || most == 0, "{limit} {i}: {outcome:?}");
            if most > 0 {
                assert!(decision.window >= Duration::from_hours(1) && !decision.reset_after.is_zero(), "{limit}");
                // A refusal is given again without asking where that spares a round trip.
                let is_again = !decision.is_allowed && decision.source == Source::ShortCut;
                assert!(is_again || decision.source == Source::Exact, "{limit}: {decision:?}");
            }
        }
        assert_eq!(allowed, at_once, "{limit}");
        if most > 0 {
            assert!(node.ask(&[("user", &format!("other {user}"))]).await.is_allowed, "another key");
        }
        assert!(node.ask(&[("host", "a")]).await.decisions.is_empty(), "a descriptor without the key");
    }
}

async fn several_rules_are_charged_all_or_none(_: &World, node: &Node) {
    let window = |name: &str, key: &str, limit: u64| {
        json!({
            "name": name, "keys": [{ "key": key }],
            "limit": { "algorithm": "fixed_window", "limit": limit, "window": "365d" },
        })
    };
    node.put("api", json!([window("user", "user", 3), window("org", "org", 5), window("route", "route", 100)])).await;
    let ask = async |user: &str| node.ask(&[("user", user), ("org", "o"), ("route", "/")]).await;
    for _ in 0..3 {
        assert!(ask("a").await.is_allowed);
    }
    // Refused for the user alone; the org and the route are not charged.
    for _ in 0..10 {
        let outcome = ask("a").await;
        assert!(!outcome.is_allowed);
        let told: Vec<_> = outcome.decisions.iter().map(|d| (&*d.rule, d.is_allowed, d.remaining)).collect();
        assert_eq!(told, [("user", false, 0), ("org", true, 2), ("route", true, 97)]);
    }
    assert!(ask("b").await.is_allowed && ask("b").await.is_allowed);
    let outcome = ask("b").await;
    assert_eq!(outcome.decisions.iter().map(|d| d.is_allowed).collect::<Vec<_>>(), [true, false, true]);
    // Over two descriptors as over one.
    let both = [descriptor(&[("user", "c")]), descriptor(&[("org", "o")])];
    let outcome = node.check(&both, 1).await.unwrap();
    let told: Vec<_> = outcome.decisions.iter().map(|d| (d.descriptor, d.is_allowed, d.remaining)).collect();
    assert_eq!((outcome.is_allowed, &told[..]), (false, &[(0, true, 3), (1, false, 0)][..]));
    // What was counted: 3 + 2 checks passed.
    let stats = node.limiter.stats(&project());
    let of = |rule: &str| stats.rules.iter().find(|r| &*r.rule == rule).map(|r| (r.allowed, r.refused)).unwrap();
    assert_eq!((of("user"), of("org"), of("route")), ((5, 10), (5, 2), (5, 0)));
    let top = &stats.top_refused[0];
    assert_eq!((&*top.rule, top.key.as_str(), top.count), ("user", "user=a", 10));
}

async fn a_rule_in_shadow_mode_never_refuses(_: &World, node: &Node) {
    let mut shadow = per_user(2);
    shadow["mode"] = json!("shadow");
    shadow["limit"]["window"] = json!("365d");
    shadow["overrides"] = json!([{ "values": { "user": "bad" }, "is_blocked": true }]);
    let mut off = shadow.clone();
    (off["name"], off["mode"]) = (json!("off"), json!("off"));
    node.put("api", json!([shadow.clone(), off])).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let outcome = node.ask(&[("user", "a")]).await;
        assert!(outcome.is_allowed && outcome.retry_after.is_none());
        seen.push(outcome.decisions.iter().map(|d| (d.is_allowed, d.is_shadow)).collect::<Vec<_>>());
    }
    assert_eq!(seen, [[(true, true)], [(true, true)], [(false, true)], [(false, true)]]);
    let blocked = node.ask(&[("user", "bad")]).await;
    assert!(blocked.is_allowed && blocked.decisions[0].source == Source::Blocked);
    let stats = &node.limiter.stats(&project()).rules;
    assert_eq!(stats.len(), 1);
    assert_eq!((stats[0].allowed, stats[0].refused, stats[0].shadow_refused), (2, 0, 3));
    assert!(node.limiter.stats(&project()).top_refused.is_empty());
    // What it counted counts when it is enforced.
    shadow["mode"] = json!("enforce");
    node.put("api", json!([shadow])).await;
    assert!(!node.ask(&[("user", "a")]).await.is_allowed);
    assert!(!node.ask(&[("user", "bad")]).await.is_allowed);
}

async fn overrides_hold_for_their_values(_: &World, node: &Node) {
    let window = |limit: u64| json!({ "algorithm": "fixed_window", "limit": limit, "window": "365d" });
    node.put(
        "api",
        json!([{
            "name": "r", "keys": [{ "key": "user" }, { "key": "route" }], "limit": window(1),
            "overrides": [
                { "values": { "user": "big" }, "limit": window(4) },
                { "values": { "user": "big", "route": "/slow" }, "limit": window(2) },
                { "values": { "route": "/free" }, "is_unlimited": true },
                { "values": { "user": "bad" }, "is_blocked": true },
            ],
        }]),
    )
    .await;
    for (user, route, allowed) in [
        ("a", "/", 1),
        ("big", "/", 4),
        ("big", "/slow", 2),
        ("a", "/free", 9),
        // Of two with one key each, the one of the rule's earlier key.
        ("bad", "/free", 0),
        ("bad", "/", 0),
    ] {
        assert_eq!(node.allowed(&[("route", route), ("user", user)], 9).await, allowed, "{user} {route}");
    }
    let blocked = node.ask(&[("user", "bad"), ("route", "/")]).await;
    assert_eq!((blocked.decisions[0].source, blocked.retry_after), (Source::Blocked, None));
}

async fn costs_come_from_where_the_rule_says(_: &World, node: &Node) {
    let window = |name: &str, limit: u64| {
        json!({
            "name": name, "keys": [{ "key": "user" }],
            "limit": { "algorithm": "fixed_window", "limit": limit, "window": "365d" },
        })
    };
    let mut tokens = window("tokens", 1000);
    tokens["cost_from"] = json!("tokens");
    node.put("api", json!([window("requests", 100), tokens])).await;
    let left = async |entries: &[(&str, &str)], cost: u64| {
        let outcome = node.check(&[descriptor(entries)], cost).await.unwrap();
        outcome.decisions.iter().map(|d| d.remaining).collect::<Vec<_>>()
    };
    assert_eq!(left(&[("user", "a"), ("tokens", "400")], 1).await, [99, 600]);
    assert_eq!(left(&[("user", "a")], 5).await, [94, 595]);
    // More than is left: none of both.
    let outcome = node.ask(&[("user", "a"), ("tokens", "596")]).await;
    assert!(!outcome.is_allowed);
    assert_eq!(left(&[("user", "a"), ("tokens", "595")], 1).await, [93, 0]);
    // More than ever fits: no time to wait for.
    let outcome = node.ask(&[("user", "b"), ("tokens", "1001")]).await;
    assert_eq!((outcome.is_allowed, outcome.retry_after), (false, None));
    for wrong in ["", "-1", "1.5", "+1", "many", "1000000001", "99999999999999999999"] {
        let refused = node.check(&[descriptor(&[("user", "a"), ("tokens", wrong)])], 1).await;
        let Err(Error::CheckInvalid { field, .. }) = refused else { panic!("{wrong}: {refused:?}") };
        assert_eq!(field, "/descriptors/0/entries/tokens");
    }
    // A descriptor's own cost.
    let own = Descriptor { cost: Some(10), ..descriptor(&[("user", "c")]) };
    let outcome = node.check(&[own], 1).await.unwrap();
    assert_eq!(outcome.decisions.iter().map(|d| d.remaining).collect::<Vec<_>>(), [90, 990]);
    // Nothing is charged for nothing.
    assert_eq!(left(&[("user", "c")], 0).await, [90, 990]);
}

async fn one_cell_is_charged_once(_: &World, node: &Node) {
    node.put(
        "api",
        json!([
            { "name": "user", "keys": [{ "key": "user" }], "limit": { "algorithm": "sliding_log", "limit": 10, "window": "1h" } },
            { "name": "all", "limit": { "algorithm": "sliding_log", "limit": 10, "window": "1h" } },
        ]),
    )
    .await;
    let mut costly = descriptor(&[("user", "a"), ("route", "/")]);
    costly.cost = Some(3);
    let outcome = node.check(&[descriptor(&[("user", "a")]), costly, descriptor(&[("user", "b")])], 1).await.unwrap();
    let told: Vec<_> = outcome.decisions.iter().map(|d| (d.descriptor, &*d.rule, d.remaining)).collect();
    let expected = [(0, "all", 7), (0, "user", 7), (1, "all", 7), (1, "user", 7), (2, "all", 7), (2, "user", 9)];
    assert_eq!(told, expected);
    let stats = node.limiter.stats(&project()).rules;
    assert_eq!(stats.iter().map(|r| r.allowed).collect::<Vec<_>>(), [1, 2]);
}

async fn a_limit_may_come_with_the_question(_: &World, node: &Node) {
    let asked = |limit, window| Descriptor {
        limit: Some(LimitOverride { limit, window: Duration::from_hours(window) }),
        ..descriptor(&[("user", "a")])
    };
    // In the place of rules, and without any.
    node.put("api", json!([per_user(0)])).await;
    for domain in ["api", "unknown"] {
        let ask = async |one: Descriptor| {
            let check = Check { domain, descriptors: &[one], matching: Matching::Exact, cost: 1 };
            node.limiter.check(&project(), &check).await.unwrap()
        };
        for left in [1, 0] {
            let outcome = ask(asked(2, 24 * 365)).await;
            assert_eq!((outcome.is_allowed, outcome.decisions[0].remaining), (true, left), "{domain}");
            assert_eq!(&*outcome.decisions[0].rule, "(asked)");
        }
        assert!(!ask(asked(2, 24 * 365)).await.is_allowed);
        assert!(ask(asked(3, 24 * 365)).await.is_allowed, "a higher limit of the same count");
        assert!(ask(asked(2, 24 * 300)).await.is_allowed, "another window, another count");
        assert!(!ask(asked(0, 1)).await.is_allowed);
    }
    let wrong = node.check(&[asked(1, 24 * 367)], 1).await;
    assert!(matches!(wrong, Err(Error::CheckInvalid { field, .. }) if field == "/descriptors/0/limit/window"));
}

async fn peeking_changes_nothing(_: &World, node: &Node) {
    let place = json!({ "algorithm": "concurrency", "limit": 2 });
    let window = json!({ "algorithm": "fixed_window", "limit": 2, "window": "365d" });
    node.put(
        "api",
        json!([{ "name": "w", "limit": window }, { "name": "c", "keys": [{ "key": "job" }], "limit": place }]),
    )
    .await;
    let (plain, job) = ([descriptor(&[("a", "b")])], [descriptor(&[("job", "j")])]);
    for _ in 0..5 {
        for descriptors in [&plain, &job] {
            assert!(node.limiter.peek(&project(), &check(descriptors, 1)).await.unwrap().is_allowed);
        }
    }
    assert_eq!(node.allowed(&[("a", "b")], 5).await, 2);
    let refused = node.limiter.peek(&project(), &check(&plain, 1)).await.unwrap();
    assert!(!refused.is_allowed && refused.retry_after.is_some());
    assert_eq!(node.limiter.stats(&project()).rules.iter().map(|r| r.allowed + r.refused).sum::<u64>(), 5);
}

#[tokio::test]
async fn a_calendar_begins_at_midnight_of_its_zone() {
    let (world, node) = node().await;
    // 2026-11-24T00:00:00Z is nine in the morning in Tokyo; its day ends at 15:00 UTC.
    let limit = json!({ "algorithm": "calendar", "limit": 2, "calendar": { "unit": "day", "zone": "Asia/Tokyo" } });
    node.put("api", json!([{ "name": "day", "limit": limit }])).await;
    assert_eq!(node.allowed(&[], 5).await, 2);
    let refused = node.ask(&[]).await;
    assert_eq!(refused.retry_after, Some(Duration::from_hours(15)));
    assert_eq!(refused.decisions[0].window, Duration::from_hours(24));
    world.sim.advance(Duration::from_hours(15) - Duration::from_millis(1));
    assert_eq!(node.allowed(&[], 5).await, 0);
    world.sim.advance(Duration::from_millis(1));
    assert_eq!(node.allowed(&[], 5).await, 2);
    // Nothing was asked for days: neither of the windows that were computed last.
    world.sim.advance(Duration::from_hours(24 * 40));
    assert_eq!(node.allowed(&[], 5).await, 2);
}

#[tokio::test]
async fn what_cannot_be_decided_is_refused_by_name_and_charges_nothing() {
    let (_world, node) = node().await;
    let mut rules = vec![per_user(100)];
    for i in 0..33 {
        rules.push(json!({
            "name": format!("r{i}"), "keys": [{ "key": "wide" }],
            "limit": { "algorithm": "fixed_window", "limit": 5, "window": "1m" },
        }));
    }
    let place = json!({ "algorithm": "concurrency", "limit": 2 });
    rules.push(json!({ "name": "c", "keys": [{ "key": "job" }], "limit": place }));
    node.put("api", json!(rules)).await;
    let user = descriptor(&[("user", "a")]);
    let long = "x".repeat(1025);
    for (descriptors, cost, field) in [
        (vec![user.clone(); 33], 1, "/descriptors"),
        (vec![user.clone(), Descriptor::new((0..17).map(|i| (i.to_string(), "")))], 1, "/descriptors/1/entries"),
        (vec![user.clone(), descriptor(&[("user", &long)])], 1, "/descriptors/1/entries"),
        (vec![user.clone()], 1_000_000_001, "/cost"),
        (vec![user.clone(), Descriptor { cost: Some(u64::MAX), ..user.clone() }], 1, "/descriptors/1/cost"),
        (vec![user.clone(), descriptor(&[("wide", "")])], 1, "/descriptors"),
        (vec![user.clone(), descriptor(&[("job", "")])], 1, "/descriptors"),
    ] {
        let refused = node.check(&descriptors, cost).await;
        let Err(Error::CheckInvalid { field: found, .. }) = refused else { panic!("{field}: {refused:?}") };
        assert_eq!(found, field);
    }
    assert_eq!(node.ask(&[("user", "a")]).await.decisions[0].remaining, 99);
    assert!(node.check(&[], 1).await.unwrap().is_allowed);
}

#[tokio::test]
async fn built_in_rules_hold_until_a_rule_of_the_same_name() {
    let mut world = World::new(Engine::Sqlite).await;
    world.built_in = crate::world::rules(json!([per_user(2), { "name": "all", "limit": per_user(5)["limit"] }]));
    let node = world.node().await;
    let acme = kernel::ProjectId::parse("acme").unwrap();
    let allowed = async |project: &kernel::ProjectId, user: &str| {
        let descriptors = [descriptor(&[("user", user)])];
        let check =
            Check { domain: limiter::OWN_DOMAIN, descriptors: &descriptors, matching: Matching::Contains, cost: 1 };
        let mut allowed = 0;
        for _ in 0..9 {
            allowed += u32::from(node.limiter.check(project, &check).await.unwrap().is_allowed);
        }
        allowed
    };
    assert_eq!((allowed(&project(), "a").await, allowed(&acme, "a").await), (2, 2));
    node.put(limiter::OWN_DOMAIN, json!([per_user(4)])).await;
    assert_eq!((allowed(&project(), "b").await, allowed(&project(), "c").await), (3, 0), "4 each, 5 for all");
    assert_eq!(allowed(&acme, "b").await, 2);
    let set = node.limiter.rules(&project(), limiter::OWN_DOMAIN).await.unwrap();
    assert_eq!(
        set.rules.iter().map(|r| (r.name.as_str(), r.limit.limit)).collect::<Vec<_>>(),
        [("per-user", 4), ("all", 5)]
    );
    // Numbers of one project are not another's.
    let count = |project: &kernel::ProjectId| {
        node.limiter.stats(project).rules.iter().filter(|r| &*r.rule == "per-user").map(|r| r.allowed).sum::<u64>()
    };
    assert_eq!((count(&project()), count(&acme)), (4, 3), "the first check of a project shares its numbers");
    assert_eq!(node.metric("decisions_total{outcome=\"allowed\",source=\"exact\"}"), 18);
}

/// The keys of a rule: each with its value and whether it is shared.
type Keys = std::collections::BTreeMap<&'static str, (Option<&'static str>, bool)>;

/// Rules and checks of few keys and values, so that they meet.
fn small_rules() -> impl Strategy<Value = Vec<serde_json::Value>> {
    let key = prop::sample::select(vec!["a", "b", "c"]);
    let value = prop::option::of(prop::sample::select(vec!["x", "y", "x*", "*"]));
    let keys = prop::collection::btree_map(key, (value, any::<bool>()), 0..3);
    prop::collection::vec((keys, 0_u64..4, prop::sample::select(vec!["enforce", "shadow", "off"])), 0..8).prop_map(
        |rules| {
            let rule = |(i, (keys, limit, mode)): (usize, (Keys, u64, &str))| {
                let key = |(key, (value, is_shared)): (&&str, &(Option<&str>, bool))| match value {
                    Some(value) => json!({ "key": key, "value": value, "is_shared": is_shared }),
                    None => json!({ "key": key, "is_shared": is_shared }),
                };
                json!({
                    "name": format!("r{i}"), "keys": keys.iter().map(key).collect::<Vec<_>>(), "mode": mode,
                    "limit": { "algorithm": "fixed_window", "limit": limit, "window": "1m" },
                })
            };
            rules.into_iter().enumerate().map(rule).collect()
        },
    )
}

type Asked = (Vec<Vec<(&'static str, &'static str)>>, bool, u64);

fn small_checks() -> impl Strategy<Value = Vec<Asked>> {
    let entry = (prop::sample::select(vec!["a", "b", "c"]), prop::sample::select(vec!["x", "y", "xy", "z"]));
    let descriptor = prop::collection::vec(entry, 0..4);
    prop::collection::vec((prop::collection::vec(descriptor, 0..3), any::<bool>(), 1_u64..3), 1..30)
}

/// A cell by its rule and values.
type Name = (String, Vec<(String, String)>);

/// What checks mean, word by word.
#[derive(Default)]
struct Plain {
    used: std::collections::HashMap<Name, u64>,
}

impl Plain {
    fn check(&mut self, rules: &[serde_json::Value], (descriptors, is_exact, cost): &Asked) -> (bool, usize) {
        let mut cells: Vec<(Name, u64, bool)> = Vec::new();
        let mut hits = 0;
        let mut is_blocked = false;
        let mut blocked_hits = (0, 0);
        for entries in descriptors {
            let mut known: Vec<(&str, &str)> = Vec::new();
            for (key, value) in entries {
                if known.iter().all(|(k, _)| k != key) {
                    known.push((key, value));
                }
            }
            for rule in rules {
                let keys = rule["keys"].as_array().unwrap();
                let value_of = |key: &serde_json::Value| {
                    let (_, value) = known.iter().find(|(k, _)| *k == key["key"].as_str().unwrap())?;
                    let is_right = match key["value"].as_str() {
                        None => true,
                        Some(p) => p.strip_suffix('*').map_or(*value == p, |prefix| value.starts_with(prefix)),
                    };
                    is_right.then_some(*value)
                };
                let applies =
                    keys.iter().all(|key| value_of(key).is_some()) && (!is_exact || keys.len() == known.len());
                if rule["mode"] == "off" || !applies {
                    continue;
                }
                let is_shadow = rule["mode"] == "shadow";
                hits += 1;
                let limit = rule["limit"]["limit"].as_u64().unwrap();
                if limit == 0 {
                    is_blocked |= !is_shadow;
                    blocked_hits.0 += 1;
                    continue;
                }
                blocked_hits.1 += 1;
                let own = keys.iter().filter(|key| key["is_shared"] != true);
                let values: Vec<_> =
                    own.map(|key| (key["key"].to_string(), value_of(key).unwrap().to_owned())).collect();
                let cell = ((rule["name"].to_string(), values), limit, is_shadow);
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
        if is_blocked {
            return (false, blocked_hits.0);
        }
        let fits = |used: &std::collections::HashMap<Name, u64>, name: &Name, limit: u64| {
            used.get(name).copied().unwrap_or(0) + cost <= limit
        };
        let is_allowed = cells.iter().all(|(name, limit, is_shadow)| *is_shadow || fits(&self.used, name, *limit));
        if is_allowed {
            for (name, limit, _) in cells {
                if fits(&self.used, &name, limit) {
                    *self.used.entry(name).or_default() += cost;
                }
            }
        }
        (is_allowed, hits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The index, the hashes and the charging say the same as reading every rule for every descriptor.
    #[test]
    fn checks_are_what_a_plain_reading_of_the_rules_says(rules in small_rules(), asked in small_checks()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let result: Result<(), TestCaseError> = runtime.block_on(async {
            let (_world, node) = node().await;
            node.put("api", json!(rules)).await;
            let mut plain = Plain::default();
            for one in &asked {
                let descriptors: Vec<_> = one.0.iter().map(|entries| descriptor(entries)).collect();
                let matching = if one.1 { Matching::Exact } else { Matching::Contains };
                let check = Check { domain: "api", descriptors: &descriptors, matching, cost: one.2 };
                let outcome = node.limiter.check(&project(), &check).await.unwrap();
                let told = (outcome.is_allowed, outcome.decisions.len());
                prop_assert_eq!(told, plain.check(&rules, one), "{:?}", one);
            }
            Ok(())
        });
        result?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_whole_while_rules_change() {
    let (_world, node) = node().await;
    let window = |name: &str, limit: u64| json!({ "name": name, "limit": { "algorithm": "fixed_window", "limit": limit, "window": "1m" } });
    let two = |limit: u64| json!([window("one", limit), window("two", limit)]);
    node.put("api", two(1_000_000)).await;
    let node = Arc::new(node);
    let asking = {
        let node = node.clone();
        async move {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..3000 {
                let outcome = node.ask(&[("user", "a")]).await;
                let limits: Vec<_> = outcome.decisions.iter().map(|d| d.limit).collect();
                assert!(limits.len() == 2 && limits[0] == limits[1], "of two versions: {limits:?}");
                seen.insert(limits[0]);
                tokio::task::yield_now().await;
            }
            seen
        }
    };
    let changing = async {
        for i in 1..30 {
            node.put("api", two(1_000_000 + i)).await;
        }
    };
    let (seen, ()) = tokio::join!(asking, changing);
    assert!(seen.len() > 1);
}
