//! The data path: from a request on the public listener to a back end, and back.
//!
//! ```text
//! request ─▶ Asked (host, path in normal form) ─▶ Table::find ─▶ place in the route ─▶ limits of size ─▶ CORS, policies ─▶ rate limit
//!         ─▶ action: forward · redirect · respond · files · service · aggregate
//!         ◀─ rules for the answer ◀─ compression ◀─ body, counted as it goes
//! ```
//!
//! Everything runs on the thread of the worker that took the connection. A request reads one snapshot of the routes; what workers share is
//! made of atomics. Nothing here waits for anything but sockets, timers and (files) threads of their own.
//!
//! Invariants: ANSWER-1 (`answer.rs`), FORWARD-1 to FORWARD-4 (`forward.rs`), REPLAY-1 and REPLAY-2 (`replay.rs`), UPGRADE-1 to UPGRADE-4
//! (`upgrade.rs`), STICKY-1 (`sticky.rs`), MIRROR-1 and MIRROR-2 (`mirror.rs`), AGGREGATE-1 (`aggregate.rs`), JSON-1 and JSON-2
//! (`json.rs`), FILES-1 to FILES-3 (`files.rs`), COMPRESS-1 to COMPRESS-3 (`compress.rs`), LOG-1 to LOG-3 (`log.rs`), EXCHANGE-1
//! (`exchange.rs`).

mod aggregate;
mod answer;
mod asked;
mod body;
mod compress;
mod exchange;
mod files;
mod forward;
mod frames;
mod limits;
mod log;
mod mirror;
mod peer;
mod recent;
mod refuse;
mod replay;
mod request_body;
mod sticky;
mod upgrade;
mod worker;

pub use crate::model::json::{JsonRules, Places};
pub use body::{Body, BoxError};
pub use log::Format;
pub use peer::Peer;
pub use recent::{Difference, MirrorNumbers, SlowRequest};
pub use refuse::CODES;
pub use worker::{DataPath, Deps, Worker};

use std::net::IpAddr;

use http::{Request, Response};

/// Mainstay's own systems, as routes name them.
pub trait Services<B> {
    /// Answers for a system; gives the request back when there is none of that name.
    fn call(
        &self,
        name: &str,
        request: Request<B>,
        client: IpAddr,
    ) -> impl Future<Output = Result<Response<Body>, Request<B>>>;
}
