//! The kernel's promises, module by module.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod clock;
mod config;
mod config_secrets;
mod cursor;
mod error;
mod id;
mod limits;
mod render;
mod rng;
mod tasks;
