//! Layer 4: ports that are balanced over upstreams below HTTP.

mod compiled;
mod listeners;
mod prefixed;
mod pump;
mod seats;
mod spec;
mod tcp;
mod udp;

pub use listeners::{Deps, ListenerState, Listeners};
pub(crate) use spec::check_host;
pub use spec::{
    ListenerLimits, ListenerProtocol, ListenerSpec, MAX_SNI_ROUTES, ProxyAccept, SniMode, SniRoute, validate,
};
