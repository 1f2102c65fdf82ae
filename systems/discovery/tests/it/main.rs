//! The registry as a whole, on both engines.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod contract;
mod dns;
mod http;
mod probes;
mod silence;
mod world;
