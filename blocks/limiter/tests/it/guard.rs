//! Limits in front of routes.

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
use http::{HeaderName, Request, Response};
use limiter::http::{headers::Form, middleware::Guard};
use serde_json::json;
use tower::ServiceExt as _;

use crate::world::{Engine, World, rules};

async fn ask(router: &Router, address: &str, user: &str) -> Response<Body> {
    let mut request = Request::get("/things").header("x-user", user).body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address.parse().unwrap(), 4711)));
    router.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn a_guard_refuses_with_a_problem_and_tells_what_is_left() {
    let mut world = World::new(Engine::Sqlite).await;
    let limit = |n: u64| json!({ "algorithm": "fixed_window", "limit": n, "window": "1m" });
    world.built_in = rules(json!([
        { "name": "address", "keys": [{ "key": "address" }], "limit": limit(2) },
        { "name": "user", "keys": [{ "key": "user" }, { "key": "route", "value": "/things" }], "limit": limit(3) },
    ]));
    let node = world.node().await;
    let guard = Guard::new(node.limiter, limiter::OWN_DOMAIN)
        .form(Form::WithX)
        .user_header(HeaderName::from_static("x-user"))
        .exempt(|request| request.uri().path() == "/free");
    let routes = Router::new().route("/things", get(async || "ok")).route("/free", get(async || "ok"));
    let router = guard.around(routes);
    // Two addresses of one /64 are one; another user does not help, another address does, until the user's own limit.
    for (address, user, status, remaining) in [
        ("2001:db8::1", "ann", 200, "1"),
        ("2001:db8::2", "ann", 200, "0"),
        ("2001:db8::3", "bob", 429, "0"),
        ("192.0.2.1", "ann", 200, "0"),
        ("192.0.2.2", "ann", 429, "0"),
        ("192.0.2.2", "bob", 200, "1"),
    ] {
        let answer = ask(&router, address, user).await;
        let header = |name: &str| answer.headers().get(name).map_or("", |v| v.to_str().unwrap());
        assert_eq!(
            (answer.status().as_u16(), header("x-ratelimit-remaining")),
            (status, remaining),
            "{address} {user}"
        );
        assert!(header("ratelimit").contains(";r=") && header("ratelimit-policy").contains(";w=60"));
        assert_eq!(header("retry-after"), if status == 429 { "60" } else { "" });
        assert_eq!(header("content-type") == "application/problem+json", status == 429);
    }
    for _ in 0..5 {
        let request = Request::get("/free").body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("ratelimit")), (200, None));
    }
}
