//! What Consul's clients send and read.

use std::{collections::BTreeMap, time::Duration};

use kernel::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Refused};
use crate::model::{CheckKind, CheckSpec, Health, Instance, InstanceSpec};

/// The pair of metadata in which Consul's clients find the zone.
const ZONE: &str = "zone";

/// A service as an agent is told of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct AgentService {
    #[serde(alias = "id", alias = "Id", alias = "ID")]
    pub(super) id: String,
    #[serde(alias = "name")]
    pub(super) name: String,
    #[serde(alias = "tags")]
    tags: Option<Vec<String>>,
    #[serde(alias = "address")]
    address: Option<String>,
    #[serde(alias = "port")]
    port: Option<u16>,
    #[serde(alias = "meta")]
    meta: Option<BTreeMap<String, String>>,
    #[serde(alias = "weights")]
    weights: Option<Weights>,
    #[serde(alias = "check")]
    check: Option<AgentCheck>,
    #[serde(alias = "checks")]
    checks: Option<Vec<AgentCheck>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Weights {
    #[serde(alias = "passing")]
    passing: u32,
}

/// A check as an agent is told of it. All times are texts of Go, such as `10s`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct AgentCheck {
    #[serde(alias = "id", alias = "ID", alias = "CheckID", alias = "CheckId")]
    id: String,
    #[serde(alias = "name")]
    pub(super) name: String,
    #[serde(alias = "notes")]
    notes: String,
    #[serde(alias = "ServiceID", alias = "service_id")]
    pub(super) service_id: String,
    #[serde(alias = "TTL", alias = "ttl")]
    ttl: String,
    #[serde(alias = "HTTP", alias = "http")]
    http: String,
    #[serde(alias = "TCP", alias = "tcp")]
    tcp: String,
    #[serde(alias = "GRPC", alias = "grpc")]
    grpc: String,
    #[serde(alias = "UDP", alias = "udp")]
    udp: String,
    #[serde(alias = "args", alias = "script", alias = "Script")]
    args: Option<Value>,
    #[serde(alias = "interval")]
    interval: String,
    #[serde(alias = "timeout")]
    timeout: String,
    #[serde(alias = "status")]
    status: String,
    #[serde(alias = "success_before_passing")]
    success_before_passing: u32,
    #[serde(alias = "failures_before_critical")]
    failures_before_critical: u32,
    #[serde(alias = "deregister_critical_service_after")]
    deregister_critical_service_after: String,
}

fn span(name: &str, text: &str) -> Answer<Option<Span>> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = super::parse_wait(text).ok_or_else(|| Refused::invalid(format!("Invalid {name}: {text:?}")))?;
    Ok(Some(Span(read)))
}

/// `10.0.0.1:80`, `[::1]:80`, `name:80`.
fn host_port(name: &str, text: &str) -> Answer<(String, u16)> {
    let wrong = || Refused::invalid(format!("Invalid {name}: expected host:port, not {text:?}"));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

impl AgentCheck {
    /// As the registry keeps it.
    pub(super) fn spec(self) -> Answer<CheckSpec> {
        if self.args.is_some() || !self.udp.is_empty() {
            return Err(Refused::invalid("Checks by scripts and UDP are not run here; use TTL, HTTP, TCP or GRPC"));
        }
        let mut spec = if !self.ttl.is_empty() {
            CheckSpec { ttl: span("TTL", &self.ttl)?, ..CheckSpec::of(CheckKind::Ttl) }
        } else if !self.http.is_empty() {
            let rest =
                self.http.strip_prefix("http://").ok_or_else(|| Refused::invalid("HTTP must be an http:// URL"))?;
            let (authority, path) = rest.find('/').map_or((rest, "/"), |n| rest.split_at(n));
            let with_port = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            };
            let (address, port) = host_port("HTTP", &with_port)?;
            // As Consul judges: any 2xx is passing.
            CheckSpec { path: path.to_owned(), address, port: Some(port), ..CheckSpec::of(CheckKind::Http) }
        } else if !self.tcp.is_empty() {
            let (address, port) = host_port("TCP", &self.tcp)?;
            CheckSpec { address, port: Some(port), ..CheckSpec::of(CheckKind::Tcp) }
        } else if !self.grpc.is_empty() {
            let (authority, service) = self.grpc.split_once('/').unwrap_or((&self.grpc, ""));
            let (address, port) = host_port("GRPC", authority)?;
            CheckSpec { path: service.to_owned(), address, port: Some(port), ..CheckSpec::of(CheckKind::Grpc) }
        } else {
            return Err(Refused::invalid("A check needs one of TTL, HTTP, TCP and GRPC"));
        };
        spec.id = self.id;
        spec.name = if self.name.is_empty() { self.notes } else { self.name };
        if spec.kind != CheckKind::Ttl {
            spec.interval = span("Interval", &self.interval)?;
            spec.timeout = span("Timeout", &self.timeout)?;
            // As Consul counts: one more than those before.
            spec.healthy_after = self.success_before_passing.clamp(1, 10);
            spec.unhealthy_after = self.failures_before_critical.clamp(1, 10);
        }
        let after = span("DeregisterCriticalServiceAfter", &self.deregister_critical_service_after)?;
        spec.remove_after = after.map(|span| Span(span.0.max(Duration::from_mins(1))));
        // Consul's checks begin critical.
        spec.starts = Some(match self.status.as_str() {
            "" => Health::Critical,
            text => Health::parse(text).ok_or_else(|| Refused::invalid(format!("Invalid check status: {text:?}")))?,
        });
        Ok(spec)
    }
}

impl AgentService {
    /// Its id, and as the registry keeps it.
    pub(super) fn spec(self) -> Answer<(String, InstanceSpec)> {
        if self.name.is_empty() {
            return Err(Refused::invalid("Missing service name"));
        }
        let id = if self.id.is_empty() { self.name.clone() } else { self.id };
        let checks = self.check.into_iter().chain(self.checks.unwrap_or_default());
        let checks = checks.map(AgentCheck::spec).collect::<Answer<Vec<_>>>()?;
        let meta = self.meta.unwrap_or_default();
        let spec = InstanceSpec {
            zone: meta.get(ZONE).cloned().unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            meta,
            weight: self.weights.map_or(1, |weights| weights.passing.max(1)),
            checks,
            ..InstanceSpec::new(self.name, self.address.unwrap_or_default(), self.port.unwrap_or_default())
        };
        Ok((id, spec))
    }
}

/// A UUID that a node always has.
pub(super) fn node_id(node: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, node.as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// A check as the catalog tells it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ToldCheck {
    node: String,
    #[serde(rename = "CheckID")]
    pub(super) check_id: String,
    name: String,
    pub(super) status: &'static str,
    notes: &'static str,
    output: String,
    #[serde(rename = "ServiceID")]
    service_id: String,
    service_name: String,
    service_tags: Vec<String>,
    #[serde(rename = "Type")]
    kind: &'static str,
    interval: String,
    timeout: String,
    definition: Value,
    create_index: i64,
    modify_index: i64,
}

/// Every check of an instance, as Consul would have it: what is drained or held for flapping has a check that says so.
pub(super) fn checks(one: &Instance) -> Vec<ToldCheck> {
    let blank = |id: String, name: String, health: Health, output: String| ToldCheck {
        node: one.spec.node.clone(),
        check_id: id,
        name,
        status: health.as_str(),
        notes: "",
        output,
        service_id: one.id.clone(),
        service_name: one.spec.service.clone(),
        service_tags: one.spec.tags.clone(),
        kind: "",
        interval: String::new(),
        timeout: String::new(),
        definition: json!({}),
        create_index: one.created,
        modify_index: one.revision,
    };
    let told = |check: &CheckSpec| {
        let known = one.state.checks.get(&check.id);
        let name =
            if check.name.is_empty() { format!("Service '{}' check", one.spec.service) } else { check.name.clone() };
        let health = known.map_or(check.starts(), |known| known.health);
        let output = known.map(|known| known.output.clone()).unwrap_or_default();
        let time = |span| if check.is_probed() { kernel::limits::format_duration(span) } else { String::new() };
        ToldCheck {
            kind: check.kind.as_str(),
            interval: time(check.interval()),
            timeout: time(check.timeout()),
            ..blank(check.id.clone(), name, health, output)
        }
    };
    let mut all: Vec<_> = one.spec.checks.iter().map(told).collect();
    if let Some(drain) = &one.state.drain {
        let id = format!("_service_maintenance:{}", one.id);
        all.push(blank(id, "Service Maintenance Mode".to_owned(), Health::Critical, drain.reason.clone()));
    }
    if one.state.damper.is_held {
        let id = format!("_service_flapping:{}", one.id);
        let output = "It fell too often; it is let back when it has been well for a while".to_owned();
        all.push(blank(id, "Flap Damping".to_owned(), Health::Critical, output));
    }
    all
}

fn weights(one: &Instance) -> Value {
    json!({ "Passing": one.spec.weight, "Warning": one.spec.weight })
}

fn tagged(one: &Instance) -> Value {
    let Some(ip) = one.spec.ip() else { return json!({}) };
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let at = json!({ "Address": one.spec.address, "Port": one.spec.port });
    json!({ format!("lan_{family}"): at, format!("wan_{family}"): at })
}

/// A service as health and agent endpoints tell it.
pub(super) fn service(one: &Instance) -> Value {
    json!({
        "ID": one.id, "Service": one.spec.service, "Tags": one.spec.tags, "Meta": one.spec.meta, "Port": one.spec.port,
        "Address": one.spec.address, "TaggedAddresses": tagged(one), "Weights": weights(one), "EnableTagOverride": false,
        "CreateIndex": one.created, "ModifyIndex": one.revision,
    })
}

/// The node that an instance runs on.
pub(super) fn node(one: &Instance, datacenter: &str) -> Value {
    json!({
        "ID": node_id(&one.spec.node), "Node": one.spec.node, "Address": one.spec.address, "Datacenter": datacenter,
        "TaggedAddresses": { "lan": one.spec.address, "wan": one.spec.address }, "Meta": {},
        "CreateIndex": one.created, "ModifyIndex": one.revision,
    })
}

/// An instance as `/v1/catalog/service/…` tells it.
pub(super) fn catalog(one: &Instance, datacenter: &str) -> Value {
    json!({
        "ID": node_id(&one.spec.node), "Node": one.spec.node, "Address": one.spec.address, "Datacenter": datacenter,
        "TaggedAddresses": { "lan": one.spec.address, "wan": one.spec.address }, "NodeMeta": {},
        "ServiceKind": "", "ServiceID": one.id, "ServiceName": one.spec.service, "ServiceTags": one.spec.tags,
        "ServiceAddress": one.spec.address, "ServiceTaggedAddresses": tagged(one), "ServiceWeights": weights(one),
        "ServiceMeta": one.spec.meta, "ServicePort": one.spec.port, "ServiceEnableTagOverride": false,
        "CreateIndex": one.created, "ModifyIndex": one.revision,
    })
}
