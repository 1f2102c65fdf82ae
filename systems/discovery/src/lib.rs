//! Service registry and health: who serves what, where, and is it well.
//!
//! ```text
//! register, drain, deregister ─▶ database: one row an instance, each change with its revision ─▶ every node's book ─▶ answers
//! signs of life ───────────────▶ memory plane ─┐                                     ▲         HTTP · Consul · DNS · SSE
//! probes ──────────────────────────────────────┴▶ changes of health only ────────────┘
//! ```
//!
//! # Promises
//! 1. A change that was acknowledged is committed, and every node gives the new answer within a second.
//! 2. An instance that is well and does not drain is always given out; one that has deregistered is not, and neither is one that was
//!    never well.
//! 3. A mass failure does not empty an answer: see the guards in `model/view.rs`. What is given out for want of better is said to be.
//! 4. Nobody is declared dead because Redis is away, has forgotten, or cannot be reached by one of the nodes.
//! 5. Whoever waits for a change after an index is woken by it, on whatever node it happened.
//! 6. What flaps is held down for a bounded time; what is critical for too long is removed.
//! 7. One node at a time probes an instance while the set of nodes does not change.
//!
//! # Does not promise
//! - That an instance which is given out still answers: it may have died since.
//! - That exactly one node probes an instance for the seconds in which nodes come or go.
//! - That the text of a check is of its last run: it is of its last change.
//!
//! # Invariants
//! GUARD-1 to GUARD-4 (`model/view.rs`), DAMP-1 and DAMP-2 (`model/damper.rs`), BOOK-1 to BOOK-3 (`service/book.rs`), REG-1 to REG-4
//! (`service/register.rs`), BEAT-1 to BEAT-4 (`service/beats.rs`), MEMBER-1 and MEMBER-2 (`service/members.rs`).
//!
//! # Planes
//! database: registrations, changes of health, the nodes. Away: what is known stays, changes are refused with 503. memory: signs of
//! life. Away: nobody expires.
//!
//! # Limits
//! `discovery.max_instances` a project; [`model::MAX_TAGS`], [`model::MAX_META`], [`model::MAX_CHECKS`] an instance;
//! `discovery.max_watchers` and `discovery.max_probes` a node; [`MAX_WAIT`].

mod config;
pub mod console;
mod dns;
pub mod error;
pub mod http;
pub mod model;
mod service;
mod store;
mod telemetry;
mod worker;

pub use config::DiscoveryConfig;
pub use dns::Sockets;
pub use error::{CODES, Error};
pub use service::{Deps, Discovery, MAX_WAIT, Member, Overview, Registered, Removed, Subscription, Swept, USUAL_WAIT};
pub use store::MIGRATIONS;

/// The scope of these routes, before its verb: `read` looks up, `write` registers, drains and says how things are.
pub const SYSTEM: &str = "discovery";
