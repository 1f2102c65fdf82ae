//! The API, as its clients see it.

use ::http::{Method, Request, header};
use access::Caller;
use axum::{Extension, Router, body::Body};
use http_body_util::BodyExt as _;
use identity::{Principal, Scope, Scopes};
use kernel::{Clock, ProjectId, Rng};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{Engine, Node, World, per_user};

/// The routes as a key with these scopes sees them.
fn as_key(node: &Node, scopes: &[&str]) -> Router {
    let scopes = Scopes::new(scopes.iter().map(|s| s.parse::<Scope>().unwrap())).unwrap();
    let id = identity::ApiKey::generate(&Clock::system(), &Rng::seeded(3)).id();
    let principal = Principal::of_key(ProjectId::default_project(), id, "test", scopes);
    let routes = limiter::http::routes(node.limiter.clone());
    routes.merge(limiter::http::bare_routes(node.limiter.clone())).layer(Extension(Caller::new(principal)))
}

struct Answer {
    status: u16,
    headers: ::http::HeaderMap,
    json: Value,
}

async fn send(app: &Router, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
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
    let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: parts.status.as_u16(), headers: parts.headers, json }
}

async fn post(app: &Router, path: &str, body: Value) -> Answer {
    send(app, Method::POST, path, &[], Some(body)).await
}

const RULES: &str = "/v1/limits/rules/api";
const CHECK: &str = "/v1/limits/check";

#[tokio::test]
async fn a_check_and_a_batch() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, &["limits:admin"]);
    let put = send(&app, Method::PUT, RULES, &[], Some(json!({ "rules": [per_user(2)] }))).await;
    assert_eq!(put.status, 200);
    let ask = json!({ "domain": "api", "descriptors": [{ "entries": { "user": "a", "route": "/" } }] });
    let decision = |allowed: bool, remaining: u64, retry: Value| {
        json!({
            "is_allowed": allowed, "retry_after_ms": retry,
            "decisions": [{
                "descriptor": 0, "rule": "per-user", "limit": 2, "window_ms": 60_000, "is_allowed": allowed, "is_shadow": false,
                "remaining": remaining, "reset_after_ms": 60_000, "retry_after_ms": retry, "source": "exact",
            }],
        })
    };
    for (allowed, remaining, retry) in [(true, 1, Value::Null), (true, 0, Value::Null), (false, 0, json!(60_000))] {
        let answer = post(&app, CHECK, ask.clone()).await;
        assert_eq!((answer.status, answer.json), (200, decision(allowed, remaining, retry)));
    }
    assert_eq!(post(&app, "/v1/limits/peek", ask.clone()).await.json, decision(false, 0, json!(60_000)));
    // A batch: each by itself; one that cannot be decided spoils no other.
    let one = |user: &str, cost: u64| json!({ "domain": "api", "descriptors": [{ "entries": { "user": user } }], "cost": cost });
    let batch =
        post(&app, CHECK, json!({ "checks": [one("a", 1), one("b", 2), one("c", 2_000_000_000), one("c", 1)] })).await;
    assert_eq!(batch.status, 200);
    let results = batch.json["results"].as_array().unwrap();
    assert_eq!(
        results.iter().map(|r| r["is_allowed"].as_bool()).collect::<Vec<_>>(),
        [Some(false), Some(true), None, Some(true)]
    );
    assert_eq!(results[2]["error"]["code"], "LIMITER_CHECK_INVALID");
    // A domain without rules limits nothing.
    let free = post(&app, CHECK, json!({ "domain": "none", "descriptors": [] })).await;
    assert_eq!(free.json, json!({ "is_allowed": true, "retry_after_ms": null, "decisions": [] }));
    // A limit that comes with it, its own cost, and Envoy's way of matching.
    let own = json!({
        "domain": "api", "matching": "exact", "cost": 7,
        "descriptors": [{ "entries": { "ip": "::1" }, "cost": 3, "limit": { "limit": 5, "window": "1h" } }],
    });
    let answer = post(&app, CHECK, own).await;
    assert_eq!(
        (answer.json["decisions"][0]["remaining"].as_u64(), answer.json["decisions"][0]["rule"].as_str()),
        (Some(2), Some("(asked)"))
    );
    let stats = send(&app, Method::GET, "/v1/limits/stats", &[], None).await;
    let counted = stats.json["rules"].as_array().unwrap().iter().find(|r| r["rule"] == "per-user").unwrap();
    assert_eq!((counted["allowed"].as_u64(), counted["refused"].as_u64()), (Some(4), Some(2)));
    assert_eq!(
        stats.json["top_refused"][0],
        json!({ "domain": "api", "rule": "per-user", "key": "user=a", "count": 2, "overcount": 0 })
    );
    assert_eq!(stats.json["down_since"], Value::Null);
}

#[tokio::test]
async fn a_reservation_from_begin_to_end() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, &["limits:admin"]);
    send(&app, Method::PUT, RULES, &[], Some(json!({ "rules": [per_user(100)] }))).await;
    let ask = json!({ "domain": "api", "descriptors": [{ "entries": { "user": "a" } }], "cost": 60, "lease_ms": 5000 });
    let reserved = post(&app, "/v1/limits/reserve", ask.clone()).await;
    assert_eq!((reserved.status, reserved.json["is_allowed"].as_bool()), (200, Some(true)));
    let refused = post(&app, "/v1/limits/reserve", ask).await;
    assert_eq!((refused.json["is_allowed"].as_bool(), &refused.json["reservation"]), (Some(false), &Value::Null));
    let settle = json!({ "reservation": reserved.json["reservation"], "actual_cost": 10 });
    let settled = post(&app, "/v1/limits/settle", settle.clone()).await;
    assert_eq!(settled.json, json!({ "is_first": true, "reserved": 60, "charged": 10 }));
    assert_eq!(post(&app, "/v1/limits/settle", settle.clone()).await.json["is_first"], false);
    world.sim.advance(std::time::Duration::from_secs(5));
    let late = post(&app, "/v1/limits/settle", settle).await;
    assert_eq!((late.status, late.json["code"].as_str()), (409, Some("LIMITER_RESERVATION_EXPIRED")));
    let forged = post(&app, "/v1/limits/settle", json!({ "reservation": "AAAA", "actual_cost": 0 })).await;
    assert_eq!((forged.status, forged.json["code"].as_str()), (422, Some("LIMITER_RESERVATION_INVALID")));
}

#[tokio::test]
async fn rules_from_the_first_version_to_a_rollback() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, &["limits:admin"]);
    assert_eq!(send(&app, Method::GET, RULES, &[], None).await.json["code"], "LIMITER_DOMAIN_UNKNOWN");
    let put = async |headers: &[(&str, &str)], rules: Value, message: &str| {
        send(&app, Method::PUT, RULES, headers, Some(json!({ "rules": rules, "message": message }))).await
    };
    let too_soon = put(&[("if-match", "\"v1\"")], json!([per_user(1)]), "").await;
    assert_eq!((too_soon.status, too_soon.json["code"].as_str()), (412, Some("LIMITER_RULES_CHANGED")));
    let first = put(&[("if-none-match", "*")], json!([per_user(1)]), "begin").await;
    assert_eq!((first.status, first.headers[header::ETAG].to_str().unwrap()), (200, "\"v1\""));
    let written =
        json!({ "by": "test", "at": crate::world::START.to_string(), "message": "begin", "rolled_back_to": null });
    assert_eq!(
        first.json,
        json!({ "domain": "api", "origin": "database", "version": 1, "written": written, "rules": [per_user(1)] })
    );
    assert_eq!(put(&[("if-none-match", "*")], json!([]), "").await.status, 412);
    let mut other = per_user(1);
    other["name"] = json!("other");
    let second = put(&[("if-match", "\"v1\"")], json!([per_user(2), other]), "more").await;
    assert_eq!((second.status, second.json["version"].as_i64()), (200, Some(2)));
    assert_eq!(put(&[("if-match", "\"v1\"")], json!([]), "").await.status, 412);
    let read = send(&app, Method::GET, RULES, &[], None).await;
    assert_eq!((&read.json, read.headers[header::ETAG].to_str().unwrap()), (&second.json, "\"v2\""));
    assert_eq!(send(&app, Method::GET, RULES, &[("if-none-match", "\"v2\"")], None).await.status, 304);
    let list = send(&app, Method::GET, "/v1/limits/rules", &[], None).await;
    assert_eq!(list.json["items"], json!([{ "domain": "api", "origin": "database", "version": 2, "rule_count": 2 }]));
    let diff = send(&app, Method::GET, "/v1/limits/rules/api/diff?from=1", &[], None).await;
    assert_eq!(
        diff.json,
        json!({ "added": [other], "removed": [], "changed": [{ "before": per_user(1), "after": per_user(2) }] })
    );
    let back = json!({ "version": 1, "message": "too many" });
    let stale =
        send(&app, Method::POST, &format!("{RULES}/rollback"), &[("if-match", "\"v1\"")], Some(back.clone())).await;
    assert_eq!(stale.status, 412);
    let third = send(&app, Method::POST, &format!("{RULES}/rollback"), &[("if-match", "\"v2\"")], Some(back)).await;
    assert_eq!((third.json["version"].as_i64(), &third.json["rules"]), (Some(3), &first.json["rules"]));
    assert_eq!(third.json["written"]["rolled_back_to"], 1);
    let diff = send(&app, Method::GET, "/v1/limits/rules/api/diff?from=2&to=3", &[], None).await;
    assert_eq!(diff.json["removed"], json!([other]));
    let page = send(&app, Method::GET, "/v1/limits/rules/api/versions?limit=2", &[], None).await;
    assert_eq!(
        page.json["items"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect::<Vec<_>>(),
        [3, 2]
    );
    let next = format!("{RULES}/versions?limit=2&cursor={}", page.json["next_cursor"].as_str().unwrap());
    let page = send(&app, Method::GET, &next, &[], None).await;
    assert_eq!((page.json["items"][0]["version"].as_i64(), &page.json["next_cursor"]), (Some(1), &Value::Null));
    let old = send(&app, Method::GET, "/v1/limits/rules/api/versions/2", &[], None).await;
    assert_eq!(old.json["rules"], second.json["rules"]);
    let gone = send(&app, Method::GET, "/v1/limits/rules/api/versions/9", &[], None).await;
    assert_eq!((gone.status, gone.json["code"].as_str()), (404, Some("LIMITER_VERSION_UNKNOWN")));
}

#[tokio::test]
async fn bad_input_is_refused_by_its_field() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, &["limits:admin"]);
    let bad = async |method: Method, path: &str, body: Value| {
        let answer = send(&app, method, path, &[], Some(body.clone())).await;
        let error = &answer.json["errors"][0];
        let at = error["pointer"].as_str().or(error["parameter"].as_str()).unwrap_or_default().to_owned();
        (answer.status, answer.json["code"].as_str().unwrap_or_default().to_owned(), at)
    };
    let entries = |entries: Value| json!({ "domain": "api", "descriptors": [{ "entries": entries }] });
    for (body, status, code, at) in [
        (json!("api"), 400, "INVALID_JSON", "#"),
        (json!({}), 422, "LIMITER_CHECK_INVALID", "#/domain"),
        (json!({ "domain": "api", "descriptor": [] }), 400, "INVALID_JSON", "#/descriptor"),
        (entries(json!({ "user": 5 })), 400, "INVALID_JSON", "#/descriptors/0/entries/user"),
        (entries(json!([])), 400, "INVALID_JSON", "#/descriptors/0/entries"),
        (json!({ "domain": "api", "descriptors": [], "cost": -1 }), 400, "INVALID_JSON", "#/cost"),
        (json!({ "domain": "api", "descriptors": [], "cost": 1_000_000_001 }), 200, "", ""),
        (
            json!({ "domain": "api", "descriptors": [{}], "cost": 1_000_000_001 }),
            422,
            "LIMITER_CHECK_INVALID",
            "#/cost",
        ),
        (json!({ "domain": "api", "descriptors": vec![json!({}); 33] }), 422, "LIMITER_CHECK_INVALID", "#/descriptors"),
        (json!({ "domain": "api", "checks": [] }), 422, "LIMITER_CHECK_INVALID", "#/domain"),
        (
            json!({ "checks": vec![json!({ "domain": "a", "descriptors": [] }); 1001] }),
            422,
            "LIMITER_CHECK_INVALID",
            "#/checks",
        ),
        (
            json!({ "domain": "a", "descriptors": [{ "limit": { "limit": 1, "window": "1 y" } }] }),
            400,
            "INVALID_JSON",
            "#/descriptors/0/limit/window",
        ),
    ] {
        assert_eq!(bad(Method::POST, CHECK, body.clone()).await, (status, code.to_owned(), at.to_owned()), "{body}");
    }
    let twice = Request::post(CHECK)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(r#"{"domain":"api","descriptors":[{"entries":{"user":"a","user":"b"}}]}"#))
        .unwrap();
    assert_eq!(app.clone().oneshot(twice).await.unwrap().status(), 400);
    let plain = Request::post(CHECK).body(Body::from("{}")).unwrap();
    assert_eq!(app.clone().oneshot(plain).await.unwrap().status(), 415);

    // Every rule for rules.
    let w = || json!({ "algorithm": "fixed_window", "limit": 5, "window": "1m" });
    let rule = |change: fn(&mut Value)| {
        let mut rule = json!({ "name": "r", "keys": [{ "key": "user", "value": "a*" }], "limit": { "algorithm": "fixed_window", "limit": 5, "window": "1m" } });
        change(&mut rule);
        rule
    };
    for (rule, at) in [
        (rule(|r| r["name"] = json!("a b")), "name"),
        (rule(|r| r["name"] = json!("")), "name"),
        (rule(|r| r["description"] = json!("x".repeat(501))), "description"),
        (rule(|r| r["keys"] = json!(vec![json!({ "key": "k" }); 9])), "keys"),
        (rule(|r| r["keys"] = json!([{ "key": "" }])), "keys/0/key"),
        (rule(|r| r["keys"] = json!([{ "key": "k" }, { "key": "k" }])), "keys/1/key"),
        (rule(|r| r["keys"][0]["value"] = json!("a*b")), "keys/0/value"),
        (rule(|r| r["keys"][0]["value"] = json!("a**")), "keys/0/value"),
        (rule(|r| r["keys"][0]["value"] = json!("")), "keys/0/value"),
        (rule(|r| r["limit"]["limit"] = json!(1_000_000_001)), "limit/limit"),
        (rule(|r| r["limit"]["window"] = json!("99ms")), "limit/window"),
        (rule(|r| r["limit"]["window"] = json!("367d")), "limit/window"),
        (rule(|r| r["limit"]["period"] = json!("1m")), "limit/period"),
        (rule(|r| r["limit"]["burst"] = json!(5)), "limit/burst"),
        (rule(|r| r["limit"]["lease"] = json!("5s")), "limit/lease"),
        (rule(|r| r["limit"]["calendar"] = json!({ "unit": "day" })), "limit/calendar"),
        (rule(|r| r["limit"] = json!({ "algorithm": "gcra", "limit": 5 })), "limit/period"),
        (rule(|r| r["limit"] = json!({ "algorithm": "gcra", "limit": 5, "period": "1m", "burst": 0 })), "limit/burst"),
        (rule(|r| r["limit"] = json!({ "algorithm": "sliding_log", "limit": 10_001, "window": "1m" })), "limit/limit"),
        (rule(|r| r["limit"] = json!({ "algorithm": "calendar", "limit": 5 })), "limit/calendar"),
        (
            rule(|r| {
                r["limit"] =
                    json!({ "algorithm": "calendar", "limit": 5, "calendar": { "unit": "day", "zone": "Mars" } });
            }),
            "limit/calendar/zone",
        ),
        (rule(|r| r["limit"] = json!({ "algorithm": "concurrency", "limit": 5, "lease": "2d" })), "limit/lease"),
        (
            rule(|r| {
                r["limit"] = json!({ "algorithm": "token_bucket", "limit": 1, "period": "366d", "burst": 1_000_000 });
            }),
            "limit",
        ),
        (rule(|r| r["cost_from"] = json!("")), "cost_from"),
        (rule(|r| r["sharing"] = json!({ "leased": 51 })), "sharing"),
        (rule(|r| r["sharing"] = json!({ "leased": 0 })), "sharing"),
        (rule(|r| r["overrides"] = json!([{ "values": { "user": "ab" } }])), "overrides/0"),
        (
            rule(|r| {
                r["overrides"] = json!([{ "values": { "user": "ab" }, "is_blocked": true, "is_unlimited": true }]);
            }),
            "overrides/0",
        ),
        (rule(|r| r["overrides"] = json!([{ "values": {}, "is_blocked": true }])), "overrides/0/values"),
        (
            rule(|r| r["overrides"] = json!([{ "values": { "host": "x" }, "is_blocked": true }])),
            "overrides/0/values/host",
        ),
        (
            rule(|r| r["overrides"] = json!([{ "values": { "user": "b" }, "is_blocked": true }])),
            "overrides/0/values/user",
        ),
        (
            rule(|r| r["overrides"] = json!(vec![json!({ "values": { "user": "ab" }, "is_blocked": true }); 2])),
            "overrides/1/values",
        ),
        (
            rule(|r| {
                r["overrides"] =
                    json!([{ "values": { "user": "ab" }, "limit": { "algorithm": "concurrency", "limit": 1 } }]);
            }),
            "overrides/0/limit/algorithm",
        ),
    ] {
        let found = bad(Method::PUT, RULES, json!({ "rules": [{ "name": "fine", "limit": w() }, rule.clone()] })).await;
        assert_eq!(found, (422, "LIMITER_RULES_INVALID".to_owned(), format!("#/rules/1/{at}")), "{rule}");
    }
    let twice = json!({ "rules": [{ "name": "r", "limit": w() }, { "name": "r", "limit": w() }] });
    assert_eq!(bad(Method::PUT, RULES, twice).await.2, "#/rules/1/name");
    let unknown = json!({ "rules": [{ "name": "r", "limit": { "algorithm": "leaky", "limit": 1 } }] });
    assert_eq!(
        bad(Method::PUT, RULES, unknown).await,
        (400, "INVALID_JSON".to_owned(), "#/rules/0/limit/algorithm".to_owned())
    );
    assert_eq!(bad(Method::PUT, "/v1/limits/rules/a%20b", json!({ "rules": [] })).await.2, "domain");
    let long = json!({ "rules": [], "message": "x".repeat(501) });
    assert_eq!(bad(Method::PUT, RULES, long).await.2, "#/message");
    assert_eq!(send(&app, Method::GET, RULES, &[], None).await.status, 404, "nothing was written");
}

#[tokio::test]
async fn scopes_are_asked_for() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let ask = json!({ "domain": "api", "descriptors": [] });
    let put = json!({ "rules": [] });
    let settle = json!({ "reservation": "", "actual_cost": 0 });
    for (scope, statuses) in [
        ("links:admin", [403, 403, 403, 403, 403, 403, 403, 403]),
        ("limits:read", [200, 200, 200, 403, 403, 403, 403, 403]),
        ("limits:write", [200, 200, 200, 200, 200, 422, 403, 403]),
        ("limits:admin", [200, 200, 200, 200, 200, 422, 200, 403]),
        ("*", [200, 200, 200, 200, 200, 422, 200, 200]),
    ] {
        let app = as_key(&node, &[scope]);
        let mut found = Vec::new();
        for (method, path, body) in [
            (Method::GET, "/v1/limits/rules", None),
            (Method::GET, "/v1/limits/stats", None),
            (Method::POST, "/v1/limits/peek", Some(&ask)),
            (Method::POST, CHECK, Some(&ask)),
            (Method::POST, "/v1/limits/reserve", Some(&ask)),
            (Method::POST, "/v1/limits/settle", Some(&settle)),
            (Method::PUT, RULES, Some(&put)),
            (Method::PUT, "/v1/limits/rules/mainstay", Some(&put)),
        ] {
            found.push(send(&app, method, path, &[], body.cloned()).await.status);
        }
        assert_eq!(found, statuses, "{scope}");
    }
}
