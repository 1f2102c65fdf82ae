//! What the gateway does now, over HTTP.

use std::collections::BTreeMap;

use access::Caller;
use axum::extract::State;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use upstream::UpstreamState;
use utoipa::ToSchema;
use web::{Json, Path, Result};

use super::config::operator;
use crate::{
    SYSTEM,
    model::{Explanation, Route, RouteNumbers, Table},
    service::{Gateway, Question},
};

/// A route, and what it has done on this node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayRoute)]
pub(super) struct ToldRoute {
    /// Its name.
    name: String,
    /// What it is for.
    description: String,
    /// Higher first.
    priority: i32,
    /// Which hosts; none: every one.
    hosts: Vec<String>,
    /// Which path, in words.
    path: String,
    /// Which methods; none: every one.
    methods: Vec<String>,
    /// Conditions on headers and query.
    condition_count: usize,
    /// `forward`, `redirect`, `respond`, `files`, `service` or `aggregate`.
    action: &'static str,
    /// The action in words.
    about: String,
    /// Upstreams that it may go to.
    upstreams: Vec<String>,
    /// Its policies, in order.
    policies: Vec<String>,
    /// What it has done.
    numbers: ToldNumbers,
}

/// Numbers of a route on this node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayRouteNumbers)]
pub(super) struct ToldNumbers {
    /// Answers.
    total: u64,
    /// Answers 1xx to 5xx by their first digit; `gone`: the client went away before.
    by_class: BTreeMap<&'static str, u64>,
    /// Worked on now.
    in_flight: u32,
    /// Refused since as many as may were worked on.
    refused: u64,
    /// Tries after the first.
    retries: u64,
    /// Answered by the fallback.
    fallbacks: u64,
    /// Half took at most so long (the upper bound of a bucket that doubles), in milliseconds.
    p50_ms: Option<f64>,
    /// 99 of 100 took at most so long, in milliseconds.
    p99_ms: Option<f64>,
}

/// All routes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayRoutes)]
pub(super) struct ToldRoutes {
    /// Where the document comes from: `database`, `file`, `default` or `last_good`.
    origin: &'static str,
    /// Its version; 0 where it is not in the database.
    version: i64,
    /// Since when it holds on this node.
    #[schema(value_type = Option<String>, format = DateTime)]
    applied_at: Option<Timestamp>,
    /// Whether the document that should hold cannot, and this one stays.
    is_stale: bool,
    /// In the order of the document.
    items: Vec<ToldRoute>,
}

/// All upstreams.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayUpstreams)]
pub(super) struct ToldUpstreams {
    /// By name.
    items: Vec<UpstreamState>,
}

/// Which endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GatewayEndpoint)]
pub(super) struct OneEndpoint {
    /// Its address, as the upstream shows it.
    #[schema(example = "127.0.0.1:9001")]
    endpoint: String,
}

/// An endpoint that takes no requests.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayDrain)]
pub(super) struct ToldDrain {
    /// The upstream.
    upstream: String,
    /// The endpoint's address.
    endpoint: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The name of the key that did it.
    by: String,
}

/// All drained endpoints.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayDrains)]
pub(super) struct ToldDrains {
    /// By upstream and address.
    items: Vec<ToldDrain>,
}

/// A request to be explained.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GatewayQuestion)]
pub(super) struct Explain {
    /// Its method; left out: GET.
    #[serde(default)]
    method: String,
    /// Its absolute URL.
    #[schema(example = "https://shop.example.com/cart?step=2", max_length = 8192)]
    url: String,
    /// Its headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Why a request goes where it goes, and how those are that it may go to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayExplained)]
pub(super) struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// The upstreams as they are now.
    states: Vec<UpstreamState>,
}

fn numbers(numbers: &RouteNumbers) -> ToldNumbers {
    let names = ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"];
    ToldNumbers {
        total: numbers.total,
        by_class: names.into_iter().zip(numbers.by_class).filter(|(_, n)| *n > 0).collect(),
        in_flight: numbers.in_flight,
        refused: numbers.refused,
        retries: numbers.retries,
        fallbacks: numbers.fallbacks,
        p50_ms: numbers.p50.map(|t| t.as_secs_f64() * 1_000.0),
        p99_ms: numbers.p99.map(|t| t.as_secs_f64() * 1_000.0),
    }
}

fn route(route: &Route) -> ToldRoute {
    let spec = &route.spec;
    ToldRoute {
        name: spec.name.clone(),
        description: spec.description.clone(),
        priority: spec.priority,
        hosts: spec.matching.hosts.clone(),
        path: route.path_text(),
        methods: spec.matching.methods.clone(),
        condition_count: spec.matching.headers.len() + spec.matching.query.len(),
        action: route.kind(),
        about: route.about(),
        upstreams: route.upstreams().map(str::to_owned).collect(),
        policies: spec.policies.clone(),
        numbers: numbers(&route.stats.numbers()),
    }
}

/// Routes as they hold on the node that answers, and what each has done there.
#[utoipa::path(
    get, path = "/v1/gateway/routes", operation_id = "list_gateway_routes", tag = "gateway",
    responses((status = 200, description = "All routes, at most 5,000.", body = ToldRoutes))
)]
pub(super) async fn routes(caller: Caller, State(gateway): State<Gateway>) -> Result<Json<ToldRoutes>> {
    caller.require(SYSTEM, "read")?;
    let table: std::sync::Arc<Table> = gateway.table();
    Ok(Json(ToldRoutes {
        origin: table.origin.as_str(),
        version: table.version,
        applied_at: gateway.applied_at(),
        is_stale: gateway.trouble().is_some(),
        items: table.routes().iter().map(|one| route(one)).collect(),
    }))
}

/// Upstreams and their endpoints, as the node that answers sees them.
#[utoipa::path(
    get, path = "/v1/gateway/upstreams", operation_id = "list_gateway_upstreams", tag = "gateway",
    responses((status = 200, description = "All upstreams, at most 1,000.", body = ToldUpstreams))
)]
pub(super) async fn upstreams(caller: Caller, State(gateway): State<Gateway>) -> Result<Json<ToldUpstreams>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(ToldUpstreams { items: gateway.upstreams().states() }))
}

/// One upstream.
#[utoipa::path(
    get, path = "/v1/gateway/upstreams/{name}", operation_id = "get_gateway_upstream", tag = "gateway",
    params(("name" = String, Path, description = "Its name.", max_length = 64)),
    responses((status = 200, description = "The upstream.", body = UpstreamState))
)]
pub(super) async fn upstream(
    caller: Caller,
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
) -> Result<Json<UpstreamState>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(gateway.upstream_state(&name)?))
}

/// Takes requests away from an endpoint, on every node within a second. Those under way end by themselves.
#[utoipa::path(
    post, path = "/v1/gateway/upstreams/{name}/drain", operation_id = "drain_gateway_endpoint", tag = "gateway",
    request_body = OneEndpoint,
    params(("name" = String, Path, description = "The upstream.", max_length = 64)),
    responses((status = 200, description = "The upstream.", body = UpstreamState))
)]
pub(super) async fn drain(
    caller: Caller,
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    Json(body): Json<OneEndpoint>,
) -> Result<Json<UpstreamState>> {
    operator(&caller)?;
    gateway.set_drained(caller.principal(), &name, &body.endpoint, true).await?;
    Ok(Json(gateway.upstream_state(&name)?))
}

/// Gives requests back to an endpoint.
#[utoipa::path(
    post, path = "/v1/gateway/upstreams/{name}/undrain", operation_id = "undrain_gateway_endpoint", tag = "gateway",
    request_body = OneEndpoint,
    params(("name" = String, Path, description = "The upstream.", max_length = 64)),
    responses((status = 200, description = "The upstream.", body = UpstreamState))
)]
pub(super) async fn undrain(
    caller: Caller,
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    Json(body): Json<OneEndpoint>,
) -> Result<Json<UpstreamState>> {
    operator(&caller)?;
    gateway.set_drained(caller.principal(), &name, &body.endpoint, false).await?;
    Ok(Json(gateway.upstream_state(&name)?))
}

/// Endpoints that are drained by hand.
#[utoipa::path(
    get, path = "/v1/gateway/drains", operation_id = "list_gateway_drains", tag = "gateway",
    responses((status = 200, description = "All of them, at most 1,000.", body = ToldDrains))
)]
pub(super) async fn drains(caller: Caller, State(gateway): State<Gateway>) -> Result<Json<ToldDrains>> {
    caller.require(SYSTEM, "read")?;
    let told = |one: crate::Drain| ToldDrain { upstream: one.upstream, endpoint: one.endpoint, at: one.at, by: one.by };
    Ok(Json(ToldDrains { items: gateway.drains().await?.into_iter().map(told).collect() }))
}

/// Which route a request would take, why not another, and what would be done with it. Nothing is sent.
#[utoipa::path(
    post, path = "/v1/gateway/explain", operation_id = "explain_gateway_request", tag = "gateway", request_body = Explain,
    responses((status = 200, description = "The route, and what would be done.", body = Explained))
)]
pub(super) async fn explain(
    caller: Caller,
    State(gateway): State<Gateway>,
    Json(body): Json<Explain>,
) -> Result<Json<Explained>> {
    caller.require(SYSTEM, "read")?;
    let question = Question { method: body.method, url: body.url, headers: body.headers.into_iter().collect() };
    let explanation = gateway.explain(&question)?;
    let states = explanation.upstreams.iter().filter_map(|name| gateway.upstream_state(name).ok()).collect();
    Ok(Json(Explained { explanation, states }))
}
