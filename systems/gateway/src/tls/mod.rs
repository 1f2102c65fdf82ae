//! TLS towards clients: certificates by host, certificates of clients, ACME.

pub mod hello;
mod hosts;
mod spec;

pub use hosts::Hosts;
pub use spec::{
    AcmeChallenge, AcmeSpec, CertificateSpec, ClientMode, ClientSpec, MAX_CERTIFICATES, MAX_HOSTS, validate,
};
