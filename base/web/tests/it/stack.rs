use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use kernel::{Clock, ProjectId, Rng, SimClock, Timestamp};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use web::{Admission, Admitted, Arriving, Finished, HttpConfig, Json, RequestContext, StackOptions, stack};

use crate::{Answer, request, send};

struct House {
    router: Router,
    time: SimClock,
    /// `METHOD route status project code panicked` of every finished request.
    finished: Arc<Mutex<Vec<String>>>,
    started: Arc<Semaphore>,
    gate: Arc<Semaphore>,
    in_flight: web::InFlight,
    /// `METHOD route`, then the status or `left`, of every request that asked to be let in.
    admissions: Arc<Mutex<Vec<String>>>,
}

/// Lets everything in but PATCH.
struct Door(Arc<Mutex<Vec<String>>>);

struct Inside(Arc<Mutex<Vec<String>>>, String);

impl Admission for Door {
    fn admit(&self, request: &Arriving<'_>) -> Result<Box<dyn Admitted>, Duration> {
        let name = format!("{} {}", request.method, request.route);
        if request.method == http::Method::PATCH {
            return Err(Duration::from_secs(5));
        }
        Ok(Box::new(Inside(self.0.clone(), name)))
    }
}

impl Admitted for Inside {
    fn answered(mut self: Box<Self>, status: StatusCode) {
        self.0.lock().unwrap().push(format!("{} {}", self.1, status.as_u16()));
        self.1.clear();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if !self.1.is_empty() {
            self.0.lock().unwrap().push(format!("{} left", self.1));
        }
    }
}

fn house(change: impl FnOnce(&mut HttpConfig)) -> House {
    let (clock, time) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
    let mut config = HttpConfig { in_flight_limit: 2, ..HttpConfig::default() };
    change(&mut config);
    let mut options = StackOptions::new(config, clock, Rng::seeded(7)).unwrap();
    let finished = Arc::new(Mutex::new(Vec::new()));
    let seen = finished.clone();
    options.on_request = Some(Arc::new(move |f: &Finished<'_>| {
        let project = f.project.map_or("-", ProjectId::as_str);
        let line = format!(
            "{} {} {} {project} {} {} {}ms",
            f.method,
            f.route,
            f.status,
            f.code.unwrap_or("-"),
            f.panicked,
            f.duration.as_millis()
        );
        seen.lock().unwrap().push(line);
    }));
    let in_flight = options.in_flight.clone();
    let admissions = Arc::new(Mutex::new(Vec::new()));
    options.admission = Some(Arc::new(Door(admissions.clone())));
    let (started, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let wait = {
        let (started, gate) = (started.clone(), gate.clone());
        move || async move {
            started.add_permits(1);
            gate.acquire().await.unwrap().forget();
            "waited"
        }
    };
    let router = Router::new()
        .route("/hello/{name}", get(async || "hello"))
        .route("/wait", get(wait))
        .route("/health/live", get(async || "live"))
        .route("/panic", get(async || -> &'static str { panic!("secret of the source") }))
        .route("/echo", post(async |Json(v): Json<serde_json::Value>| Json(v)))
        .route("/zeros", get(async || "0".repeat(10_000)))
        .route("/tagged", get(async || ([(header::ETAG, "\"v1\"")], "0".repeat(10_000))))
        .route("/events", get(async || ([(header::CONTENT_TYPE, "text/event-stream")], "data: x\n\n".repeat(1_000))))
        .route("/page", get(async || ([(header::CONTENT_SECURITY_POLICY, "default-src 'self'")], "page")))
        .route(
            "/context",
            get(async |Extension(context): Extension<RequestContext>| {
                context.set_project(&ProjectId::parse("acme").unwrap());
                let current = RequestContext::current().unwrap();
                assert_eq!(current.request_id(), context.request_id());
                let left = context.deadline().remaining().as_millis();
                format!("{left} {} {}", context.trace().traceparent(), context.trace().state)
            }),
        );
    House { router: stack(router, options), time, finished, started, gate, in_flight, admissions }
}

impl House {
    async fn send(&self, line: &str, headers: &[&str]) -> Answer {
        send(&self.router, request(line, headers, "")).await
    }

    fn finished(&self) -> Vec<String> {
        std::mem::take(&mut *self.finished.lock().unwrap())
    }
}

/// Sends one request, expects the status and these headers (an empty value: the header is not there).
async fn check(line: &str, headers: &[&str], status: u16, expected: &[(&str, &str)]) {
    let answer = house(|c| c.cors_origins = vec!["https://app.example.com".to_owned()]).send(line, headers).await;
    assert_eq!(answer.status.as_u16(), status, "{line} {headers:?}");
    for (name, value) in expected {
        assert_eq!(answer.header(name), *value, "{line} {headers:?}: {name}");
    }
}

#[tokio::test]
async fn headers_in_and_out() {
    let long = format!("x-request-id: {}", "a".repeat(129));
    let gzip = "accept-encoding: gzip";
    for (line, headers, status, expected) in [
        ("GET /hello/x", vec!["x-request-id: abc.D-1_2"], 200, vec![("request-id", "abc.D-1_2")]),
        ("GET /hello/x", vec!["request-id: abc"], 200, vec![("request-id", "abc")]),
        (
            "GET /nowhere",
            vec!["x-request-id: abc"],
            404,
            vec![("request-id", "abc"), ("content-type", "application/problem+json")],
        ),
        ("DELETE /hello/x", vec!["x-request-id: abc"], 405, vec![("request-id", "abc"), ("allow", "GET,HEAD")]),
        ("HEAD /hello/x", vec![], 200, vec![("content-length", "5")]),
        (
            "GET /hello/x",
            vec![],
            200,
            vec![
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
                ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ],
        ),
        ("GET /page", vec![], 200, vec![("content-security-policy", "default-src 'self'")]),
        ("GET /zeros", vec![gzip], 200, vec![("content-encoding", "gzip")]),
        ("GET /zeros", vec!["accept-encoding: br"], 200, vec![("content-encoding", "br")]),
        ("GET /zeros", vec![], 200, vec![("content-encoding", "")]),
        ("GET /hello/x", vec![gzip], 200, vec![("content-encoding", "")]),
        ("GET /events", vec![gzip], 200, vec![("content-encoding", "")]),
        ("GET /tagged", vec![gzip], 200, vec![("content-encoding", ""), ("etag", "\"v1\"")]),
        ("GET /hello/x", vec!["mainstay-timeout: soon"], 400, vec![("content-type", "application/problem+json")]),
        (
            "GET /hello/x",
            vec!["origin: https://app.example.com"],
            200,
            vec![("access-control-allow-origin", "https://app.example.com")],
        ),
        ("GET /hello/x", vec!["origin: https://evil.example.com"], 200, vec![("access-control-allow-origin", "")]),
    ] {
        check(line, &headers, status, &expected).await;
    }
    for bad in ["x-request-id: a b", "x-request-id: a/b", "x-request-id: ", &long] {
        let answer = house(|_| ()).send("GET /hello/x", &[bad]).await;
        let id = answer.header("request-id");
        assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{bad} gave {id}, expected a UUIDv7");
    }
    let off = house(|_| ()).send("GET /hello/x", &["origin: https://app.example.com"]).await;
    assert_eq!(off.header("access-control-allow-origin"), "", "CORS is off by default");
}

#[tokio::test]
async fn past_the_in_flight_limit_requests_are_refused_at_once_but_health_passes() {
    let house = house(|_| ());
    let full = async {
        house.started.acquire_many(2).await.unwrap().forget();
        assert_eq!(house.in_flight.count(), 2);
        let refused = house.send("GET /hello/x", &[]).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
        assert_eq!(refused.json()["code"], "OVERLOADED");
        assert_eq!(house.send("GET /health/live", &[]).await.status, StatusCode::OK);
        house.gate.add_permits(2);
    };
    let (one, two, ()) = tokio::join!(house.send("GET /wait", &[]), house.send("GET /wait", &[]), full);
    assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(house.send("GET /hello/x", &[]).await.status, StatusCode::OK, "there is room again");
    assert_eq!(house.in_flight.count(), 0);
}

#[tokio::test]
async fn who_is_let_in_is_decided_elsewhere_and_learns_how_each_ended() {
    let house = house(|_| ());
    for line in ["GET /hello/x", "GET /panic", "GET /nowhere", "GET /health/live"] {
        house.send(line, &[]).await;
    }
    let refused = house.send("PATCH /hello/x", &[]).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "5"));
    assert_eq!(refused.json()["code"], "OVERLOADED");
    let late = async {
        house.started.acquire().await.unwrap().forget();
        house.time.advance(Duration::from_secs(30));
    };
    tokio::join!(house.send("GET /wait", &[]), late);
    {
        let going = house.send("GET /wait", &[]);
        tokio::pin!(going);
        tokio::select! {
            _ = &mut going => panic!("the gate is closed"),
            started = house.started.acquire() => started.unwrap().forget(),
        }
    }
    let seen = house.admissions.lock().unwrap().clone();
    let expected = ["GET /hello/{name} 200", "GET /panic 500", "GET /nowhere 404", "GET /wait 504", "GET /wait left"];
    assert_eq!(seen, expected, "health is never asked, and what was refused never entered");
    assert_eq!(house.in_flight.count(), 0);
}

#[tokio::test]
async fn a_deadline_that_passes_is_504_and_frees_its_place() {
    for (headers, wait_ms) in [
        (vec![], 30_000),
        (vec!["mainstay-timeout: 250ms"], 250),
        (vec!["mainstay-timeout: 1h"], 30_000), // the server's own limit stands
    ] {
        let house = house(|_| ());
        let passing = async {
            house.started.acquire().await.unwrap().forget();
            house.time.advance(Duration::from_millis(wait_ms - 1));
            tokio::task::yield_now().await;
            assert_eq!(house.in_flight.count(), 1, "{headers:?}: not yet");
            house.time.advance(Duration::from_millis(1));
            // Once the deadline had its turn the handler may go on, so that a deadline that is missed fails instead of hanging.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            house.gate.add_permits(1);
        };
        let (answer, ()) = tokio::join!(house.send("GET /wait", &headers), passing);
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{headers:?}");
        assert_eq!(answer.json()["code"], "REQUEST_TIMEOUT");
        assert_eq!(house.in_flight.count(), 0);
        assert_eq!(house.finished(), [format!("GET /wait 504 - REQUEST_TIMEOUT false {wait_ms}ms")]);
    }
}

#[tokio::test]
async fn a_panic_is_one_500_that_says_nothing_and_is_counted() {
    let house = house(|_| ());
    let answer = house.send("GET /panic", &["x-request-id: abc"]).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (500, Some("INTERNAL")));
    assert_eq!(answer.json()["instance"], "abc");
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    assert_eq!(house.finished(), ["GET /panic 500 - INTERNAL true 0ms"]);
    assert_eq!(house.in_flight.count(), 0);
}

#[tokio::test]
async fn every_request_is_seen_under_a_bounded_name() {
    for (line, expected) in [
        ("GET /hello/x", "GET /hello/{name} 200 - - false 0ms"),
        ("GET /context", "GET /context 200 acme - false 0ms"),
        ("GET /some/scanner.php", "GET unmatched 404 - NOT_FOUND false 0ms"),
        ("BREW /hello/x", "OTHER /hello/{name} 405 - METHOD_NOT_ALLOWED false 0ms"),
    ] {
        let house = house(|_| ());
        house.send(line, &[]).await;
        assert_eq!(house.finished(), [expected], "{line}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_seen_as_499() {
    let house = house(|_| ());
    {
        let going = house.send("GET /wait", &[]);
        tokio::pin!(going);
        tokio::select! {
            _ = &mut going => panic!("the gate is closed"),
            started = house.started.acquire() => started.unwrap().forget(),
        }
    }
    assert_eq!(house.finished(), ["GET /wait 499 - - false 0ms"]);
    assert_eq!(house.in_flight.count(), 0);
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let house = house(|c| c.body_limit = kernel::ByteSize(10));
    for (body, status) in [("\"12345678\"", 200), ("\"123456789\"", 413)] {
        let answer = send(&house.router, request("POST /echo", &["content-type: application/json"], body)).await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
    }
}

#[tokio::test]
async fn the_trace_goes_on_and_the_deadline_travels() {
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [parent, "tracestate: rojo=1", "mainstay-timeout: 2s"];
    let answer = house(|_| ()).send("GET /context", &headers).await;
    let (left, rest) = answer.text().split_once(' ').unwrap();
    assert_eq!(left, "2000");
    assert!(rest.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{rest}");
    assert!(!rest.contains("00f067aa0ba902b7"), "the span is a child: {rest}");
    assert!(rest.ends_with("-01 rojo=1"), "{rest}");
}

#[tokio::test]
async fn a_preflight_is_answered_for_the_configured_origin() {
    let house = house(|c| c.cors_origins = vec!["https://app.example.com".to_owned()]);
    let headers = ["origin: https://app.example.com", "access-control-request-method: POST"];
    let answer = house.send("OPTIONS /echo", &headers).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("access-control-allow-headers").contains("idempotency-key"));
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn the_answer_is_streamed_not_collected() {
    let gate = Arc::new(Semaphore::new(0));
    let (clock, _time) = Clock::simulated(Timestamp::EPOCH);
    let options = StackOptions::new(HttpConfig::default(), clock, Rng::seeded(1)).unwrap();
    let stream = {
        let gate = gate.clone();
        move || async move {
            let body = futures_util::stream::unfold(0, move |n| {
                let gate = gate.clone();
                async move {
                    if n == 1 {
                        gate.acquire().await.unwrap().forget();
                    }
                    (n < 2).then(|| (Ok::<_, std::io::Error>("data: x\n\n"), n + 1))
                }
            });
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
        }
    };
    let router = stack(Router::new().route("/", get(stream)), options);
    let response: Response = router.oneshot(request("GET /", &["accept-encoding: gzip"], "")).await.unwrap();
    let mut body = response.into_body();
    // The first event arrives while the second is held back.
    let first = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: x\n\n");
    gate.add_permits(1);
    http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
}

#[test]
fn wrong_limits_are_refused_with_their_key() {
    for (key, change) in [
        ("http.body_limit", (|c| c.body_limit = kernel::ByteSize(0)) as fn(&mut HttpConfig)),
        ("http.request_timeout", |c| c.request_timeout = Duration::ZERO),
        ("http.in_flight_limit", |c| c.in_flight_limit = 0),
        ("http.idempotency_ttl", |c| c.idempotency_ttl = Duration::from_secs(1)),
        ("http.cors_origins", |c| c.cors_origins = vec!["app.example.com".to_owned()]),
        ("http.cors_origins", |c| c.cors_origins = vec!["https://app.example.com/".to_owned()]),
    ] {
        let mut config = HttpConfig::default();
        change(&mut config);
        let errors = config.check();
        assert_eq!(errors.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), [key]);
    }
    assert!(HttpConfig::default().check().is_empty());
}
