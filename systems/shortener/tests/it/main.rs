//! The shortener as a whole, on both engines.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod analytics;
mod clicks;
mod console;
mod contract;
mod http;
mod imports;
mod links;
mod model;
mod moderation;
mod nodes;
mod redirect;
mod visits;
mod world;
