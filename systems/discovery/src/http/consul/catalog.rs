//! `/v1/catalog` and `/v1/status`.

use std::{collections::BTreeMap, sync::Arc};

use access::Caller;
use axum::{
    body::Bytes,
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Api, Asked, Pairs, Refused, body, json as answer, may_read, may_write, wire, with_index};
use crate::model::{Health, Instance, InstanceSpec};

/// What `/v1/catalog/register` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Register {
    node: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    service: Option<RegisterService>,
    #[serde(default)]
    check: Option<RegisterCheck>,
    #[serde(default)]
    checks: Option<Vec<RegisterCheck>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterService {
    #[serde(default, rename = "ID")]
    id: String,
    service: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

/// A check whose state whoever registers it knows; nothing here runs it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterCheck {
    #[serde(default, rename = "CheckID")]
    check_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    output: String,
    #[serde(default, rename = "ServiceID")]
    service_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deregister {
    node: String,
    #[serde(default, rename = "ServiceID")]
    service_id: String,
    #[serde(default, rename = "CheckID")]
    check_id: String,
}

/// The node that answers; here every node leads.
pub(super) async fn leader(caller: Caller, State(api): State<Api>) -> Answer {
    may_read(&caller)?;
    Ok(answer(&json!(format!("{}:8300", api.discovery.overview().node))))
}

pub(super) async fn peers(caller: Caller, State(api): State<Api>) -> Answer {
    may_read(&caller)?;
    let names = api.discovery.overview().members.into_iter().map(|member| json!(format!("{}:8300", member.name)));
    Ok(answer(&Value::Array(names.collect())))
}

pub(super) async fn datacenters(caller: Caller, State(api): State<Api>) -> Answer {
    may_read(&caller)?;
    Ok(answer(&json!([api.discovery.shared().config.datacenter])))
}

/// Every instance of a project, by the node that it runs on.
pub(super) fn by_node(api: &Api, project: &kernel::ProjectId) -> BTreeMap<String, Vec<Arc<Instance>>> {
    let mut nodes: BTreeMap<String, Vec<Arc<Instance>>> = BTreeMap::new();
    for service in api.discovery.services(project).0 {
        for one in &service.instances {
            nodes.entry(one.spec.node.clone()).or_default().push(one.clone());
        }
    }
    nodes
}

pub(super) async fn nodes(caller: Caller, State(api): State<Api>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    let index = asked.wait(&api, &project, None).await?;
    let datacenter = &api.discovery.shared().config.datacenter;
    let told = by_node(&api, &project).into_values().filter_map(|all| Some(wire::node(all.first()?, datacenter)));
    asked.answer(index, told.collect())
}

pub(super) async fn services(caller: Caller, State(api): State<Api>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    let index = asked.wait(&api, &project, None).await?;
    let mut told = Map::new();
    for service in api.discovery.services(&project).0 {
        told.insert(service.name.clone(), json!(service.tags()));
    }
    Ok(with_index(index, &Value::Object(told)))
}

pub(super) async fn service(caller: Caller, State(api): State<Api>, Path(name): Path<String>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    asked.wait(&api, &project, Some(&name)).await?;
    let service = api.discovery.service(&project, &name);
    let datacenter = &api.discovery.shared().config.datacenter;
    let tags = asked.all("tag");
    let has = |one: &&Arc<Instance>| tags.iter().all(|tag| one.spec.tags.contains(tag));
    let mut chosen: Vec<_> = service.instances.iter().filter(has).cloned().collect();
    super::health::sort_near(&mut chosen, asked.get("near"));
    asked.answer(service.index, chosen.iter().map(|one| wire::catalog(one, datacenter)).collect())
}

pub(super) async fn node(caller: Caller, State(api): State<Api>, Path(name): Path<String>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    let index = asked.wait(&api, &project, None).await?;
    let datacenter = &api.discovery.shared().config.datacenter;
    let nodes = by_node(&api, &project);
    let Some((first, all)) = nodes.get(&name).and_then(|all| Some((all.first()?, all))) else {
        return Ok(with_index(index, &Value::Null));
    };
    let services: Map<String, Value> = all.iter().map(|one| (one.id.clone(), wire::service(one))).collect();
    Ok(with_index(index, &json!({ "Node": wire::node(first, datacenter), "Services": services })))
}

/// Registers a service that something else looks after: its checks are what their owner says they are.
pub(super) async fn register(caller: Caller, State(api): State<Api>, bytes: Bytes) -> Answer<Response> {
    may_write(&caller)?;
    let Register { node, address, service, check, checks } = body(&bytes)?;
    let Some(service) = service else {
        return Err(Refused::invalid("Only nodes with a Service are kept"));
    };
    let id = if service.id.is_empty() { service.service.clone() } else { service.id };
    let own = service.address.filter(|address| !address.is_empty());
    let mut spec = InstanceSpec::new(service.service, own.unwrap_or(address), service.port.unwrap_or_default());
    spec.node = node;
    spec.tags = service.tags.unwrap_or_default();
    spec.meta = service.meta.unwrap_or_default();
    spec.zone = spec.meta.get("zone").cloned().unwrap_or_default();
    let mut reports = Vec::new();
    for check in check.into_iter().chain(checks.unwrap_or_default()) {
        if !check.service_id.is_empty() && check.service_id != id {
            continue;
        }
        let health = match check.status.as_str() {
            "" => Health::Critical,
            text => Health::parse(text).ok_or_else(|| Refused::invalid(format!("Invalid check status: {text:?}")))?,
        };
        // Nobody sends signs of life for it.
        let mut kept = crate::model::CheckSpec::of(crate::model::CheckKind::External);
        kept.id = if check.check_id.is_empty() { format!("service:{id}") } else { check.check_id };
        kept.name = check.name;
        kept.starts = Some(health);
        reports.push((kept.id.clone(), health, check.output));
        spec.checks.push(kept);
    }
    let registered = api.discovery.register(caller.principal(), &id, spec, None).await?;
    if !reports.is_empty() {
        api.discovery.report(&registered.instance.project, &id, reports).await?;
    }
    Ok(answer(&json!(true)))
}

pub(super) async fn deregister(caller: Caller, State(api): State<Api>, bytes: Bytes) -> Answer<Response> {
    let project = may_write(&caller)?;
    let Deregister { node, service_id, check_id } = body(&bytes)?;
    let of_check = api.discovery.instance_of_check(&project, &check_id).map(|one| one.id.clone());
    let ids: Vec<String> = if !service_id.is_empty() {
        vec![service_id]
    } else if !check_id.is_empty() {
        if let Some(id) = of_check {
            super::agent::remove_check(&api, &caller, &id, &check_id).await?;
        }
        Vec::new()
    } else {
        by_node(&api, &project).remove(&node).unwrap_or_default().iter().map(|one| one.id.clone()).collect()
    };
    for id in ids {
        // What is not there is gone, as Consul has it.
        match api.discovery.deregister(caller.principal(), &id).await {
            Ok(_) | Err(crate::Error::InstanceUnknown) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answer(&json!(true)))
}
