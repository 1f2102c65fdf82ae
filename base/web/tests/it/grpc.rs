//! Calls of gRPC pass the same stack and are refused in their own way.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, response::IntoResponse as _, routing::post};
use kernel::{Clock, Problem, Rng, Timestamp};
use web::{Finished, HttpConfig, Reject, RequestContext, StackOptions, stack};

use crate::{Answer, request, send};

kernel::codes! {
    SPENT = "SPENT", Limited, "Spent";
}

const GRPC: &str = "content-type: application/grpc";

async fn call(path: &str, headers: &[&str]) -> (Answer, Vec<String>) {
    let (clock, _) = Clock::simulated(Timestamp::EPOCH);
    let mut options = StackOptions::new(HttpConfig::default(), clock, Rng::seeded(7)).unwrap();
    let finished = Arc::new(Mutex::new(Vec::new()));
    let seen = finished.clone();
    options.on_request = Some(Arc::new(move |f: &Finished<'_>| {
        seen.lock().unwrap().push(format!("{} {} {}", f.route, f.status, f.code.unwrap_or("-")));
    }));
    let router = Router::new()
        .route(
            "/spent",
            post(async || {
                Reject::from(
                    Problem::new(&SPENT, "Nothing is left: 100 % of 5, é").retry_after(Duration::from_millis(1500)),
                )
            }),
        )
        .route("/panic", post(async || -> &'static str { panic!("secret of the source") }))
        .route("/status", post(async || [("grpc-status", "8"), ("content-type", "application/grpc")].into_response()))
        .route(
            "/left",
            post(async || {
                let left = RequestContext::current().unwrap().deadline().remaining();
                format!("{}", left.as_millis())
            }),
        );
    let answer = send(&stack(router, options), request(&format!("POST {path}"), headers, "")).await;
    let finished = std::mem::take(&mut *finished.lock().unwrap());
    (answer, finished)
}

#[tokio::test]
async fn a_refusal_is_a_status_for_grpc_and_a_problem_for_everybody_else() {
    let (answer, finished) = call("/spent", &[GRPC]).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("grpc-status", "8"),
        ("grpc-message", "SPENT: Nothing is left: 100 %25 of 5, %C3%A9"),
        ("mainstay-code", "SPENT"),
        ("grpc-retry-pushback-ms", "1500"),
        ("retry-after", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(!answer.header("request-id").is_empty());
    assert_eq!(finished, ["/spent 429 SPENT"], "signals show the failure, not the status 200 under it");
    let (answer, _) = call("/spent", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after"), answer.header("grpc-status")), (429, "2", ""));
    assert_eq!(answer.json()["code"], "SPENT");
}

#[tokio::test]
async fn unknown_methods_panics_and_statuses_of_a_handler() {
    for (path, headers, status, seen) in [
        ("/envoy.Unknown/Call", &[GRPC][..], "12", "unmatched 404 NOT_FOUND"),
        ("/panic", &[GRPC], "13", "/panic 500 INTERNAL"),
        ("/status", &[GRPC], "8", "/status 429 -"),
        ("/left", &[GRPC, "grpc-timeout: soon"], "3", "/left 400 INVALID_HEADER"),
        ("/left", &[GRPC], "", "/left 200 -"),
    ] {
        let (answer, finished) = call(path, headers).await;
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, status), "{path}");
        assert_eq!(finished, [seen]);
        assert!(!answer.header("grpc-message").contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn the_shortest_deadline_counts() {
    for (headers, left) in [
        (&[GRPC, "grpc-timeout: 250m"][..], "250"),
        (&[GRPC, "grpc-timeout: 1H"], "30000"),
        (&[GRPC, "grpc-timeout: 2S", "mainstay-timeout: 1s"], "1000"),
        (&[GRPC, "grpc-timeout: 1S", "mainstay-timeout: 2s"], "1000"),
    ] {
        assert_eq!(call("/left", headers).await.0.text(), left, "{headers:?}");
    }
}
