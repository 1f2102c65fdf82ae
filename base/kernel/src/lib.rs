//! The kernel: what every other crate of Mainstay speaks.
//!
//! It is floor 0: it imports no other crate of the workspace, and every crate may import it.
//!
//! | module | what it gives |
//! |---|---|
//! | [`clock`] | [`Clock`]: the only source of time; real or simulated |
//! | [`rng`] | [`Rng`]: the only source of randomness; the system's or seeded |
//! | [`id`] | [`typed_id!`]: UUIDv7 ids that cannot be mixed |
//! | [`error`] | [`Code`], [`Kind`], [`Problem`]: stable error codes, what users see apart from what operators see |
//! | [`limits`] | [`ByteSize`], durations as text, [`Span`] |
//! | [`network`] | [`Network`]: addresses that share their first bits |
//! | [`cursor`] | [`CursorKey`]: opaque, tamper-evident page cursors |
//! | [`project`] | [`ProjectId`]: the tenant that every row and key belongs to |
//! | [`tasks`] | [`Lifecycle`], [`Tasks`]: supervised tasks and ordered, bounded shutdown |
//! | [`config`] | [`section!`]: `mainstay.toml` < environment < `--set` |

pub mod clock;
pub mod config;
pub mod cursor;
pub mod error;
pub mod id;
pub mod limits;
pub mod network;
pub mod project;
pub mod rng;
pub mod tasks;

pub use clock::{Clock, SimClock, Timestamp};
pub use config::{Secret, Settings};
pub use cursor::CursorKey;
pub use error::{Code, FieldError, Internal, Kind, Problem};
pub use limits::{ByteSize, Span};
pub use network::Network;
pub use project::ProjectId;
pub use rng::Rng;
pub use tasks::{Backoff, Lifecycle, OnPanic, Shutdown, Stage, Tasks};

/// Used by the exported macros; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use serde;
    pub use uuid;
}
