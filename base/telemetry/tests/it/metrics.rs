use std::time::Duration;

use kernel::{Backoff, Clock, Lifecycle, OnPanic, Rng, Stage, Timestamp};
use telemetry::{
    Metrics, ProcessCollector,
    process::Usage,
    prometheus::metrics::{counter::Counter, family::Family, gauge::Gauge},
};

#[test]
fn rooms_register_under_their_own_prefix() {
    let metrics = Metrics::new();
    let room = metrics.registry("shortener");
    let redirects = room.add("redirects", "Redirects served", Counter::<u64>::default());
    let links = room.add("links", "Links now", Gauge::<i64>::default());
    let by = room.add("refusals", "Refused requests", Family::<[(&str, &str); 1], Counter>::default());
    redirects.inc_by(3);
    links.set(-1);
    by.get_or_create(&[("reason", "a \"quoted\"\nreason")]).inc();
    let reply = metrics.render();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(
        reply.body,
        concat!(
            "# HELP mainstay_shortener_redirects Redirects served.\n",
            "# TYPE mainstay_shortener_redirects counter\n",
            "mainstay_shortener_redirects_total 3\n",
            "# HELP mainstay_shortener_links Links now.\n",
            "# TYPE mainstay_shortener_links gauge\n",
            "mainstay_shortener_links -1\n",
            "# HELP mainstay_shortener_refusals Refused requests.\n",
            "# TYPE mainstay_shortener_refusals counter\n",
            "mainstay_shortener_refusals_total{reason=\"a \\\"quoted\\\"\\nreason\"} 1\n",
            "# EOF\n",
        )
    );
}

#[test]
fn a_name_is_taken_once() {
    let metrics = Metrics::new();
    metrics.registry("shortener").add("redirects", "First", Counter::<u64>::default()).inc();
    metrics.registry("shortener").add("redirects", "Second", Counter::<u64>::default());
    metrics.registry("limiter").add("redirects", "Another room's", Counter::<u64>::default());
    let text = metrics.render().body;
    assert_eq!(text.matches("mainstay_shortener_redirects_total").count(), 1);
    assert!(text.contains("mainstay_shortener_redirects_total 1"));
    assert!(text.contains("mainstay_limiter_redirects_total 0"));
}

#[tokio::test]
async fn the_process_shows_itself_and_its_tasks() {
    let (clock, sim) = Clock::simulated(Timestamp::from_millis(1_000_000));
    let lifecycle = Lifecycle::new(clock.clone(), Rng::seeded(1));
    let metrics = Metrics::new();
    metrics.add_process(ProcessCollector::new(clock, "1.2.3", lifecycle.clone()));
    sim.advance(Duration::from_secs(7));
    lifecycle.tasks(Stage::Systems).supervise(
        "steady",
        OnPanic::Record,
        |shutdown| async move { shutdown.wait().await },
    );
    let now = Backoff { base: Duration::ZERO, cap: Duration::ZERO };
    let mut runs = 0;
    lifecycle.tasks(Stage::Systems).supervise("shaky", OnPanic::Restart(now), move |shutdown| {
        runs += 1;
        let fails = runs < 3;
        async move {
            assert!(!fails, "as planned");
            shutdown.wait().await;
        }
    });
    let shaky = || lifecycle.stats().get("shaky").copied().unwrap_or_default();
    while shaky().restart_count < 2 {
        tokio::task::yield_now().await;
    }
    let text = metrics.render().body;
    for line in [
        "process_start_time_seconds 1000.0",
        "mainstay_uptime_seconds 7.0",
        "mainstay_build_info{version=\"1.2.3\"} 1.0",
        "mainstay_tasks_running{task=\"steady\"} 1.0",
        "mainstay_task_panics_total{task=\"shaky\"} 2",
        "mainstay_task_restarts_total{task=\"shaky\"} 2",
        "mainstay_runtime_workers 1.0",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert_eq!(Usage::read().threads.is_some(), cfg!(target_os = "linux"));
}
