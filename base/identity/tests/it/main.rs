//! The tests of identity: tables and properties.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod key;
mod scope;
mod throttle;
