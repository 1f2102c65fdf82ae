//! The API gateway and load balancer (SD7).

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
