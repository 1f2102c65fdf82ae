//! What tests have in common.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use kernel::{Clock, Rng, SimClock, Timestamp};
use telemetry::Metrics;
use upstream::{Deps, EndpointId, Lease, Outcome, Pick, Registry, Upstream, UpstreamSpec, Upstreams};

/// Upstreams in simulated time.
pub(crate) struct World {
    pub(crate) time: SimClock,
    pub(crate) upstreams: Upstreams,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(None, None)
    }

    pub(crate) fn with(zone: Option<&str>, registry: Option<Arc<dyn Registry>>) -> Self {
        Self::of(zone, registry, &Metrics::new())
    }

    pub(crate) fn shown(metrics: &Metrics) -> Self {
        Self::of(None, None, metrics)
    }

    fn of(zone: Option<&str>, registry: Option<Arc<dyn Registry>>, metrics: &Metrics) -> Self {
        let (clock, time) = Clock::simulated(Timestamp::EPOCH);
        let deps = Deps {
            clock,
            rng: Rng::seeded(7),
            zone: zone.map(ToOwned::to_owned),
            registry,
            metrics: metrics.registry("upstream"),
        };
        Self { time, upstreams: Upstreams::new(deps) }
    }

    /// Applies one upstream, as TOML without its name.
    pub(crate) fn apply(&self, text: &str) -> Arc<Upstream> {
        self.upstreams.apply(&[spec(text)]).unwrap();
        self.upstreams.get("shop").unwrap()
    }
}

/// An upstream named `shop`.
pub(crate) fn spec(text: &str) -> UpstreamSpec {
    toml::from_str(&format!("name = \"shop\"\n{text}")).unwrap()
}

/// `10.0.0.n:80` for each n, with what else there is to say.
pub(crate) fn endpoints(of: impl IntoIterator<Item = (u8, &'static str)>) -> String {
    let list: Vec<_> = of.into_iter().map(|(n, more)| format!("{{ address = \"10.0.0.{n}:80\"{more} }}")).collect();
    format!("endpoints = [{}]\n", list.join(", "))
}

/// The last number of the address.
pub(crate) fn number(lease: &Lease) -> u8 {
    match lease.target().address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => panic!("an IPv4 address"),
    }
}

pub(crate) fn id(n: u8) -> EndpointId {
    EndpointId::of(SocketAddr::from(([10, 0, 0, n], 80)))
}

/// Picks and ends well at once; who it was.
pub(crate) fn one(upstream: &Upstream, pick: &Pick<'_>) -> u8 {
    let lease = upstream.pick(pick).unwrap();
    let n = number(&lease);
    lease.report(Outcome { is_success: true, took: Duration::from_millis(10) });
    n
}

/// How often each was picked, by number.
pub(crate) fn count(upstream: &Upstream, picks: usize) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    (0..picks).for_each(|_| *counts.entry(one(upstream, &Pick::default())).or_default() += 1);
    counts
}
