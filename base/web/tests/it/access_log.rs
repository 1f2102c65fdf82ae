use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, routing::get};
use http_body_util::BodyExt as _;
use kernel::{Clock, Rng, Timestamp};
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use web::{HttpConfig, Reject, StackOptions, stack};

use crate::request;

/// Events as field maps, with `target` and `level`.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Seen {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        fields.0.insert("target".to_owned(), event.metadata().target().to_owned());
        fields.0.insert("level".to_owned(), event.metadata().level().to_string());
        self.0.lock().unwrap().push(fields.0);
    }
}

/// Sends one request, reads its answer whole or one frame of it, and gives the events that it left.
fn events(line: &str, is_read: bool) -> Vec<BTreeMap<String, String>> {
    let seen = Seen::default();
    let subscriber = tracing_subscriber::registry().with(seen.clone());
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (clock, _time) = Clock::simulated(Timestamp::EPOCH);
            let options = StackOptions::new(HttpConfig::default(), clock, Rng::seeded(1)).unwrap();
            let chunks =
                || Body::from_stream(futures_util::stream::iter(["four", "more"].map(Ok::<_, std::io::Error>)));
            let router = Router::new()
                .route("/hello/{name}", get(async || "hello"))
                .route("/chunks", get(async move || chunks()))
                .route("/health/live", get(async || "live"))
                .route("/broken", get(async || -> Result<(), Reject> { Err(Reject::internal("disk on fire")) }));
            let request = request(line, &["x-request-id: abc"], "");
            let mut response = stack(router, options).oneshot(request).await.unwrap();
            if is_read {
                response.into_body().collect().await.unwrap();
            } else {
                response.body_mut().frame().await.unwrap().unwrap();
            }
        });
    });
    let events = seen.0.lock().unwrap();
    events.clone()
}

fn check(line: &str, is_read: bool, expected: &[(&str, &str)]) {
    let events = events(line, is_read);
    let access: Vec<_> = events.iter().filter(|e| e["target"] == "access").collect();
    assert_eq!(access.len(), 1, "{line}: one event a request, not {access:?}");
    for (name, value) in expected {
        assert_eq!(access[0][*name], *value, "{line}: {name}");
    }
}

#[test]
fn each_request_leaves_one_line() {
    let whole = ("is_whole", "true");
    check(
        "GET /hello/x?key=secret",
        true,
        &[
            ("method", "GET"),
            ("route", "/hello/{name}"),
            ("path", "/hello/x"), // without the query
            ("status", "200"),
            ("bytes", "5"),
            ("request_id", "abc"),
            ("level", "INFO"),
            whole,
        ],
    );
    check("GET /chunks", true, &[("bytes", "8"), whole]);
    check("GET /chunks", false, &[("bytes", "4"), ("is_whole", "false")]);
    check("GET /nowhere", true, &[("route", "unmatched"), ("status", "404"), ("code", "NOT_FOUND"), whole]);
    check("GET /health/live", true, &[("level", "DEBUG")]);
}

#[test]
fn what_operators_see_is_in_the_log_with_the_request_id() {
    let events = events("GET /broken", true);
    let error = events.iter().find(|e| e["level"] == "ERROR").unwrap();
    assert_eq!((error["internal"].as_str(), error["request_id"].as_str()), ("disk on fire", "abc"));
}
