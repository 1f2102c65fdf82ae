//! Rules in the database: both engines run it whole.

use kernel::ProjectId;
use limiter::{Error, Expected, OWN_DOMAIN, Origin};
use serde_json::json;

use crate::world::{Engine, World, per_user, principal, project, rules};

macro_rules! contract_suite {
    ($engine:ident, $variant:ident) => {
        mod $engine {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn versions_count_up_and_old_ones_come_back() {
                super::versions_count_up_and_old_ones_come_back(Engine::$variant).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_change_replaces_only_what_its_author_saw() {
                super::a_change_replaces_only_what_its_author_saw(Engine::$variant).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn of_changes_at_once_one_wins() {
                super::of_changes_at_once_one_wins(Engine::$variant).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn other_nodes_take_changes_within_a_second() {
                super::other_nodes_take_changes_within_a_second(Engine::$variant).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn projects_are_apart_and_bounded() {
                super::projects_are_apart_and_bounded(Engine::$variant).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_restart_knows_the_rules() {
                super::a_restart_knows_the_rules(Engine::$variant).await;
            }
        }
    };
}

contract_suite!(sqlite, Sqlite);
contract_suite!(postgres, Postgres);

async fn versions_count_up_and_old_ones_come_back(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let who = principal("default");
    assert!(matches!(node.limiter.rules(&project(), "api").await, Err(Error::DomainUnknown)));
    let first = node.put("api", json!([per_user(1)])).await;
    assert_eq!((first.version, first.origin), (1, Origin::Database));
    assert_eq!(node.allowed(&[("user", "a")], 3).await, 1);
    let second = node
        .limiter
        .put_rules(&who, "api", rules(json!([per_user(5)])), "they grew", Expected::Version(1))
        .await
        .unwrap();
    assert_eq!((second.version, second.written.unwrap().message.as_str()), (2, "they grew"));
    // What was counted stays.
    assert_eq!(node.allowed(&[("user", "a")], 9).await, 4);
    let third = node.limiter.roll_back(&who, "api", 1, "they shrank", Expected::Version(2)).await.unwrap();
    assert_eq!((third.version, &third.rules), (3, &first.rules));
    assert_eq!(third.written.unwrap().rolled_back_to, Some(1));
    assert_eq!(node.allowed(&[("user", "b")], 3).await, 1);
    assert_eq!(node.limiter.rules(&project(), "api").await.unwrap().rules, first.rules);
    let versions = node.limiter.versions(&project(), "api", None, 10).await.unwrap();
    let told: Vec<_> = versions.iter().map(|v| (v.version, v.rule_count, v.written.message.as_str())).collect();
    assert_eq!(told, [(3, 1, "they shrank"), (2, 1, "they grew"), (1, 1, "")]);
    assert_eq!(node.limiter.versions(&project(), "api", Some(2), 10).await.unwrap().len(), 1);
    let old = node.limiter.version(&project(), "api", 2).await.unwrap();
    assert_eq!(old.rules, rules(json!([per_user(5)])));
    assert!(matches!(node.limiter.version(&project(), "api", 9).await, Err(Error::VersionUnknown)));
    let gone = node.limiter.roll_back(&who, "api", 9, "", Expected::Any).await;
    assert!(matches!(gone, Err(Error::VersionUnknown)));
    let gone = node.limiter.roll_back(&who, "none", 1, "", Expected::Any).await;
    assert!(matches!(gone, Err(Error::DomainUnknown)));
    // Each change is in the audit log, and a refused one is not.
    let filter = access::AuditFilter { object: Some("api".to_owned()), ..access::AuditFilter::default() };
    let log = world.access.list_audit(&project(), &filter, &web::PageQuery::default()).await.unwrap();
    // All at one instant, so in no order.
    let mut actions: Vec<_> = log.items.iter().map(|entry| entry.action.as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["limits.rules.put", "limits.rules.put", "limits.rules.rollback"]);
    // No rules: nothing is limited.
    assert_eq!(node.put("api", json!([])).await.version, 4);
    assert_eq!(node.allowed(&[("user", "b")], 3).await, 3);
}

async fn a_change_replaces_only_what_its_author_saw(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let who = principal("default");
    let put = async |limit, expected| {
        node.limiter.put_rules(&who, "api", rules(json!([per_user(limit)])), "", expected).await.map(|set| set.version)
    };
    assert!(matches!(put(1, Expected::Version(1)).await, Err(Error::RulesChanged)));
    assert_eq!(put(1, Expected::Nothing).await.unwrap(), 1);
    assert!(matches!(put(2, Expected::Nothing).await, Err(Error::RulesChanged)));
    assert_eq!(put(2, Expected::Version(1)).await.unwrap(), 2);
    assert!(matches!(put(3, Expected::Version(1)).await, Err(Error::RulesChanged)));
    let stale = node.limiter.roll_back(&who, "api", 1, "", Expected::Version(1)).await;
    assert!(matches!(stale, Err(Error::RulesChanged)));
    assert_eq!(node.limiter.rules(&project(), "api").await.unwrap().version, 2);
}

async fn of_changes_at_once_one_wins(engine: Engine) {
    let world = World::new(engine).await;
    let (one, two) = (world.node().await, world.node().await);
    one.put("api", json!([per_user(1)])).await;
    let who = principal("default");
    for version in 1..10 {
        let expected = Expected::Version(version);
        let put = |node: &crate::world::Node, limit: u64| {
            let (limiter, who) = (node.limiter.clone(), who.clone());
            async move { limiter.put_rules(&who, "api", rules(json!([per_user(limit)])), "", expected).await }
        };
        let (a, b) = tokio::join!(put(&one, 10), put(&two, 20));
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let lost = if a.is_ok() { b } else { a };
        assert!(matches!(lost, Err(Error::RulesChanged)), "{lost:?}");
    }
    // Without an expectation both are written, one after the other.
    let put = |node: &crate::world::Node| {
        let (limiter, who) = (node.limiter.clone(), who.clone());
        async move { limiter.put_rules(&who, "api", rules(json!([per_user(3)])), "", Expected::Any).await.unwrap().version }
    };
    let (a, b) = tokio::join!(put(&one), put(&two));
    assert_eq!((a.min(b), a.max(b)), (11, 12));
}

async fn other_nodes_take_changes_within_a_second(engine: Engine) {
    let world = World::new(engine).await;
    let (one, two) = (world.node().await, world.node().await);
    let clock = kernel::Clock::system();
    two.limiter.start(&world.lifecycle.tasks(kernel::Stage::Blocks));
    // The clock of the nodes does not move: only a wake-up can tell.
    for limit in [3, 4, 5] {
        let began = clock.monotonic();
        one.put("api", json!([per_user(limit)])).await;
        let key = limit.to_string();
        crate::world::eventually("the other node has the rules", || async {
            let rules = two.limiter.rules(&project(), "api").await;
            rules.is_ok_and(|set| set.rules[0].limit.limit == limit)
        })
        .await;
        assert!(clock.monotonic().saturating_sub(began).as_millis() < 1000);
        assert_eq!(two.allowed(&[("user", &key)], 9).await, u32::try_from(limit).unwrap());
    }
    // A node that is not woken asks.
    let three = world.node().await;
    one.put("api", json!([per_user(6)])).await;
    assert_eq!(three.limiter.rules(&project(), "api").await.unwrap().version, 3);
    three.limiter.refresh().await.unwrap();
    assert_eq!(three.limiter.rules(&project(), "api").await.unwrap().version, 4);
}

async fn projects_are_apart_and_bounded(engine: Engine) {
    let world = World::new(engine).await;
    world.access.create_project(&principal("default"), "acme", None).await.unwrap();
    let node = world.node().await;
    let acme = ProjectId::parse("acme").unwrap();
    node.put("api", json!([per_user(1)])).await;
    let descriptors = [crate::world::descriptor(&[("user", "a")])];
    let check = crate::world::check(&descriptors, 1);
    assert_eq!(node.allowed(&[("user", "a")], 2).await, 1);
    assert!(node.limiter.check(&acme, &check).await.unwrap().decisions.is_empty(), "no rules of another project");
    let who = principal("acme");
    node.limiter.put_rules(&who, "api", rules(json!([per_user(1)])), "", Expected::Any).await.unwrap();
    assert!(node.limiter.check(&acme, &check).await.unwrap().is_allowed, "no counts of another project");
    assert!(!node.limiter.check(&acme, &check).await.unwrap().is_allowed);

    // 1,000 rules over all domains.
    let many = |count: usize| {
        let rule = |i| {
            let mut rule = per_user(1);
            rule["name"] = json!(format!("r{i}"));
            rule
        };
        rules((0..count).map(rule).collect())
    };
    node.limiter.put_rules(&who, "big", many(999), "", Expected::Any).await.unwrap();
    let full = node.limiter.put_rules(&who, "more", many(1), "", Expected::Any).await;
    assert!(matches!(full, Err(Error::RulesFull(_))), "{full:?}");
    node.limiter.put_rules(&who, "big", many(998), "", Expected::Any).await.unwrap();
    node.limiter.put_rules(&who, "more", many(1), "", Expected::Any).await.unwrap();
    let full = node.limiter.roll_back(&who, "big", 1, "", Expected::Any).await;
    assert!(matches!(full, Err(Error::RulesFull(_))), "{full:?}");
    let named: Vec<_> =
        node.limiter.domains(&acme).await.unwrap().into_iter().map(|d| (d.domain, d.rule_count)).collect();
    assert_eq!(named, [("api".to_owned(), 1), ("big".to_owned(), 998), ("more".to_owned(), 1)]);
    // Only administrators change the server's own limits.
    let mut member = principal("acme");
    member.is_admin = false;
    let refused = node.limiter.put_rules(&member, OWN_DOMAIN, rules(json!([])), "", Expected::Any).await;
    assert!(matches!(refused, Err(Error::DomainReserved)));
    let bad = node.limiter.put_rules(&who, "a b", rules(json!([])), "", Expected::Any).await;
    assert!(matches!(bad, Err(Error::RulesInvalid(_))));
}

async fn a_restart_knows_the_rules(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    // More than are read at once.
    for i in 0..20 {
        node.put(&format!("d{i}"), json!([per_user(i + 1)])).await;
    }
    node.put("d3", json!([per_user(100)])).await;
    let again = world.node().await;
    let named = again.limiter.domains(&project()).await.unwrap();
    assert_eq!(named.len(), 20);
    assert_eq!(again.limiter.rules(&project(), "d3").await.unwrap().rules, rules(json!([per_user(100)])));
    assert_eq!(again.limiter.rules(&project(), "d19").await.unwrap().version, 1);
}
