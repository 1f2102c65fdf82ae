//! Policies at the door: who asks, from where, and may they.
//!
//! ```text
//! request ─▶ CORS preflight? ─▶ headers about identity removed ─▶ policy 1 ─▶ policy 2 … ─▶ Pass: credentials removed, headers set
//!                 └ answered                                       └ refused, or sent to the sign-in
//! ```
//!
//! # Promises
//! 1. A request passes only if every policy of its chain lets it. A policy that cannot decide refuses.
//! 2. What a back end reads in a header that a policy sets, the policy has set: the client's own is removed, however it is written.
//! 3. A credential that comes twice is refused.
//! 4. What policies have learnt (keys, metadata) outlives a change of the document; a document with a mistake compiles to nothing.
//!
//! # Does not promise
//! - That a sign-out is known on other nodes, or that the passwords, tokens and answers remembered on one are on another.
//! - Authorisation inside of back ends: they should still verify what they can.
//!
//! # Invariants
//! TOKEN-1 and -2 (`service/jwt.rs`), KEYS-1 to -3 (`service/keys.rs`), OIDC-1 to -4 (`service/oidc.rs`), FORWARD-1 and -2
//! (`service/forward.rs`), BASIC-1 to -3 (`service/basic.rs`).
//!
//! # Planes
//! None of its own; the database through `access`, for API keys.
//!
//! # Limits
//! 1,000 policies, 16 a chain; credentials of 16 KiB; every cache, set, answer and wait has a bound beside its code.

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
