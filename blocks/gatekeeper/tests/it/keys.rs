//! Keys of issuers: rotation, an issuer that is away, and tokens made to make us ask.

use serde_json::json;

use crate::world::{Signer, World, get};

const KEYS: &str = "https://login.example.com/keys";

#[tokio::test]
async fn a_new_key_is_found_and_an_old_one_ends() {
    let world = World::new().await;
    let (old, new) = (Signer::ed25519("old"), Signer::es256("new"));
    let chain = world.chain(json!([world.issuer(&[&old])]));
    let ask = async |signer: &Signer| get("/").bearer(&signer.token(&world.claims())).at(&chain).await.status.as_u16();
    assert_eq!(ask(&old).await, 200);
    world.later(11);
    world.keys(&[&old, &new]);
    assert_eq!(ask(&new).await, 200, "an unknown key makes it look again at once");
    world.keys(&[&new]);
    world.later(1300);
    assert_eq!((ask(&old).await, ask(&new).await), (401, 200), "keys older than twice `refresh` are not believed");
}

/// KEYS-2.
#[tokio::test]
async fn tokens_with_made_up_keys_do_not_hammer_the_issuer() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let chain = world.chain(json!([world.issuer(&[&signer])]));
    for index in 0..500 {
        let evil = Signer::ed25519(&format!("evil-{index}"));
        assert_eq!(get("/").bearer(&evil.token(&world.claims())).at(&chain).await.status, 401);
        if index % 100 == 0 {
            world.later(1);
        }
    }
    let count = world.outside.asked(KEYS).len();
    assert!(count <= 2, "asked {count} times in five seconds");
    assert_eq!(get("/").bearer(&signer.token(&world.claims())).at(&chain).await.status, 200);
}

/// KEYS-1, KEYS-3.
#[tokio::test]
async fn an_issuer_that_is_away_is_borne_for_a_day() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let chain = world.chain(json!([world.issuer(&[&signer])]));
    let ask = async || get("/").bearer(&signer.token(&world.claims())).at(&chain).await;
    world.outside.is_away(KEYS);
    let seen = ask().await;
    assert_eq!((seen.status.as_u16(), &seen.problem()[..22]), (503, "GATEKEEPER_UNAVAILABLE"));
    assert!(seen.got("retry-after").is_some());
    world.keys(&[&signer]);
    assert_eq!(ask().await.status, 503, "it was asked a moment ago");
    world.later(11);
    assert_eq!(ask().await.status, 200);
    world.outside.is_away(KEYS);
    for _ in 0..23 {
        world.later(3_600);
        assert_eq!(ask().await.status, 200);
    }
    world.later(7_200);
    assert_eq!(ask().await.status, 503, "keys hold for a day and no longer");
    world.keys(&[&signer]);
    world.later(11);
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn many_that_wait_for_keys_ask_once_and_documents_share_them() {
    let world = World::new().await;
    let signer = Signer::ed25519("k");
    let policy = world.issuer(&[&signer]);
    let chain = world.chain(json!([policy.clone()]));
    let asks = (0..50).map(|_| get("/").bearer(&signer.token(&world.claims())).at(&chain));
    assert!(futures_util::future::join_all(asks).await.iter().all(|seen| seen.status == 200));
    let next = world.chain(json!([policy]));
    assert_eq!(get("/").bearer(&signer.token(&world.claims())).at(&next).await.status, 200);
    assert_eq!(world.outside.asked(KEYS).len(), 1);
}

#[tokio::test]
async fn keys_of_a_file_and_of_what_an_issuer_says() {
    let world = World::new().await;
    let (first, second) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let path = world.folder.path().join("keys.json");
    std::fs::write(&path, json!({ "keys": [first.jwk()] }).to_string()).unwrap();
    let mut policy = world.issuer(&[]);
    policy["jwt"]["jwks"] = json!({ "file": path });
    let chain = world.chain(json!([policy.clone()]));
    assert_eq!(get("/").bearer(&first.token(&world.claims())).at(&chain).await.status, 200);
    std::fs::write(&path, json!({ "keys": [second.jwk(), { "kty": "oct", "k": "AAAA" }] }).to_string()).unwrap();
    world.later(5);
    assert_eq!(get("/").bearer(&second.token(&world.claims())).at(&chain).await.status, 200);
    assert_eq!(get("/").bearer(&first.token(&world.claims())).at(&chain).await.status, 401);

    let metadata = "https://login.example.com/.well-known/openid-configuration";
    policy["jwt"].as_object_mut().unwrap().remove("jwks");
    let chain = world.chain(json!([policy]));
    world.keys(&[&first]);
    // Whoever speaks for another issuer is not believed.
    world.outside.serve_json(metadata, json!({ "issuer": "https://evil.example", "jwks_uri": KEYS }));
    assert_eq!(get("/").bearer(&first.token(&world.claims())).at(&chain).await.status, 503);
    world.later(11);
    world.outside.serve_json(
        metadata,
        json!({ "issuer": "https://login.example.com", "jwks_uri": "http://login.example.com/keys" }),
    );
    assert_eq!(get("/").bearer(&first.token(&world.claims())).at(&chain).await.status, 503, "keys in the open");
    world.later(11);
    world.outside.serve_json(metadata, json!({ "issuer": "https://login.example.com", "jwks_uri": KEYS }));
    assert_eq!(get("/").bearer(&first.token(&world.claims())).at(&chain).await.status, 200);
}
