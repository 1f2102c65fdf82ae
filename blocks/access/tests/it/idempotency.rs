use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    middleware::from_fn_with_state,
    routing::post,
};
use kernel::{Clock, Lifecycle, Rng, Stage};
use tower::ServiceExt as _;
use web::{
    HttpConfig, Idempotency, IdempotencyToken,
    idempotency::{Begun, Claim, Options, StoredAnswer, check_contract},
};

use crate::site::Site;

both_engines!(
    the_contract_of_web,
    duplicates_across_nodes_execute_once,
    answers_are_sealed,
    what_has_expired_is_deleted_in_bounds,
);

async fn the_contract_of_web(site: Site) {
    let access = site.node().await;
    check_contract(&*access.idempotency_store()).await.unwrap();
}

/// Promise 8: a hundred requests with one key, at once, over two nodes.
async fn duplicates_across_nodes_execute_once(site: Site) {
    let (access, _, text) = site.first_node().await;
    let other = site.node().await;
    let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
    let executed = Arc::new(AtomicU64::new(0));
    let app = |access: access::Access| {
        let executed = executed.clone();
        let handler = move |_: access::Caller, token: Option<IdempotencyToken>| async move {
            executed.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            (StatusCode::CREATED, format!("made {}", token.is_some()))
        };
        let options = Options::from_config(&HttpConfig::default());
        let tasks = lifecycle.tasks(Stage::Systems);
        let layer = Idempotency::new(access.idempotency_store(), options, site.clock.clone(), Rng::system(), tasks);
        layer.layer(Router::new().route("/make", post(handler))).layer(from_fn_with_state(access, access::auth_layer))
    };
    let nodes = [app(access), app(other)];
    let request = |node: &Router| {
        let request = Request::post("/make")
            .header("authorization", format!("Bearer {text}"))
            .header("idempotency-key", "8e03978e-40d5-43dd-bc93-6894a57f9324")
            .body(Body::from("{}"))
            .unwrap();
        node.clone().oneshot(request)
    };
    let mut set = tokio::task::JoinSet::new();
    for n in 0..100 {
        set.spawn(request(&nodes[n % 2]));
    }
    let statuses: Vec<StatusCode> = set.join_all().await.into_iter().map(|r| r.unwrap().status()).collect();
    assert_eq!(executed.load(Ordering::SeqCst), 1, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(*s, StatusCode::CREATED | StatusCode::CONFLICT)), "{statuses:?}");
    for node in &nodes {
        let again = request(node).await.unwrap();
        assert_eq!(again.status(), StatusCode::CREATED);
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        let body = http_body_util::BodyExt::collect(again.into_body()).await.unwrap().to_bytes();
        assert_eq!(&body[..], b"made true");
    }
    assert_eq!(executed.load(Ordering::SeqCst), 1);
}

fn claim(site: &Site, key: &str, holder: u8, ttl: Duration) -> Claim {
    let now = site.clock.now();
    Claim {
        scope: "default/key_1".to_owned(),
        key: key.to_owned(),
        fingerprint: [1; 32],
        token: IdempotencyToken([1; 16]),
        holder: [holder; 16],
        now,
        lease_until: now.plus(Duration::from_mins(1)),
        expires_at: now.plus(ttl),
    }
}

/// Promise 1: neither a kept answer nor the key that opens it is in the database.
async fn answers_are_sealed(site: Site) {
    let access = site.node().await;
    let store = access.idempotency_store();
    let secret = "msk_the-text-of-a-key";
    let claim = claim(&site, "the-idempotency-key", 1, Duration::from_hours(1));
    assert_eq!(store.begin(&claim).await.unwrap(), Begun::First);
    let answer = StoredAnswer { status: 201, headers: vec![], body: secret.into() };
    store.finish(&claim, answer.clone()).await.unwrap();
    assert_eq!(store.begin(&claim).await.unwrap(), Begun::Replay(answer));
    let rows =
        site.db().await.query("SELECT id, fingerprint, holder, answer FROM access_idempotency", vec![]).await.unwrap();
    for column in 0..4 {
        let bytes: Vec<u8> = rows[0].get(column).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(secret) && !text.contains("the-idempotency-key"), "column {column}");
    }
    // Changed in the database: noticed, and not given.
    site.db().await.exec("UPDATE access_idempotency SET answer = holder", vec![]).await.unwrap();
    assert!(store.begin(&claim).await.is_err());
}

async fn what_has_expired_is_deleted_in_bounds(site: Site) {
    let access = site.node().await;
    let store = access.idempotency_store();
    let count = async || -> i64 {
        let sql = "SELECT COUNT(*) FROM access_idempotency";
        site.db().await.get(sql, vec![]).await.unwrap().unwrap().get(0).unwrap()
    };
    for n in 0..5 {
        let hours = if n < 3 { 1 } else { 3 };
        let claim = claim(&site, &format!("k{n}"), 1, Duration::from_hours(hours));
        assert_eq!(store.begin(&claim).await.unwrap(), Begun::First);
    }
    assert_eq!(count().await, 5);
    site.time.advance(Duration::from_hours(2));
    // The worker wakes by the same clock; wait for what it does, not for a time.
    let deleted = async {
        while count().await != 2 {
            tokio::task::yield_now().await;
        }
    };
    Clock::system().timeout(Duration::from_secs(20), deleted).await.expect("the worker deletes what has expired");
}
