//! What somebody registers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use kernel::{FieldError, Span};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most tags of an instance.
pub const MAX_TAGS: usize = 64;
/// The most pairs of metadata of an instance (as Consul has it).
pub const MAX_META: usize = 64;
/// The most checks of an instance.
pub const MAX_CHECKS: usize = 16;

/// The longest name of a service and of a tag: one label of the DNS (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;
const MAX_ID: usize = 200;
const MAX_META_KEY: usize = 128;
const MAX_META_VALUE: usize = 512;
const MIN_SPAN: Duration = Duration::from_secs(1);
const MAX_SPAN: Duration = Duration::from_hours(24);
const MAX_WEIGHT: u32 = 65_535;

/// An instance of a service, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceSpec {
    /// The service that it is one of: letters, digits, `-`, `_` and `.`; upper and lower case are the same.
    #[schema(example = "shop", max_length = 63, pattern = "^[A-Za-z0-9._-]{1,63}$")]
    pub service: String,
    /// An IP address or a host name; left out or empty: the address that the registration comes from.
    #[serde(default)]
    #[schema(example = "10.0.0.7", max_length = 253)]
    pub address: String,
    /// The port; 0: none.
    #[serde(default)]
    pub port: u16,
    /// The machine that it runs on; left out: its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 200)]
    pub node: String,
    /// Where it is, such as an availability zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "a", max_length = 63)]
    pub zone: String,
    /// Words to choose by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub tags: Vec<String>,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Its share beside others of its service, 1 to 65535.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schema(minimum = 1, maximum = 65535, default = 1)]
    pub weight: u32,
    /// How it is found out whether it is well; none: it is until it is deregistered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub checks: Vec<CheckSpec>,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// How the health of an instance is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// It says so itself, at least once in `ttl`.
    Ttl,
    /// A GET that is answered with a status in `expect`.
    Http,
    /// A connection that is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check` that answers SERVING.
    Grpc,
    /// Something else looks after it, and registers what it found.
    External,
}

impl CheckKind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
            Self::External => "external",
        }
    }
}

/// One check of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// Told apart from the instance's other checks by; left out: `service:<id of the instance>`, with `:2` and so on for further ones.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 200)]
    pub name: String,
    /// How it checks.
    pub kind: CheckKind,
    /// Of `ttl`: without a sign of life for so long, it is critical. 1 s to 24 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "15s")]
    pub ttl: Option<Span>,
    /// Of `http`: what is asked for; left out: `/`. Of `grpc`: the name of the service that is asked about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "/health", max_length = 512)]
    pub path: String,
    /// Of `http`: the value of `Host`; left out: the address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 253)]
    pub host: String,
    /// Another IP address than the instance's to check.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 253)]
    pub address: String,
    /// Another port than the instance's to check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub port: Option<u16>,
    /// Of `http`: statuses that are well, such as `200-399`; left out: 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16, example = json!(["200-299"]))]
    pub expect: Vec<String>,
    /// Of `http`, `tcp` and `grpc`: how often; left out: 10 s. 1 s to 24 h. It is spread by a tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "10s")]
    pub interval: Option<Span>,
    /// Of the same: how long an answer may take; left out: 2 s, or the interval where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "2s")]
    pub timeout: Option<Span>,
    /// Of the same: so many successes in a row make it passing again, 1 to 10.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    #[schema(minimum = 1, maximum = 10, default = 2)]
    pub healthy_after: u32,
    /// Of the same: so many failures in a row make it critical, 1 to 10.
    #[serde(default = "three", skip_serializing_if = "is_three")]
    #[schema(minimum = 1, maximum = 10, default = 3)]
    pub unhealthy_after: u32,
    /// Critical for so long, the instance is removed; left out: `discovery.remove_after`. At least 1 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "1h")]
    pub remove_after: Option<Span>,
    /// What it is until something is known: `critical` or `passing`. Left out: `passing` for `ttl`, as a registration is a sign of
    /// life; `critical` for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub starts: Option<super::Health>,
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_two(n: &u32) -> bool {
    *n == 2
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_three(n: &u32) -> bool {
    *n == 3
}

impl CheckSpec {
    /// A check by signs of life.
    pub fn ttl(ttl: Duration) -> Self {
        Self { ttl: Some(Span(ttl)), ..Self::of(CheckKind::Ttl) }
    }

    /// A check of this kind with everything else left out.
    pub const fn of(kind: CheckKind) -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            kind,
            ttl: None,
            path: String::new(),
            host: String::new(),
            address: String::new(),
            port: None,
            expect: Vec::new(),
            interval: None,
            timeout: None,
            healthy_after: 2,
            unhealthy_after: 3,
            remove_after: None,
            starts: None,
        }
    }

    /// How often it probes.
    pub fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(10), |span| span.0)
    }

    /// How long a probe may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or_else(|| self.interval().min(Duration::from_secs(2)), |span| span.0)
    }

    /// The time within which a sign of life is due; `None` for checks that probe.
    pub fn beat_within(&self) -> Option<Duration> {
        (self.kind == CheckKind::Ttl).then(|| self.ttl.map_or(Duration::from_secs(15), |span| span.0))
    }

    /// What it is until something is known.
    pub fn starts(&self) -> super::Health {
        let usual = if self.kind == CheckKind::Ttl { super::Health::Passing } else { super::Health::Critical };
        self.starts.unwrap_or(usual)
    }

    /// Whether this server has to ask the instance.
    pub fn is_probed(&self) -> bool {
        matches!(self.kind, CheckKind::Http | CheckKind::Tcp | CheckKind::Grpc)
    }

    fn faults(&self, at: &str, has_port: bool, faults: &mut Vec<FieldError>) {
        let mut fault = |is_wrong: bool, field: &str, detail: &str| {
            if is_wrong {
                faults.push(FieldError { field: format!("{at}/{field}"), detail: detail.to_owned() });
            }
        };
        let is_ttl = self.kind == CheckKind::Ttl;
        let outside = |span: Option<Span>| span.is_some_and(|s| s.0 < MIN_SPAN || s.0 > MAX_SPAN);
        fault(!self.id.is_empty() && !is_id(&self.id), "id", ID_RULE);
        fault(!is_text(&self.name, MAX_ID), "name", "at most 200 characters, without control characters");
        fault(is_ttl && self.ttl.is_none(), "ttl", "needed by a check of this kind");
        fault(!is_ttl && self.ttl.is_some(), "ttl", "only for the kind ttl");
        let has_times = self.interval.is_some() || self.timeout.is_some();
        fault(!self.is_probed() && has_times, "interval", "only for kinds that probe");
        fault(outside(self.ttl), "ttl", "expected 1s to 24h");
        fault(outside(self.interval), "interval", "expected 1s to 24h");
        fault(
            self.timeout.is_some_and(|t| t.0.is_zero() || t.0 > Duration::from_mins(1)),
            "timeout",
            "expected at most 60s",
        );
        fault(
            self.path.len() > 512 || self.path.bytes().any(|b| !b.is_ascii_graphic()),
            "path",
            "at most 512 visible characters of ASCII",
        );
        fault(
            self.kind == CheckKind::Http && !self.path.is_empty() && !self.path.starts_with('/'),
            "path",
            "expected a path that starts with /",
        );
        fault(!self.host.is_empty() && !is_host(&self.host), "host", "expected a host name");
        fault(!self.address.is_empty() && !is_host(&self.address), "address", "expected an IP address or a host name");
        fault(self.port == Some(0), "port", "expected 1 to 65535");
        fault(self.is_probed() && !has_port && self.port.is_none(), "port", "needed, since the instance has none");
        fault(self.expect.len() > 16, "expect", "at most 16");
        fault(
            self.expect.iter().any(|e| statuses(e).is_none()),
            "expect",
            "expected statuses such as \"200\" or \"200-399\"",
        );
        fault(!(1..=10).contains(&self.healthy_after), "healthy_after", "expected 1 to 10");
        fault(!(1..=10).contains(&self.unhealthy_after), "unhealthy_after", "expected 1 to 10");
        fault(self.remove_after.is_some_and(|s| s.0 < Duration::from_mins(1)), "remove_after", "expected at least 1m");
    }
}

/// `200-399` or `204`.
pub(crate) fn statuses(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (100..=599).contains(&from).then_some(())?;
    ((from..=599).contains(&to)).then_some((from, to))
}

impl InstanceSpec {
    /// An instance with everything else left out.
    pub fn new(service: impl Into<String>, address: impl Into<String>, port: u16) -> Self {
        Self {
            service: service.into(),
            address: address.into(),
            port,
            node: String::new(),
            zone: String::new(),
            tags: Vec::new(),
            meta: BTreeMap::new(),
            weight: 1,
            checks: Vec::new(),
        }
    }

    /// Fills in what was left out.
    pub fn complete(&mut self, id: &str, peer: Option<IpAddr>) {
        if self.address.is_empty()
            && let Some(peer) = peer
        {
            self.address = peer.to_canonical().to_string();
        }
        if self.node.is_empty() {
            self.node.clone_from(&self.address);
        }
        for (n, check) in self.checks.iter_mut().enumerate() {
            if check.id.is_empty() {
                check.id = match n {
                    0 => format!("service:{id}"),
                    n => format!("service:{id}:{}", n + 1),
                };
            }
        }
    }

    /// Every mistake, by its JSON pointer.
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let mut fault = |is_wrong: bool, field: &str, detail: &str| {
            if is_wrong {
                faults.push(FieldError { field: field.to_owned(), detail: detail.to_owned() });
            }
        };
        fault(!is_name(&self.service), "/service", "1 to 63 of A-Z, a-z, 0-9, -, _ and .");
        fault(!is_host(&self.address), "/address", "expected an IP address or a host name");
        fault(!self.node.is_empty() && !is_text(&self.node, MAX_ID), "/node", "at most 200 characters");
        fault(!self.zone.is_empty() && !is_name(&self.zone), "/zone", "1 to 63 of A-Z, a-z, 0-9, -, _ and .");
        fault(self.tags.len() > MAX_TAGS, "/tags", "at most 64");
        for (n, tag) in self.tags.iter().enumerate().take(MAX_TAGS) {
            fault(!is_tag(tag), &format!("/tags/{n}"), "1 to 255 characters, without spaces and control characters");
        }
        fault(self.meta.len() > MAX_META, "/meta", "at most 64 pairs");
        for (key, value) in self.meta.iter().take(MAX_META) {
            let is_key = is_id(key) && key.len() <= MAX_META_KEY;
            fault(!is_key, "/meta", "names have 1 to 128 visible characters of ASCII");
            fault(
                !is_text(value, MAX_META_VALUE),
                "/meta",
                "values have at most 512 characters, without control characters",
            );
        }
        fault(!(1..=MAX_WEIGHT).contains(&self.weight), "/weight", "expected 1 to 65535");
        fault(self.checks.len() > MAX_CHECKS, "/checks", "at most 16");
        let mut ids = BTreeSet::new();
        for (n, check) in self.checks.iter().enumerate().take(MAX_CHECKS) {
            check.faults(&format!("/checks/{n}"), self.port > 0, &mut faults);
            if !check.id.is_empty() && !ids.insert(&check.id) {
                let field = format!("/checks/{n}/id");
                faults.push(FieldError { field, detail: "another check of this instance has it".to_owned() });
            }
        }
        faults
    }

    /// The address, where it is one and no name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    /// One of its checks.
    pub fn check(&self, id: &str) -> Option<&CheckSpec> {
        self.checks.iter().find(|check| check.id == id)
    }
}

const ID_RULE: &str = "1 to 200 visible characters of ASCII";

/// Whether it can be the id of an instance or check.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether it can be the name of a service or zone.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether it can be a tag. Those of other registries carry whole rules of routers.
pub fn is_tag(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn is_text(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(char::is_control)
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_NAME).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.trim_end_matches('.').split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_by_their_place() {
        let good = || InstanceSpec::new("shop", "10.0.0.7", 80);
        let check = |spec: InstanceSpec, field: &str| {
            let faults = spec.faults();
            assert!(faults.iter().any(|f| f.field == field), "{field}: {faults:?}");
        };
        assert!(good().faults().is_empty());
        check(InstanceSpec { service: String::new(), ..good() }, "/service");
        check(InstanceSpec { service: "a b".to_owned(), ..good() }, "/service");
        check(InstanceSpec { service: "x".repeat(64), ..good() }, "/service");
        for address in ["", "a b", "-..-", "http://10.0.0.1", "10.0.0.1:80", &"a.".repeat(200)] {
            check(InstanceSpec { address: address.to_owned(), ..good() }, "/address");
        }
        check(InstanceSpec { tags: vec!["a b".to_owned()], ..good() }, "/tags/0");
        check(InstanceSpec { tags: vec!["a".to_owned(); 65], ..good() }, "/tags");
        check(InstanceSpec { weight: 0, ..good() }, "/weight");
        check(InstanceSpec { zone: "é".to_owned(), ..good() }, "/zone");
        let meta = [("k".to_owned(), "v".repeat(513))].into();
        check(InstanceSpec { meta, ..good() }, "/meta");
        let with = |check: CheckSpec| InstanceSpec { checks: vec![check], ..good() };
        check(with(CheckSpec::of(CheckKind::Ttl)), "/checks/0/ttl");
        check(with(CheckSpec::ttl(Duration::from_millis(10))), "/checks/0/ttl");
        check(with(CheckSpec { path: "health".to_owned(), ..CheckSpec::of(CheckKind::Http) }), "/checks/0/path");
        check(with(CheckSpec { expect: vec!["ok".to_owned()], ..CheckSpec::of(CheckKind::Http) }), "/checks/0/expect");
        check(with(CheckSpec { unhealthy_after: 0, ..CheckSpec::of(CheckKind::Tcp) }), "/checks/0/unhealthy_after");
        check(InstanceSpec { port: 0, ..with(CheckSpec::of(CheckKind::Tcp)) }, "/checks/0/port");
        let twice = CheckSpec { id: "c".to_owned(), ..CheckSpec::of(CheckKind::Tcp) };
        check(InstanceSpec { checks: vec![twice.clone(), twice], ..good() }, "/checks/1/id");
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let mut spec = InstanceSpec::new("shop", "", 80);
        spec.checks = vec![CheckSpec::of(CheckKind::Tcp), CheckSpec::of(CheckKind::Tcp)];
        spec.complete("a", "::ffff:10.0.0.9".parse().ok());
        assert_eq!((spec.address.as_str(), spec.node.as_str()), ("10.0.0.9", "10.0.0.9"));
        assert_eq!(spec.checks.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["service:a", "service:a:2"]);
    }

    #[test]
    fn statuses_are_ranges() {
        assert_eq!(statuses("200-399"), Some((200, 399)));
        assert_eq!(statuses("204"), Some((204, 204)));
        for wrong in ["", "-", "99", "600", "300-200", "a", "200-"] {
            assert_eq!(statuses(wrong), None, "{wrong}");
        }
    }
}
