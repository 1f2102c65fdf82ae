//! Projects, API keys, the audit log, idempotency records, derived secrets, and the console's sessions.
//!
//! ```text
//!  request ─▶ auth_layer ─▶ near cache ── miss ─▶ database      Caller ─▶ handler ─▶ db.tx(change + access.audit)
//!                 └▶ Throttle (only what the cache cannot confirm)
//! ```
//!
//! # Promises
//! 1. Of a key or session only a SHA-256 is stored; its text is shown once, to who made it. Kept answers of the Idempotency-Key
//!    middleware, which may hold such a text, are sealed under the Idempotency-Key itself.
//! 2. A revoked key is refused at once on the node that revoked it, and on every other within
//!    [`AccessConfig::cache_ttl`] (a few seconds) even when no message reaches it.
//! 3. A rotated key's old secret works until the stated time and no longer.
//! 4. Nobody gives, renews or ends what they do not have themselves: the scopes of a key that is changed are covered by those of
//!    who changes it. The last working key of an administrator cannot be revoked.
//! 5. A key of one project reads and changes nothing of another; only the scope `*` chooses.
//! 6. No administrative change without its entry in the audit log, and no entry without its change: both are in one
//!    transaction. Entries are never changed or deleted.
//! 7. Of nodes that start together on an empty database exactly one is given the first key.
//! 8. Requests with one Idempotency-Key are carried out once, across all nodes.
//! 9. [`Access::secret`] gives the same bytes on every node and at every start; another root secret refuses to start.
//!
//! # Does not promise
//! - That the first key can be shown again: when it was lost, `mainstay keys recover` beside the data makes another.
//! - Exact times of last use: they are written about twice a minute, and a crash loses the last ones.
//! - That the throttle stops an attacker with many addresses; the 256 bits of a secret do.
//!
//! # Invariants
//! - ACCESS-1: `acknowledged change ⇔ audit entry`.
//! - ACCESS-2: at most one first key per installation.
//! - ACCESS-3: at every moment after the first start without `--dev`, a key with `*` exists that was not revoked.
//! - CACHE-1 to -3 (service/cache.rs), SESSION-1 to -3 (service/sessions.rs), THROTTLE-1 to -3 (identity).
//!
//! # Planes
//! The database only. A database that is away: keys in the near cache work until they are [`AccessConfig::cache_ttl`] old, then
//! requests fail with 503 (closed, since a revocation might have been missed).
//!
//! # Limits
//! 32 scopes and a name of 100 characters a key; 16 KiB of detail an audit entry; pages of 200; [`AccessConfig::cache_entries`]
//! entries in each near cache; 10,000 throttled subjects; 20,000 ended rows deleted a round of 30 s.

mod config;
pub mod console;
pub mod error;
pub mod http;
pub mod model;
mod service;
mod store;
mod worker;

pub use config::{AccessConfig, MIN_ROOT_SECRET_CHARS};
pub use error::Error;
pub use http::{
    caller::Caller,
    layer::{auth_layer, try_identify},
};
pub use identity::Principal;
pub use model::{AuditEntry, AuditFilter, Issued, Key, KeyState, NewKey, Project};
pub use service::{Access, Options, Session, SessionToken, Stats};
pub use store::MIGRATIONS;

/// The header with which an administrator's key chooses the project.
pub const PROJECT_HEADER: &str = "mainstay-project";
