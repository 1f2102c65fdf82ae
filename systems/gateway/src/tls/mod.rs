//! TLS towards clients: certificates by host, certificates of clients, ACME.

mod accept;
mod acme;
mod certificates;
mod client;
pub mod hello;
mod hosts;
mod material;
mod seal;
mod spec;

use std::time::Duration;

pub(crate) use accept::ACME_TLS;
pub use accept::Session;
pub use acme::AcmeDeps;
pub use certificates::{CertificateState, Certificates, Misdirected};
pub use client::client_certificate;
pub(crate) use client::common_name;
pub use hosts::Hosts;
pub use material::Facts;
pub use spec::{AcmeChallenge, AcmeSpec, CertificateSpec, ClientMode, ClientSpec, MAX_HOSTS, validate};

/// How often files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
