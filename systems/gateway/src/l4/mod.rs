//! Layer 4: ports that are balanced over upstreams below HTTP.

mod spec;

pub(crate) use spec::check_host;
pub use spec::{
    ListenerLimits, ListenerProtocol, ListenerSpec, MAX_SNI_ROUTES, ProxyAccept, SniMode, SniRoute, validate,
};
