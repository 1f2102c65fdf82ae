//! `/v1/health`.

use std::sync::Arc;

use access::Caller;
use axum::extract::{Path, State};
use http::HeaderValue;
use serde_json::{Value, json};

use super::{Answer, Api, Asked, GUARD, Pairs, Refused, catalog::by_node, may_read, wire};
use crate::model::{Guard, Health, Instance, View};

/// Those in the same place first: `near` names a zone, or an instance's node.
pub(super) fn sort_near(all: &mut [Arc<Instance>], near: Option<&str>) {
    let Some(near) = near.filter(|near| !near.is_empty()) else { return };
    let zone = all.iter().find(|one| one.spec.node == near).map_or(near.to_owned(), |one| one.spec.zone.clone());
    all.sort_by_key(|one| (one.spec.node != near, one.spec.zone != zone));
}

/// `?passing` gives those to be used, and the guards hold: with a header `Mainstay-Guard` when others than passing ones are among
/// them; their checks say which.
pub(super) async fn service(caller: Caller, State(api): State<Api>, Path(name): Path<String>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    asked.wait(&api, &project, Some(&name)).await?;
    let service = api.discovery.service(&project, &name);
    let config = &api.discovery.shared().config;
    let view = View { tags: asked.all("tag"), zone: None };
    let (mut chosen, guard) = if asked.is_set("passing") {
        let (usable, guard) = service.usable(&view, config.panic_percent);
        // A warning is not passing, where anything is.
        let passing: Vec<_> = usable.iter().filter(|one| one.state.health() == Health::Passing).cloned().collect();
        if guard == Guard::None && !passing.is_empty() { (passing, guard) } else { (usable, guard) }
    } else {
        (service.instances.iter().filter(|one| view.has(one)).cloned().collect(), Guard::None)
    };
    sort_near(&mut chosen, asked.get("near"));
    let told = |one: &Arc<Instance>| json!({ "Node": wire::node(one, &config.datacenter), "Service": wire::service(one), "Checks": wire::checks(one) });
    let mut response = asked.answer(service.index, chosen.iter().map(told).collect())?;
    if guard != Guard::None {
        response.headers_mut().insert(GUARD, HeaderValue::from_static(guard.as_str()));
    }
    Ok(response)
}

pub(super) async fn checks(caller: Caller, State(api): State<Api>, Path(name): Path<String>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    asked.wait(&api, &project, Some(&name)).await?;
    let service = api.discovery.service(&project, &name);
    asked.answer(service.index, service.instances.iter().flat_map(|one| wire::checks(one)).collect())
}

pub(super) async fn node(caller: Caller, State(api): State<Api>, Path(name): Path<String>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    let index = asked.wait(&api, &project, None).await?;
    let all = by_node(&api, &project).remove(&name).unwrap_or_default();
    asked.answer(index, all.iter().flat_map(|one| wire::checks(one)).collect())
}

pub(super) async fn state(caller: Caller, State(api): State<Api>, Path(state): Path<String>, pairs: Pairs) -> Answer {
    let (project, asked) = (may_read(&caller)?, Asked::new(&api, pairs)?);
    if state != "any" && Health::parse(&state).is_none() {
        return Err(Refused::invalid("Invalid state: expected any, passing, warning or critical"));
    }
    let index = asked.wait(&api, &project, None).await?;
    let services = api.discovery.services(&project).0;
    let all = services.iter().flat_map(|service| &service.instances).flat_map(|one| wire::checks(one));
    let told: Vec<_> = all.filter(|check| state == "any" || check.status == state).collect();
    asked.answer::<Value>(index, told.into_iter().map(|check| json!(check)).collect())
}
