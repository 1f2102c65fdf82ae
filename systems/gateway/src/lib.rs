//! The API gateway and load balancer (SD7).
//!
//! ```text
//! file or API ─▶ check ─▶ compile ─▶ table (arc-swap) ◀─ one snapshot a request ─ proxy (workers of the public listener) ─▶ back ends
//!                  │ versions in the database, followed by every node      └ l4, tls: listeners beside it
//!                  └ cannot hold: nothing changes
//! ```
//!
//! # Promises
//! 1. A request takes the first route, in the documented order, whose conditions all hold, however its path is spelled.
//! 2. A document that cannot hold changes nothing; one that can is applied whole, and drops no connection of what did not change.
//! 3. A version that was acknowledged is committed together with its audit entry, replaced nothing that its author had not seen (where
//!    they asked for that), and holds on every node within a second.
//! 4. A node that cannot use the document that should hold goes on with what held last, also after a restart, and says so.
//!
//! # Does not promise
//! - That all nodes change at one instant; that numbers by route are of more than one node, or survive it.
//!
//! # Invariants
//! TABLE-1 (`model/table.rs`), APPLY-1 to APPLY-3 (`service/apply.rs`), VERSIONS-1 and VERSIONS-2 (`service/versions.rs`), DRAIN-1
//! (`service/drains.rs`); those of the data path in `proxy`.
//!
//! # Planes
//! database: versions of the document, drained endpoints. Requests never wait for it.
//!
//! # Limits
//! 5,000 routes, 1,000 upstreams, 1,000 policies, [`MAX_DOCUMENT_BYTES`], 200 versions, [`MAX_DRAINS`].

mod config;
pub mod console;
pub mod error;
pub mod http;
pub mod l4;
pub mod model;
pub mod proxy;
mod service;
mod store;
mod telemetry;
pub mod tls;
mod worker;

pub use config::GatewayConfig;
pub use error::{CODES, Error};
pub use proxy::{Body, CODES as PROXY_CODES, DataPath, Peer};
pub use service::{
    Checked, Current, Deps, Expected, Gateway, MAX_DOCUMENT_BYTES, MAX_DRAINS, Question, Version, Written, parse_file,
};
pub use store::{Drain, MIGRATIONS};

/// The scope of these routes, before its verb: `read` reads routes, upstreams and explanations. The document, and all that changes
/// something, is for administrators.
pub const SYSTEM: &str = "gateway";
