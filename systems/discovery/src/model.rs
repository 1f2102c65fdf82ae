//! The pure core: what is registered, how well it is, which of it is given out. No I/O, no clock.

mod damper;
mod owner;
mod spec;
mod state;
mod view;

pub use self::{
    damper::{Damper, Damping},
    owner::owner,
    spec::{CheckKind, CheckSpec, InstanceSpec, MAX_CHECKS, MAX_META, MAX_TAGS, is_id, is_name, is_tag},
    state::{CheckState, Drain, Health, Report, State},
    view::{Guard, Instance, Service, View},
};

pub(crate) use self::spec::statuses;

/// How services are told apart: upper and lower case are the same, as in the DNS.
pub fn fold(service: &str) -> String {
    service.to_ascii_lowercase()
}
