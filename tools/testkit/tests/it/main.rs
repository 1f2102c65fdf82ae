//! The helpers, tried on the real servers.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod orphans;
mod proxy;
mod servers;
