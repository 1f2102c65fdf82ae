//! Back ends: which there are (static, DNS, registry), which are well, and which one is next.

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
