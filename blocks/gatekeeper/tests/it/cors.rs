//! Pages of other origins.

use std::sync::Arc;

use gatekeeper::{Chain, Cors, CorsSpec};
use serde_json::{Value, json};

use crate::world::{Signer, World, get, request};

fn chain(world: &World, cors: Value) -> Arc<Chain> {
    let spec: CorsSpec = serde_json::from_value(cors).unwrap();
    let policy = world.issuer(&[&Signer::ed25519("k")]);
    world.chain(json!([policy])).with_cors(Cors::compile(&spec, "/cors").unwrap())
}

#[tokio::test]
async fn a_preflight_comes_before_the_policies_and_refusals_can_be_read() {
    let world = World::new().await;
    let chain = chain(
        &world,
        json!({ "origins": ["https://app.example.com", "https://*.example.org:8443"], "methods": ["GET", "PUT"], "headers": ["authorization"], "expose": ["x-total"], "credentials": true }),
    );
    let ask = async |origin: &str, method: &str| {
        request("OPTIONS", "/")
            .header("origin", origin)
            .header("access-control-request-method", method)
            .at(&chain)
            .await
    };
    let seen = ask("https://app.example.com", "PUT").await;
    assert_eq!(seen.status, 204);
    let expected = [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "authorization"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.got(name), Some(value), "{name}");
    }
    for (origin, is_allowed) in [
        ("https://a.example.org:8443", true),
        ("https://a.b.example.org:8443", true),
        ("https://example.org:8443", false),
        ("https://a.example.org", false),
        ("https://evil-example.org:8443", false),
        ("https://evil.com/.example.org:8443", false),
        ("https://evil.com?.example.org:8443", false),
        ("https://.example.org:8443", false),
        ("http://app.example.com", false),
        ("https://app.example.com.evil.com", false),
        ("https://app.example.comx", false),
        ("null", false),
        ("", false),
    ] {
        let seen = ask(origin, "GET").await;
        assert_eq!(
            (seen.status.as_u16(), seen.got("access-control-allow-origin").is_some()),
            (204, is_allowed),
            "{origin}"
        );
        assert!(seen.got("vary").unwrap().contains("origin"), "{origin}");
    }
    assert!(ask("https://app.example.com", "DELETE").await.got("access-control-allow-origin").is_none());
    // Not a preflight: an OPTIONS that no page sent goes through the policies.
    assert_eq!(request("OPTIONS", "/").header("origin", "https://app.example.com").at(&chain).await.status, 401);
    assert_eq!(
        get("/")
            .header("access-control-request-method", "GET")
            .header("origin", "https://app.example.com")
            .at(&chain)
            .await
            .status,
        401
    );
    let refused = get("/").header("origin", "https://app.example.com").at(&chain).await;
    assert_eq!(
        (refused.status.as_u16(), refused.got("access-control-allow-origin")),
        (401, Some("https://app.example.com"))
    );
    assert_eq!(get("/").at(&chain).await.got("vary"), Some("origin"), "caches must tell apart");
}

#[test]
fn what_would_open_too_much_is_refused() {
    for (cors, field) in [
        (json!({ "origins": ["*"], "credentials": true }), "/cors/origins"),
        (json!({ "origins": ["*", "https://a.example"] }), "/cors/origins"),
        (json!({ "origins": [] }), "/cors/origins"),
        (json!({ "origins": ["null"] }), "/cors/origins/0"),
        (json!({ "origins": ["https://*.com"] }), "/cors/origins/0"),
        (json!({ "origins": ["https://*"] }), "/cors/origins/0"),
        (json!({ "origins": ["https://a*.example.com"] }), "/cors/origins/0"),
        (json!({ "origins": ["https://a.example/path"] }), "/cors/origins/0"),
        (json!({ "origins": ["https://u@a.example"] }), "/cors/origins/0"),
        (json!({ "origins": ["https://a.example"], "max_age": "2d" }), "/cors/max_age"),
        (json!({ "origins": ["https://a.example"], "methods": ["get"] }), "/cors/methods/0"),
    ] {
        let spec: CorsSpec = serde_json::from_value(cors.clone()).unwrap();
        let errors = Cors::compile(&spec, "/cors").expect_err("a mistake");
        assert_eq!(errors[0].field, field, "{cors}");
    }
}
