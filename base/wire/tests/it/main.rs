//! Sends requests to back ends on loopback that do as each test says.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop where it stands"
)]

mod exchange;
mod malformed;
mod secure;
mod serve;
mod world;
