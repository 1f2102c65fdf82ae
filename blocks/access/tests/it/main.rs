//! The tests of access: one suite, both engines; the doors of HTTP and the console.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[macro_use]
mod site;

mod audit;
mod auth;
mod first_start;
mod http;
mod idempotency;
mod keys;
mod sessions;
