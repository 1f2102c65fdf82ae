//! Rate limits: rules on the server, decided in process or over all nodes (SD2).
//!
//! ```text
//! check ─▶ index (which rules apply) ─▶ cells: charged all or none ─▶ decisions, counted
//!             ▲ snapshot, swapped whole      │ in process, or one round trip to Redis
//!   file ─────┤                              └ Redis away: each rule as it declares
//!   database ─┘ versions
//! ```
//!
//! # Promises
//! 1. Nothing is charged unless every rule that enforces allows it; then everything is, at one instant.
//! 2. A rule in shadow mode never refuses.
//! 3. A reservation is settled once, on whatever node; a token that was changed or is another project's settles nothing.
//! 4. A change of rules that was acknowledged is committed together with its audit entry, replaced nothing that its author had not
//!    seen (where they asked for that), and holds on every node within a second.
//! 5. A file of rules that cannot be used changes nothing.
//! 6. A rule whose limit changes goes on with what it has counted.
//!
//! # Does not promise
//! - That limits hold exactly while Redis is away, or where they are held in slices.
//! - That numbers by rule survive the process, or are of more than one node.
//!
//! # Invariants
//! CHECK-1 to CHECK-3 (`service/check.rs`), RESERVE-1 to RESERVE-3 (`service/reserve.rs`), DOWN-1 to DOWN-3 (`service/down.rs`), BOOK-1 to BOOK-3
//! (`service/book.rs`), RULES-1 to RULES-3 (`service/rules.rs`), FILE-1 (`service/file.rs`), CUT-1 and CUT-2 (`service/shortcut.rs`).
//!
//! # Planes
//! database: rules and their versions. memory: cells. Neither keeps a check from being answered: rules known stay, and what is not
//! counted is told.
//!
//! # Limits
//! [`model::MAX_RULES`] and [`MAX_DOMAINS`] a project, [`model::MAX_OVERRIDES`] a rule, [`model::MAX_CELLS`] a check, [`MAX_LEASE`].

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
