use std::time::{Duration, Instant};

use kernel::{Clock, Lifecycle, ProjectId, Rng, Stage, Timestamp};
use telemetry::{
    Golden, Metrics,
    golden::{Limits, NO_PROJECT, OTHER, Point},
};

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const SECOND: Duration = Duration::from_secs(1);

fn golden(limits: Limits) -> (Golden, kernel::SimClock) {
    let (clock, sim) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
    (Golden::new(clock, limits), sim)
}

#[test]
fn a_second_holds_what_finished_in_it_and_idle_seconds_are_zero() {
    let (golden, sim) = golden(Limits::default());
    let links = golden.route("GET", "/v1/links").handle(Some(&project("shop")));
    assert_eq!(golden.series(None), Vec::<Point>::new(), "nothing is known before the first whole second");
    for _ in 0..98 {
        links.record(200, ms(10));
    }
    links.record(500, ms(1_000));
    links.record(404, ms(10));
    sim.advance(SECOND);
    golden.tick();
    sim.advance(SECOND);
    golden.tick();
    golden.tick();
    golden.record("POST", "/v1/links", None, 201, ms(2));
    sim.advance(SECOND);
    golden.tick();

    let all = golden.series(None);
    let counts: Vec<_> = all.iter().map(|p| (p.at.to_string(), p.request_count, p.error_count)).collect();
    assert_eq!(
        counts,
        [
            ("2026-11-24T06:00:00Z".to_owned(), 100, 1),
            ("2026-11-24T06:00:01Z".to_owned(), 0, 0),
            ("2026-11-24T06:00:02Z".to_owned(), 1, 0),
        ]
    );
    let first = all[0];
    assert!((first.p50_ms.unwrap() - 10.0).abs() < 1.3, "{first:?}");
    assert!((first.p99_ms.unwrap() - 10.0).abs() < 1.3, "{first:?}");
    assert_eq!(all[1].p50_ms, None, "no latency without requests");
    assert_eq!(golden.series(Some("GET /v1/links")).iter().map(|p| p.request_count).sum::<u64>(), 100);
    assert_eq!(golden.series(Some("POST /v1/links")).iter().map(|p| p.request_count).sum::<u64>(), 1);
    assert_eq!(golden.project_series("shop").iter().map(|p| p.request_count).sum::<u64>(), 100);
    assert_eq!(golden.project_series(NO_PROJECT).iter().map(|p| p.request_count).sum::<u64>(), 1);
    assert_eq!(golden.series(Some("GET /nowhere")).len(), 3, "a route without requests is idle, not absent");
    assert_eq!(golden.routes(), ["GET /v1/links", "POST /v1/links"]);
}

#[test]
fn the_ring_forgets_after_a_quarter_of_an_hour() {
    let (golden, sim) = golden(Limits::default());
    let route = golden.route("GET", "/");
    for _ in 0..1_000 {
        route.handle(None).record(200, ms(1));
        sim.advance(SECOND);
        golden.tick();
    }
    let series = golden.series(None);
    assert_eq!(series.len(), 900);
    assert!(series.iter().all(|p| p.request_count == 1));
    assert_eq!(series.last().unwrap().at.since(series[0].at), SECOND * 899);
}

#[test]
fn labels_are_bounded_and_nothing_is_lost() {
    let (golden, sim) = golden(Limits { max_routes: 3, max_projects: 2, max_pairs: 4 });
    for n in 0..10 {
        for p in ["p-a", "p-b", "p-c", "p-d"] {
            golden.record("GET", &format!("/r{n}"), Some(&project(p)), 200, ms(1));
        }
        golden.record("BREW", "/r0", None, 418, ms(1));
    }
    sim.advance(SECOND);
    golden.tick();
    assert_eq!(golden.series(None)[0].request_count, 50);
    assert_eq!(golden.routes().len(), 4, "{:?}", golden.routes());
    assert!(golden.routes().contains(&format!("{OTHER} {OTHER}")));
    let mut by_project: Vec<_> =
        golden.projects().into_iter().map(|p| (golden.project_series(&p)[0].request_count, p)).collect();
    by_project.sort();
    assert_eq!(by_project.iter().map(|(n, _)| n).sum::<u64>(), 50);
    let names: Vec<_> = golden.projects();
    assert_eq!(names, [NO_PROJECT, OTHER, "p-a", "p-b"]);
}

#[test]
fn prometheus_reads_counters_and_histograms_that_agree() {
    let (golden, _sim) = golden(Limits::default());
    let metrics = Metrics::new();
    metrics.add_golden(golden.clone());
    let shop = project("shop");
    golden.record("GET", "/v1/links", Some(&shop), 200, Duration::from_micros(64));
    golden.record("GET", "/v1/links", Some(&shop), 503, ms(500));
    golden.record("GET", "/v1/links", Some(&shop), 200, Duration::from_mins(10));
    let text = metrics.render().body;
    let labels = r#"method="GET",route="/v1/links",project="shop""#;
    for line in [
        format!(r#"mainstay_http_requests_total{{{labels},class="2xx"}} 2"#),
        format!(r#"mainstay_http_requests_total{{{labels},class="5xx"}} 1"#),
        format!(r#"mainstay_http_request_duration_seconds_bucket{{le="0.000064",{labels}}} 1"#),
        format!(r#"mainstay_http_request_duration_seconds_bucket{{le="0.262144",{labels}}} 1"#),
        format!(r#"mainstay_http_request_duration_seconds_bucket{{le="1.048576",{labels}}} 2"#),
        format!(r#"mainstay_http_request_duration_seconds_bucket{{le="+Inf",{labels}}} 3"#),
        format!("mainstay_http_request_duration_seconds_count{{{labels}}} 3"),
        format!("mainstay_http_request_duration_seconds_sum{{{labels}}} 600.500064"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn threads_lose_no_count() {
    let (golden, sim) = golden(Limits::default());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let golden = &golden;
            scope.spawn(move || {
                let name = project(if n % 2 == 0 { "even" } else { "odd" });
                for _ in 0..5_000 {
                    golden.record("GET", "/{code}", Some(&name), 301, Duration::from_micros(20));
                }
            });
        }
    });
    sim.advance(SECOND);
    golden.tick();
    assert_eq!(golden.series(None)[0].request_count, 40_000);
    assert_eq!(golden.project_series("even")[0].request_count, 20_000);
}

#[tokio::test]
async fn the_worker_closes_each_second() {
    let (clock, sim) = Clock::simulated(Timestamp::from_millis(0));
    let lifecycle = Lifecycle::new(clock.clone(), Rng::seeded(1));
    let golden = Golden::new(clock, Limits::default());
    golden.run(&lifecycle.tasks(Stage::Telemetry));
    golden.record("GET", "/", None, 200, ms(1));
    while golden.series(None).len() < 3 {
        sim.advance(ms(100));
        tokio::task::yield_now().await;
    }
    assert_eq!(golden.series(None)[0].request_count, 1);
    assert_eq!(lifecycle.shutdown(SECOND).await.aborted, Vec::<&str>::new());
}

/// Not a benchmark: an order of magnitude, so that nobody puts a lock on the hot path. A release build takes about 10 ns.
#[test]
#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn recording_is_cheap() {
    let (golden, _sim) = golden(Limits::default());
    let handle = golden.route("GET", "/{code}").handle(Some(&project("shop")));
    let began = Instant::now();
    for n in 0..1_000_000 {
        handle.record(301, Duration::from_nanos(n));
    }
    let each = began.elapsed() / 1_000_000;
    assert!(each < Duration::from_micros(2), "{each:?} for one record");
}
