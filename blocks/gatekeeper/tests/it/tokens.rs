//! Tokens that hold, and every way that is known to make one that does not (RFC 8725).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use crate::world::{ISSUER, START, Signer, World, get};

#[tokio::test]
async fn a_token_that_holds_passes_and_says_who_asks() {
    let world = World::new().await;
    for signer in [Signer::es256("k1"), Signer::ed25519("k2")] {
        let chain = world.chain(json!([world.issuer(&[&signer])]));
        world.later(700);
        let seen = get("/orders?x=1")
            .bearer(&signer.token(&world.claims()))
            .header("x-user", "root")
            .header("X_User", "root")
            .at(&chain)
            .await;
        assert_eq!(seen.status, 200, "{seen:?}");
        let identity = seen.identity.as_ref().unwrap();
        assert_eq!((&*identity.subject, identity.method.as_str()), ("ann", "jwt"));
        // The client's own headers of these names are gone, however they are written.
        assert_eq!((seen.sent("x-user"), seen.sent("x_user")), (Some("ann"), None));
        assert_eq!(seen.sent("x-roles"), Some(r#"["a","b"]"#));
        assert!(seen.sent("authorization").is_some(), "the back end verifies it again");
    }
}

/// Everything here is signed with the right key, or as right as it gets.
#[tokio::test]
async fn what_does_not_hold_is_refused() {
    let world = World::new().await;
    let (signer, other) = (Signer::es256("k1"), Signer::es256("k1"));
    let chain = world.chain(json!([world.issuer(&[&signer])]));
    let now = world.now_s();
    let with = |name: &str, value: Value| {
        let mut claims = world.claims();
        claims[name] = value;
        signer.token(&claims)
    };
    let without = |name: &str| {
        let mut claims = world.claims();
        claims.as_object_mut().unwrap().remove(name);
        signer.token(&claims)
    };
    let head = |header: &str| signer.sign(header, &world.claims().to_string());
    let good = signer.token(&world.claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let none = |alg: &str, signature: &str| {
        format!("{}.{payload}.{signature}", BASE64URL.encode(json!({ "alg": alg, "kid": "k1" }).to_string()))
    };
    // The public key as the secret of an HMAC: the classic confusion of algorithms.
    let hmac = {
        let message = format!("{}.{payload}", BASE64URL.encode(r#"{"alg":"HS256","kid":"k1"}"#));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, signer.public());
        format!("{message}.{}", BASE64URL.encode(ring::hmac::sign(&key, message.as_bytes())))
    };
    let mut forged = world.claims();
    forged["sub"] = json!("root");
    let forged = BASE64URL.encode(forged.to_string());
    let own_key =
        json!({ "alg": "ES256", "kid": "k1", "jwk": other.jwk(), "jku": "https://evil.example/keys" }).to_string();
    let rows = [
        ("no signature", none("none", ""), "way"),
        ("no signature, other letters", none("nOnE", signature), "way"),
        ("an HMAC with the public key", hmac, "way"),
        ("an algorithm of another key", none("RS256", signature), "way"),
        ("an algorithm that the policy takes, of another key", none("EdDSA", signature), "not for the way"),
        ("another payload", format!("{header}.{forged}.{signature}"), "signature"),
        ("another key of the same name", other.token(&world.claims()), "signature"),
        ("a key in the token itself", other.sign(&own_key, &world.claims().to_string()), "signature"),
        ("an empty signature", format!("{message}."), "signature"),
        ("zeros (CVE-2022-21449)", format!("{message}.{}", BASE64URL.encode([0; 64])), "signature"),
        ("padding", format!("{good}="), "no signed token"),
        ("a signature with bits that nobody looks at", format!("{message}.{}", changed_last(signature)), ""),
        ("two parts", message.to_owned(), "no signed token"),
        ("five parts", format!("{good}.a.b"), "no signed token"),
        ("not base64", format!("{header}.{payload}.!"), "no signed token"),
        ("an extension", head(r#"{"alg":"ES256","kid":"k1","crit":["exp"]}"#), "crit"),
        ("a payload that is not encoded", head(r#"{"alg":"ES256","kid":"k1","b64":false,"crit":["b64"]}"#), "crit"),
        ("two algorithms", head(r#"{"alg":"none","alg":"ES256","kid":"k1"}"#), "no signed token"),
        ("a kid that is no text", head(r#"{"alg":"ES256","kid":["k1"]}"#), "no signed token"),
        (
            "two subjects",
            signer.sign(
                &signer.header().to_string(),
                &format!(r#"{{"iss":"{ISSUER}","aud":"api","exp":{},"sub":"a","sub":"root"}}"#, now + 9),
            ),
            "once",
        ),
        ("claims that are a list", signer.sign(&signer.header().to_string(), "[]"), "object"),
        ("expired", with("exp", json!(now - 61)), "expired"),
        ("expired by a fraction", with("exp", json!(f64::from(u32::try_from(now).unwrap()) - 60.5)), "expired"),
        ("no end", without("exp"), "exp"),
        ("an end that is a text", with("exp", json!("4000000000")), "exp"),
        ("an end below zero", with("exp", json!(-1)), "exp"),
        ("not valid yet", with("nbf", json!(now + 61)), "not valid yet"),
        ("of the future", with("iat", json!(now + 61)), "future"),
        ("another issuer", with("iss", json!("https://login.example.com/")), "issuer"),
        ("issuers", with("iss", json!([ISSUER])), "issuer"),
        ("no issuer", without("iss"), "issuer"),
        ("another audience", with("aud", json!("api2")), "audience"),
        ("other audiences", with("aud", json!(["x", ["api"]])), "audience"),
        ("no audience", without("aud"), "audience"),
        ("nothing", " ".to_owned(), ""),
    ];
    for (what, token, why) in rows {
        let seen = get("/").bearer(&token).at(&chain).await;
        assert_eq!(seen.status, 401, "{what}: {seen:?}");
        assert!(seen.problem().contains(why), "{what}: {}", seen.problem());
        assert!(seen.got("www-authenticate").unwrap().starts_with("Bearer"), "{what}");
    }
    let seen = get("/").bearer(&"a".repeat(20_000)).at(&chain).await;
    assert_eq!(seen.status, 401, "a token that is too long");
    for ok in [
        with("exp", json!(now - 59)),
        with("nbf", json!(now + 59)),
        with("aud", json!(["x", "api"])),
        without("sub"),
        with("exp", json!(1e300)),
    ] {
        assert_eq!(get("/").bearer(&ok).at(&chain).await.status, 200);
    }
}

/// The last letter of 64 bytes holds two bits that belong to nothing.
fn changed_last(signature: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = signature.split_at(signature.len() - 1);
    let index = alphabet.find(last).unwrap();
    format!("{rest}{}", &alphabet[index ^ 1..=(index ^ 1)])
}

#[tokio::test]
async fn a_token_that_comes_twice_or_not_at_all() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let mut policy = world.issuer(&[&signer]);
    policy["jwt"]["from"] =
        json!([{ "header": "authorization", "scheme": "Bearer" }, { "cookie": "t" }, { "query": "token" }]);
    policy["jwt"]["pass_on"] = json!(false);
    let chain = world.chain(json!([policy]));
    let token = signer.token(&world.claims());
    let twice = get("/").bearer(&token).bearer(&token).at(&chain).await;
    assert_eq!((twice.status.as_u16(), &twice.problem()[..31]), (400, "GATEKEEPER_CREDENTIAL_AMBIGUOUS"));
    let twice = get(&format!("/?token={token}")).bearer(&token).at(&chain).await;
    assert_eq!(twice.status, 400);
    let seen = get(&format!("/a?x=%20&%74oken={token}&y")).at(&chain).await;
    assert_eq!(seen.parts.as_ref().unwrap().uri, "/a?x=%20&y", "the token does not go on, the rest as it was");
    let seen = get("/").header("cookie", &format!("a=1; t={token}; b=\"2\"")).at(&chain).await;
    assert_eq!(seen.sent("cookie"), Some("a=1; b=\"2\""));
    let seen = get("/").bearer(&token).at(&chain).await;
    assert_eq!((seen.status.as_u16(), seen.sent("authorization")), (200, None));
    assert_eq!(
        get("/").header("authorization", "Basic eDp5").at(&chain).await.problem()[..26],
        *"GATEKEEPER_UNAUTHENTICATED"
    );

    let mut policy = world.issuer(&[&signer]);
    policy["jwt"]["optional"] = json!(true);
    let chain = world.chain(json!([policy]));
    let nobody = get("/").header("x-user", "root").at(&chain).await;
    assert!(nobody.status == 200 && nobody.identity.is_none() && nobody.sent("x-user").is_none(), "{nobody:?}");
    assert_eq!(get("/").bearer("wrong").at(&chain).await.status, 401, "a wrong token is not no token");
}

/// A claim must not become another header, nor several.
#[tokio::test]
async fn claims_cannot_be_more_than_values() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let chain = world.chain(json!([world.issuer(&[&signer])]));
    for (sub, sent) in [
        ("a\r\nx-roles: admin", None),
        ("a\0", None),
        (" a", None),
        ("", None),
        ("a,b", Some("a,b")),
        ("ann", Some("ann")),
    ] {
        let mut claims = world.claims();
        claims["sub"] = json!(sub);
        let seen = get("/").bearer(&signer.token(&claims)).header("x-user", "root").at(&chain).await;
        assert_eq!((seen.status.as_u16(), seen.sent("x-user")), (200, sent), "{sub:?}");
    }
}

/// TOKEN-2.
#[tokio::test]
async fn what_was_right_is_not_right_for_long() {
    let world = World::new().await;
    let (signer, next) = (Signer::ed25519("k"), Signer::ed25519("k2"));
    let mut policy = world.issuer(&[&signer]);
    policy["jwt"]["skew"] = json!("0s");
    policy["jwt"]["cache"] = json!("5m");
    let chain = world.chain(json!([policy]));
    let mut claims = world.claims();
    claims["exp"] = json!(world.now_s() + 20);
    let (short, long) = (signer.token(&claims), signer.token(&world.claims()));
    assert_eq!(get("/").bearer(&short).at(&chain).await.status, 200);
    assert_eq!(get("/").bearer(&long).at(&chain).await.status, 200);
    world.later(20);
    assert_eq!(get("/").bearer(&short).at(&chain).await.status, 401, "remembered past its end");
    // The issuer takes its key away (it leaked): what was signed with it ends with it.
    world.keys(&[&next]);
    assert_eq!(get("/").bearer(&next.token(&world.claims())).at(&chain).await.status, 200);
    assert_eq!(get("/").bearer(&long).at(&chain).await.status, 401, "remembered past its key");
    assert_eq!(START.as_millis() / 1000 + 20, world.now_s());
}

#[tokio::test]
async fn type_age_and_conditions() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let mut policy = world.issuer(&[&signer]);
    policy["jwt"]["token_type"] = json!("at+jwt");
    policy["jwt"]["max_age"] = json!("1m");
    policy["jwt"]["require"] = json!("claims.scope.split(' ').exists(s, s == 'orders')");
    let chain = world.chain(json!([policy]));
    let token = |typ: &str, iat: i64, scope: Option<&str>| {
        let mut claims = world.claims();
        claims["iat"] = json!(iat);
        if let Some(scope) = scope {
            claims["scope"] = json!(scope);
        }
        signer.sign(&json!({ "alg": "EdDSA", "kid": "k", "typ": typ }).to_string(), &claims.to_string())
    };
    let now = world.now_s();
    let rows = [
        (token("at+jwt", now, Some("a orders")), 200),
        (token("application/AT+JWT", now, Some("orders")), 200),
        (token("JWT", now, Some("orders")), 401),
        (token("at+jwt", now - 121, Some("orders")), 401),
        (token("at+jwt", now, Some("orders2")), 403),
        (token("at+jwt", now, None), 403),
    ];
    for (index, (token, status)) in rows.into_iter().enumerate() {
        assert_eq!(get("/").bearer(&token).at(&chain).await.status, status, "row {index}");
    }
}
