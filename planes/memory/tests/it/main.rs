#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cluster;
mod contract;
mod faults;
mod model;
mod rate;
mod support;
