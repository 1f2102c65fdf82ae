use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{StatusCode, header};
use kernel::{Clock, Lifecycle, Rng, SimClock, Stage, Timestamp};
use proptest::prelude::*;
use tokio::sync::Semaphore;
use web::{
    Idempotency, IdempotencyScope, IdempotencyToken,
    idempotency::{MemoryStore, Options, StoredAnswer, check_contract},
};

use crate::{Answer, request, send};

const TTL: Duration = Duration::from_hours(1);
const LEASE: Duration = Duration::from_mins(1);

/// A house with one POST route; what the handler does stands in the body: `STATUS`, `panic` or `large`.
struct House {
    router: Router,
    time: SimClock,
    work: Work,
}

#[derive(Clone)]
struct Work {
    runs: Arc<AtomicUsize>,
    started: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

async fn create(State(work): State<Work>, token: Option<IdempotencyToken>, body: String) -> Response {
    let run = work.runs.fetch_add(1, Ordering::SeqCst) + 1;
    work.started.add_permits(1);
    work.gate.acquire().await.unwrap().forget();
    let token = token.map_or_else(String::new, |t| format!("{:02x?}", t.0));
    let headers = [(header::LOCATION, format!("/things/{run}")), (header::DATE, "today".to_owned())];
    match body.as_str() {
        "panic" => panic!("as asked"),
        "large" => (headers, "x".repeat(2_000)).into_response(),
        status => {
            let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
            (status, headers, format!("run {run} {token}")).into_response()
        }
    }
}

fn house(required: bool, store: MemoryStore) -> House {
    let (clock, time) = Clock::simulated(Timestamp::from_millis(1_790_000_000_000));
    let rng = Rng::seeded(7);
    let tasks = Lifecycle::new(clock.clone(), rng.clone()).tasks(Stage::Listeners);
    let options = Options { ttl: TTL, lease: LEASE, answer_limit_bytes: 1_000, required };
    let idempotency = Idempotency::new(Arc::new(store), options, clock, rng, tasks);
    let work = Work {
        runs: Arc::default(),
        started: Arc::new(Semaphore::new(0)),
        gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
    };
    let routes =
        Router::new().route("/things", post(create).put(create)).route("/other", post(create)).with_state(work.clone());
    let router = idempotency
        .layer(routes)
        .layer(Extension(IdempotencyScope("default/key1".to_owned())))
        .layer(DefaultBodyLimit::max(100));
    House { router, time, work }
}

impl House {
    async fn send(&self, line: &str, key: &str, body: &str) -> Answer {
        let header = format!("idempotency-key: {key}");
        let headers: &[&str] = if key.is_empty() { &[] } else { &[&header] };
        send(&self.router, request(line, headers, body.to_owned())).await
    }

    fn runs(&self) -> usize {
        self.work.runs.load(Ordering::SeqCst)
    }
}

/// Sends two requests, one after the other; expects the second to be answered so, and the handler to have run so often.
async fn check(first: (&str, &str, &str), second: (&str, &str, &str), expected: &str, run_count: usize) {
    let house = house(false, MemoryStore::default());
    house.send(first.0, first.1, first.2).await;
    let answer = house.send(second.0, second.1, second.2).await;
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    let got = format!("{} {code}{}", answer.status.as_u16(), answer.header("idempotent-replayed"));
    assert_eq!(got, expected, "{first:?} then {second:?}");
    assert_eq!(house.runs(), run_count, "{first:?} then {second:?}");
}

#[tokio::test]
async fn a_key_answers_once() {
    let create = ("POST /things?a=1", "k1", "201");
    let reused = "422 IDEMPOTENCY_KEY_REUSED";
    for (first, second, expected, run_count) in [
        (create, create, "201 true", 1),
        (create, ("POST /things?a=1", "\"k1\"", "201"), "201 true", 1),
        (create, ("POST /things?a=1", "k2", "201"), "201 ", 2),
        (create, ("POST /things?a=1", "", "201"), "201 ", 2),
        (create, ("POST /things?a=1", "k1", "202"), reused, 1),
        (create, ("POST /things?a=2", "k1", "201"), reused, 1),
        (create, ("POST /other?a=1", "k1", "201"), reused, 1),
        // Only POST is held.
        (("PUT /things", "k1", "201"), ("PUT /things", "k1", "201"), "201 ", 2),
    ] {
        check(first, second, expected, run_count).await;
    }
    // Which answers are kept.
    for (status, is_kept) in [
        ("200", true),
        ("303", true),
        ("404", true),
        ("409", true),
        ("412", true),
        ("422", true),
        ("400", false),
        ("401", false),
        ("403", false),
        ("408", false),
        ("413", false),
        ("415", false),
        ("429", false),
        ("500", false),
        ("503", false),
        ("504", false),
    ] {
        let again = ("POST /things", "k1", status);
        let expected = format!("{status} {}", if is_kept { "true" } else { "" });
        check(again, again, &expected, if is_kept { 1 } else { 2 }).await;
    }
}

#[tokio::test]
async fn the_replayed_answer_is_the_first_one() {
    let house = house(false, MemoryStore::default());
    let first = house.send("POST /things", "k", "201").await;
    let second = house.send("POST /things", "k", "201").await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    for (name, expected) in [("location", "/things/1"), ("content-type", "text/plain; charset=utf-8"), ("date", "")] {
        assert_eq!(second.header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn keys_are_checked() {
    let house = house(true, MemoryStore::default());
    let long = "x".repeat(255);
    let too_long = "x".repeat(256);
    for (key, expected) in [
        ("", "IDEMPOTENCY_KEY_MISSING"),
        ("\"\"", "IDEMPOTENCY_KEY_INVALID"),
        ("\"open", "IDEMPOTENCY_KEY_INVALID"),
        ("two words", "IDEMPOTENCY_KEY_INVALID"),
        ("a,b", "IDEMPOTENCY_KEY_INVALID"),
        (&too_long, "IDEMPOTENCY_KEY_INVALID"),
        (&long, ""),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", ""),
    ] {
        let answer = house.send("POST /things", key, "201").await;
        assert_eq!(answer.json()["code"].as_str().unwrap_or_default(), expected, "{key}");
    }
    let twice = request("POST /things", &["idempotency-key: a", "idempotency-key: b"], "201");
    assert_eq!(send(&house.router, twice).await.json()["code"], "IDEMPOTENCY_KEY_INVALID");
    let big = house.send("POST /things", "big", &"x".repeat(101)).await;
    assert_eq!(big.json()["code"], "BODY_TOO_LARGE");
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time_and_not_before() {
    let house = house(false, MemoryStore::default());
    house.send("POST /things", "k", "201").await;
    house.time.advance(TTL.saturating_sub(Duration::from_millis(1)));
    house.send("POST /things", "k", "201").await;
    assert_eq!(house.runs(), 1);
    house.time.advance(Duration::from_millis(1));
    house.send("POST /things", "k", "202").await;
    assert_eq!(house.runs(), 2);
}

#[tokio::test]
async fn of_many_at_once_one_runs_and_the_rest_are_told_to_wait() {
    let house = house(false, MemoryStore::default());
    house.work.gate.forget_permits(Semaphore::MAX_PERMITS);
    let first = house.send("POST /things", "k", "201");
    let rest = async {
        house.work.started.acquire().await.unwrap().forget();
        for _ in 0..20 {
            let answer = house.send("POST /things", "k", "201").await;
            assert_eq!(answer.status, StatusCode::CONFLICT);
            assert_eq!(answer.json()["code"], "IDEMPOTENCY_KEY_RUNNING");
            assert_eq!(answer.header("retry-after"), "1");
        }
        house.work.gate.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!((first.status, house.runs()), (StatusCode::CREATED, 1));
    assert_eq!(house.send("POST /things", "k", "201").await.header("idempotent-replayed"), "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_duplicates_execute_once() {
    let house = Arc::new(house(false, MemoryStore::default()));
    let answers = futures_util::future::join_all((0..64).map(|_| {
        let house = house.clone();
        async move { house.send("POST /things", "k", "201").await.status.as_u16() }
    }))
    .await;
    assert_eq!(house.runs(), 1);
    assert!(answers.iter().all(|s| matches!(s, 201 | 409)), "{answers:?}");
    assert!(answers.contains(&201));
}

#[tokio::test]
async fn a_client_that_goes_away_finds_its_answer_when_it_comes_back() {
    let house = house(false, MemoryStore::default());
    house.work.gate.forget_permits(Semaphore::MAX_PERMITS);
    {
        let going = house.send("POST /things", "k", "201");
        tokio::pin!(going);
        tokio::select! {
            _ = &mut going => panic!("the gate is closed"),
            started = house.work.started.acquire() => started.unwrap().forget(),
        }
    } // the request is dropped here, its work goes on
    assert_eq!(house.send("POST /things", "k", "201").await.status, StatusCode::CONFLICT);
    house.work.gate.add_permits(1);
    let answer = loop {
        let answer = house.send("POST /things", "k", "201").await;
        if answer.status != StatusCode::CONFLICT {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (StatusCode::CREATED, "true"));
    assert_eq!(house.runs(), 1);
}

#[tokio::test]
async fn a_panic_releases_the_key() {
    let house = house(false, MemoryStore::default());
    for run_count in 1..=2 {
        let panicked = std::panic::AssertUnwindSafe(house.send("POST /things", "k", "panic"));
        assert!(futures_util::FutureExt::catch_unwind(panicked).await.is_err(), "the panic goes on to its own layer");
        assert_eq!(house.runs(), run_count);
    }
}

#[tokio::test]
async fn a_large_answer_reaches_the_client_and_releases_the_key() {
    let house = house(false, MemoryStore::default());
    for run_count in 1..=2 {
        assert_eq!(house.send("POST /things", "k", "large").await.body.len(), 2_000);
        assert_eq!(house.runs(), run_count);
    }
}

#[tokio::test]
async fn after_a_crash_the_lease_ends_and_the_token_is_the_same() {
    let store = MemoryStore::default();
    let before = house(false, store.clone());
    before.work.gate.forget_permits(Semaphore::MAX_PERMITS);
    {
        let dying = before.send("POST /things", "k", "201");
        tokio::pin!(dying);
        tokio::select! {
            _ = &mut dying => panic!("the gate is closed"),
            started = before.work.started.acquire() => started.unwrap().forget(),
        }
    }
    let after = house(false, store);
    assert_eq!(after.send("POST /things", "k", "201").await.status, StatusCode::CONFLICT, "the lease holds");
    after.time.advance(LEASE);
    let answer = after.send("POST /things", "k", "201").await;
    assert_eq!(answer.status, StatusCode::CREATED, "the lease is over");
    // A token depends on nothing but scope, key and request.
    let elsewhere = house(false, MemoryStore::default()).send("POST /things", "k", "201").await;
    assert_eq!(answer.text(), elsewhere.text());
    assert!(answer.text().len() > 20, "a token was there: {}", answer.text());
}

#[tokio::test]
async fn without_a_scope_nothing_is_held_by_accident() {
    let clock = Clock::system();
    let tasks = Lifecycle::new(clock.clone(), Rng::system()).tasks(Stage::Listeners);
    let options = Options { ttl: TTL, lease: LEASE, answer_limit_bytes: 1, required: false };
    let idempotency = Idempotency::new(Arc::new(MemoryStore::default()), options, clock, Rng::system(), tasks);
    let router = idempotency.layer(Router::new().route("/", post(async || "ran")));
    let answer = send(&router, request("POST /", &["idempotency-key: k"], "")).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn the_memory_store_keeps_the_contract() {
    check_contract(&MemoryStore::default()).await.unwrap();
}

proptest! {
    #[test]
    fn an_answer_survives_its_columns(
        status in 200_u16..600,
        headers in proptest::collection::vec(("[a-z-]{1,20}", "[!-~]([ -~]{0,20}[!-~])?"), 0..5),
        body: Vec<u8>,
    ) {
        let answer = StoredAnswer { status, headers, body: body.into() };
        let text = answer.headers_text();
        prop_assert_eq!(StoredAnswer::from_parts(status, &text, answer.body.clone()), answer);
    }
}
