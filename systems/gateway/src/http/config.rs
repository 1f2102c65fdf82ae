//! The document over HTTP. It can name secrets, so it is for administrators.

use access::Caller;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::header;
use kernel::{FieldError, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Conditions, ETag, Json, Page, Path, Query, Result, conditional::Outcome};

use crate::{
    SYSTEM,
    error::Error,
    model::{Changes, Document},
    service::{Current, Expected, Gateway, Version, Written},
};

/// A document to be put.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutConfig {
    /// All of it; an empty one: nothing is routed.
    document: Document,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    message: String,
}

/// A document to be looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateConfig {
    /// All of it.
    document: Document,
}

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GatewayRollBack)]
pub(super) struct RollBack {
    /// Its number.
    version: i64,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    message: String,
}

/// Which versions to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffQuery {
    /// The version before.
    from: i64,
    /// The version after; left out: the document as it holds now.
    #[serde(default)]
    #[param(required = false, nullable = false)]
    to: Option<i64>,
}

/// A page of versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionsQuery {
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
}

/// Who wrote a version.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayWritten)]
pub(super) struct ToldWritten {
    /// The name of the key.
    by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Why.
    message: String,
    /// Which version it went back to.
    rolled_back_to: Option<i64>,
}

/// The document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayConfig)]
pub(super) struct ToldConfig {
    /// `database`, `file` (read-only), `default` (there is none yet) or `last_good` (what held last on this machine).
    origin: &'static str,
    /// Counts up with every change; 0 where it is not in the database.
    version: i64,
    /// Who wrote this version.
    written: Option<ToldWritten>,
    /// The document.
    document: Document,
}

/// A version without its document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayVersion)]
pub(super) struct ToldVersion {
    /// Its number.
    version: i64,
    /// How many routes it has.
    route_count: u32,
    /// How many upstreams it has.
    upstream_count: u32,
    /// Who wrote it.
    written: ToldWritten,
}

/// A field, and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayFinding)]
pub(super) struct ToldFinding {
    /// Where, as a JSON pointer into the document.
    #[schema(example = "/routes/3/match/path/regex")]
    pointer: String,
    /// What is wrong, and what would be right.
    detail: String,
}

/// What a document would do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayChecked)]
pub(super) struct ToldChecked {
    /// Whether it can hold.
    is_valid: bool,
    /// What cannot.
    errors: Vec<ToldFinding>,
    /// What can, and is hardly meant.
    warnings: Vec<ToldFinding>,
    /// What would differ from what holds now.
    #[serde(flatten)]
    changes: Changes,
}

fn written(written: Written) -> ToldWritten {
    let Written { by, at, message, rolled_back_to } = written;
    ToldWritten { by, at, message, rolled_back_to }
}

fn show(current: Current) -> ToldConfig {
    let Current { origin, version, document, written: by } = current;
    ToldConfig { origin: origin.as_str(), version, written: by.map(written), document }
}

/// The answer with its tag; what is not in the database has no version to be named by.
fn answer(current: Current) -> Response {
    let tag = (current.version > 0).then(|| ETag::of_version(current.version).header_value());
    let mut response = Json(show(current)).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Administrators alone.
pub(super) fn operator(caller: &Caller) -> Result<()> {
    caller.require(SYSTEM, "admin")?;
    if caller.principal().is_admin { Ok(()) } else { Err(Error::NotOperator.into()) }
}

/// The document as it holds on this node.
#[utoipa::path(
    get, path = "/v1/gateway/config", operation_id = "get_gateway_config", tag = "gateway",
    responses(
        (status = 200, description = "The document.", body = ToldConfig, headers(("ETag" = String, description = "Its version."))),
        (status = 304, description = "It is still at the version in If-None-Match."),
        (status = 412, description = "It is at another version than If-Match says."),
    )
)]
pub(super) async fn read(caller: Caller, State(gateway): State<Gateway>, conditions: Conditions) -> Result<Response> {
    operator(&caller)?;
    let current = gateway.current().await?;
    if current.version == 0 {
        return Ok(answer(current));
    }
    let etag = ETag::of_version(current.version);
    Ok(conditions.answer(&etag, || answer(current)))
}

/// Puts a document in the place of the one that holds, as a new version: all of it, or nothing. It holds on every node within a second;
/// connections of routes that did not change stay.
#[utoipa::path(
    put, path = "/v1/gateway/config", operation_id = "put_gateway_config", tag = "gateway", request_body = PutConfig,
    params(
        ("If-Match" = Option<String>, Header, description = "Only when the document still has this ETag."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is no document yet."),
    ),
    responses(
        (status = 200, description = "The document.", body = ToldConfig, headers(("ETag" = String, description = "Its version."))),
        (status = 412, description = "It is at another version than If-Match says."),
    )
)]
pub(super) async fn put(
    caller: Caller,
    State(gateway): State<Gateway>,
    conditions: Conditions,
    Json(body): Json<PutConfig>,
) -> Result<Response> {
    operator(&caller)?;
    let expected = expected(&gateway, &conditions).await?;
    Ok(answer(gateway.put(caller.principal(), body.document, &body.message, expected).await?))
}

/// Looks at a document as putting it would, and changes nothing.
#[utoipa::path(
    post, path = "/v1/gateway/config/validate", operation_id = "validate_gateway_config", tag = "gateway",
    request_body = ValidateConfig,
    responses((status = 200, description = "What is wrong, what is hardly meant, and what would differ.", body = ToldChecked))
)]
pub(super) async fn validate(
    caller: Caller,
    State(gateway): State<Gateway>,
    Json(body): Json<ValidateConfig>,
) -> Result<Json<ToldChecked>> {
    operator(&caller)?;
    let checked = gateway.check(&body.document);
    let told = |found: Vec<FieldError>| {
        found.into_iter().map(|f| ToldFinding { pointer: f.field, detail: f.detail }).collect::<Vec<_>>()
    };
    Ok(Json(ToldChecked {
        is_valid: checked.errors.is_empty(),
        errors: told(checked.errors),
        warnings: told(checked.warnings),
        changes: checked.changes,
    }))
}

/// Makes an old version of the document the newest, in one step.
#[utoipa::path(
    post, path = "/v1/gateway/config/rollback", operation_id = "roll_back_gateway_config", tag = "gateway",
    request_body = RollBack,
    params(("If-Match" = Option<String>, Header, description = "Only when the document still has this ETag.")),
    responses(
        (status = 200, description = "The document.", body = ToldConfig, headers(("ETag" = String, description = "Its version."))),
        (status = 412, description = "It is at another version than If-Match says."),
    )
)]
pub(super) async fn roll_back(
    caller: Caller,
    State(gateway): State<Gateway>,
    conditions: Conditions,
    Json(RollBack { version, message }): Json<RollBack>,
) -> Result<Response> {
    operator(&caller)?;
    let expected = expected(&gateway, &conditions).await?;
    Ok(answer(gateway.roll_back(caller.principal(), version, &message, expected).await?))
}

/// Versions of the document, the newest first. The last 200 are kept.
#[utoipa::path(
    get, path = "/v1/gateway/config/versions", operation_id = "list_gateway_versions", tag = "gateway",
    params(VersionsQuery),
    responses((status = 200, description = "A page of versions.", body = Page<ToldVersion>))
)]
pub(super) async fn versions(
    caller: Caller,
    State(gateway): State<Gateway>,
    Query(VersionsQuery { limit, cursor }): Query<VersionsQuery>,
) -> Result<Json<Page<ToldVersion>>> {
    operator(&caller)?;
    let told = |one: Version| ToldVersion {
        version: one.version,
        route_count: one.route_count,
        upstream_count: one.upstream_count,
        written: written(one.written),
    };
    Ok(Json(gateway.version_page(cursor, limit).await?.map(told)))
}

/// One version of the document.
#[utoipa::path(
    get, path = "/v1/gateway/config/versions/{version}", operation_id = "get_gateway_version", tag = "gateway",
    params(("version" = i64, Path, description = "Its number.")),
    responses((status = 200, description = "The document.", body = ToldConfig))
)]
pub(super) async fn version(
    caller: Caller,
    State(gateway): State<Gateway>,
    Path(version): Path<i64>,
) -> Result<Json<ToldConfig>> {
    operator(&caller)?;
    Ok(Json(show(gateway.version(version).await?)))
}

/// What differs between two versions.
#[utoipa::path(
    get, path = "/v1/gateway/config/diff", operation_id = "diff_gateway_config", tag = "gateway",
    params(DiffQuery),
    responses(
        (status = 200, description = "What came, went and changed, by name.", body = Changes),
        (status = 404, description = "There is no such version."),
    )
)]
pub(super) async fn diff(
    caller: Caller,
    State(gateway): State<Gateway>,
    Query(DiffQuery { from, to }): Query<DiffQuery>,
) -> Result<Json<Changes>> {
    operator(&caller)?;
    let before = gateway.version(from).await?;
    let after = match to {
        Some(to) => gateway.version(to).await?,
        None => gateway.current().await?,
    };
    Ok(Json(Changes::new(&before.document, &after.document)))
}

/// What the conditions of a change expect. What was judged is what is replaced: a change in between is noticed inside of the
/// transaction.
async fn expected(gateway: &Gateway, conditions: &Conditions) -> Result<Expected, Error> {
    let head = gateway.newest_version().await?;
    let etag = head.map(ETag::of_version);
    if conditions.judge(etag.as_ref(), None) != Outcome::Proceed {
        return Err(Error::Changed);
    }
    Ok(match head {
        _ if !conditions.has_any() => Expected::Any,
        Some(version) => Expected::Version(version),
        None => Expected::Nothing,
    })
}
