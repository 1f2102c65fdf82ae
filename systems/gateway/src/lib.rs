//! The API gateway and load balancer (SD7).

mod config;
pub mod error;
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
pub use proxy::{Body, Peer};
pub use service::{Checked, Current, Deps, Expected, Gateway, MAX_DOCUMENT_BYTES, Version, Written, parse_file};
pub use store::MIGRATIONS;
