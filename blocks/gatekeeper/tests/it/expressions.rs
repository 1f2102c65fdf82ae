//! Conditions in CEL.

use serde_json::json;

use crate::world::{Signer, World, get, request};

#[tokio::test]
async fn conditions_over_the_request_and_who_asks() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let token = signer.token(&world.claims());
    for (allow, status) in [
        ("true", 200),
        ("request.method == 'PUT' && request.path.startsWith('/a/') && request.scheme == 'https'", 200),
        ("request.host == 'app.example.com' && request.address == '192.0.2.7'", 200),
        ("request.query.q == 'x y' && request.headers['x-team'] == 'one, two'", 200),
        ("identity.subject == 'ann' && identity.method == 'jwt' && identity.policy == 'token'", 200),
        ("'a' in claims.realm.roles && has(claims.sub) && !has(claims.admin)", 200),
        ("now > 1700000000 && claims.exp > now", 200),
        ("request.path.matches('^/a/[0-9]+$')", 200),
        ("claims.realm.roles.exists(r, r in ['x', 'b'])", 200),
        ("claims['sub'] == 'ann'", 200),
        ("false", 403),
        // What fails lets nobody in.
        ("claims.admin", 403),
        ("claims.admin == false", 403),
        ("claims.sub", 403),
        ("request.query.nothing == ''", 403),
        ("1 / 0 == 1", 403),
        ("claims.realm.roles[9] == 'a'", 403),
        ("!(claims.admin)", 403),
    ] {
        let chain = world.chain(json!([world.issuer(&[&signer]), { "name": "may", "expression": { "allow": allow, "message": "Not you." } }]));
        let seen = request("PUT", "/a/17?q=x+y&q=z")
            .bearer(&token)
            .header("x-team", "one")
            .header("x-team", "two")
            .at(&chain)
            .await;
        assert_eq!(seen.status, status, "{allow}: {seen:?}");
        if status == 403 {
            assert_eq!(seen.problem(), "GATEKEEPER_FORBIDDEN Not you.", "{allow}");
        }
    }
    let chain = world
        .chain(json!([{ "name": "may", "expression": { "allow": "identity.subject == '' && size(claims) == 0" } }]));
    assert_eq!(get("/").at(&chain).await.status, 200, "nobody has no claims");
}

#[tokio::test]
async fn what_is_wrong_or_could_cost_too_much_is_not_taken() {
    let world = World::new().await;
    let deep = format!("{}true{}", "(".repeat(1500), ")".repeat(1500));
    let long = vec!["true"; 300].join(" && ");
    for allow in [
        "",
        "request.",
        "reqest.path == '/'",
        "request.body == ''",
        "identity.name == ''",
        "unknown(1)",
        "request.path.replace('a', request.path) == ''",
        "request.path.matches(request.query.p)",
        "claims.a.all(x, claims.b.all(y, x == y))",
        "request.path.split('').map(a, request.path.split('').map(b, a + b)).size() > 1",
        "Message{a: 1}.a == 1",
        "'%s'.format([request.path]) == ''",
        &deep,
    ] {
        let wrong = world.wrong(json!([{ "name": "may", "expression": { "allow": allow } }]));
        assert_eq!(wrong, ["/policies/0/expression/allow"], "{}", &allow[..allow.len().min(60)]);
    }
    let chain = world.chain(json!([{ "name": "may", "expression": { "allow": long } }]));
    assert_eq!(get("/").at(&chain).await.status, 200);
}
