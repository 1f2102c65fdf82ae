//! The `[telemetry]` section.

use kernel::{Secret, config::ConfigValue};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: aligned, coloured when the output is a terminal.
    #[default]
    Human,
    /// One JSON object a line, for machines.
    Json,
}

impl ConfigValue for LogFormat {
    const KIND: &'static str = "log format";

    fn read(value: &kernel::config::Value) -> Result<Self, String> {
        match value.as_str() {
            Some("human") => Ok(Self::Human),
            Some("json") => Ok(Self::Json),
            _ => Err("expected \"human\" or \"json\"".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Human => "\"human\"".to_owned(),
            Self::Json => "\"json\"".to_owned(),
        }
    }
}

/// A part of a whole: 0 is never, 1 is always.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

impl ConfigValue for Ratio {
    const KIND: &'static str = "ratio";

    fn read(value: &kernel::config::Value) -> Result<Self, String> {
        #[allow(clippy::cast_precision_loss, reason = "only 0 and 1 pass the check below")]
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        number
            .filter(|n| (0.0..=1.0).contains(n))
            .map(Self)
            .ok_or_else(|| "expected a number from 0 to 1, such as 0.1".to_owned())
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

kernel::section! {
    /// Logs, traces and metrics.
    pub struct TelemetryConfig("telemetry") {
        /// How log lines look on standard error.
        log_format: LogFormat = "\"human\"", "human or json";
        /// Which log lines are written: a level, or levels by module such as `info,shortener=debug`.
        log_level: String = "\"info\"", "off, error, warn, info, debug, trace, or target=level list";
        /// Where finished spans are sent by OTLP over gRPC, without TLS. Empty: nowhere.
        otlp_endpoint: String = "\"\"", "http://host:port";
        /// Metadata sent with every export, such as `authorization=Bearer …`.
        otlp_headers: Secret = "\"\"", "name=value, comma-separated";
        /// Longest one export may take, retries included.
        otlp_timeout: std::time::Duration = "\"5s\"", "duration";
        /// Part of the traces that begin here which is recorded; a trace begun elsewhere follows its own flag.
        sample_ratio: Ratio = "1.0", "0 to 1";
        /// Which spans are recorded, in the syntax of log_level.
        span_level: String = "\"info\"", "off, error, warn, info, debug, trace, or target=level list";
        /// Finished spans that may wait for export; more are dropped and counted.
        span_queue: usize = "4096", "spans";
        /// Name under which this installation appears in traces (`service.name`).
        service_name: String = "\"mainstay\"", "";
        /// Projects that have series of their own in the golden signals; more share the label `other`.
        max_projects: usize = "64", "projects";
    }
}
