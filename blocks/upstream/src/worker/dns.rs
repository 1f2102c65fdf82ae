//! Back ends that DNS tells.
//!
//! - DNS-1: names are asked for again when the shortest time to live of the answer is over, but not more than once a second and at least
//!   once an hour.
//! - DNS-2: while DNS does not answer, or answers that there is nothing, the last answer is kept.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, Record},
};
use kernel::Backoff;

use crate::{
    MAX_ENDPOINTS,
    model::spec::{DnsKind, DnsSpec},
    service::{Upstream, Wanted},
};

/// The least and the most time between questions.
const LEAST_TTL: Duration = Duration::from_secs(1);
const MOST_TTL: Duration = Duration::from_hours(1);
/// How long all questions of one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one name server may take, each of two times.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// Names of an SRV answer that are asked for.
const MAX_NAMES: usize = 100;
/// After a failure.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// Takes what DNS tells, again and again. Never ends.
pub(super) async fn follow(upstream: &Upstream, spec: &DnsSpec) {
    let clock = &upstream.shared.clock;
    let mut known = HashMap::new();
    let mut failures = 0;
    loop {
        let answer = match clock.timeout(PATIENCE, Box::pin(ask(spec, &mut known))).await {
            Some(answer) => answer,
            None => Err("no answer within 10s".to_owned()),
        };
        let pause = match answer {
            Ok((wanted, ttl)) => {
                failures = 0;
                upstream.answered(wanted);
                ttl.clamp(LEAST_TTL, MOST_TTL)
            }
            Err(why) => {
                upstream.unanswered(format!("{}: {why}", spec.name));
                failures += 1;
                LEAST_TTL + BACKOFF.delay(failures - 1, &upstream.shared.rng)
            }
        };
        clock.sleep(pause).await;
    }
}

/// One answer, and how long it holds.
async fn ask(spec: &DnsSpec, known: &mut HashMap<String, Vec<IpAddr>>) -> Result<(Vec<Wanted>, Duration), String> {
    // A new one each time: so the machine's settings and its hosts file are those of now.
    let resolver = resolver(spec)?;
    let (mut wanted, ttl) = match spec.kind {
        DnsKind::Address => addresses(&resolver, &spec.name, spec.port.unwrap_or_default()).await?,
        DnsKind::Srv => services(&resolver, &spec.name, known).await?,
    };
    // Servers turn the order around with each answer, which is no change.
    wanted.sort_unstable_by_key(|wanted| (wanted.priority, wanted.address));
    wanted.truncate(MAX_ENDPOINTS);
    if wanted.is_empty() {
        return Err("the answer has no address".to_owned());
    }
    Ok((wanted, ttl))
}

async fn addresses(resolver: &TokioResolver, name: &str, port: u16) -> Result<(Vec<Wanted>, Duration), String> {
    let lookup = resolver.lookup_ip(name).await.map_err(|e| told(&e))?;
    let wanted = lookup.iter().map(|ip| of(SocketAddr::new(ip, port), 1, 0)).collect();
    Ok((wanted, ttl(lookup.as_lookup().answers())))
}

async fn services(
    resolver: &TokioResolver,
    name: &str,
    known: &mut HashMap<String, Vec<IpAddr>>,
) -> Result<(Vec<Wanted>, Duration), String> {
    let lookup = resolver.srv_lookup(name).await.map_err(|e| told(&e))?;
    let mut shortest = ttl(lookup.answers());
    let mut records: Vec<_> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            // A dot is a service that is not offered (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
            _ => None,
        })
        .collect();
    records.sort_unstable_by_key(|srv| srv.priority);
    records.truncate(MAX_NAMES);
    let mut priorities: Vec<u16> = records.iter().map(|srv| srv.priority).collect();
    priorities.dedup();
    let heaviest = records.iter().map(|srv| srv.weight).max().unwrap_or_default();
    let mut wanted = Vec::new();
    let mut before = std::mem::take(known);
    for srv in records {
        let target = srv.target.to_string();
        let ips = if let Some(ips) = known.get(&target) {
            ips.clone()
        } else {
            match resolver.lookup_ip(srv.target.clone()).await {
                Ok(lookup) => {
                    shortest = shortest.min(ttl(lookup.as_lookup().answers()));
                    lookup.iter().collect()
                }
                // That there is no such name is an answer; otherwise what it was before.
                Err(e) if e.is_no_records_found() => Vec::new(),
                Err(e) => before.remove(&target).ok_or_else(|| format!("{target}: {}", told(&e)))?,
            }
        };
        let rank = priorities.iter().position(|priority| *priority == srv.priority).unwrap_or_default();
        let priority = u8::try_from(rank).unwrap_or(9).min(9);
        let weight = weight(srv.weight, heaviest);
        wanted.extend(ips.iter().map(|ip| of(SocketAddr::new(*ip, srv.port), weight, priority)));
        known.insert(target, ips);
    }
    Ok((wanted, shortest))
}

/// Up to 1000, in proportion. RFC 2782 gives those of weight 0 a very small chance.
fn weight(weight: u16, heaviest: u16) -> u32 {
    let (weight, heaviest) = (u32::from(weight), u32::from(heaviest));
    let scaled = if heaviest > 1_000 { weight * 1_000 / heaviest } else { weight };
    scaled.max(1)
}

fn of(address: SocketAddr, weight: u32, priority: u8) -> Wanted {
    Wanted { address, weight, zone: None, priority, is_healthy: true, is_draining: false }
}

/// The shortest time to live, aliases included.
fn ttl(records: &[Record]) -> Duration {
    Duration::from_secs(records.iter().map(|record| u64::from(record.ttl)).min().unwrap_or_default())
}

fn resolver(spec: &DnsSpec) -> Result<TokioResolver, String> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if spec.servers.is_empty() {
        TokioResolver::builder(provider).map_err(|e| format!("the machine's settings of DNS: {e}"))?
    } else {
        let servers = spec.servers.iter().map(|server| {
            let with_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(with_port);
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, provider);
        // Whoever names servers means what these say.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.cache_size = 0;
    options.timeout = options.timeout.min(TRY_TIMEOUT);
    options.attempts = 2;
    options.try_tcp_on_error = true;
    builder.build().map_err(|e| e.to_string())
}

/// In a few words.
fn told(error: &NetError) -> String {
    if error.is_nx_domain() {
        "there is no such name".to_owned()
    } else if error.is_no_records_found() {
        "the name has no such records".to_owned()
    } else {
        error.to_string()
    }
}
