//! What must hold of an [`UpstreamSpec`] beyond its types.

use std::{collections::HashSet, time::Duration};

use kernel::{FieldError, Span};

use super::spec::{
    Algorithm, BalanceSpec, BreakerSpec, DnsKind, DnsSpec, EndpointSpec, HashOn, HealthSpec, LimitsSpec, OutlierSpec,
    ProbeKind, TlsSpec, UpstreamSpec,
};
use crate::MAX_ENDPOINTS;

/// What a name may be.
pub const NAME_RULE: &str = "expected 1 to 64 of A-Z, a-z, 0-9, _, - and .";

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Whether `name` keeps to [`NAME_RULE`].
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

impl UpstreamSpec {
    /// Every field that is wrong, each with its place under `at` (a JSON pointer such as `/upstreams/0`).
    pub fn validate(&self, at: &str) -> Vec<FieldError> {
        let mut faults = Faults { at, all: Vec::new() };
        if !is_name(&self.name) {
            faults.add("name", NAME_RULE);
        }
        let sources = usize::from(self.endpoints.is_some())
            + usize::from(self.dns.is_some())
            + usize::from(self.service.is_some());
        if sources != 1 {
            faults.add("endpoints", "expected exactly one of endpoints, dns and service");
        }
        check_endpoints(self.endpoints.as_deref().unwrap_or_default(), &mut faults);
        if let Some(dns) = &self.dns {
            check_dns(dns, &mut faults);
        }
        if let Some(service) = &self.service {
            if !is_text(&service.name, 256) {
                faults.add("service/name", "expected 1 to 256 bytes");
            }
            if service.tag.as_deref().is_some_and(|tag| !is_text(tag, 256)) {
                faults.add("service/tag", "expected 1 to 256 bytes");
            }
        }
        check_balance(&self.balance, &mut faults);
        if let Some(health) = &self.health {
            check_health(health, &mut faults);
        }
        if let Some(outlier) = &self.outlier {
            check_outlier(outlier, &mut faults);
        }
        if let Some(breaker) = &self.breaker {
            check_breaker(breaker, &mut faults);
        }
        check_limits(&self.limits, &mut faults);
        faults.span("connect_timeout", self.connect_timeout, Duration::from_millis(1), Duration::from_mins(1));
        if let Some(tls) = &self.tls {
            check_tls(tls, &mut faults);
        }
        faults.all
    }
}

struct Faults<'a> {
    at: &'a str,
    all: Vec<FieldError>,
}

impl Faults<'_> {
    fn add(&mut self, field: &str, detail: impl Into<String>) {
        self.all.push(FieldError { field: format!("{}/{field}", self.at), detail: detail.into() });
    }

    fn number(&mut self, field: &str, value: u32, least: u32, most: u32) {
        if !(least..=most).contains(&value) {
            self.add(field, format!("expected {least} to {most}"));
        }
    }

    fn span(&mut self, field: &str, value: Span, least: Duration, most: Duration) {
        if !(least..=most).contains(&value.0) {
            self.add(field, format!("expected {} to {}", Span(least), Span(most)));
        }
    }
}

fn is_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.bytes().any(|b| b.is_ascii_control())
}

fn check_endpoints(endpoints: &[EndpointSpec], faults: &mut Faults<'_>) {
    if endpoints.len() > MAX_ENDPOINTS {
        faults.add("endpoints", format!("expected at most {MAX_ENDPOINTS}"));
    }
    let mut seen = HashSet::new();
    for (i, endpoint) in endpoints.iter().enumerate().take(MAX_ENDPOINTS) {
        let field = |name: &str| format!("endpoints/{i}/{name}");
        if endpoint.address.port() == 0 || endpoint.address.ip().is_unspecified() {
            faults.add(&field("address"), "expected an address that can be connected to");
        }
        if !seen.insert(endpoint.address) {
            faults.add(&field("address"), "is there already; use weight for a larger share");
        }
        faults.number(&field("weight"), endpoint.weight, 0, 1000);
        faults.number(&field("priority"), u32::from(endpoint.priority), 0, 9);
        if endpoint.zone.as_deref().is_some_and(|zone| !is_text(zone, 64)) {
            faults.add(&field("zone"), "expected 1 to 64 bytes");
        }
    }
}

fn check_dns(dns: &DnsSpec, faults: &mut Faults<'_>) {
    let labels = dns.name.strip_suffix('.').unwrap_or(&dns.name).split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if dns.name.len() > 254 || !labels.clone().all(is_label) {
        faults.add("dns/name", "expected a DNS name such as shop.internal");
    }
    match (dns.kind, dns.port) {
        (DnsKind::Address, None | Some(0)) => faults.add("dns/port", "expected the port of the back ends, 1 to 65535"),
        (DnsKind::Srv, Some(_)) => faults.add("dns/port", "SRV records tell the port; leave it out"),
        _ => {}
    }
    if dns.servers.len() > 8 {
        faults.add("dns/servers", "expected at most 8");
    }
    for (i, server) in dns.servers.iter().enumerate() {
        if server.port() == 0 || server.ip().is_unspecified() {
            faults.add(&format!("dns/servers/{i}"), "expected an address that can be asked");
        }
    }
}

fn check_balance(balance: &BalanceSpec, faults: &mut Faults<'_>) {
    if balance.algorithm.is_hashing() && balance.hash_on.is_none() {
        faults.add("balance/hash_on", format!("{} needs it", balance.algorithm.as_str()));
    }
    let name = match &balance.hash_on {
        Some(HashOn::Header(name)) if http::HeaderName::try_from(name.as_str()).is_err() => {
            faults.add("balance/hash_on/header", "expected the name of a header");
            None
        }
        Some(HashOn::Cookie(name)) => Some(("balance/hash_on/cookie", name)),
        Some(HashOn::Query(name)) => Some(("balance/hash_on/query", name)),
        Some(HashOn::Header(_) | HashOn::Address | HashOn::Path) | None => None,
    };
    if let Some((field, name)) = name
        && !is_text(name, 128)
    {
        faults.add(field, "expected a name of 1 to 128 bytes");
    }
    if let Some(percent) = balance.load_bound_percent {
        faults.number("balance/load_bound_percent", percent, 101, 1000);
    }
    faults.span("balance/slow_start", balance.slow_start, Duration::ZERO, HOUR);
    let keeps_places = balance.algorithm.is_hashing() || balance.algorithm == Algorithm::First;
    if keeps_places && !balance.slow_start.0.is_zero() {
        faults.add("balance/slow_start", format!("{} has none", balance.algorithm.as_str()));
    }
}

fn check_health(health: &HealthSpec, faults: &mut Faults<'_>) {
    faults.span("health/interval", health.interval, Duration::from_millis(100), HOUR);
    faults.span("health/timeout", health.timeout, Duration::from_millis(1), Duration::from_mins(1));
    faults.number("health/healthy_after", health.healthy_after, 1, 100);
    faults.number("health/unhealthy_after", health.unhealthy_after, 1, 100);
    if health.port == Some(0) {
        faults.add("health/port", "expected 1 to 65535");
    }
    if health.host.as_deref().is_some_and(|host| !is_host(host)) {
        faults.add("health/host", "expected a host, with a port or not");
    }
    match health.kind {
        ProbeKind::Http => {
            let is_path = health.path.starts_with('/') && health.path.parse::<http::uri::PathAndQuery>().is_ok();
            if !is_path || health.path.len() > 2048 {
                faults.add("health/path", "expected a path such as /health, at most 2048 bytes");
            }
            if health.expect.is_empty() || health.expect.len() > 32 {
                faults.add("health/expect", "expected 1 to 32 ranges of statuses");
            }
        }
        ProbeKind::Grpc if health.service.len() > 256 => faults.add("health/service", "expected at most 256 bytes"),
        ProbeKind::Grpc | ProbeKind::Tcp => {}
    }
}

fn is_host(host: &str) -> bool {
    host.len() <= 255 && host.parse::<http::uri::Authority>().is_ok_and(|a| !a.as_str().contains('@'))
}

fn check_outlier(outlier: &OutlierSpec, faults: &mut Faults<'_>) {
    faults.number("outlier/consecutive_failures", outlier.consecutive_failures, 0, 1000);
    faults.span("outlier/interval", outlier.interval, Duration::from_millis(100), HOUR);
    faults.number("outlier/max_ejected_percent", outlier.max_ejected_percent, 0, 100);
    faults.number("outlier/panic_percent", outlier.panic_percent, 0, 100);
    faults.span("outlier/base_ejection", outlier.base_ejection, Duration::from_millis(1), DAY);
    faults.span("outlier/max_ejection", outlier.max_ejection, outlier.base_ejection.0.min(DAY), DAY);
}

fn check_breaker(breaker: &BreakerSpec, faults: &mut Faults<'_>) {
    faults.span("breaker/window", breaker.window, Duration::from_millis(10), HOUR);
    faults.number("breaker/minimum_calls", breaker.minimum_calls, 1, 1_000_000);
    faults.number("breaker/failure_percent", breaker.failure_percent, 1, 100);
    faults.number("breaker/slow_percent", breaker.slow_percent, 1, 100);
    if let Some(slow) = breaker.slow_call {
        faults.span("breaker/slow_call", slow, Duration::from_millis(1), HOUR);
    }
    faults.span("breaker/open_for", breaker.open_for, Duration::from_millis(1), HOUR);
    faults.span("breaker/open_at_most", breaker.open_at_most, breaker.open_for.0.min(DAY), DAY);
    faults.number("breaker/probes", breaker.probes, 1, 1000);
}

fn check_limits(limits: &LimitsSpec, faults: &mut Faults<'_>) {
    faults.number("limits/max_in_flight", limits.max_in_flight, 1, 1_000_000);
    if let Some(most) = limits.max_in_flight_per_endpoint {
        faults.number("limits/max_in_flight_per_endpoint", most, 1, 1_000_000);
    }
    faults.number("limits/max_idle_per_worker", limits.max_idle_per_worker, 0, 10_000);
    faults.span("limits/idle_timeout", limits.idle_timeout, Duration::from_millis(1), DAY);
    if let Some(age) = limits.max_connection_age {
        faults.span("limits/max_connection_age", age, Duration::from_secs(1), DAY * 30);
    }
}

fn check_tls(tls: &TlsSpec, faults: &mut Faults<'_>) {
    if tls.server_name.as_deref().is_some_and(|name| !is_text(name, 253)) {
        faults.add("tls/server_name", "expected a host name or an IP address");
    }
    if tls.client_cert.is_some() != tls.client_key.is_some() {
        faults.add("tls/client_key", "client_cert and client_key go together");
    }
    for (field, path) in
        [("tls/ca", &tls.ca), ("tls/client_cert", &tls.client_cert), ("tls/client_key", &tls.client_key)]
    {
        if path.as_deref() == Some("") {
            faults.add(field, "expected the path of a PEM file");
        }
    }
}
