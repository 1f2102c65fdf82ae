//! Real servers for tests: PostgreSQL, Redis (single and Cluster), nginx, haproxy and chromedriver, each on free loopback ports, in its own
//! temporary folder, ended with the test process even when that is killed with SIGKILL.
//!
//! ```no_run
//! let server = testkit::shared_postgres();   // one a test process, fast settings
//! let url = server.fresh_database();         // empty, nobody else's
//! let redis = testkit::Redis::start();
//! println!("{url} {}", redis.url());
//! ```
//!
//! Every helper panics with a clear sentence when something is missing or does not come up: there is nothing a test could
//! do about it. The binaries are Debian's; `cargo xtask setup` installs them.
#![allow(clippy::panic, clippy::expect_used, reason = "a test helper fails the test that called it, with a sentence")]

mod find;
mod haproxy;
pub mod mmdb;
mod nginx;
mod outside;
mod ports;
mod postgres;
mod process;
mod proxy;
mod redis;
mod wait;
mod webdriver;

pub use find::{binary, is_root};
pub use haproxy::Haproxy;
pub use nginx::Nginx;
pub use outside::{schemathesis, vectors};
pub use ports::free_port;
pub use postgres::{Options, Postgres, shared_postgres};
pub use process::{Process, Signal, Spec};
pub use proxy::CutProxy;
pub use redis::{Redis, RedisCluster};
pub use wait::{eventually, wait_until};
pub use webdriver::Chromedriver;
