//! The gateway as a whole.
#![allow(clippy::large_futures, reason = "the data path is awaited in place")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod proxy;
mod table;
mod versions;
mod world;
