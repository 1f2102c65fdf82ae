//! Names and passwords.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatekeeper::hash_password;
use kernel::Rng;
use serde_json::json;

use crate::world::{Knock, World, get};

fn with(name: &str, password: &str) -> Knock {
    get("/").header("authorization", &format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
}

#[tokio::test]
async fn a_name_with_its_password_passes() {
    let world = World::new().await;
    let hash = hash_password("open: sesame", &Rng::system()).unwrap();
    // htpasswd -nbB bob bread
    let bcrypt = bcrypt::hash("bread", 5).unwrap().replacen("$2b$", "$2y$", 1);
    let chain = world.chain(json!([{ "name": "door", "basic": {
        "users": [{ "name": "ann", "hash": hash }, { "name": "bob", "hash": bcrypt }], "forward_claims": { "x-user": "sub" } } }]));
    let seen = with("ann", "open: sesame").at(&chain).await;
    assert_eq!((seen.status.as_u16(), seen.sent("x-user"), seen.sent("authorization")), (200, Some("ann"), None));
    assert_eq!(with("bob", "bread").at(&chain).await.status, 200);
    let challenge = get("/").at(&chain).await;
    assert_eq!(challenge.got("www-authenticate"), Some("Basic realm=\"restricted\", charset=\"UTF-8\""));
    for (name, password) in [
        ("ann", "open: sesam"),
        ("ann", ""),
        ("bob", "open: sesame"),
        ("nobody", "bread"),
        ("", ""),
        ("bob", "bread\0"),
    ] {
        let seen = with(name, password).from(&format!("192.0.2.{}", name.len() + password.len())).at(&chain).await;
        assert_eq!(
            (seen.status.as_u16(), &*seen.problem()),
            (401, "GATEKEEPER_UNAUTHENTICATED The name or the password is wrong."),
            "{name:?} {password:?}"
        );
    }
    for text in ["Basic !", "Basic", "Basic YQ==", "Bearer YTpi"] {
        assert_eq!(get("/").header("authorization", text).at(&chain).await.status, 401, "{text}");
    }
    let long = "p".repeat(73);
    assert_eq!(with("bob", &long).from("192.0.2.99").at(&chain).await.status, 401);
}

#[tokio::test]
async fn who_guesses_waits_and_who_knows_does_not() {
    let world = World::new().await;
    let hash = bcrypt::hash("right", 4).unwrap();
    let users = json!([{ "name": "ann", "hash": hash }, { "name": "bob", "hash": hash }]);
    let chain = world.chain(json!([{ "name": "door", "basic": { "users": users } }]));
    assert_eq!(with("ann", "right").from("198.51.100.1").at(&chain).await.status, 200);
    let mut limited = 0;
    for index in 0..30 {
        let seen = with("ann", &format!("wrong-{index}")).at(&chain).await;
        limited += u32::from(seen.status == 429);
    }
    assert!(limited >= 19, "{limited} of 30 were told to wait");
    assert_eq!(with("ann", "right").at(&chain).await.status, 200, "who was right a moment ago is not locked out");
    assert_eq!(with("bob", "right").at(&chain).await.status, 429, "the address has to wait");
    assert_eq!(with("bob", "right").from("198.51.100.1").at(&chain).await.status, 200, "others do not");
    world.later(2);
    assert_eq!(with("bob", "right").at(&chain).await.status, 200);
}

#[tokio::test]
async fn a_file_is_read_again_and_old_passwords_end() {
    let world = World::new().await;
    let path = world.folder.path().join("users");
    let line = |password: &str| format!("# users\nann:{}\n", bcrypt::hash(password, 4).unwrap());
    std::fs::write(&path, line("old")).unwrap();
    let chain = world.chain(json!([{ "name": "door", "basic": { "file": path } }]));
    assert_eq!(with("ann", "old").at(&chain).await.status, 200);
    std::fs::write(&path, line("new")).unwrap();
    world.later(3);
    assert_eq!(with("ann", "old").at(&chain).await.status, 401, "remembered past its change");
    assert_eq!(with("ann", "new").at(&chain).await.status, 200);
    std::fs::write(&path, "ann:{SHA}broken\n").unwrap();
    world.later(3);
    assert_eq!(with("ann", "new").at(&chain).await.status, 200, "a file that cannot be used changes nothing");
    for hash in [
        "$1$abc$def",
        "{SHA}x",
        "plain",
        "$2y$31$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "$argon2id$v=19$m=4194304,t=2,p=1$bm9ib2R5bm9ib2R5$Y29uc3RhbnQ",
    ] {
        assert_eq!(
            world.wrong(json!([{ "name": "d", "basic": { "users": [{ "name": "a", "hash": hash }] } }])),
            ["/policies/0/basic/users/0/hash"]
        );
    }
}
