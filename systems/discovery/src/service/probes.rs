//! Active checks: this node asks those that it looks after, with the questions of `upstream::probe`.
//!
//! - PROBE-1: what a node finds is told when it differs from what is known, with every probe anew: a database that is away delays it.
//! - PROBE-2: one failure among successes changes nothing, and neither does one success among failures: `healthy_after`,
//!   `unhealthy_after`. The very first probe decides alone.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kernel::{Clock, ProjectId, Shutdown};
use upstream::{
    StatusRange,
    probe::{Health as Found, Hysteresis, ProbeSpec, Question, probe},
};

use super::Discovery;
use crate::model::{CheckKind, CheckSpec, Health, Instance};

/// How often it is looked which probes are due.
const TICK: Duration = Duration::from_millis(200);
/// How often it is looked at least what there is to probe: nodes come and go.
const LOOK: Duration = Duration::from_secs(2);

/// Project, instance, check.
type Key = (ProjectId, String, String);

struct Entry {
    check: CheckSpec,
    address: (String, u16),
    hysteresis: Hysteresis,
    due: Duration,
    is_running: bool,
}

enum Done {
    Probed(Key, Result<(), String>),
    Told,
}

/// Probes what is this node's to probe, until shutdown.
pub(crate) async fn run(discovery: Discovery, shutdown: Shutdown) {
    let clock = discovery.0.clock.clone();
    let mut entries: HashMap<Key, Entry> = HashMap::new();
    let mut running: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    let (mut seen, mut looked_at) = (-1, Duration::ZERO);
    loop {
        let now = clock.monotonic();
        let revision = discovery.0.book.revision();
        if revision != seen || now.saturating_sub(looked_at) >= LOOK {
            look(&discovery, &mut entries, now);
            (seen, looked_at) = (revision, now);
        }
        for (key, entry) in &mut entries {
            if running.len() >= discovery.0.config.max_probes {
                break;
            }
            if !entry.is_running && entry.due <= now {
                entry.is_running = true;
                running.push(Box::pin(ask(key.clone(), entry.check.clone(), entry.address.clone(), clock.clone())));
            }
        }
        tokio::select! {
            Some(done) = running.next() => {
                if let Done::Probed(key, outcome) = done {
                    running.extend(take(&discovery, &mut entries, key, outcome));
                }
            }
            () = clock.sleep(TICK) => {}
            () = shutdown.wait() => return,
        }
    }
}

/// Takes up what is new, and lets go of what is another node's or gone.
fn look(discovery: &Discovery, entries: &mut HashMap<Key, Entry>, now: Duration) {
    let mut kept: HashMap<Key, Entry> = HashMap::new();
    for (project, service) in discovery.0.book.all() {
        for one in &service.instances {
            if !one.spec.checks.iter().any(CheckSpec::is_probed)
                || !discovery.looks_after(project.as_str(), &["probe", &one.id])
            {
                continue;
            }
            for check in one.spec.checks.iter().filter(|check| check.is_probed()) {
                let key = (project.clone(), one.id.clone(), check.id.clone());
                let address = address(one, check);
                let known = entries.remove(&key).filter(|known| known.check == *check && known.address == address);
                kept.insert(key, known.unwrap_or_else(|| fresh(discovery, one, check, address, now)));
            }
        }
    }
    *entries = kept;
}

fn address(one: &Instance, check: &CheckSpec) -> (String, u16) {
    let host = if check.address.is_empty() { &one.spec.address } else { &check.address };
    (host.clone(), check.port.unwrap_or(one.spec.port))
}

fn fresh(discovery: &Discovery, one: &Instance, check: &CheckSpec, address: (String, u16), now: Duration) -> Entry {
    let known = one.state.checks.get(&check.id);
    let state = match known.map(|known| known.health) {
        // Nothing has been found yet: it is as it starts.
        Some(Health::Critical) if known.is_some_and(|known| known.output.is_empty()) => Found::Unknown,
        Some(Health::Critical) => Found::Unhealthy,
        Some(_) => Found::Healthy,
        None => Found::Unknown,
    };
    // One that is new at once; those of a node that went spread over their time.
    let wait =
        if state == Found::Unknown { Duration::ZERO } else { check.interval().mul_f64(discovery.0.rng.unit_f64()) };
    let hysteresis = Hysteresis::resume(state, check.healthy_after, check.unhealthy_after);
    Entry { check: check.clone(), address, hysteresis, due: now + wait, is_running: false }
}

async fn ask(key: Key, check: CheckSpec, address: (String, u16), clock: Clock) -> Done {
    let expect = check.expect.iter().filter_map(|text| {
        let (from, to) = crate::model::statuses(text)?;
        Some(StatusRange { from, to })
    });
    let mut expect: Vec<_> = expect.collect();
    if expect.is_empty() {
        expect.push(StatusRange { from: 200, to: 299 });
    }
    let host = (!check.host.is_empty()).then(|| check.host.clone());
    let question = match check.kind {
        CheckKind::Http => {
            let path = if check.path.is_empty() { "/".to_owned() } else { check.path.clone() };
            Question::Http { path, host, expect, is_http2: false }
        }
        CheckKind::Grpc => Question::Grpc { service: check.path.clone(), host },
        CheckKind::Tcp | CheckKind::Ttl | CheckKind::External => Question::Tcp,
    };
    let spec = ProbeSpec { question, timeout: check.timeout(), tls: None, proxy_header: None };
    let outcome = match resolve(&address, check.timeout(), &clock).await {
        Ok(address) => probe(&spec, address, &clock).await,
        Err(why) => Err(why),
    };
    Done::Probed(key, outcome)
}

async fn resolve((host, port): &(String, u16), within: Duration, clock: &Clock) -> Result<SocketAddr, String> {
    if let Ok(ip) = host.parse() {
        return Ok(SocketAddr::new(ip, *port));
    }
    let found = clock.timeout(within, tokio::net::lookup_host((host.as_str(), *port))).await;
    let mut found = found.ok_or("its name is not resolved in time")?.map_err(|_| "its name is not known".to_owned())?;
    found.next().ok_or_else(|| "its name has no address".to_owned())
}

/// What follows from a probe: perhaps something to tell.
fn take(
    discovery: &Discovery,
    entries: &mut HashMap<Key, Entry>,
    key: Key,
    outcome: Result<(), String>,
) -> Option<BoxFuture<'static, Done>> {
    discovery.0.telemetry.probed(outcome.is_ok());
    let entry = entries.get_mut(&key)?;
    entry.is_running = false;
    // A tenth more or less, so that what came at once does not stay so.
    let spread = 0.9 + discovery.0.rng.unit_f64() / 5.0;
    entry.due = discovery.0.clock.monotonic() + entry.check.interval().mul_f64(spread);
    entry.hysteresis.record(outcome.is_ok());
    let (project, id, check) = key;
    let known: Option<Arc<Instance>> = discovery.0.book.instance(&project, &id);
    let known = known?.state.checks.get(&check).map(|state| (state.health, state.output.is_empty()));
    let found = match entry.hysteresis.state() {
        Found::Unknown => return None,
        Found::Healthy => Health::Passing,
        Found::Unhealthy => Health::Critical,
    };
    if known.is_some_and(|(health, _)| health == found) {
        return None;
    }
    let output = outcome.err().unwrap_or_else(|| "it answers".to_owned());
    let discovery = discovery.clone();
    Some(Box::pin(async move {
        if let Err(error) = discovery.report(&project, &id, vec![(check, found, output)]).await {
            tracing::debug!(%error, "what a probe found is told with the next");
        }
        Done::Told
    }))
}
