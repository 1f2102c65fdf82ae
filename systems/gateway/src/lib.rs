//! The API gateway and load balancer (SD7).

pub mod model;
pub mod proxy;

pub use proxy::{Body, Peer};

pub mod l4;
pub mod tls;
