//! The document: put, looked back at, gone back to, followed by other nodes, read from a file, and kept on the machine.

use std::{fs, sync::Arc};

use gateway::{Error, Expected, Gateway, error, model::Origin};
use kernel::Problem;
use serde_json::{Value, json};

use super::world::{Engine, World, document, operator};

/// A document whose one route answers with this body.
fn saying(text: &str) -> Value {
    json!({ "routes": [{ "name": "hello", "respond": { "status": 200, "body": text } }] })
}

/// One upstream of two endpoints, and a route to it.
fn shop() -> Value {
    json!({
        "upstreams": [{ "name": "shop", "endpoints": [{ "address": "127.0.0.1:9001" }, { "address": "127.0.0.1:9002" }] }],
        "routes": [{ "name": "hello", "forward": { "to": [{ "upstream": "shop" }] }, "retry": {} }],
    })
}

async fn put(node: &Gateway, json: Value, expected: Expected) -> Result<i64, Error> {
    Ok(node.put(&operator(), document(json), "because", expected).await?.version)
}

fn names(node: &Gateway) -> Vec<String> {
    node.table().routes().iter().map(|route| route.name.to_string()).collect()
}

fn body(node: &Gateway) -> String {
    node.table().route("hello").unwrap().spec.respond.as_ref().map(|r| r.body.clone()).unwrap_or_default()
}

async fn versions_count_up_and_are_gone_back_to(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node("a").await;
    assert_eq!(names(&node), ["links"], "without a document the public listener serves short links");
    assert_eq!(node.table().origin, Origin::Default);

    assert_eq!(put(&node, saying("one"), Expected::Nothing).await.unwrap(), 1);
    assert!(matches!(put(&node, saying("x"), Expected::Nothing).await, Err(Error::Changed)));
    assert_eq!(put(&node, saying("two"), Expected::Version(1)).await.unwrap(), 2);
    assert!(matches!(put(&node, saying("x"), Expected::Version(1)).await, Err(Error::Changed)));
    assert_eq!(body(&node), "two", "what was refused is nowhere");

    let back = node.roll_back(&operator(), 1, "two was wrong", Expected::Version(2)).await.unwrap();
    assert_eq!((back.version, back.written.unwrap().rolled_back_to), (3, Some(1)));
    assert_eq!(body(&node), "one");
    assert!(matches!(node.roll_back(&operator(), 9, "", Expected::Any).await, Err(Error::VersionUnknown)));

    let versions = node.versions(None, 10).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [3, 2, 1]);
    let audit = world
        .access
        .list_audit(&operator().project, &access::AuditFilter::default(), &web::PageQuery { limit: 10, cursor: None })
        .await
        .unwrap();
    let mut actions: Vec<&str> = audit.items.iter().map(|e| e.action.as_str()).collect();
    // All within one millisecond of the clock.
    actions.sort_unstable();
    assert_eq!(actions, ["gateway.config.put", "gateway.config.put", "gateway.config.rollback"]);
}

async fn a_document_that_cannot_hold_changes_nothing(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node("a").await;
    put(&node, shop(), Expected::Any).await.unwrap();
    let before = node.table();
    let mut wrong = shop();
    wrong["upstreams"] = json!([{ "name": "other", "endpoints": [{ "address": "127.0.0.1:9009" }] }]);
    let Err(Error::Invalid(faults)) = put(&node, wrong, Expected::Any).await else { panic!("it was taken") };
    assert_eq!(faults[0].field, "/routes/0/forward/to/0/upstream");
    assert!(Arc::ptr_eq(&before, &node.table()));
    assert!(node.upstreams().get("shop").is_some() && node.upstreams().get("other").is_none());
    assert_eq!(node.newest_version().await.unwrap(), Some(1));

    let mut somebody = operator();
    somebody.is_admin = false;
    let refused = node.put(&somebody, document(saying("x")), "", Expected::Any).await;
    assert!(matches!(refused, Err(Error::NotOperator)));
}

async fn other_nodes_follow(engine: Engine) {
    let world = World::new(engine).await;
    let (a, b) = (world.node("a").await, world.node("b").await);
    let mut tables = b.tables();
    tables.mark_unchanged();
    b.start(&world.lifecycle.tasks(kernel::Stage::Systems));
    put(&a, shop(), Expected::Any).await.unwrap();
    // Woken by the database, not by its clock, which stands still.
    world.wait(tables.changed()).await.unwrap();
    assert_eq!((b.table().version, b.table().origin), (1, Origin::Database));

    // What did not change keeps its numbers and its budget.
    let stats = b.table().route("hello").unwrap().stats.clone();
    let mut again = shop();
    again["routes"][0]["description"] = json!("the shop");
    put(&a, again, Expected::Any).await.unwrap();
    world.wait(tables.changed()).await.unwrap();
    assert!(Arc::ptr_eq(&stats, &b.table().route("hello").unwrap().stats));

    // What was read before the newest was taken is left alone.
    world.set_head(1).await;
    a.refresh().await.unwrap();
    assert_eq!(a.table().version, 2);
    world.set_head(2).await;

    // Drained on one node, drained on all, and after a restart.
    a.set_drained(&operator(), "shop", "127.0.0.1:9001", true).await.unwrap();
    let draining = |node: &Gateway| -> Vec<bool> {
        node.upstream_state("shop").unwrap().endpoints.iter().map(|e| e.is_draining).collect()
    };
    assert_eq!(draining(&a), [true, false]);
    b.refresh_drains().await.unwrap();
    assert_eq!(draining(&b), [true, false]);
    let c = world.node("c").await;
    c.refresh_drains().await.unwrap();
    assert_eq!(draining(&c), [true, false]);
    a.set_drained(&operator(), "shop", "127.0.0.1:9001", false).await.unwrap();
    b.refresh_drains().await.unwrap();
    assert_eq!(draining(&b), [false, false]);
    let unknown = a.set_drained(&operator(), "shop", "127.0.0.1:1", true).await;
    assert!(matches!(unknown, Err(Error::EndpointUnknown)));
}

async fn what_a_node_cannot_use_leaves_it_with_what_held(engine: Engine) {
    let world = World::new(engine).await;
    let a = world.node("a").await;
    put(&a, saying("good"), Expected::Any).await.unwrap();
    // Another version of this program wrote something that this one does not know.
    let broken = a.versions(None, 1).await.unwrap();
    world.write_raw(2, r#"{"routes":[{"name":"hello","teleport":{}}]}"#).await;
    a.refresh().await.unwrap();
    assert_eq!((body(&a).as_str(), a.table().version), ("good", broken[0].version));
    assert!(a.trouble().unwrap().contains("teleport"), "{:?}", a.trouble());

    // Started anew it goes on with what held last on its machine; a node without one starts with nothing, and says why.
    let again = world.node("a").await;
    assert_eq!((body(&again).as_str(), again.table().origin), ("good", Origin::LastGood));
    assert!(again.trouble().is_some());
    let fresh = world.node("b").await;
    assert_eq!(names(&fresh), ["links"]);
    assert!(fresh.trouble().is_some());

    // The next version that can hold heals it.
    put(&again, saying("better"), Expected::Any).await.unwrap();
    assert_eq!((body(&again).as_str(), again.table().origin, again.trouble()), ("better", Origin::Database, None));
}

macro_rules! on_both_engines {
    ($($name:ident;)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Engine::Sqlite).await })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Engine::Postgres).await })+
        }
    };
}

on_both_engines! {
    versions_count_up_and_are_gone_back_to;
    a_document_that_cannot_hold_changes_nothing;
    other_nodes_follow;
    what_a_node_cannot_use_leaves_it_with_what_held;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_followed_and_a_wrong_one_changes_nothing() {
    let world = World::new(Engine::Sqlite).await;
    let path = world.data("gateway.toml");
    let file = path.to_str().unwrap();
    let refused: Problem = world.open("a", file).await.unwrap_err();
    assert_eq!(refused.code.name, error::CONFIG_FILE_INVALID.name);

    fs::write(&path, "[[routes]]\nname = \"hello\"\nrespond = { body = \"one\" }\n").unwrap();
    let node = world.open("a", file).await.unwrap();
    assert_eq!((body(&node).as_str(), node.table().origin), ("one", Origin::File));
    assert!(matches!(put(&node, saying("x"), Expected::Any).await, Err(Error::InFile)));
    assert!(!node.refresh_file().await, "nothing changed");

    for (text, why) in [
        ("[[routes]]\nname = \"hello\"\nrespond = { body = 1 }\n", "routes[0].respond.body: invalid type"),
        ("[[routes]]\nname = \"hello\"\n", "routes[0]: exactly one of forward"),
        ("[[routes]\n", "line 1:"),
    ] {
        fs::write(&path, text).unwrap();
        assert!(!node.refresh_file().await);
        assert!(node.trouble().unwrap().contains(why), "{:?}", node.trouble());
        assert_eq!(body(&node), "one");
    }
    // A start with the wrong file goes on with what held.
    let again = world.open("a", file).await.unwrap();
    assert_eq!((body(&again).as_str(), again.table().origin), ("one", Origin::LastGood));

    fs::write(&path, "[[routes]]\nname = \"hello\"\nrespond = { body = \"second\" }\n").unwrap();
    assert!(again.refresh_file().await);
    assert_eq!((body(&again).as_str(), again.trouble()), ("second", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_explanation_says() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node("a").await;
    let json = json!({
        "upstreams": [{ "name": "shop", "endpoints": [{ "address": "127.0.0.1:9001" }] }],
        "policies": [{ "name": "office", "addresses": { "allow": ["10.0.0.0/8"] } }],
        "routes": [
            { "name": "cart", "match": { "hosts": ["shop.example.com"], "path": { "pattern": "/cart/{id}" }, "methods": ["GET"] },
              "policies": ["office"], "forward": { "to": [{ "upstream": "shop" }] } },
            { "name": "rest", "respond": { "status": 404 } },
        ],
    });
    put(&node, json, Expected::Any).await.unwrap();
    let ask = |method: &str, url: &str| {
        node.explain(&gateway::Question { method: method.to_owned(), url: url.to_owned(), headers: Vec::new() })
    };
    let told = ask("GET", "https://Shop.example.com:8443/x/../cart//7?a=1").unwrap();
    assert_eq!(
        (told.route.as_deref(), told.path.as_str(), told.host.as_str()),
        (Some("cart"), "/cart/7", "shop.example.com")
    );
    assert_eq!(told.captures[0].value, "7");
    assert!(
        told.steps.iter().any(|s| s.step == "policy" && s.about.starts_with("office (addresses)")),
        "{:?}",
        told.steps
    );
    assert_eq!(told.upstreams, ["shop"]);
    let told = ask("POST", "https://shop.example.com/cart/7").unwrap();
    assert_eq!(told.route.as_deref(), Some("rest"));
    assert_eq!(told.tried[0].why, "the method is not GET");
    assert!(matches!(ask("GET", "https://shop.example.com/../x"), Err(Error::Explain { .. })));
    assert!(matches!(ask("GET", "/cart/7"), Err(Error::Explain { .. })));
}

/// Whoever copies the first example gets a gateway.
#[test]
fn the_documentation_s_document_can_hold() {
    let text = include_str!("../../../../docs/gateway.md");
    let toml = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let document = gateway::parse_file(toml).unwrap();
    let found = gateway::model::check(&document, &["links"]);
    assert_eq!((found.errors, found.warnings), (Vec::new(), Vec::new()));
    assert_eq!(document.routes.len(), 4);
    // What is written can be read again.
    let json = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<gateway::model::Document>(&json).unwrap(), document);
}
