//! The API gateway and load balancer (SD7).

pub mod proxy;

pub use proxy::{Body, Peer};
