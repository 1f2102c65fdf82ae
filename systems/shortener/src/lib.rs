//! Short links with click analytics (SD1).
//!
//! ```text
//! visit ─▶ Redirector ─▶ near cache ──(miss, one question for all)──▶ links
//!              │              ▲ invalidations of other nodes (memory plane)
//!              └─ click ─▶ queue ─▶ segment ─(each second)─▶ click log ─▶ rollups by minute, hour, day
//! create ─▶ id of a block ─▶ keyed permutation ─▶ code ─▶ links
//! ```
//!
//! # Promises
//! 1. A link that [`Shortener::create`] returned is committed; the same token again gives the same link.
//! 2. Two links never have the same code, on any number of nodes, and the code of a deleted link is never given again.
//! 3. Before its start a link answers 404, from its expiry on 410; switched off 403, taken down 403 or 451; an unknown or deleted one
//!    404. None of these tells the destination.
//! 4. A deleted link is followed nowhere after `cache_max_age` (30 s), usually at once; after `cache_max_age_degraded` (2 s) on nodes
//!    that know that they receive no invalidations.
//! 5. A redirect never waits for its click, and never fails because of it. What is recorded is in the rollups exactly once
//!    unless the process dies within a second or so; what is in the click log is, also when it dies.
//! 6. A deletion and its audit entry are committed together.
//! 7. A link with a limit of visits is followed at most so often, on any number of nodes and across crashes.
//! 8. A link with a password tells its destination to nobody who does not know it.
//! 9. No link is made or changed to lead to a private host, to this installation, or to what is blocked; a link whose destination
//!    was blocked, or that was taken down, leads nowhere on any node, as fast as a deletion (promise 4). Its owner cannot undo that.
//! 10. What moderators decide, what it does to the link and its entry in the audit log are committed together.
//!
//! # Does not promise
//! - That clicks of the last second survive a crash; that bots are recognised which hide.
//! - That a project may create exactly its limit: around the turn of a minute it may be twice the limit in 60 seconds, and while Redis
//!   is away each node counts for itself.
//!
//! # Invariants
//! CODES-1 to CODES-3 (`model/code.rs`), BLOCKS-1 to BLOCKS-3 (`service/blocks.rs`), CLICKS-1 to CLICKS-4 (`service/clicks.rs`),
//! NEAR-1 to NEAR-3 (`service/near.rs`), ROUTES-1 to ROUTES-3 (`model/routing.rs`), QUESTION-1 and QUESTION-2
//! (`service/questions.rs`), PASSWORDS-1 and PASSWORDS-2 (`service/passwords.rs`), SAFETY-1 to SAFETY-3 (`service/block_lists.rs`), MODERATION-1 to MODERATION-3 (`model/moderation.rs`,
//! `service/moderation.rs`).
//!
//! # Planes
//! database: links, ids, rollups. memory: invalidations (lost ones cost at most promise 4). Creations are limited by `blocks/limiter`.
//!
//! # Limits
//! [`ShortenerConfig`]; [`model::MAX_URL_CHARS`], [`model::MAX_POINTS`], pages of at most 200 links.
//! Clicks: [`model::MAX_VALUES`] values of a dimension a day, [`MAX_ANALYTICS_VALUES`] in an answer, 4096 hosts of referrers a worker
//! between two looks at its queue, [`model::MAX_REFERRER_BYTES`] and [`model::MAX_AGENT_BYTES`] of what is read of headers, 1 MiB a
//! segment, 100,000 clicks a roll, 512 MiB a file of countries. Moderation: 20 open reports of a link kept whole, 10 reports of an
//! address and 60 of a link in an hour, 10,000 entries that moderators block, 1 GiB a file of blocked destinations.

pub mod config;
pub mod console;
pub mod error;
pub mod http;
pub mod model;
mod service;
mod store;
mod telemetry;
mod worker;

pub use config::{Robots, ShortenerConfig};
pub use error::{CODES, Error};
pub use http::redirect::{Answer, MAX_FORM_BYTES, Redirect, Redirector, Visit};
pub use service::{
    Analytics, Created, Deps, DomainChange, LinkPage, LinkPatch, LinkPlace, MAX_ANALYTICS_VALUES, MAX_TEMPLATE_NAME,
    NewDomain, NewLink, Reporter, Shortener, ValueClicks,
};
pub use service::{Begun, NewImport, Received, Spool};
pub use store::{
    LinkBlock, LinkChange, ListFilter, MIGRATIONS, ModeratedLink, ProjectTotals, Report, TakedownRecord, UtmTemplate,
};
