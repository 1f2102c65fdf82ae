//! Puts the parts together: one subscriber with a layer for lines and one for spans.

use std::{sync::Arc, time::Duration};

use kernel::{Clock, Rng, Tasks};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _, tonic_types::metadata::MetadataMap};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider, SpanExporter as _},
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use tokio::sync::oneshot;
use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
};

use crate::{
    TelemetryConfig,
    export::{self, Counters, Flush, SpanStats},
    logs::{LEVELS, LineCounts, LogLayer, Output},
    process::Out,
};

/// What telemetry needs to know of the process.
#[derive(Clone)]
pub struct Process {
    /// `service.version` of every span.
    pub version: &'static str,
    /// `service.instance.id`: which node.
    pub node: String,
    /// Times of log lines.
    pub clock: Clock,
    /// Ids of traces.
    pub rng: Rng,
    /// Where the exporting worker runs: those of [`kernel::Stage::Telemetry`], which stop last.
    pub tasks: Tasks,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A filter cannot be read.
    #[error("telemetry.{key}: {reason}")]
    Filter {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The OTLP endpoint cannot be used.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(String),
    /// The OTLP headers cannot be read; the value is not shown.
    #[error("telemetry.otlp_headers: expected name=value, comma-separated")]
    Headers,
    /// OTLP needs a tokio runtime.
    #[error("telemetry.otlp_endpoint is set, but there is no async runtime here to export from")]
    NoRuntime,
    /// Telemetry was started before in this process.
    #[error("telemetry was started before in this process")]
    Twice,
}

/// Keeps telemetry running.
#[derive(Debug)]
pub struct Guard {
    export: Option<Export>,
    lines: Arc<LineCounts>,
}

#[derive(Debug)]
struct Export {
    flush: Flush,
    counters: Arc<Counters>,
    // The tracer holds it weakly.
    provider: SdkTracerProvider,
}

impl Guard {
    /// Exports the spans that are finished by now. `false`: not done within `bound` (the collector is slow or down). Shutdown
    /// of the worker's stage does the same, so a server need not call it.
    pub async fn flush(&self, clock: &Clock, bound: Duration) -> bool {
        let Some(export) = &self.export else { return true };
        let before = export.counters.read();
        let work = async {
            let (done, is_done) = oneshot::channel();
            export.flush.send(done).await.is_ok() && is_done.await.is_ok()
        };
        let in_time = clock.timeout(bound, work).await == Some(true);
        in_time && export.counters.read().failed_count == before.failed_count
    }

    /// What happened to spans so far; `None` when they are not exported.
    pub fn spans(&self) -> Option<SpanStats> {
        self.export.as_ref().map(|e| e.counters.read())
    }

    /// Whether the last export failed.
    pub fn is_collector_down(&self) -> bool {
        self.export.as_ref().is_some_and(|e| e.counters.is_down())
    }

    /// Log lines and spans as numbers, for [`crate::RoomRegistry::add_collector`].
    pub fn collector(&self) -> impl Collector + use<> {
        OwnNumbers { spans: self.export.as_ref().map(|e| e.counters.clone()), lines: self.lines.clone() }
    }
}

/// Starts telemetry for the whole process, with log lines on standard error.
pub fn init(config: &TelemetryConfig, process: &Process) -> Result<Guard, InitError> {
    let (dispatch, guard) = build(config, process, Output::stderr())?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| InitError::Twice)?;
    Ok(guard)
}

/// As [`init`], without touching the process: for tests, with `tracing::dispatcher::with_default`.
pub fn build(config: &TelemetryConfig, process: &Process, output: Output) -> Result<(Dispatch, Guard), InitError> {
    let lines = Arc::new(LineCounts::default());
    let logs = LogLayer::new(config.log_format, output, process.clock.clone(), lines.clone());
    let log_filter = filter("log_level", &config.log_level)?;
    let span_filter = filter("span_level", &config.span_level)?;
    let export = if config.otlp_endpoint.is_empty() { None } else { Some(exporter(config, process)?) };
    // Sending spans makes spans of its own, which must not be sent.
    let not_ours = filter_fn(|m| !["h2", "hyper", "tonic", "tower"].iter().any(|t| m.target().starts_with(t)));
    let spans = export.as_ref().map(|export| {
        tracing_opentelemetry::layer()
            .with_tracer(export.provider.tracer("mainstay"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(span_filter.and(not_ours))
    });
    let dispatch = Dispatch::new(Registry::default().with(spans).with(logs.with_filter(log_filter)));
    Ok((dispatch, Guard { export, lines }))
}

fn filter(key: &'static str, text: &str) -> Result<EnvFilter, InitError> {
    EnvFilter::builder().parse(text).map_err(|e| InitError::Filter { key, reason: e.to_string() })
}

fn exporter(config: &TelemetryConfig, process: &Process) -> Result<Export, InitError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(InitError::NoRuntime);
    }
    if !config.otlp_endpoint.starts_with("http://") {
        let reason =
            "expected http://host:port, without TLS: send to a collector on this machine or network, which forwards";
        return Err(InitError::Endpoint(reason.to_owned()));
    }
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", config.service_name.clone()),
            KeyValue::new("service.version", process.version),
            KeyValue::new("service.instance.id", process.node.clone()),
        ])
        .build();
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(config.otlp_endpoint.clone())
        .with_timeout(config.otlp_timeout)
        .with_metadata(headers(config.otlp_headers.expose())?)
        .build()
        .map_err(|e| InitError::Endpoint(e.to_string()))?;
    exporter.set_resource(&resource);
    let (pipeline, flush, counters) =
        export::start(exporter, config.span_queue, config.otlp_timeout, &process.clock, &process.tasks);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(pipeline)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio.0))))
        .with_id_generator(export::Ids(process.rng.clone()))
        .with_resource(resource)
        .build();
    Ok(Export { flush, counters, provider })
}

fn headers(text: &str) -> Result<MetadataMap, InitError> {
    let mut out = http::HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(InitError::Headers)?;
        let name = name.trim().parse::<http::HeaderName>().map_err(|_| InitError::Headers)?;
        let mut value = value.trim().parse::<http::HeaderValue>().map_err(|_| InitError::Headers)?;
        value.set_sensitive(true);
        out.insert(name, value);
    }
    Ok(MetadataMap::from_headers(out))
}

#[derive(Debug)]
struct OwnNumbers {
    spans: Option<Arc<Counters>>,
    lines: Arc<LineCounts>,
}

impl Collector for OwnNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut out = Out(encoder);
        let rows = LEVELS.into_iter().zip(self.lines.read()).map(|(level, count)| ([("level", level)], count));
        out.family("mainstay_log_lines", "Log lines written.", MetricType::Counter, rows)?;
        let Some(spans) = &self.spans else { return Ok(()) };
        let stats = spans.read();
        let rows = [
            ([("outcome", "exported")], stats.exported_count),
            ([("outcome", "failed")], stats.failed_count),
            ([("outcome", "dropped")], stats.dropped_count),
        ];
        out.family("mainstay_spans", "Finished spans, by what became of them.", MetricType::Counter, rows)
    }
}
