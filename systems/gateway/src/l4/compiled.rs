//! A listener's specification as connections look at it.

use super::{ListenerSpec, SniMode};
use crate::tls::Hosts;

/// What holds for connections from now on.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) spec: ListenerSpec,
    pub(super) by_host: Hosts<Way>,
}

/// What happens with a client of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) upstream: String,
    pub(super) mode: SniMode,
    pub(super) alpn: Vec<Vec<u8>>,
}

impl Compiled {
    pub(super) fn new(spec: &ListenerSpec) -> Self {
        let mut by_host = Hosts::default();
        for route in &spec.sni {
            let alpn = route.alpn.iter().map(|p| p.clone().into_bytes()).collect();
            let way = Way { upstream: route.upstream.clone(), mode: route.mode, alpn };
            for host in &route.hosts {
                by_host.insert(host, way.clone());
            }
        }
        Self { spec: spec.clone(), by_host }
    }

    /// Where a client of TLS goes.
    pub(super) fn way(&self, server_name: Option<&str>) -> Option<Way> {
        if let Some(way) = server_name.and_then(|name| self.by_host.get(name)) {
            return Some(way.clone());
        }
        let upstream = self.spec.upstream.clone()?;
        Some(Way { upstream, mode: SniMode::PassThrough, alpn: Vec::new() })
    }
}
