//! The API, as its clients see it.

use std::time::Duration;

use ::http::{Method, Request, header};
use access::Caller;
use axum::{Extension, Router, body::Body};
use http_body_util::BodyExt as _;
use identity::{Principal, Scope, Scopes};
use kernel::{Clock, ProjectId, Rng, Shutdown};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{Engine, Node, World, beating, principal};

/// The routes as a key with these scopes sees them.
pub(crate) fn as_key(node: &Node, scopes: &[&str]) -> Router {
    let scopes = Scopes::new(scopes.iter().map(|s| s.parse::<Scope>().unwrap())).unwrap();
    let id = identity::ApiKey::generate(&Clock::system(), &Rng::seeded(3)).id();
    let principal = Principal::of_key(ProjectId::default_project(), id, "test", scopes);
    let shutdown = Shutdown::new();
    let routes = discovery::http::routes(node.discovery.clone(), shutdown.clone());
    let bare = discovery::http::bare_routes(node.discovery.clone(), shutdown);
    routes.merge(bare).layer(Extension(Caller::new(principal)))
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

pub(crate) async fn send(app: &Router, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    let body = match body {
        Some(json) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(json.to_string())
        }
        None => Body::empty(),
    };
    let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn get(app: &Router, path: &str) -> Value {
    let answer = send(app, Method::GET, path, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

#[tokio::test]
async fn an_instance_comes_lives_drains_and_goes() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, &["discovery:write"]);
    let spec = json!({
        "service": "shop", "address": "10.0.0.7", "port": 8080, "zone": "a", "tags": ["v2"], "meta": {"owner": "web"},
        "weight": 3, "checks": [{"kind": "ttl", "ttl": "15s"}],
    });
    let path = "/v1/discovery/instances/shop-1";
    let put = send(&app, Method::PUT, path, Some(spec.clone())).await;
    assert_eq!(put.status, 201, "{}", put.body);
    assert_eq!(send(&app, Method::PUT, path, Some(spec)).await.status, 200);
    let one = get(&app, path).await;
    assert_eq!(one["health"], "passing");
    assert_eq!(one["checks"][0]["id"], "service:shop-1");
    assert_eq!(one["node"], "10.0.0.7");
    let shop = get(&app, "/v1/discovery/services/shop").await;
    assert_eq!(shop["instances"][0]["id"], "shop-1");
    assert_eq!((&shop["guard"], &shop["index"]), (&json!("none"), &one["index"]));
    for (query, count) in [("tag=v2", 1), ("tag=v1", 0), ("zone=a", 1), ("zone=b", 0), ("which=all&tag=v2", 1)] {
        let found = get(&app, &format!("/v1/discovery/services/shop?{query}")).await;
        assert_eq!(found["instances"].as_array().unwrap().len(), count, "{query}");
    }
    let beat = send(&app, Method::POST, &format!("{path}/heartbeat"), Some(json!({}))).await.json();
    assert_eq!(beat, json!({"health": "passing", "is_damped": false, "is_draining": false, "ttl_ms": 15_000}));
    let body = json!({"health": "critical", "output": "no disk left"});
    send(&app, Method::POST, &format!("{path}/heartbeat"), Some(body)).await;
    assert_eq!(get(&app, path).await["checks"][0]["output"], "no disk left");
    send(&app, Method::POST, &format!("{path}/heartbeat"), Some(json!({}))).await;
    let drained = send(&app, Method::POST, &format!("{path}/drain"), Some(json!({"reason": "upgrade"}))).await.json();
    assert_eq!(drained["drain"]["reason"], "upgrade");
    let list = get(&app, "/v1/discovery/services").await;
    assert_eq!(list["items"][0]["well_count"], 0);
    assert_eq!(list["items"][0]["guard"], "draining");
    let back = send(&app, Method::DELETE, &format!("{path}/drain"), None).await.json();
    assert_eq!(back["drain"], Value::Null);
    let gone = send(&app, Method::DELETE, path, None).await;
    assert_eq!(gone.status, 200);
    assert_eq!(send(&app, Method::GET, path, None).await.status, 404);
    let none = get(&app, "/v1/discovery/services/shop").await;
    assert_eq!((&none["instances"], &none["index"]), (&json!([]), &gone.json()["index"]));
    let status = get(&app, "/v1/discovery/status").await;
    assert_eq!((&status["nodes"][0]["name"], &status["expiry_suspended"]), (&json!("n1"), &Value::Null));
}

#[tokio::test]
async fn bad_input_is_refused_by_its_field() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, &["discovery:write"]);
    let put = async |id: &str, spec: Value| {
        send(&app, Method::PUT, &format!("/v1/discovery/instances/{id}"), Some(spec)).await
    };
    for (id, spec, status, field) in [
        ("a", json!({}), 400, "service"),
        ("a", json!({"service": "shop", "colour": "red"}), 400, "colour"),
        ("a", json!({"service": "shop", "address": "10.0.0.1", "port": 70000}), 400, "port"),
        ("a", json!({"service": "a/b", "address": "10.0.0.1"}), 422, "/service"),
        ("a", json!({"service": "shop", "address": "http://x"}), 422, "/address"),
        ("a", json!({"service": "shop"}), 422, "/address"),
        ("a%20b", json!({"service": "shop", "address": "10.0.0.1"}), 422, "id"),
        ("a", json!({"service": "shop", "address": "10.0.0.1", "checks": [{"kind": "ttl"}]}), 422, "/checks/0/ttl"),
        ("a", json!({"service": "shop", "address": "10.0.0.1", "checks": [{"kind": "ping"}]}), 400, "kind"),
        ("a", json!({"service": "shop", "address": "10.0.0.1", "checks": [{"kind": "tcp"}]}), 422, "/checks/0/port"),
    ] {
        let answer = put(id, spec.clone()).await;
        assert_eq!(answer.status, status, "{spec}: {}", answer.body);
        assert!(answer.body.contains(field), "{field}: {}", answer.body);
    }
    for (path, status) in [
        ("/v1/discovery/services/shop?index=x", 400),
        ("/v1/discovery/services/shop?wait=soon", 400),
        ("/v1/discovery/services/shop?which=some", 400),
        ("/v1/discovery/services?cursor=abc", 400),
        ("/v1/discovery/instances/none", 404),
    ] {
        assert_eq!(send(&app, Method::GET, path, None).await.status, status, "{path}");
    }
    let path = "/v1/discovery/instances/none/heartbeat";
    assert_eq!(send(&app, Method::POST, path, Some(json!({}))).await.json()["code"], "DISCOVERY_INSTANCE_UNKNOWN");
    put("plain", json!({"service": "shop", "address": "10.0.0.1"})).await;
    let path = "/v1/discovery/instances/plain/heartbeat";
    assert_eq!(send(&app, Method::POST, path, Some(json!({}))).await.json()["code"], "DISCOVERY_CHECK_UNKNOWN");
    // A key that only reads.
    let reader = as_key(&node, &["discovery:read"]);
    let path = "/v1/discovery/instances/plain";
    assert_eq!(send(&reader, Method::GET, path, None).await.status, 200);
    assert_eq!(send(&reader, Method::DELETE, path, None).await.status, 403);
    assert_eq!(send(&as_key(&node, &["links:read"]), Method::GET, path, None).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_with_an_index_waits_for_news() {
    let world = World::new(Engine::Sqlite).await;
    let clock = Clock::system();
    let node = world.node_on("n1", world.memory.clone(), clock.clone()).await;
    let app = as_key(&node, &["discovery:read"]);
    node.register("a", beating(1, 60)).await;
    let index = get(&app, "/v1/discovery/services/shop").await["index"].as_i64().unwrap();
    // Nothing new: the answer comes when the wait is over.
    let since = clock.monotonic();
    let same = get(&app, &format!("/v1/discovery/services/shop?index={index}&wait=50ms")).await;
    assert_eq!(same["index"], index);
    assert!(clock.monotonic().saturating_sub(since) >= Duration::from_millis(50));
    // News while it waits.
    let path = format!("/v1/discovery/services/shop?index={index}&wait=30s");
    let (answer, ()) = tokio::join!(get(&app, &path), async {
        crate::world::eventually("it waits", || async { node.discovery.overview().watcher_count == 1 }).await;
        node.register("b", beating(2, 60)).await;
    });
    assert_eq!(answer["instances"].as_array().unwrap().len(), 2);
    assert!(answer["index"].as_i64().unwrap() > index);
    // An index from elsewhere is news at once.
    get(&app, "/v1/discovery/services/shop?index=999999&wait=30s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_wait_than_may() {
    let mut world = World::new(Engine::Sqlite).await;
    world.config.max_watchers = 2;
    let node = world.node_on("n1", world.memory.clone(), Clock::system()).await;
    let first = node.discovery.subscribe(&crate::world::project(), "a").unwrap();
    let _second = node.discovery.subscribe(&crate::world::project(), "a").unwrap();
    let app = as_key(&node, &["discovery:read"]);
    node.register("x", beating(1, 60)).await;
    let refused = send(&app, Method::GET, "/v1/discovery/services/shop?index=1", None).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("DISCOVERY_WATCHERS_FULL")));
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    drop(first);
    get(&app, "/v1/discovery/services/shop?index=1&wait=1ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_each_state() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node_on("n1", world.memory.clone(), Clock::system()).await;
    let app = as_key(&node, &["discovery:read"]);
    node.register("a", beating(1, 60)).await;
    let request = Request::get("/v1/discovery/services/shop/events").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || {
        let frame = Clock::system().timeout(Duration::from_secs(10), body.frame()).await.expect("an event");
        String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
    };
    let first = next().await;
    assert!(first.starts_with("event: service\nid: ") && first.contains("\"id\":\"a\""), "{first}");
    node.discovery.deregister(&principal("default"), "a").await.unwrap();
    let second = next().await;
    assert!(second.contains("\"instances\":[]"), "{second}");
    // Who comes back with what it has seen hears only news.
    let id = second.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let request = Request::get("/v1/discovery/services/shop/events").header("last-event-id", id);
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let frame = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&frame[..], b":\n\n");
}
