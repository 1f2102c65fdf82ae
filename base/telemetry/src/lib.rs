//! Seeing what happens: logs, traces, metrics, golden signals, health.
//!
//! | what | where |
//! |---|---|
//! | structured logs, OTLP traces | [`init`], [`TelemetryConfig`] |
//! | W3C trace context in and out | [`propagation`] |
//! | numbers at `/metrics` | [`Metrics`] |
//! | rate, errors, latency by route and project, live | [`Golden`] |
//! | `/health/live`, `/health/ready` | [`Health`] |
//!
//! Nothing here serves HTTP: documents come as [`Reply`], and whoever owns a listener mounts them.

mod config;
mod export;
pub mod golden;
pub mod health;
mod logs;
mod metrics;
pub mod process;
pub mod propagation;
mod redact;
mod reply;
mod setup;

pub use config::{LogFormat, Ratio, TelemetryConfig};
pub use export::SpanStats;
pub use golden::{Golden, RouteHandle};
pub use health::{Check, Condition, Health, State};
pub use logs::Output;
pub use metrics::{Metrics, RoomRegistry};
pub use process::ProcessCollector;
/// The metric types that rooms register: `Counter`, `Gauge`, `Family`, `Histogram`.
pub use prometheus_client as prometheus;
pub use reply::Reply;
pub use setup::{Guard, InitError, Process, build, init};
