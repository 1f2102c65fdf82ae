//! Policies at the door: who asks, from where, and may they.
//!
//! ```text
//! request ─▶ CORS preflight? ─▶ headers about identity removed ─▶ policy 1 ─▶ policy 2 … ─▶ Pass: credentials removed, headers set
//!                 └ answered                                       └ refused, or sent to the sign-in
//! ```

mod error;
mod http;
mod model;
pub mod ports;
mod service;
mod telemetry;

pub use error::{CODES, Error};
pub use http::HttpClient;
pub use model::{ask::Steps, *};
pub use ports::{Fetch, FetchError, Limits};
pub use service::{Chain, Cors, Deps, Described, Gatekeeper, Policies};
