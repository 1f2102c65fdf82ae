//! Instances over HTTP.

use std::net::SocketAddr;

use access::Caller;
use axum::{
    extract::{ConnectInfo, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Json, Path, Result};

use super::Api;
use crate::{
    SYSTEM,
    model::{Health, Instance, InstanceSpec},
};

/// What a check last found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InstanceCheck)]
pub(super) struct ToldCheck {
    /// Its id.
    id: String,
    /// For people.
    name: String,
    /// `ttl`, `http`, `tcp` or `grpc`.
    kind: &'static str,
    /// How well.
    health: Health,
    /// In words, of the last change.
    output: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// An instance that takes no more work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldDrain {
    /// Why.
    reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// An instance of a service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldInstance {
    /// Its id.
    id: String,
    /// The service that it is one of.
    service: String,
    /// An IP address or a host name.
    address: String,
    /// The port; 0: none.
    port: u16,
    /// The machine that it runs on.
    node: String,
    /// Where it is.
    zone: String,
    /// Words to choose by.
    tags: Vec<String>,
    /// What else is worth knowing.
    meta: std::collections::BTreeMap<String, String>,
    /// Its share beside others.
    weight: u32,
    /// How well it is: the worst of its checks.
    health: Health,
    /// Whether it is held down for flapping.
    is_damped: bool,
    /// That it takes no more work.
    drain: Option<ToldDrain>,
    /// What its checks found.
    checks: Vec<ToldCheck>,
    /// The revision of its last change.
    index: i64,
    /// When it was registered first.
    #[schema(value_type = String, format = DateTime)]
    registered_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
}

impl ToldInstance {
    pub(super) fn new(one: &Instance) -> Self {
        let Instance { spec, state, .. } = one;
        let check = |check: &crate::model::CheckSpec| {
            let known = state.checks.get(&check.id);
            ToldCheck {
                id: check.id.clone(),
                name: check.name.clone(),
                kind: check.kind.as_str(),
                health: known.map_or(check.starts(), |known| known.health),
                output: known.map(|known| known.output.clone()).unwrap_or_default(),
                since: Timestamp::from_millis(known.map_or(0, |known| known.since)),
            }
        };
        Self {
            id: one.id.clone(),
            service: spec.service.clone(),
            address: spec.address.clone(),
            port: spec.port,
            node: spec.node.clone(),
            zone: spec.zone.clone(),
            tags: spec.tags.clone(),
            meta: spec.meta.clone(),
            weight: spec.weight,
            health: state.health(),
            is_damped: state.damper.is_held,
            drain: state
                .drain
                .as_ref()
                .map(|drain| ToldDrain { reason: drain.reason.clone(), since: Timestamp::from_millis(drain.since) }),
            checks: spec.checks.iter().map(check).collect(),
            index: one.revision,
            registered_at: Timestamp::from_millis(state.registered_at),
            changed_at: one.changed_at,
        }
    }
}

/// A sign of life.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeat {
    /// For which of its checks; left out: for all of kind `ttl`.
    #[serde(default)]
    #[schema(nullable = false)]
    check: Option<String>,
    /// How it is; left out: `passing`.
    #[serde(default)]
    #[schema(nullable = false)]
    health: Option<Health>,
    /// In words; kept when `health` changes.
    #[serde(default)]
    #[schema(max_length = 512)]
    output: String,
}

/// What a heartbeat came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Beaten {
    /// How well the instance is.
    health: Health,
    /// Whether it is held down for flapping.
    is_damped: bool,
    /// Whether it takes no more work.
    is_draining: bool,
    /// Of `ttl` checks the shortest, in milliseconds: the next sign of life is due before; twice in this time is a good measure.
    ttl_ms: Option<u64>,
}

/// Why an instance shall take no more work.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainBody {
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    reason: String,
}

/// What a deregistration came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldRemoved {
    /// Whoever has seen this index does not get the instance any more.
    index: i64,
}

/// The address that a request comes from, where the listener tells it.
pub(super) type Peer = Option<axum::Extension<ConnectInfo<SocketAddr>>>;

pub(super) fn address(peer: Peer) -> Option<std::net::IpAddr> {
    peer.map(|axum::Extension(ConnectInfo(address))| address.ip())
}

/// Registers an instance, or changes how it is registered. To send the same again changes nothing, and is a sign of life.
#[utoipa::path(
    put, path = "/v1/discovery/instances/{id}", operation_id = "register_instance", tag = "discovery",
    request_body = InstanceSpec,
    params(("id" = String, Path, description = "Its id: 1 to 200 visible characters of ASCII.", max_length = 200)),
    responses(
        (status = 201, description = "It is new.", body = ToldInstance),
        (status = 200, description = "It was known.", body = ToldInstance),
    )
)]
pub(super) async fn register(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
    peer: Peer,
    Json(spec): Json<InstanceSpec>,
) -> Result<Response> {
    caller.require(SYSTEM, "write")?;
    let done = api.discovery.register(caller.principal(), &id, spec, address(peer)).await?;
    let status = if done.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ToldInstance::new(&done.instance))).into_response())
}

/// An instance.
#[utoipa::path(
    get, path = "/v1/discovery/instances/{id}", operation_id = "get_instance", tag = "discovery",
    params(("id" = String, Path, description = "Its id.", max_length = 200)),
    responses((status = 200, description = "The instance.", body = ToldInstance))
)]
pub(super) async fn read(caller: Caller, State(api): State<Api>, Path(id): Path<String>) -> Result<Json<ToldInstance>> {
    caller.require(SYSTEM, "read")?;
    let one = api.discovery.instance(caller.project(), &id).await?;
    Ok(Json(ToldInstance::new(&one)))
}

/// Takes an instance out, before it stops. Give those that ask for it a moment: until they ask again they still have it.
#[utoipa::path(
    delete, path = "/v1/discovery/instances/{id}", operation_id = "deregister_instance", tag = "discovery",
    params(("id" = String, Path, description = "Its id.", max_length = 200)),
    responses((status = 200, description = "It is out.", body = ToldRemoved))
)]
pub(super) async fn deregister(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ToldRemoved>> {
    caller.require(SYSTEM, "write")?;
    let removed = api.discovery.deregister(caller.principal(), &id).await?;
    Ok(Json(ToldRemoved { index: removed.index }))
}

/// A sign of life, or how the instance is otherwise. 404: it is not registered (any more); register it again.
#[utoipa::path(
    post, path = "/v1/discovery/instances/{id}/heartbeat", operation_id = "heartbeat", tag = "discovery",
    request_body = Heartbeat,
    params(("id" = String, Path, description = "Its id.", max_length = 200)),
    responses((status = 200, description = "It was heard.", body = Beaten))
)]
pub(super) async fn heartbeat(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<Heartbeat>,
) -> Result<Json<Beaten>> {
    caller.require(SYSTEM, "write")?;
    let Heartbeat { check, health, output } = body;
    let health = health.unwrap_or(Health::Passing);
    let one = api.discovery.heartbeat(caller.project(), &id, check.as_deref(), health, &output).await?;
    let shortest = one.spec.checks.iter().filter_map(crate::model::CheckSpec::beat_within).min();
    Ok(Json(Beaten {
        health: one.state.health(),
        is_damped: one.state.damper.is_held,
        is_draining: one.is_draining(),
        ttl_ms: shortest.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    }))
}

/// Lets an instance take no more work: it is not given out any more, unless there is nothing else.
#[utoipa::path(
    post, path = "/v1/discovery/instances/{id}/drain", operation_id = "drain_instance", tag = "discovery",
    request_body = DrainBody,
    params(("id" = String, Path, description = "Its id.", max_length = 200)),
    responses((status = 200, description = "It drains.", body = ToldInstance))
)]
pub(super) async fn drain(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<DrainBody>,
) -> Result<Json<ToldInstance>> {
    caller.require(SYSTEM, "write")?;
    let one = api.discovery.drain(caller.principal(), &id, Some(&body.reason)).await?;
    Ok(Json(ToldInstance::new(&one)))
}

/// Lets an instance take work again.
#[utoipa::path(
    delete, path = "/v1/discovery/instances/{id}/drain", operation_id = "undrain_instance", tag = "discovery",
    params(("id" = String, Path, description = "Its id.", max_length = 200)),
    responses((status = 200, description = "It takes work.", body = ToldInstance))
)]
pub(super) async fn undrain(
    caller: Caller,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ToldInstance>> {
    caller.require(SYSTEM, "write")?;
    let one = api.discovery.drain(caller.principal(), &id, None).await?;
    Ok(Json(ToldInstance::new(&one)))
}
