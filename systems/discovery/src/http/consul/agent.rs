//! `/v1/agent`.

use std::sync::Arc;

use access::Caller;
use axum::{
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use kernel::ProjectId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::instances::{Peer, address},
    Answer, Api, Asked, Pairs, Refused, body, done, json as answer, may_read, may_write, wire,
};
use crate::{
    error::Error,
    model::{CheckKind, Health, Instance},
};

pub(super) async fn itself(caller: Caller, State(api): State<Api>) -> Answer {
    may_read(&caller)?;
    let node = api.discovery.overview().node;
    let datacenter = &api.discovery.shared().config.datacenter;
    Ok(answer(&json!({
        "Config": {
            "Datacenter": datacenter, "PrimaryDatacenter": datacenter, "NodeName": node, "NodeID": wire::node_id(&node),
            "Server": true, "Revision": "", "Version": concat!("1.20.0+mainstay.", env!("CARGO_PKG_VERSION")),
        },
        "Member": member(&node), "Meta": {}, "Stats": {}, "DebugConfig": {}, "Coord": Value::Null,
    })))
}

fn member(name: &str) -> Value {
    json!({ "Name": name, "Addr": "", "Port": 0, "Tags": { "role": "consul" }, "Status": 1 })
}

pub(super) async fn members(caller: Caller, State(api): State<Api>) -> Answer {
    may_read(&caller)?;
    Ok(answer(&Value::Array(api.discovery.overview().members.iter().map(|one| member(&one.name)).collect())))
}

fn instances(api: &Api, project: &ProjectId) -> Vec<Arc<Instance>> {
    api.discovery.services(project).0.iter().flat_map(|service| service.instances.clone()).collect()
}

/// An object of what is left of `all` after the filter.
fn object(asked: &Asked, all: impl Iterator<Item = (String, Value)>) -> Answer {
    let mut told = Map::new();
    for (key, value) in all {
        let is_in = asked.filter.as_ref().map_or(Ok(true), |filter| filter.holds(&value));
        if is_in.map_err(Refused::invalid)? {
            told.insert(key, value);
        }
    }
    Ok(answer(&Value::Object(told)))
}

pub(super) async fn services(caller: Caller, State(api): State<Api>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    object(&asked, instances(&api, &project).iter().map(|one| (one.id.clone(), wire::service(one))))
}

pub(super) async fn checks(caller: Caller, State(api): State<Api>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    let all = instances(&api, &project);
    let told = all.iter().flat_map(|one| wire::checks(one)).map(|check| (check.check_id.clone(), json!(check)));
    object(&asked, told)
}

pub(super) async fn service(caller: Caller, State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let project = may_read(&caller)?;
    let one = api.discovery.instance(&project, &id).await.map_err(|e| unknown(e, &id))?;
    Ok(answer(&wire::service(&one)))
}

fn unknown(error: Error, id: &str) -> Refused {
    match error {
        Error::InstanceUnknown => Refused::unknown(format!("Unknown service ID {id:?}")),
        other => other.into(),
    }
}

pub(super) async fn register(caller: Caller, State(api): State<Api>, peer: Peer, bytes: Bytes) -> Answer<Response> {
    may_write(&caller)?;
    let (id, spec) = body::<wire::AgentService>(&bytes)?.spec()?;
    api.discovery.register(caller.principal(), &id, spec, address(peer)).await?;
    Ok(done())
}

pub(super) async fn deregister(caller: Caller, State(api): State<Api>, Path(id): Path<String>) -> Answer<Response> {
    may_write(&caller)?;
    api.discovery.deregister(caller.principal(), &id).await.map_err(|e| unknown(e, &id))?;
    Ok(done())
}

pub(super) async fn maintenance(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer<Response> {
    may_write(&caller)?;
    let asked = Asked::new(&api, pairs)?;
    let reason = match asked.get("enable") {
        Some("true" | "1" | "t") => Some(asked.get("reason").unwrap_or_default()),
        Some("false" | "0" | "f") => None,
        _ => return Err(Refused::invalid("Missing value for enable")),
    };
    api.discovery.drain(caller.principal(), &id, reason).await.map_err(|e| unknown(e, &id))?;
    Ok(done())
}

/// 200, 429 and 503 for passing, warning and critical.
fn aggregated(all: &[Arc<Instance>]) -> Response {
    let of = |one: &Arc<Instance>| if one.is_draining() { Health::Critical } else { one.state.health() };
    let Some(worst) = all.iter().map(of).max() else {
        return (StatusCode::NOT_FOUND, answer(&json!([]))).into_response();
    };
    let status = match worst {
        Health::Passing => StatusCode::OK,
        Health::Warning => StatusCode::TOO_MANY_REQUESTS,
        Health::Critical => StatusCode::SERVICE_UNAVAILABLE,
    };
    let told = |one: &Arc<Instance>| json!({ "AggregatedStatus": of(one).as_str(), "Service": wire::service(one), "Checks": wire::checks(one) });
    (status, answer(&Value::Array(all.iter().map(told).collect()))).into_response()
}

pub(super) async fn health_by_name(caller: Caller, State(api): State<Api>, Path(name): Path<String>) -> Answer {
    let project = may_read(&caller)?;
    Ok(aggregated(&api.discovery.service(&project, &name).instances))
}

pub(super) async fn health_by_id(caller: Caller, State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let project = may_read(&caller)?;
    Ok(aggregated(&api.discovery.instance(&project, &id).await.into_iter().collect::<Vec<_>>()))
}

/// Adds a check to a service that is registered, or changes it.
pub(super) async fn register_check(caller: Caller, State(api): State<Api>, bytes: Bytes) -> Answer<Response> {
    let project = may_write(&caller)?;
    let mut check = body::<wire::AgentCheck>(&bytes)?;
    let service = std::mem::take(&mut check.service_id);
    if service.is_empty() {
        return Err(Refused::invalid("A check belongs to a service here: ServiceID is missing"));
    }
    let name = check.name.clone();
    let mut spec = check.spec()?;
    if spec.id.is_empty() {
        spec.id = name;
    }
    let one = api.discovery.instance(&project, &service).await.map_err(|e| unknown(e, &service))?;
    let mut changed = one.spec.clone();
    changed.checks.retain(|known| known.id != spec.id);
    changed.checks.push(spec);
    api.discovery.register(caller.principal(), &service, changed, None).await?;
    Ok(done())
}

/// Takes a check from its service.
pub(super) async fn remove_check(api: &Api, caller: &Caller, id: &str, check: &str) -> Answer<()> {
    let one = api.discovery.instance(caller.project(), id).await?;
    let mut changed = one.spec.clone();
    changed.checks.retain(|known| known.id != check);
    api.discovery.register(caller.principal(), id, changed, None).await?;
    Ok(())
}

pub(super) async fn deregister_check(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let project = may_write(&caller)?;
    let one = api.discovery.instance_of_check(&project, &id);
    let one = one.ok_or_else(|| Refused::unknown(format!("Unknown check ID {id:?}")))?;
    remove_check(&api, &caller, &one.id, &id).await?;
    Ok(done())
}

async fn said(api: &Api, caller: &Caller, check: &str, health: Health, output: &str) -> Answer<Response> {
    let project = may_write(caller)?;
    let unknown = || Refused::unknown(format!("Unknown check ID {check:?}"));
    let one = if let Some(one) = api.discovery.instance_of_check(&project, check) {
        one
    } else {
        // Registered on another node a moment ago: by its usual name.
        let id = check.strip_prefix("service:").ok_or_else(unknown)?;
        api.discovery.instance(&project, id).await.map_err(|_| unknown())?
    };
    let kind = one.spec.check(check).ok_or_else(unknown)?.kind;
    if kind != CheckKind::Ttl {
        return Err(Refused::invalid(format!("CheckID {check:?} does not have associated TTL")));
    }
    api.discovery.heartbeat(&project, &one.id, Some(check), health, output).await?;
    Ok(done())
}

macro_rules! says {
    ($($name:ident, $health:ident;)+) => {
        $(pub(super) async fn $name(
            caller: Caller,
            State(api): State<Api>,
            Path(id): Path<String>,
            pairs: Pairs,
        ) -> Answer<Response> {
            let asked = Asked::new(&api, pairs)?;
            said(&api, &caller, &id, Health::$health, asked.get("note").unwrap_or_default()).await
        })+
    };
}

says! {
    pass, Passing;
    warn, Warning;
    fail, Critical;
}

/// What `/v1/agent/check/update` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    status: String,
    #[serde(default)]
    output: String,
}

pub(super) async fn update(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer<Response> {
    let Update { status, output } = body(&bytes)?;
    let health = Health::parse(&status).ok_or_else(|| Refused::invalid(format!("Invalid check status: {status:?}")))?;
    said(&api, &caller, &id, health, &output).await
}
