//! Upstreams from the outside.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod balance;
mod document;
mod pick;
mod probe;
mod servers;
mod sources;
mod world;
