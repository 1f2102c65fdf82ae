//! Telemetry as its users see it: lines, spans at a real collector, documents.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod collector;
mod golden;
mod health;
mod logs;
mod metrics;
mod traces;
