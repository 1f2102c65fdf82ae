//! HTTP to back ends: pools of connections that belong to one thread, an own HTTP/1 codec, HTTP/2 and TLS.

mod body;
mod conn;
mod dial;
mod error;
mod h1;
mod h2;
mod hop;
mod hyper1;
mod options;
mod pool;
pub mod proxy_protocol;
mod relay;
mod serve;
mod stream;
mod target;
mod tls;
mod upgraded;
mod watch;

pub use body::Body;
pub use dial::{Raw, dial};
pub use error::{BoxError, Error, ErrorKind};
pub use hop::{HopByHop, strip_hop_by_hop};
pub use options::{PoolLimits, PoolStats, SendOptions};
pub use pool::Pool;
pub use serve::{NoBody, Server, Service};
pub use target::{Codec, Protocol, ProxyVersion, Target};
pub use tls::{ClientTls, TlsOptions};
pub use upgraded::Upgraded;
