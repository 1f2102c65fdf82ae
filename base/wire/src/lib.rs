//! HTTP to back ends: pools of connections that belong to one thread, an own HTTP/1 codec, HTTP/2 and TLS.

#![allow(dead_code, clippy::unused_async, reason = "the interface, before what is behind it")]

mod body;
mod error;
mod hop;
mod options;
mod pool;
pub mod proxy_protocol;
mod target;
mod tls;
mod upgraded;

pub use body::Body;
pub use error::{BoxError, Error, ErrorKind};
pub use hop::{HopByHop, strip_hop_by_hop};
pub use options::{PoolLimits, PoolStats, SendOptions};
pub use pool::Pool;
pub use target::{Codec, Protocol, ProxyVersion, Target};
pub use tls::{ClientTls, TlsOptions};
pub use upgraded::Upgraded;
