//! Addresses, keys, certificates, choices, and documents that are wrong.

use gatekeeper::ClientCertificate;
use serde_json::{Value, json};

use crate::world::{Signer, World, admin_key, get, request};

#[tokio::test]
async fn addresses() {
    let world = World::new().await;
    let chain = world.chain(json!([{ "name": "office", "addresses": { "allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.6.0.0/16"] } }]));
    for (peer, status) in [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("10.6.1.1", 403),
        ("::ffff:10.6.1.1", 403),
        ("11.0.0.1", 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
    ] {
        let seen = get("/").from(peer).header("x-forwarded-for", "10.1.1.1").at(&chain).await;
        assert_eq!(seen.status, status, "{peer}");
    }
    let chain = world.chain(json!([{ "name": "not", "addresses": { "deny": ["192.0.2.0/24"] } }]));
    assert_eq!(
        (get("/").at(&chain).await.status.as_u16(), get("/").from("192.0.3.1").at(&chain).await.status.as_u16()),
        (403, 200)
    );
}

#[tokio::test]
async fn keys_of_this_installation() {
    let world = World::new().await;
    let (id, key) = admin_key(&world, "orders:read").await;
    let (_, other) = admin_key(&world, "links:admin").await;
    let chain = world.chain(json!([{ "name": "key", "api_key": { "project": "default", "scope": "orders", "forward_claims": { "x-key": "sub" } } }]));
    let seen = get("/").bearer(&key).header("x-key", "root").at(&chain).await;
    assert_eq!((seen.status.as_u16(), seen.sent("x-key"), seen.sent("authorization")), (200, Some(id.as_str()), None));
    assert_eq!(request("POST", "/").bearer(&key).at(&chain).await.status, 403, "it may only read");
    assert_eq!(get("/").bearer(&other).at(&chain).await.status, 403);
    let elsewhere = world.chain(json!([{ "name": "key", "api_key": { "project": "elsewhere" } }]));
    assert_eq!(get("/").bearer(&key).at(&elsewhere).await.status, 403);
    let last = if key.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{last}", &key[..key.len() - 1]);
    assert_eq!(get("/").bearer(&wrong).at(&chain).await.status, 401);
    // What is no key at all is nobody's guess, and closes no door.
    for _ in 0..50 {
        assert_eq!(get("/").bearer("eyJhbGciOiJIUzI1NiJ9.e30.x").at(&chain).await.status, 401);
    }
    assert_eq!(get("/").bearer(&key).at(&chain).await.status, 200);
    world.access.revoke_key(&identity::Principal::system(), &id).await.unwrap();
    assert_eq!(get("/").bearer(&key).at(&chain).await.status, 401);
}

#[tokio::test]
async fn client_certificates() {
    let world = World::new().await;
    let mut params = rcgen::CertificateParams::new(vec!["billing.internal".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI("spiffe://example.org/billing".try_into().unwrap()));
    params.distinguished_name.push(rcgen::DnType::CommonName, "billing");
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let shown = ClientCertificate::from_der(&der).unwrap();
    let fingerprint: String = shown.fingerprint.iter().fold(String::new(), |text, b| text + &format!("{b:02X}:"));
    let ask = async |spec: Value, is_shown: bool| {
        let chain = world.chain(json!([{ "name": "mtls", "client_certificate": spec }]));
        let mut knock = get("/");
        knock.certificate = is_shown.then(|| shown.clone());
        knock.at(&chain).await
    };
    for (names, status) in [
        ("billing.internal", 200),
        ("BILLING.internal", 200),
        ("*.internal", 200),
        ("spiffe://example.org/billing", 200),
        ("spiffe://example.org/*", 200),
        ("internal", 403),
        ("*.billing.internal", 403),
        ("illing.internal", 403),
        ("spiffe://example.org/bill", 403),
        ("spiffe://example.com/*", 403),
    ] {
        assert_eq!(ask(json!({ "names": [names] }), true).await.status, status, "{names}");
    }
    assert_eq!(ask(json!({ "fingerprints": [fingerprint.trim_end_matches(':')] }), true).await.status, 200);
    let seen = ask(json!({ "forward_claims": { "x-names": "dns_names" } }), true).await;
    assert_eq!(
        (seen.sent("x-names"), seen.identity.as_ref().unwrap().subject.contains("CN=billing")),
        (Some(r#"["billing.internal"]"#), true)
    );
    assert_eq!(ask(json!({}), false).await.status, 403);
    assert_eq!(ask(json!({ "optional": true }), false).await.status, 200);
    world.later(60 * 24 * 3600);
    assert_eq!(ask(json!({}), true).await.status, 403, "it has ended while the connection stood");
    assert!(ClientCertificate::from_der(&der[..der.len() - 1]).is_err() && ClientCertificate::from_der(b"").is_err());
}

#[tokio::test]
async fn one_of_several_will_do_and_what_was_refused_leaves_nothing() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let (_, key) = admin_key(&world, "*:write").await;
    let mut token = world.issuer(&[&signer]);
    token["jwt"]["require"] = json!("claims.sub == 'ann'");
    let policies = json!([
        token, { "name": "key", "api_key": { "project": "default", "forward_claims": { "x-key": "name" } } },
        { "name": "either", "any_of": ["token", "key"] },
    ]);
    let chain = world.chain_of(policies, &["either"]);
    let seen = get("/").bearer(&key).header("x-user", "root").at(&chain).await;
    assert_eq!((seen.status.as_u16(), seen.sent("x-key"), seen.sent("x-user")), (200, Some("test"), None));
    assert_eq!(seen.steps.len(), 2, "{:?}", seen.steps);
    let seen = get("/").bearer(&signer.token(&world.claims())).header("x-key", "root").at(&chain).await;
    assert_eq!((seen.status.as_u16(), seen.sent("x-user"), seen.sent("x-key")), (200, Some("ann"), None));
    let mut claims = world.claims();
    claims["sub"] = json!("bob");
    assert_eq!(get("/").bearer(&signer.token(&claims)).at(&chain).await.status, 401);
}

#[tokio::test]
async fn mistakes_are_told_where_they_stand() {
    let world = World::new().await;
    let jwt = |change: Value| {
        let mut spec =
            json!({ "issuer": "https://a.example", "audience": ["x"], "jwks": { "url": "https://a.example/keys" } });
        for (name, value) in change.as_object().unwrap() {
            spec[name] = value.clone();
        }
        json!([{ "name": "p", "jwt": spec }])
    };
    for (policies, field) in [
        (json!([{ "name": "p" }]), "/policies/0"),
        (json!([{ "name": "", "addresses": { "deny": ["::1"] } }]), "/policies/0/name"),
        (
            json!([{ "name": "p", "addresses": { "deny": ["::1"] } }, { "name": "p", "addresses": { "deny": ["::1"] } }]),
            "/policies/1/name",
        ),
        (json!([{ "name": "p", "addresses": {} }]), "/policies/0/addresses"),
        (json!([{ "name": "p", "addresses": { "allow": ["10.0.0.1/8"] } }]), "/policies/0/addresses/allow/0"),
        (json!([{ "name": "p", "addresses": { "deny": ["::1"] }, "expression": { "allow": "true" } }]), "/policies/0"),
        (json!([{ "name": "p", "any_of": ["nobody"] }]), "/policies/0/any_of/0"),
        (json!([{ "name": "p", "any_of": ["p"] }]), "/policies/0/any_of/0"),
        (jwt(json!({ "audience": [] })), "/policies/0/jwt/audience"),
        (jwt(json!({ "any_audience": true })), "/policies/0/jwt/any_audience"),
        (jwt(json!({ "algorithms": ["HS256"] })), "/policies/0/jwt/algorithms/0"),
        (jwt(json!({ "algorithms": ["none"] })), "/policies/0/jwt/algorithms/0"),
        (jwt(json!({ "skew": "1h" })), "/policies/0/jwt/skew"),
        (jwt(json!({ "jwks": { "url": "http://a.example/keys" } })), "/policies/0/jwt/jwks/url"),
        (jwt(json!({ "jwks": { "url": "https://a.example/k", "file": "/x" } })), "/policies/0/jwt/jwks"),
        (jwt(json!({ "jwks": { "file": "/nowhere" } })), "/policies/0/jwt/jwks/file"),
        (
            jwt(json!({ "forward_claims": { "content-length": "sub" } })),
            "/policies/0/jwt/forward_claims/content-length",
        ),
        (
            jwt(json!({ "forward_claims": { "transfer-encoding": "sub" } })),
            "/policies/0/jwt/forward_claims/transfer-encoding",
        ),
        (jwt(json!({ "from": [{ "header": "a", "cookie": "b" }] })), "/policies/0/jwt/from/0"),
        (jwt(json!({ "require": "claim.sub" })), "/policies/0/jwt/require"),
        (json!([{ "name": "p", "forward": { "url": "ftp://x" } }]), "/policies/0/forward/url"),
        (
            json!([{ "name": "p", "oidc": { "issuer": "https://a.example", "client_id": "c", "after_logout": "//evil.example" } }]),
            "/policies/0/oidc/after_logout",
        ),
        (
            json!([{ "name": "p", "oidc": { "issuer": "https://a.example", "client_id": "c", "authorize": { "state": "x" } } }]),
            "/policies/0/oidc/authorize/state",
        ),
    ] {
        assert_eq!(world.wrong(policies.clone()), [field], "{policies}");
    }
    let unknown: Result<Vec<gatekeeper::PolicySpec>, _> = serde_json::from_value(json!([{ "name": "p", "jtw": {} }]));
    assert!(unknown.is_err());
    let names = ["nobody".to_owned()];
    assert_eq!(world.gatekeeper.compile(&[]).unwrap().chain(&names).unwrap_err().field, "/0");
}
