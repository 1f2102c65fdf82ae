use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kernel::{Clock, Lifecycle, Rng, Stage, Timestamp};
use telemetry::{LogFormat, Metrics, Output, Process, TelemetryConfig, build};

/// The lines that `log` writes.
fn lines(format: LogFormat, level: &str, log: impl FnOnce()) -> Vec<String> {
    let (clock, sim) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
    sim.advance(Duration::from_millis(120));
    let lifecycle = Lifecycle::new(clock.clone(), Rng::seeded(1));
    let process = Process {
        version: "1",
        node: "n".to_owned(),
        clock,
        rng: Rng::seeded(1),
        tasks: lifecycle.tasks(Stage::Telemetry),
    };
    let config = TelemetryConfig { log_format: format, log_level: level.to_owned(), ..TelemetryConfig::default() };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let output = Output::to(move |line| sink.lock().unwrap().push(line.to_owned()));
    let (dispatch, guard) = build(&config, &process, output).unwrap();
    tracing::dispatcher::with_default(&dispatch, log);
    let metrics = Metrics::new();
    metrics.registry("telemetry").add_collector(guard.collector());
    let out = std::mem::take(&mut *lines.lock().unwrap());
    let counted: u64 = metrics
        .render()
        .body
        .lines()
        .filter(|l| l.starts_with("mainstay_log_lines_total"))
        .map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, out.len() as u64, "every line is counted");
    out
}

#[test]
fn people_read_one_plain_line_for_an_event() {
    let out = lines(LogFormat::Human, "info", || {
        let span =
            tracing::info_span!("request", route = "/v1/links", trace_id = "4bf9", status = tracing::field::Empty);
        span.record("status", 201);
        span.in_scope(|| tracing::warn!(target: "shortener", took_ms = 3, note = "two words", "created"));
    });
    assert_eq!(
        out,
        [concat!(
            "2026-11-24T06:00:00.120Z  WARN shortener created ",
            "route=/v1/links status=201 took_ms=3 note=\"two words\" trace_id=4bf9\n"
        )]
    );
}

#[test]
fn machines_read_one_json_object_for_an_event() {
    let out = lines(LogFormat::Json, "info", || {
        let span = tracing::info_span!("request", route = "/v1/links", trace_id = "4bf9");
        span.in_scope(|| tracing::error!(target: "shortener", took_ms = 3, ok = false, "it \"broke\"\nbadly"));
    });
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].matches('\n').count(), 1, "one line");
    let value: serde_json::Value = serde_json::from_str(&out[0]).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "timestamp": "2026-11-24T06:00:00.120Z",
            "level": "error",
            "target": "shortener",
            "message": "it \"broke\"\nbadly",
            "span": "request",
            "trace_id": "4bf9",
            "fields": { "route": "/v1/links", "took_ms": 3, "ok": false },
        })
    );
}

#[test]
fn the_filter_goes_by_level_and_target() {
    let out = lines(LogFormat::Human, "warn,shortener=debug", || {
        tracing::info!(target: "web", "hidden");
        tracing::debug!(target: "shortener::store", "shown");
        tracing::trace!(target: "shortener", "hidden");
        tracing::warn!(target: "web", "shown");
    });
    assert_eq!(out.len(), 2, "{out:?}");
    assert!(out.iter().all(|l| l.contains("shown")), "{out:?}");
}

#[test]
fn secrets_never_reach_a_line() {
    for format in [LogFormat::Human, LogFormat::Json] {
        let out = lines(format, "info", || {
            let span = tracing::info_span!("sign-in", password = "hunter2");
            span.in_scope(|| {
                tracing::info!(authorization = "hunter2", "in");
                tracing::info!(url = "redis://:hunter2@cache:6379", "connect to postgres://a:hunter2@db/x");
                tracing::info!("refused msk_abc_hunter2 from Bearer hunter2");
                tracing::info!(secret = ?kernel::Secret::new("hunter2"), client_secret = 42, "debug");
                let error = std::io::Error::other("bad url postgres://a:hunter2@db/x");
                tracing::info!(error = &error as &dyn std::error::Error, "failed");
            });
        });
        assert_eq!(out.len(), 5);
        assert!(!out.concat().contains("hunter2"), "{out:#?}");
        assert!(!out.concat().contains("42"), "{out:#?}");
    }
}

#[test]
fn nobody_forges_a_line_or_steers_the_terminal() {
    let out = lines(LogFormat::Human, "info", || {
        tracing::info!(path = "/a\n2026 ERROR forged", "asked \x1b[2Jfor\r\nmore");
    });
    assert_eq!(out.concat().matches('\n').count(), 1, "{out:?}");
    assert!(!out.concat().contains(['\r', '\x1b']), "{out:?}");
}

#[test]
fn configuration_reads_and_refuses() {
    use kernel::config::{Section as _, Settings, Sources};
    let load = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|s| format!("telemetry.{s}")).collect();
        let sources = Sources { set: &set, ..Sources::default() };
        let settings = Settings::build(&[(TelemetryConfig::NAME, TelemetryConfig::KEYS)], &sources).unwrap();
        TelemetryConfig::load(&settings)
    };
    let config = load(&["log_format=json", "sample_ratio=0.25"]).unwrap();
    assert_eq!(config.log_format, LogFormat::Json);
    assert!((config.sample_ratio.0 - 0.25).abs() < f64::EPSILON);
    assert!(load(&["sample_ratio=1"]).is_ok());
    let wrong: BTreeMap<_, _> =
        load(&["log_format=xml", "sample_ratio=1.5"]).unwrap_err().into_iter().map(|e| (e.key, e.detail)).collect();
    assert!(wrong["telemetry.log_format"].contains("human"), "{wrong:?}");
    assert!(wrong["telemetry.sample_ratio"].contains("from 0 to 1"), "{wrong:?}");
}
