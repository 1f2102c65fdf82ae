//! The DNS server: who asks for `shop.service.mainstay.internal` is told where it is (RFC 1035, 2782, 3596, 6891).
//!
//! | name | A, AAAA | SRV |
//! |---|---|---|
//! | `[TAG.]SERVICE.service[.PROJECT].DOMAIN` | addresses of those to be used | their ports, with `HEX.addr.…` as targets |
//! | `_SERVICE._TAG[.service][.PROJECT].DOMAIN` (`_tcp`, `_udp`: any tag) | the same | the same |
//! | `NODE.node[.PROJECT].DOMAIN` | its address | |
//! | `HEX.addr[.PROJECT].DOMAIN` | the address that is spelled | |
//!
//! - DNS-1: an answer over UDP is never longer than the asker takes (512 bytes, or what EDNS says up to 1232); what does not fit is
//!   left out and the answer says that it was cut, so that resolvers ask over TCP.
//! - DNS-2: only names below `discovery.dns_domains`, and only of `discovery.dns_projects`, are answered; all others are refused.
//! - DNS-3: whatever bytes come, the server answers in form or not at all.

mod answer;
mod listen;
mod names;

pub use listen::Sockets;
