//! The whole house, tried from outside: real processes, real sockets, real PostgreSQL and Redis, a real browser.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod browser;
mod browser_gateway;
mod browser_limits;
mod checks;
mod commands;
mod contract;
mod envoy;
mod lane;
mod links;
mod listeners;
mod nodes;
mod overload;
mod support;
