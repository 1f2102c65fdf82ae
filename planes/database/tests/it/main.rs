//! The database plane, against its contract and under faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and its load is not the product's"
)]

mod contract;
mod crash;
mod faults_postgres;
mod faults_sqlite;
mod model;
mod support;
mod transfer;
