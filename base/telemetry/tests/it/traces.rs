use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kernel::{Clock, Lifecycle, Rng, Secret, Stage};
use telemetry::{
    Guard, Output, Process, Ratio, TelemetryConfig, build,
    propagation::{self, RequestIds},
};
use tracing::Dispatch;

use crate::collector::{Collector, attribute};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Rig {
    clock: Clock,
    lifecycle: Lifecycle,
    dispatch: Dispatch,
    guard: Guard,
    lines: Arc<Mutex<Vec<String>>>,
}

fn rig(config: &TelemetryConfig) -> Rig {
    let clock = Clock::system();
    let lifecycle = Lifecycle::new(clock.clone(), Rng::seeded(1));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let process = Process {
        version: "1.2.3",
        node: "node-a".to_owned(),
        clock: clock.clone(),
        rng: Rng::seeded(2),
        tasks: lifecycle.tasks(Stage::Telemetry),
    };
    let sink = lines.clone();
    let output = Output::to(move |line| sink.lock().unwrap().push(line.to_owned()));
    let (dispatch, guard) = build(config, &process, output).unwrap();
    Rig { clock, lifecycle, dispatch, guard, lines }
}

fn config(endpoint: String) -> TelemetryConfig {
    TelemetryConfig { otlp_endpoint: endpoint, otlp_timeout: Duration::from_secs(2), ..TelemetryConfig::default() }
}

const BOUND: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_a_real_collector_with_their_parent_from_outside() {
    let mut collector = Collector::start().await;
    let rig = rig(&TelemetryConfig {
        otlp_headers: Secret::new("authorization=Bearer collector-key"),
        log_format: telemetry::LogFormat::Json,
        ..config(collector.endpoint())
    });
    let outgoing = tracing::dispatcher::with_default(&rig.dispatch, || {
        let request = tracing::info_span!("request", otel.kind = "server", route = "/v1/links", password = "hunter2");
        assert!(propagation::adopt(&request, PARENT, Some("vendor=1")));
        request.in_scope(|| {
            let query = tracing::info_span!("query", sql.url = "postgres://app:hunter2@db/x");
            query.in_scope(|| tracing::info!("a row was read"));
            assert_eq!(propagation::tracestate(&query).as_deref(), Some("vendor=1"));
            propagation::traceparent(&query).unwrap()
        })
    });
    assert_eq!(format!("{:032x}", outgoing.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736", "the trace goes on");

    assert!(rig.guard.flush(&rig.clock, BOUND).await);
    let export = collector.next().await;
    assert_eq!(export.metadata.get("authorization").unwrap(), "Bearer collector-key");
    assert_eq!(export.resource("service.name").as_deref(), Some("mainstay"));
    assert_eq!(export.resource("service.version").as_deref(), Some("1.2.3"));
    assert_eq!(export.resource("service.instance.id").as_deref(), Some("node-a"));
    // The worker may have looked between the two spans: then the second comes in an export of its own.
    let mut spans: Vec<_> = export.spans().into_iter().cloned().collect();
    spans.extend(collector.spans(2_usize.saturating_sub(spans.len())).await);
    let [query, request] = &spans[..] else { panic!("two spans, not {}", spans.len()) };
    assert_eq!((query.name.as_str(), request.name.as_str()), ("query", "request"));
    assert_eq!(hex(&request.parent_span_id), "00f067aa0ba902b7", "the caller's span is the parent");
    assert_eq!(query.parent_span_id, request.span_id);
    assert_eq!(hex(&query.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&query.span_id), format!("{:016x}", outgoing.span_id));
    assert_eq!(query.events.len(), 1, "log lines travel with their span");
    assert_eq!(attribute(request, "route").as_deref(), Some("/v1/links"));
    assert!(!format!("{:?}{spans:?}", export.request).contains("hunter2"), "no secret leaves");

    let lines = rig.lines.lock().unwrap().concat();
    assert!(lines.contains(r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#), "{lines}");
    assert!(lines.contains(&format!(r#""span_id":"{:016x}""#, outgoing.span_id)), "{lines}");
    assert!(!lines.contains("hunter2"), "{lines}");
    assert_eq!(rig.guard.spans().unwrap().exported_count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_exported_under_the_ids_that_its_server_gave_it() {
    let mut collector = Collector::start().await;
    let rig = rig(&config(collector.endpoint()));
    let (trace_id, span_id) = ([0xab; 16], [0xcd; 8]);
    let began_elsewhere = RequestIds { trace_id, span_id, parent_id: Some([0xef; 8]), is_sampled: true, state: "v=1" };
    let began_here = RequestIds { trace_id: [0x11; 16], span_id: [0x22; 8], parent_id: None, ..began_elsewhere };
    tracing::dispatcher::with_default(&rig.dispatch, || {
        for ids in [began_elsewhere, began_here] {
            let request = tracing::info_span!("request", trace_id = "as told", span_id = "as told");
            assert!(propagation::join(&request, &ids));
            request.in_scope(|| {
                tracing::info!("served");
                drop(tracing::info_span!("query").entered());
            });
            assert!(!propagation::join(&request, &ids), "once");
        }
    });
    assert!(rig.guard.flush(&rig.clock, BOUND).await);
    let spans = collector.spans(4).await;
    let seen: Vec<_> =
        spans.iter().map(|s| (s.name.as_str(), hex(&s.trace_id), hex(&s.span_id), hex(&s.parent_span_id))).collect();
    let [(_, t1, q1, p1), r1, (_, t2, q2, p2), r2] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(*r1, ("request", "ab".repeat(16), "cd".repeat(8), "ef".repeat(8)));
    assert_eq!(*r2, ("request", "11".repeat(16), "22".repeat(8), String::new()));
    assert_eq!((t1, p1, t2, p2), (&r1.1, &r1.2, &r2.1, &r2.2), "queries are their children");
    assert!(*q1 != r1.2 && *q2 != r2.2 && q1 != q2, "with ids of their own");
    let lines = rig.lines.lock().unwrap().concat();
    assert!(lines.contains(&"ab".repeat(16)) && !lines.contains("as told"), "{lines}");
}

/// On one thread, so that the worker sees its first span only after shutdown was asked for.
#[tokio::test]
async fn shutdown_sends_what_waits() {
    let mut collector = Collector::start().await;
    let rig = rig(&config(collector.endpoint()));
    tracing::dispatcher::with_default(&rig.dispatch, || {
        for n in 0..1_300 {
            drop(tracing::info_span!("work", n).entered());
        }
    });
    let report = rig.lifecycle.shutdown(BOUND).await;
    assert_eq!(report.aborted, Vec::<&str>::new());
    let mut seen = 0;
    while seen < 1_300 {
        let export = collector.next().await;
        assert!(export.spans().len() <= 512, "batches are bounded");
        seen += export.spans().len();
    }
    assert_eq!(rig.guard.spans().unwrap().exported_count, 1_300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_follows_its_callers_decision_and_begins_by_ratio() {
    let mut collector = Collector::start().await;
    let rig = rig(&TelemetryConfig { sample_ratio: Ratio(0.0), ..config(collector.endpoint()) });
    tracing::dispatcher::with_default(&rig.dispatch, || {
        drop(tracing::info_span!("begun-here").entered());
        let unsampled = tracing::info_span!("caller-says-no");
        assert!(propagation::adopt(&unsampled, &PARENT.replace("-01", "-00"), None));
        drop(unsampled.entered());
        let sampled = tracing::info_span!("caller-says-yes");
        assert!(propagation::adopt(&sampled, PARENT, None));
        drop(sampled.entered());
        let broken = tracing::info_span!("broken-header");
        assert!(!propagation::adopt(&broken, "00-nonsense", None));
        drop(broken.entered());
    });
    assert!(rig.guard.flush(&rig.clock, BOUND).await);
    let names: Vec<_> = collector.spans(1).await.iter().map(|s| s.name.clone()).collect();
    assert_eq!(names, ["caller-says-yes"]);
    assert_eq!(rig.guard.spans().unwrap().exported_count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_neither_blocks_nor_fails_and_is_used_when_it_comes() {
    // A port that was free a moment ago, with nobody behind it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = rig(&TelemetryConfig {
        span_queue: 100,
        otlp_timeout: Duration::from_millis(300),
        ..config(format!("http://{address}"))
    });
    #[allow(clippy::disallowed_methods, reason = "measures the caller's real wait")]
    let began = Instant::now();
    tracing::dispatcher::with_default(&rig.dispatch, || {
        for n in 0..20_000 {
            drop(tracing::info_span!("work", n).entered());
        }
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "20,000 spans took {took:?}: somebody waited");
    assert!(!rig.guard.flush(&rig.clock, BOUND).await, "and it says that they did not arrive");
    let stats = rig.guard.spans().unwrap();
    assert_eq!(stats.exported_count, 0);
    assert_eq!(stats.failed_count + stats.dropped_count, 20_000, "every span is accounted for: {stats:?}");
    assert!(stats.dropped_count > 0, "the queue is bounded");
    assert!(rig.guard.is_collector_down());

    let mut collector = Collector::start_at(address).await;
    tracing::dispatcher::with_default(&rig.dispatch, || drop(tracing::info_span!("late").entered()));
    let mut flushed = rig.guard.flush(&rig.clock, BOUND).await;
    for _ in 0..20 {
        // The channel reconnects with back-off of its own; every try sends a new span.
        if flushed {
            break;
        }
        tracing::dispatcher::with_default(&rig.dispatch, || drop(tracing::info_span!("late").entered()));
        flushed = rig.guard.flush(&rig.clock, BOUND).await;
    }
    assert!(flushed);
    assert_eq!(collector.next().await.spans()[0].name, "late");
    assert!(!rig.guard.is_collector_down());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_is_bounded_when_the_collector_takes_and_never_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(&TelemetryConfig {
        otlp_timeout: Duration::from_mins(1),
        ..config(format!("http://{}", listener.local_addr().unwrap()))
    });
    tracing::dispatcher::with_default(&rig.dispatch, || drop(tracing::info_span!("stuck").entered()));
    assert!(!rig.guard.flush(&rig.clock, Duration::from_millis(50)).await);
    let report = rig.lifecycle.shutdown(Duration::from_millis(200)).await;
    assert_eq!(report.aborted, ["span-export"]);
    assert!(report.took < Duration::from_secs(5), "{:?}", report.took);
}

#[test]
fn what_cannot_work_is_said_at_the_start() {
    let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
    let process = Process {
        version: "1",
        node: "n".to_owned(),
        clock: Clock::system(),
        rng: Rng::system(),
        tasks: lifecycle.tasks(Stage::Telemetry),
    };
    let check = |config: &TelemetryConfig, says: &str| {
        let error = build(config, &process, Output::to(|_| {})).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    };
    let defaults = TelemetryConfig::default;
    check(&TelemetryConfig { log_level: "info,x=loud".to_owned(), ..defaults() }, "telemetry.log_level");
    check(&TelemetryConfig { span_level: "info,x=loud".to_owned(), ..defaults() }, "telemetry.span_level");
    check(&config("http://127.0.0.1:1".to_owned()), "no async runtime");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    check(&config("not a url".to_owned()), "telemetry.otlp_endpoint");
    check(&config("http://[::1".to_owned()), "telemetry.otlp_endpoint");
    check(&config("https://collector:4317".to_owned()), "without TLS");
    let headers = Secret::new("hunter2");
    check(&TelemetryConfig { otlp_headers: headers, ..config("http://127.0.0.1:1".to_owned()) }, "otlp_headers");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |out, b| out + &format!("{b:02x}"))
}
