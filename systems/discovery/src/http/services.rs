//! Services over HTTP, and waiting for their changes.

use std::time::Duration;

use access::Caller;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Json, Page, PageQuery, Path, Query, Result};

use super::{Api, instances::ToldInstance, parse_wait};
use crate::{
    SYSTEM,
    error::Error,
    model::{Service, View},
    service::{Discovery, USUAL_WAIT},
};

/// What of a service is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ServiceQuery {
    /// `usable` (left out): those to be used. `all`: all that are registered.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    which: Which,
    /// Only with this tag.
    #[serde(default)]
    #[param(max_length = 255, required = false, nullable = false)]
    tag: Option<String>,
    /// Only in this zone.
    #[serde(default)]
    #[param(max_length = 63, required = false, nullable = false)]
    zone: Option<String>,
    /// The index of the last answer: waits until there is another.
    #[serde(default)]
    #[param(required = false, nullable = false)]
    index: Option<i64>,
    /// How long to wait at most, such as `30s`; left out: `5m`. At most `10m`. A sixteenth more for some.
    #[serde(default)]
    #[param(max_length = 20, required = false, nullable = false)]
    wait: Option<String>,
}

/// Which instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Which {
    #[default]
    Usable,
    All,
}

impl ServiceQuery {
    fn view(&self) -> View {
        View { tags: self.tag.clone().into_iter().collect(), zone: self.zone.clone() }
    }

    fn wait(&self) -> Result<Duration, Error> {
        let Some(text) = &self.wait else { return Ok(USUAL_WAIT) };
        let detail = || "expected a time such as 30s or 5m".to_owned();
        parse_wait(text).ok_or_else(|| Error::QueryInvalid { parameter: "wait", detail: detail() })
    }

    /// The service as it was asked for.
    pub(super) fn told(&self, discovery: &Discovery, service: &Service) -> ToldService {
        let (usable, guard) = service.usable(&self.view(), discovery.shared().config.panic_percent);
        let view = self.view();
        let chosen = match self.which {
            Which::Usable => usable,
            Which::All => service.instances.iter().filter(|one| view.has(one)).cloned().collect(),
        };
        ToldService {
            service: service.name.clone(),
            index: service.index,
            guard: guard.as_str(),
            instances: chosen.iter().map(|one| ToldInstance::new(one)).collect(),
        }
    }
}

/// A service and its instances.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldService {
    /// Its name.
    service: String,
    /// The revision of the last change to any of its instances. Send it back as `index` to wait for the next.
    pub(super) index: i64,
    /// `none`; `panic`: too few are well, so all that were well once are given out; `draining`: nothing is left but what drains.
    guard: &'static str,
    /// By id.
    instances: Vec<ToldInstance>,
}

/// A service without its instances.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldSummary {
    /// Its name.
    service: String,
    /// How many instances are registered.
    instance_count: usize,
    /// How many of them are well and take work.
    well_count: usize,
    /// How many are given out.
    usable_count: usize,
    /// `none`, `panic` or `draining`.
    guard: &'static str,
    /// Tags of its instances.
    tags: Vec<String>,
    /// The revision of the last change.
    index: i64,
}

/// A node of this installation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldNode {
    /// Its name.
    name: String,
    /// Whether it is the one that answers.
    is_self: bool,
    /// Whether it cannot reach Redis.
    is_blind: bool,
}

/// What the registry as a whole is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldStatus {
    /// The node that answers.
    node: String,
    /// Those that are alive.
    nodes: Vec<ToldNode>,
    /// Up to which change the node that answers knows.
    revision: i64,
    /// Why nobody is declared dead for want of signs of life right now.
    expiry_suspended: Option<String>,
    /// Requests and streams on this node that wait for a change.
    watcher_count: usize,
}

/// Services that have instances, by name.
#[utoipa::path(
    get, path = "/v1/discovery/services", operation_id = "list_services", tag = "discovery", params(PageQuery),
    responses((status = 200, description = "A page of services.", body = Page<ToldSummary>))
)]
pub(super) async fn list(
    caller: Caller,
    State(api): State<Api>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ToldSummary>>> {
    caller.require(SYSTEM, "read")?;
    let (page, _) = api.discovery.service_page(caller.project(), &query)?;
    Ok(Json(page.map(|service| ToldSummary {
        service: service.name.clone(),
        instance_count: service.instances.len(),
        well_count: service.well_count,
        usable_count: service.usable.len(),
        guard: service.guard.as_str(),
        tags: service.tags(),
        index: service.index,
    })))
}

/// Where a service is. With `index`, the answer comes when there is news since, or after `wait`. A service that nobody registered
/// has no instances.
#[utoipa::path(
    get, path = "/v1/discovery/services/{service}", operation_id = "get_service", tag = "discovery",
    params(("service" = String, Path, description = "Its name.", max_length = 63), ServiceQuery),
    responses((status = 200, description = "Its instances.", body = ToldService))
)]
pub(super) async fn read(
    caller: Caller,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<ServiceQuery>,
) -> Result<Json<ToldService>> {
    caller.require(SYSTEM, "read")?;
    let (discovery, project) = (&api.discovery, caller.project());
    let wait = query.wait()?;
    if let Some(seen) = query.index.filter(|seen| *seen > 0) {
        let index = || discovery.service(project, &name).index;
        let waited = discovery.wait(project, Some(&name), seen, wait, index);
        // A node that stops answers what it knows.
        if let Some(waited) = api.shutdown.or(waited).await {
            waited?;
        }
    }
    Ok(Json(query.told(discovery, &discovery.service(project, &name))))
}

/// What the registry as a whole is doing, as the node sees it that answers.
#[utoipa::path(
    get, path = "/v1/discovery/status", operation_id = "get_discovery_status", tag = "discovery",
    responses((status = 200, description = "Its nodes, and what is suspended.", body = ToldStatus))
)]
pub(super) async fn status(caller: Caller, State(api): State<Api>) -> Result<Json<ToldStatus>> {
    caller.require(SYSTEM, "read")?;
    let overview = api.discovery.overview();
    let node = |one: crate::Member| ToldNode { name: one.name, is_self: one.is_self, is_blind: one.is_blind };
    Ok(Json(ToldStatus {
        node: overview.node,
        nodes: overview.members.into_iter().map(node).collect(),
        revision: overview.revision,
        expiry_suspended: overview.suspended,
        watcher_count: overview.watcher_count,
    }))
}
