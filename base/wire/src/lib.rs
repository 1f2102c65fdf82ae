//! HTTP to back ends: pools of connections that belong to one thread, an own HTTP/1 codec, HTTP/2 and TLS. And the other way round, a
//! server of HTTP/1 for plain requests.
//!
//! ```text
//! Pool::send ─▶ idle connection of the target (last used first), else a new one
//!            ─▶ h1 (own codec) · hyper1 (hyper's, the second opinion) · h2 (hyper's, many streams on one connection)
//!            ◀─ Response<Body>: whole, or read on as it is asked for
//! ```
//!
//! - WIRE-1: what leaves is framed by what the body says of itself, never by what fields say; a body that is not as long as it said ends
//!   its connection.
//! - WIRE-2: an answer that two readers could take for different messages is refused (`docs/answers.md` has the table).
//! - WIRE-3: a connection serves another request only when the answer before came whole, nothing came behind it, and all of the request
//!   was sent.
//! - WIRE-4: a request is sent twice only when it has no body, its method is idempotent, and a connection that had served before ended
//!   without a byte of an answer. Nothing else is sent again here; [`Error::is_replayable`] tells callers what may be.
//! - WIRE-5: waiting is bounded: for the connection, for the answer once the request is sent, and for every byte that is due. Only
//!   movement moves a deadline on: a poll alone does not. A client that does not take its answer is not waited for here.
//! - WIRE-6: a body dropped in the middle closes its connection or resets its stream.
//!
//! Everything belongs to one thread and works inside its `LocalSet`; time comes from [`kernel::Clock`].

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
