//! Domains and UTM templates over HTTP.

use access::Caller;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Json, Page, Path, Query, Result};

use super::SYSTEM;
use crate::{
    model::{self, Utm},
    service::{DomainChange, NewDomain, Shortener},
    store::UtmTemplate,
};

/// A host to be added.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddDomain {
    /// A host name: no scheme, no port, no address.
    #[schema(example = "go.example.com", max_length = 253)]
    host: String,
    /// Whether `/Sale` and `/sale` are two codes. If not, aliases are kept in lower case, and a code that no link has as it is
    /// written is looked for in lower case. Stays as it is once the domain is added.
    #[serde(default = "yes")]
    #[schema(default = true)]
    is_case_sensitive: bool,
    /// Where `/` leads. Left out: a small page.
    #[serde(default)]
    #[schema(nullable = true, max_length = 2048)]
    root_url: Option<String>,
    /// Where unknown codes lead. Left out: the page for 404.
    #[serde(default)]
    #[schema(nullable = true, max_length = 2048)]
    unknown_url: Option<String>,
}

const fn yes() -> bool {
    true
}

/// What to change; what is left out stays, `null` takes it away (RFC 7396).
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ChangeDomain {
    /// Where `/` leads.
    #[serde(deserialize_with = "super::given")]
    #[schema(value_type = Option<String>, max_length = 2048)]
    root_url: Option<Option<String>>,
    /// Where unknown codes lead.
    #[serde(deserialize_with = "super::given")]
    #[schema(value_type = Option<String>, max_length = 2048)]
    unknown_url: Option<Option<String>>,
}

/// A host of the project.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Domain {
    /// In lower case, international names as `xn--`.
    host: String,
    /// Whether codes that differ in case are different.
    is_case_sensitive: bool,
    /// Where `/` leads.
    root_url: Option<String>,
    /// Where unknown codes lead.
    unknown_url: Option<String>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The name of the key that added it.
    created_by: String,
}

/// A page of names.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NamesQuery {
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    pub(super) limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    pub(super) cursor: Option<String>,
}

/// Campaign parameters under a name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Template {
    /// Unique in the project.
    #[schema(example = "newsletter")]
    name: String,
    /// The parameters.
    utm: Utm,
    /// When it was last written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The name of the key that wrote it.
    updated_by: String,
}

/// Adds a host whose visitors reach the public listener.
#[utoipa::path(
    post, path = "/v1/domains", operation_id = "add_domain", tag = "domains", request_body = AddDomain,
    responses(
        (status = 201, description = "The domain.", body = Domain, headers(
            ("Location" = String, description = "Where the domain is read."))),
    )
)]
pub(super) async fn add(
    caller: Caller,
    State(shortener): State<Shortener>,
    Json(body): Json<AddDomain>,
) -> Result<Response> {
    caller.require(SYSTEM, "write")?;
    let AddDomain { host, is_case_sensitive, root_url, unknown_url } = body;
    let new = NewDomain { host, is_case_sensitive, root_url, unknown_url };
    let domain = shortener.add_domain(caller.principal(), new).await?;
    let location = HeaderValue::try_from(format!("/v1/domains/{}", domain.host)).map_err(web::Reject::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(show(domain))).into_response())
}

/// Hosts of the project, by name.
#[utoipa::path(
    get, path = "/v1/domains", operation_id = "list_domains", tag = "domains", params(NamesQuery),
    responses((status = 200, description = "A page of domains.", body = Page<Domain>))
)]
pub(super) async fn list(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(NamesQuery { limit, cursor }): Query<NamesQuery>,
) -> Result<Json<Page<Domain>>> {
    caller.require(SYSTEM, "read")?;
    let project = caller.project();
    let after = shortener.open_name("domains", project, cursor.as_deref())?;
    let mut domains = shortener.domains(project, &after, limit + 1).await?;
    let next_cursor = (domains.len() > limit as usize).then(|| {
        domains.truncate(limit as usize);
        shortener.seal_name("domains", project, domains.last().map_or("", |last| &last.host))
    });
    Ok(Json(Page { items: domains.into_iter().map(show).collect(), next_cursor }))
}

/// One host.
#[utoipa::path(
    get, path = "/v1/domains/{host}", operation_id = "get_domain", tag = "domains",
    params(("host" = String, Path, description = "Its name.", max_length = 253)),
    responses((status = 200, description = "The domain.", body = Domain))
)]
pub(super) async fn read(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(host): Path<String>,
) -> Result<Json<Domain>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(show(shortener.domain(caller.project(), &host).await?)))
}

/// Changes where `/` and unknown codes of a host lead.
#[utoipa::path(
    patch, path = "/v1/domains/{host}", operation_id = "change_domain", tag = "domains", request_body = ChangeDomain,
    params(("host" = String, Path, description = "Its name.", max_length = 253)),
    responses((status = 200, description = "The domain as it is now.", body = Domain))
)]
pub(super) async fn change(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(host): Path<String>,
    Json(body): Json<ChangeDomain>,
) -> Result<Json<Domain>> {
    caller.require(SYSTEM, "write")?;
    let change = DomainChange { root_url: body.root_url, unknown_url: body.unknown_url };
    Ok(Json(show(shortener.change_domain(caller.principal(), &host, change).await?)))
}

/// Removes a host that has no links.
#[utoipa::path(
    delete, path = "/v1/domains/{host}", operation_id = "remove_domain", tag = "domains",
    params(("host" = String, Path, description = "Its name.", max_length = 253)),
    responses((status = 204, description = "It is removed."))
)]
pub(super) async fn remove(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(host): Path<String>,
) -> Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    shortener.remove_domain(caller.principal(), &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn show(domain: model::Domain) -> Domain {
    let model::Domain { host, is_case_sensitive, root_url, unknown_url, created_at, created_by, .. } = domain;
    Domain { host, is_case_sensitive, root_url, unknown_url, created_at, created_by }
}

/// UTM templates of the project, by name.
#[utoipa::path(
    get, path = "/v1/utm-templates", operation_id = "list_utm_templates", tag = "domains", params(NamesQuery),
    responses((status = 200, description = "A page of templates.", body = Page<Template>))
)]
pub(super) async fn templates(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(NamesQuery { limit, cursor }): Query<NamesQuery>,
) -> Result<Json<Page<Template>>> {
    caller.require(SYSTEM, "read")?;
    let project = caller.project();
    let after = shortener.open_name("templates", project, cursor.as_deref())?;
    let mut templates = shortener.utm_templates(project, &after, limit + 1).await?;
    let next_cursor = (templates.len() > limit as usize).then(|| {
        templates.truncate(limit as usize);
        shortener.seal_name("templates", project, templates.last().map_or("", |last| &last.name))
    });
    Ok(Json(Page { items: templates.into_iter().map(show_template).collect(), next_cursor }))
}

/// One UTM template.
#[utoipa::path(
    get, path = "/v1/utm-templates/{name}", operation_id = "get_utm_template", tag = "domains",
    params(("name" = String, Path, description = "Its name.", max_length = 50)),
    responses((status = 200, description = "The template.", body = Template))
)]
pub(super) async fn template(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(name): Path<String>,
) -> Result<Json<Template>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(show_template(shortener.utm_template(caller.project(), &name).await?)))
}

/// Writes a UTM template: new links may take its parameters by its name.
#[utoipa::path(
    put, path = "/v1/utm-templates/{name}", operation_id = "put_utm_template", tag = "domains", request_body = Utm,
    params(("name" = String, Path, description = "1 to 50 of `A-Z a-z 0-9 _ - .`", max_length = 50)),
    responses((status = 200, description = "The template.", body = Template))
)]
pub(super) async fn put_template(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(name): Path<String>,
    Json(utm): Json<Utm>,
) -> Result<Json<Template>> {
    caller.require(SYSTEM, "write")?;
    Ok(Json(show_template(shortener.put_utm_template(caller.principal(), &name, utm).await?)))
}

/// Deletes a UTM template. Links made with it stay as they are.
#[utoipa::path(
    delete, path = "/v1/utm-templates/{name}", operation_id = "delete_utm_template", tag = "domains",
    params(("name" = String, Path, description = "Its name.", max_length = 50)),
    responses((status = 204, description = "It is deleted."))
)]
pub(super) async fn remove_template(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    shortener.delete_utm_template(caller.project(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn show_template(template: UtmTemplate) -> Template {
    let UtmTemplate { name, utm, updated_at, updated_by } = template;
    Template { name, utm, updated_at, updated_by }
}
