//! Back ends: which there are (static, DNS, registry), which are well, and which one is next.
//!
//! ```text
//! document ─▶ Upstreams ─▶ Upstream ── members ─▶ snapshot ─▶ pick ─▶ Lease ─▶ outcome
//!                │            ▲            ▲           ▲                          │
//!                └ worker: DNS, registry, checks       └ ejections, steps ◀───────┘
//! ```
//!
//! # Promises
//! 1. A pick takes no lock but a breaker's, for as long as a count takes; a document is taken whole or not at all.
//! 2. What is picked is well as far as this node knows, unless too few are; a tried one comes again only when there is no other.
//! 3. At most as many requests as limits say are under way, whatever threads do.
//! 4. What a change does not touch keeps its health, latency and connections; what it removes finishes its requests.
//! 5. A source that is away changes nothing.
//!
//! # Does not promise
//! - Anything across nodes: each counts, checks and ejects for itself.
//!
//! # Invariants
//! UPSTREAM-1 (`model/choose.rs`), UPSTREAM-2 (`service/snapshot.rs`), UPSTREAM-3 (`model/schedule.rs`), UPSTREAM-4 (`model/ring.rs`),
//! UPSTREAM-5 (`model/maglev.rs`), UPSTREAM-6 (`model/tiers.rs`), UPSTREAM-7 (`service/upstream.rs`), UPSTREAM-8 (`service/members.rs`),
//! UPSTREAM-9 (`model/hysteresis.rs`), DNS-1 and DNS-2 (`worker/dns.rs`).
//!
//! # Planes
//! None: what is known of back ends is of this node, and learnt anew after a start.
//!
//! # Limits
//! [`MAX_UPSTREAMS`], [`MAX_ENDPOINTS`].

mod error;
pub mod model;
mod ports;
pub mod probe;
mod service;
mod telemetry;
mod worker;

pub use error::NoEndpoint;
pub use model::{
    hysteresis::{Health, Hysteresis},
    spec::{
        Algorithm, BalanceSpec, BreakerSpec, DnsKind, DnsSpec, EndpointSpec, HashOn, HealthSpec, LimitsSpec,
        OutlierSpec, ProbeKind, Protocol, ProxyVersion, ServiceSpec, StatusRange, TlsSpec, UpstreamSpec,
    },
};
pub use ports::{RegisteredEndpoint, Registry};
pub use service::{
    Deps, EndpointId, EndpointState, KeyParts, Lease, Outcome, Pick, SourceState, Upstream, UpstreamBreaker,
    UpstreamState, Upstreams,
};

/// Upstreams in one document.
pub const MAX_UPSTREAMS: usize = 1_000;
/// Back ends of one upstream; a source that tells more is cut.
pub const MAX_ENDPOINTS: usize = 1_000;
