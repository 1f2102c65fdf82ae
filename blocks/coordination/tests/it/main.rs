//! Keys, leases and watches on both engines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests spawn what they wait for")]

mod contract;
mod model;
mod nodes;
mod world;
