//! Rate limits: rules on the server, decided in process or over all nodes (SD2).

mod config;
pub mod console;
pub mod error;
pub mod grpc;
pub mod http;
pub mod model;
mod service;
mod store;
mod telemetry;
mod worker;

use std::time::Duration;

pub use config::LimiterConfig;
pub use error::{CODES, Error};
pub use model::{
    Check, Decision, Descriptor, LimitOverride, Matching, Outcome, ReservationToken, RuleSpec, Settled, Source,
};
pub use service::{
    Deps, DomainSummary, Expected, Limiter, MAX_RULE_BYTES, Origin, RefusedKey, RuleSet, RuleStats, Stats, Version,
    Written,
};
pub use store::MIGRATIONS;

/// The domain of the server's own limits: of its API, of the creation of links. Only administrators change its rules.
pub const OWN_DOMAIN: &str = "mainstay";
/// The most domains of a project.
pub const MAX_DOMAINS: usize = 100;
/// The longest lease of a reservation.
pub const MAX_LEASE: Duration = Duration::from_hours(1);
/// The scope of these routes, before its verb: `write` checks, `read` reads rules and numbers, `admin` changes rules.
pub const SYSTEM: &str = "limits";
