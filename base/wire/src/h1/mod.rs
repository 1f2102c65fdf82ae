//! HTTP/1.1 to back ends by this crate's own codec (RFC 9112).

pub(crate) mod chunked;
mod encode;
mod exchange;
mod incoming;
mod parse;
mod upload;

pub(crate) use self::{exchange::exchange, incoming::Incoming};
