//! The limiter as a whole, on both engines.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod checks;
mod contract;
mod down;
mod envoy;
mod fields;
mod file;
mod guard;
mod http;
mod near;
mod processes;
mod reserve;
mod world;
