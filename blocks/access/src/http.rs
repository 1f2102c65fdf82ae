//! Routes and wire types of `/v1/keys`, `/v1/projects`, `/v1/audit` and `/v1/whoami`.

pub(crate) mod caller;
pub(crate) mod layer;
pub(crate) mod site;

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use identity::Scopes;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{IdempotencyToken, Json, Page, PageQuery, Path, Query};

use crate::{
    Access, Caller, Error,
    model::{AuditEntry, AuditFilter, DEFAULT_OVERLAP, Issued, Key, NewKey, Project},
};

/// The scopes of this room are `access:read`, `access:write` and `access:admin`.
pub(crate) const SYSTEM: &str = "access";

/// The routes. They belong inside of [`crate::auth_layer`] and, inside of that, web's Idempotency-Key layer.
pub fn routes(access: Access) -> Router {
    Router::new()
        .route("/v1/keys", get(list_keys).post(create_key))
        .route("/v1/keys/{id}", get(get_key))
        .route("/v1/keys/{id}", delete(revoke_key))
        .route("/v1/keys/{id}/rotate", post(rotate_key))
        .route("/v1/projects", get(list_projects).post(create_project))
        .route("/v1/projects/{id}", get(get_project))
        .route("/v1/audit", get(list_audit))
        .route("/v1/whoami", get(whoami))
        .with_state(access)
}

/// Their OpenAPI description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        paths(
            list_keys, create_key, get_key, revoke_key, rotate_key, list_projects, create_project, get_project,
            list_audit, whoami
        ),
        tags((name = "access", description = "API keys, projects and the audit log. A key with the scope `*` (an administrator) \
                                              chooses its project with the header `Mainstay-Project`; every other key works \
                                              in its own project only."))
    )]
    struct Api;
    Api::openapi()
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// Its id, which is no secret.
    #[schema(example = "key_0198f6c2d0e77c4f8a1b2c3d4e5f6071")]
    id: String,
    /// The project that it works in.
    project: String,
    /// What its owner calls it.
    name: String,
    /// What it may do.
    #[schema(example = json!(["links:write"]))]
    scopes: Vec<String>,
    /// `active`, `rotating` (the secret before works too), `expired` or `revoked`.
    #[schema(example = "active")]
    state: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who made it: the id of a key, `system` or `dev`.
    created_by: String,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When it was last used, to about a minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// Until when the secret before the last rotation works.
    #[schema(value_type = Option<String>, format = DateTime)]
    old_secret_until: Option<Timestamp>,
}

impl KeyView {
    fn new(key: Key, now: Timestamp) -> Self {
        Self {
            state: key.state(now).as_str(),
            id: key.id.to_string(),
            project: key.project.to_string(),
            name: key.name,
            scopes: key.scopes.iter().map(ToString::to_string).collect(),
            created_at: key.created_at,
            created_by: key.created_by,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            old_secret_until: key.previous_until,
        }
    }
}

/// A key with its text, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IssuedView {
    /// The whole key, to be sent as `Authorization: Bearer …`. It is not kept and cannot be shown again.
    #[schema(example = "msk_<id>_<secret>")]
    secret: String,
    #[serde(flatten)]
    key: KeyView,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// What you call it.
    #[schema(min_length = 1, max_length = 100, example = "deploy script")]
    name: String,
    /// What it may do: `<system>:<read|write|admin>`, `*:<verb>` for every system, or `*` for an administrator. Nothing that the
    /// asking key lacks.
    #[schema(min_items = 1, max_items = 32, example = json!(["links:write"]))]
    scopes: Vec<String>,
    /// When it ends by itself; leave it out for a key that does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// How to rotate a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// How long the old secret goes on, in seconds; 0 ends it at once.
    #[schema(minimum = 0, maximum = 2_592_000, default = 3_600)]
    #[serde(default = "default_overlap_seconds")]
    overlap_seconds: u64,
}

fn default_overlap_seconds() -> u64 {
    DEFAULT_OVERLAP.as_secs()
}

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectView {
    /// Its id.
    #[schema(example = "shop")]
    id: String,
    /// What people call it.
    title: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Project> for ProjectView {
    fn from(project: Project) -> Self {
        Self { id: project.id.to_string(), title: project.title, created_at: project.created_at }
    }
}

/// A project to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProject {
    /// Its id for ever: 1 to 40 of `a-z`, `0-9` and `-`, starting with a letter.
    #[schema(min_length = 1, max_length = 40, pattern = "^[a-z][a-z0-9-]{0,39}$", example = "shop")]
    id: String,
    /// What people call it; the id when left out.
    #[schema(min_length = 1, max_length = 200)]
    #[serde(default)]
    title: Option<String>,
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// Its id.
    id: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// In which project.
    project: String,
    /// Who did it: the id of a key, `dev`, or `system` for the server itself.
    actor: String,
    /// What the actor was called then.
    actor_name: String,
    /// What was done.
    #[schema(example = "access.key.create")]
    action: String,
    /// To what.
    object: String,
    /// More.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            at: entry.at,
            project: entry.project.to_string(),
            actor: entry.actor,
            actor_name: entry.actor_name,
            action: entry.action,
            object: entry.object,
            detail: entry.detail,
        }
    }
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only what this actor did: the id of a key, `dev` or `system`.
    #[param(required = false, nullable = false, max_length = 300)]
    actor: Option<String>,
    /// Only this action, such as `access.key.create`.
    #[param(required = false, nullable = false, max_length = 300)]
    action: Option<String>,
    /// Only what was done to this.
    #[param(required = false, nullable = false, max_length = 300)]
    object: Option<String>,
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WhoAmI {
    /// The project that this request works in.
    project: String,
    /// The key that was shown; absent with `--dev`.
    key_id: Option<String>,
    /// What it is called.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// Whether it may choose the project.
    is_admin: bool,
}

/// Lists the keys of the project, the newest first.
#[utoipa::path(get, path = "/v1/keys", tag = "access", params(PageQuery),
    responses((status = 200, description = "A page of keys", body = Page<KeyView>)))]
async fn list_keys(
    State(access): State<Access>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> web::Result<Json<Page<KeyView>>> {
    caller.require(SYSTEM, "read")?;
    let now = access.clock().now();
    let page = access.list_keys(caller.project(), &query).await?;
    Ok(Json(page.map(|key| KeyView::new(key, now))))
}

/// Makes a key in the project. Its text is in the answer, and nowhere else afterwards.
#[utoipa::path(post, path = "/v1/keys", tag = "access", request_body = CreateKey,
    responses((status = 201, description = "The key, with its text", body = IssuedView,
        headers(("Location" = String, description = "The path of the key")))))]
async fn create_key(
    State(access): State<Access>,
    caller: Caller,
    token: Option<IdempotencyToken>,
    Json(body): Json<CreateKey>,
) -> web::Result<Response> {
    caller.require(SYSTEM, "write")?;
    let new = NewKey { name: body.name, scopes: parse_scopes(&body.scopes)?, expires_at: body.expires_at };
    let issued = access.create_key(caller.principal(), &new, token.map(|t| t.0)).await?;
    Ok(issued_response(&access, issued))
}

fn issued_response(access: &Access, issued: Issued) -> Response {
    let location = format!("/v1/keys/{}", issued.key.id);
    let view = IssuedView { secret: issued.text.expose(), key: KeyView::new(issued.key, access.clock().now()) };
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response();
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Reads scopes; the refusal names which one is wrong.
pub(crate) fn parse_scopes(texts: &[String]) -> Result<Scopes, Error> {
    let invalid = |e: identity::ScopeError| Error::KeyInvalid { field: "scopes", detail: sentence(&e.to_string()) };
    let scopes = texts.iter().map(|t| t.parse().map_err(invalid)).collect::<Result<Vec<_>, _>>()?;
    Scopes::new(scopes).map_err(invalid)
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}

/// Shows a key, without its secret.
#[utoipa::path(get, path = "/v1/keys/{id}", tag = "access",
    params(("id" = String, Path, description = "The id of the key")),
    responses((status = 200, description = "The key", body = KeyView)))]
async fn get_key(State(access): State<Access>, caller: Caller, Path(id): Path<String>) -> web::Result<Json<KeyView>> {
    caller.require(SYSTEM, "read")?;
    let key = access.get_key(caller.project(), &id).await?;
    Ok(Json(KeyView::new(key, access.clock().now())))
}

/// Revokes a key for good: at once on the node that answers, within `access.cache_ttl` on the others. A second time changes
/// nothing and answers the same.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "access",
    params(("id" = String, Path, description = "The id of the key")),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 409, description = "It is the last working key of an administrator")))]
async fn revoke_key(State(access): State<Access>, caller: Caller, Path(id): Path<String>) -> web::Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    access.revoke_key(caller.principal(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a key a new secret; the id stays. The old secret goes on for the overlap, so that clients can change over.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", tag = "access", request_body = RotateKey,
    params(("id" = String, Path, description = "The id of the key")),
    responses((status = 201, description = "The key, with its new text", body = IssuedView,
        headers(("Location" = String, description = "The path of the key")))))]
async fn rotate_key(
    State(access): State<Access>,
    caller: Caller,
    Path(id): Path<String>,
    token: Option<IdempotencyToken>,
    Json(body): Json<RotateKey>,
) -> web::Result<Response> {
    caller.require(SYSTEM, "write")?;
    let overlap = Duration::from_secs(body.overlap_seconds);
    let issued = access.rotate_key(caller.principal(), &id, overlap, token.map(|t| t.0)).await?;
    Ok(issued_response(&access, issued))
}

/// Lists projects by name: all of them for an administrator, else the key's own.
#[utoipa::path(get, path = "/v1/projects", tag = "access", params(PageQuery),
    responses((status = 200, description = "A page of projects", body = Page<ProjectView>)))]
async fn list_projects(
    State(access): State<Access>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> web::Result<Json<Page<ProjectView>>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(access.list_projects(caller.principal(), &query).await?.map(ProjectView::from)))
}

/// Makes a project. Only an administrator may.
#[utoipa::path(post, path = "/v1/projects", tag = "access", request_body = CreateProject,
    responses((status = 201, description = "The project", body = ProjectView,
        headers(("Location" = String, description = "The path of the project")))))]
async fn create_project(
    State(access): State<Access>,
    caller: Caller,
    Json(body): Json<CreateProject>,
) -> web::Result<Response> {
    caller.require(SYSTEM, "admin")?;
    let project = access.create_project(caller.principal(), &body.id, body.title.as_deref()).await?;
    let location = format!("/v1/projects/{}", project.id);
    let mut response = ([(header::LOCATION, location)], Json(ProjectView::from(project))).into_response();
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Shows a project.
#[utoipa::path(get, path = "/v1/projects/{id}", tag = "access",
    params(("id" = String, Path, description = "The id of the project")),
    responses((status = 200, description = "The project", body = ProjectView)))]
async fn get_project(
    State(access): State<Access>,
    caller: Caller,
    Path(id): Path<String>,
) -> web::Result<Json<ProjectView>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(access.get_project(caller.principal(), &id).await?.into()))
}

/// Lists the audit log of the project, the newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "access", params(AuditQuery),
    responses((status = 200, description = "A page of entries", body = Page<AuditView>)))]
async fn list_audit(
    State(access): State<Access>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> web::Result<Json<Page<AuditView>>> {
    caller.require(SYSTEM, "read")?;
    let some = |text: Option<String>| text.filter(|t| !t.is_empty());
    let filter = AuditFilter { actor: some(query.actor), action: some(query.action), object: some(query.object) };
    let query = PageQuery { limit: query.limit, cursor: query.cursor };
    Ok(Json(access.list_audit(caller.project(), &filter, &query).await?.map(AuditView::from)))
}

/// Shows who is asking: the key, its scopes, and the project that the request works in.
#[utoipa::path(get, path = "/v1/whoami", tag = "access",
    responses((status = 200, description = "Who asks", body = WhoAmI)))]
#[allow(clippy::unused_async, reason = "axum handlers are async")]
async fn whoami(caller: Caller) -> Json<WhoAmI> {
    let who = caller.principal();
    Json(WhoAmI {
        project: who.project.to_string(),
        key_id: who.key_id.map(|id| id.to_string()),
        name: who.name.to_string(),
        scopes: who.scopes.iter().map(ToString::to_string).collect(),
        is_admin: who.is_admin,
    })
}

/// The project that a request names in `Mainstay-Project`.
pub(crate) fn named_project(headers: &header::HeaderMap) -> Result<Option<&str>, Error> {
    match headers.get(crate::PROJECT_HEADER) {
        None => Ok(None),
        Some(value) => value.to_str().map(|v| Some(v.trim())).map_err(|_| Error::ProjectUnknown),
    }
}
