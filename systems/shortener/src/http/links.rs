//! Links over HTTP.

use access::Caller;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{
    Json, Page, Path, Query, Result,
    conditional::{Conditions, ETag, Outcome},
    idempotency::IdempotencyToken,
};

use super::SYSTEM;
use crate::{
    error::Error,
    model::{self, LinkSettings, LinkStatus, LinkWithClicks, Password, RedirectStatus, Rule, Utm, Variant},
    service::{LinkPatch, NewLink, Shortener},
    store::{LinkChange, ListFilter},
};

/// What to shorten.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateLink {
    /// An absolute `http` or `https` URL without user name or password, at most 2048 characters.
    #[schema(example = "https://example.com/a/long/page?with=parameters", max_length = 2048)]
    url: String,
    /// The host it answers on, one of `/v1/domains`. Left out: the installation's own.
    #[serde(default)]
    #[schema(nullable = true, max_length = 253)]
    domain: Option<String>,
    /// The code you want: 3 to 64 of `A-Z a-z 0-9 _ -` with at least one letter or digit. Left out: a generated code.
    #[serde(default)]
    #[schema(example = "spring-sale", nullable = true, min_length = 3, max_length = 64)]
    alias: Option<String>,
    /// Its name for people, at most 200 characters.
    #[serde(default)]
    #[schema(max_length = 200)]
    title: String,
    /// What you want to remember, at most 2000 characters.
    #[serde(default)]
    #[schema(max_length = 2000)]
    notes: String,
    /// At most 20 words to find it by, 50 characters each; kept in lower case.
    #[serde(default)]
    #[schema(max_items = 20)]
    tags: Vec<String>,
    /// Before that it leads nowhere; RFC 3339. Left out: at once.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Timestamp>,
    /// From when on the link answers 410; RFC 3339, in the future. Left out: never.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2036-01-01T00:00:00Z")]
    expires_at: Option<Timestamp>,
    /// How often it may be followed, at least once. Left out: any number.
    #[serde(default)]
    #[schema(nullable = true, minimum = 1)]
    max_clicks: Option<u64>,
    /// What visitors have to know before they are led on: 4 characters to 200 bytes. Only its hash is kept.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 4, max_length = 200)]
    password: Option<Password>,
    /// The status of the redirect: 301, 302, 307 or 308. Left out: 302.
    #[serde(default)]
    #[schema(value_type = u16, minimum = 301, maximum = 308, default = 302)]
    redirect: RedirectStatus,
    /// Whether the visitor's query is handed on to the destination.
    #[serde(default)]
    forward_query: bool,
    /// Campaign parameters that are added to the destination.
    #[serde(default)]
    utm: Utm,
    /// The name of a template (`/v1/utm-templates`) whose parameters fill those that `utm` leaves out. Copied: later changes of
    /// the template do not change the link.
    #[serde(default)]
    #[schema(nullable = true, max_length = 50)]
    utm_template: Option<String>,
    /// Who gets another destination; the first rule that fits wins; at most 20.
    #[serde(default)]
    #[schema(max_items = 20)]
    rules: Vec<Rule>,
    /// Destinations that share by weight the visitors whom no rule fits; at most 20. Empty: all go to `url`.
    #[serde(default)]
    #[schema(max_items = 20)]
    split: Vec<Variant>,
}

/// What to change; what is left out stays, `null` takes it away (RFC 7396).
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ChangeLink {
    /// Where it leads.
    #[schema(nullable = false, max_length = 2048)]
    url: Option<String>,
    /// Its name for people.
    #[schema(nullable = false, max_length = 200)]
    title: Option<String>,
    /// What you want to remember.
    #[schema(nullable = false, max_length = 2000)]
    notes: Option<String>,
    /// All its tags.
    #[schema(nullable = false, max_items = 20)]
    tags: Option<Vec<String>>,
    /// Before that it leads nowhere.
    #[serde(deserialize_with = "super::given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Option<Timestamp>>,
    /// From when on it answers 410.
    #[serde(deserialize_with = "super::given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<Timestamp>>,
    /// How often it may be followed.
    #[serde(deserialize_with = "super::given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    max_clicks: Option<Option<u64>>,
    /// What visitors have to know before they are led on.
    #[serde(deserialize_with = "super::given")]
    #[schema(value_type = Option<String>, min_length = 4, max_length = 200)]
    password: Option<Option<Password>>,
    /// Switches it off (403) and on.
    #[schema(nullable = false)]
    is_disabled: Option<bool>,
    /// The status of the redirect: 301, 302, 307 or 308.
    #[schema(value_type = u16, minimum = 301, maximum = 308, required = false)]
    redirect: Option<RedirectStatus>,
    /// Whether the visitor's query is handed on.
    #[schema(nullable = false)]
    forward_query: Option<bool>,
    /// All campaign parameters.
    #[schema(nullable = false)]
    utm: Option<Utm>,
    /// All rules.
    #[schema(nullable = false, max_items = 20)]
    rules: Option<Vec<Rule>>,
    /// The whole split.
    #[schema(nullable = false, max_items = 20)]
    split: Option<Vec<Variant>>,
}

/// What a link is now.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It can be followed.
    Active,
    /// Its time has not come.
    Scheduled,
    /// Its time is over: it answers 410.
    Expired,
    /// Its owner switched it off: it answers 403.
    Disabled,
    /// A moderator took it down: it answers 403 or 451.
    TakenDown,
}

impl From<LinkStatus> for Status {
    fn from(status: LinkStatus) -> Self {
        match status {
            LinkStatus::Active => Self::Active,
            LinkStatus::Scheduled => Self::Scheduled,
            LinkStatus::Expired => Self::Expired,
            LinkStatus::Disabled => Self::Disabled,
            LinkStatus::TakenDown => Self::TakenDown,
        }
    }
}

impl From<Status> for LinkStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Scheduled => Self::Scheduled,
            Status::Expired => Self::Expired,
            Status::Disabled => Self::Disabled,
            Status::TakenDown => Self::TakenDown,
        }
    }
}

/// A short link.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "four independent facts on the wire")]
pub(super) struct Link {
    /// What follows the slash of the short URL.
    #[schema(example = "7gQsw2")]
    code: String,
    /// The host it answers on; null for the installation's own.
    domain: Option<String>,
    /// The URL to give away.
    #[schema(example = "https://go.example.com/7gQsw2")]
    short_url: String,
    /// Where it leads, normalised.
    #[schema(example = "https://example.com/a/long/page?with=parameters")]
    url: String,
    /// Its name for people.
    title: String,
    /// What its owner wants to remember.
    notes: String,
    /// In lower case, each once.
    tags: Vec<String>,
    /// Whether its owner chose the code.
    is_alias: bool,
    /// What it is now.
    status: Status,
    /// Whether one of its destinations is on a block list of the installation: visitors then get a page instead (403).
    is_blocked: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The name of the key that made it.
    created_by: String,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Before that it leads nowhere.
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Timestamp>,
    /// From when on it answers 410.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// How often it may be followed.
    max_clicks: Option<u64>,
    /// Whether visitors are asked for a password.
    has_password: bool,
    /// The status of the redirect.
    #[schema(value_type = u16, example = 302)]
    redirect: RedirectStatus,
    /// Whether the visitor's query is handed on.
    forward_query: bool,
    /// Campaign parameters that are added.
    utm: Utm,
    /// Who gets another destination.
    rules: Vec<Rule>,
    /// Destinations that share the others.
    split: Vec<Variant>,
}

/// A link in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ListedLink {
    #[serde(flatten)]
    link: Link,
    /// How often people followed it; about a second behind.
    click_count: u64,
    /// How often programs did that say so in their user agent.
    bot_count: u64,
    /// When it was last followed.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_click_at: Option<Timestamp>,
    /// How often it may still be followed, where that is limited.
    clicks_left: Option<u64>,
}

/// A page of links.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many items at most, 1 to 200. With filters that few links fit a page may be short, even empty, and still have a next one.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before, with the same filters; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
    /// Only codes that start with this, in the order of codes; case matters.
    #[serde(default)]
    #[param(max_length = 64, required = false, nullable = false)]
    code: Option<String>,
    /// Only links with this tag.
    #[serde(default)]
    #[param(max_length = 50, required = false, nullable = false)]
    tag: Option<String>,
    /// Only links on this host.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
    /// Only links that are this now.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    status: Option<Status>,
    /// Only links whose code, URL or title holds this, in any case.
    #[serde(default)]
    #[param(max_length = 200, required = false, nullable = false)]
    q: Option<String>,
}

/// On which domain a code is meant.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DomainQuery {
    /// The host that the link answers on. Left out: the installation's own.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    pub(super) domain: Option<String>,
}

/// A page of changes.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// The host that the link answers on. Left out: the installation's own.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
}

/// One change of a link.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Change {
    /// The version that it made.
    version: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The name of the key.
    by: String,
    /// By field: what it was and what it became.
    #[schema(value_type = std::collections::HashMap<String, Vec<serde_json::Value>>)]
    changes: serde_json::Map<String, serde_json::Value>,
}

/// Makes a short link.
///
/// Send an `Idempotency-Key` to be able to repeat the request: the link is made once.
#[utoipa::path(
    post, path = "/v1/links", operation_id = "create_link", tag = "links", request_body = CreateLink,
    responses(
        (status = 201, description = "The link.", body = Link, headers(
            ("Location" = String, description = "Where the link is read."), ("ETag" = String, description = "Its version."))),
    )
)]
pub(super) async fn create(
    caller: Caller,
    State(shortener): State<Shortener>,
    token: Option<IdempotencyToken>,
    Json(body): Json<CreateLink>,
) -> Result<Response> {
    caller.require(SYSTEM, "write")?;
    let token = token.map(|t| format!("{:032x}", u128::from_be_bytes(t.0)));
    let CreateLink { redirect, forward_query, utm, rules, split, .. } = body;
    let new = NewLink {
        url: body.url,
        domain: body.domain,
        alias: body.alias,
        title: body.title,
        notes: body.notes,
        tags: body.tags,
        starts_at: body.starts_at,
        expires_at: body.expires_at,
        max_clicks: body.max_clicks,
        password: body.password,
        settings: LinkSettings { redirect, forward_query, utm, rules, split, ..LinkSettings::default() },
        utm_template: body.utm_template,
        token,
    };
    let made = shortener.create(caller.principal(), new).await?;
    let query = made.link.host.as_ref().map(|host| format!("?domain={host}")).unwrap_or_default();
    let location = format!("/v1/links/{}{query}", made.link.code);
    let location = HeaderValue::try_from(location).map_err(web::Reject::internal)?;
    let etag = ETag::of_version(made.link.version).header_value();
    let body = Json(show(&shortener, &made.link));
    Ok((StatusCode::CREATED, [(header::LOCATION, location), (header::ETAG, etag)], body).into_response())
}

/// Links of the project, newest first, with their clicks.
#[utoipa::path(
    get, path = "/v1/links", operation_id = "list_links", tag = "links", params(ListQuery),
    responses((status = 200, description = "A page of links.", body = Page<ListedLink>))
)]
pub(super) async fn list(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ListedLink>>> {
    caller.require(SYSTEM, "read")?;
    let domain = match &query.domain {
        None => None,
        Some(host) => Some(shortener.link_domain(caller.project(), host).await?.id),
    };
    let filter = ListFilter {
        prefix: query.code,
        tag: query.tag.map(|tag| tag.trim().to_lowercase()),
        domain,
        status: query.status.map(LinkStatus::from),
        text: query.q.filter(|text| !text.is_empty()),
    };
    let page = shortener.list(caller.project(), &filter, query.cursor.as_deref(), query.limit).await?;
    let items = page
        .links
        .iter()
        .map(|l| ListedLink {
            link: show(&shortener, &l.link),
            click_count: l.total.people,
            bot_count: l.total.bots,
            last_click_at: l.last_click_at,
            clicks_left: l.link.max_clicks.map(|most| most.saturating_sub(l.uses)),
        })
        .collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One link.
#[utoipa::path(
    get, path = "/v1/links/{code}", operation_id = "get_link", tag = "links",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses(
        (status = 200, description = "The link.", body = Link, headers(("ETag" = String, description = "Its version."))),
        (status = 304, description = "The link is still at the version in If-None-Match."),
        (status = 412, description = "The link is at another version than If-Match says."),
    )
)]
pub(super) async fn read(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    conditions: Conditions,
) -> Result<Response> {
    caller.require(SYSTEM, "read")?;
    let LinkWithClicks { link, .. } = shortener.get_on(caller.project(), domain.as_deref(), &code).await?;
    let etag = ETag::of_version(link.version);
    Ok(conditions.answer(&etag, || Json(show(&shortener, &link)).into_response()))
}

/// Deletes a link: it stops to lead anywhere, and its code is never given again.
#[utoipa::path(
    delete, path = "/v1/links/{code}", operation_id = "delete_link", tag = "links",
    params(
        ("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery,
        ("If-Match" = Option<String>, Header, description = "Delete only when the link still has this ETag."),
    ),
    responses(
        (status = 204, description = "It is deleted."),
        (status = 412, description = "The link is at another version than If-Match says."),
    )
)]
pub(super) async fn remove(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    conditions: Conditions,
) -> Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    let host = domain.as_deref();
    let LinkWithClicks { link, .. } = shortener.get_on(caller.project(), host, &code).await?;
    if conditions.judge(Some(&ETag::of_version(link.version)), None) != Outcome::Proceed {
        return Err(Error::LinkChanged.into());
    }
    // What was judged is what is deleted: a change in between is noticed inside the transaction.
    shortener.delete(caller.principal(), host, &code, Some(link.version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a link. What was there before is kept in its history.
#[utoipa::path(
    patch, path = "/v1/links/{code}", operation_id = "change_link", tag = "links", request_body = ChangeLink,
    params(
        ("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery,
        ("If-Match" = Option<String>, Header, description = "Change only when the link still has this ETag."),
    ),
    responses(
        (status = 200, description = "The link as it is now.", body = Link, headers(
            ("ETag" = String, description = "Its version."))),
        (status = 412, description = "The link is at another version than If-Match says."),
    )
)]
pub(super) async fn change(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    conditions: Conditions,
    Json(body): Json<ChangeLink>,
) -> Result<Response> {
    caller.require(SYSTEM, "write")?;
    let host = domain.as_deref();
    let LinkWithClicks { link, .. } = shortener.get_on(caller.project(), host, &code).await?;
    if conditions.judge(Some(&ETag::of_version(link.version)), None) != Outcome::Proceed {
        return Err(Error::LinkChanged.into());
    }
    let version = conditions.require_if_match().is_ok().then_some(link.version);
    let patch = LinkPatch {
        url: body.url,
        title: body.title,
        notes: body.notes,
        tags: body.tags,
        starts_at: body.starts_at,
        expires_at: body.expires_at,
        max_clicks: body.max_clicks,
        password: body.password,
        is_disabled: body.is_disabled,
        redirect: body.redirect,
        forward_query: body.forward_query,
        utm: body.utm,
        rules: body.rules,
        split: body.split,
    };
    let link = shortener.update(caller.principal(), host, &code, version, patch).await?;
    let etag = ETag::of_version(link.version).header_value();
    Ok(([(header::ETAG, etag)], Json(show(&shortener, &link))).into_response())
}

/// What was changed about a link, newest first.
#[utoipa::path(
    get, path = "/v1/links/{code}/history", operation_id = "link_history", tag = "links",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), HistoryQuery),
    responses((status = 200, description = "A page of changes.", body = Page<Change>))
)]
pub(super) async fn history(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Page<Change>>> {
    caller.require(SYSTEM, "read")?;
    let (changes, next_cursor) = shortener
        .history(caller.project(), query.domain.as_deref(), &code, query.cursor.as_deref(), query.limit)
        .await?;
    let items = changes
        .into_iter()
        .map(|LinkChange { version, at, by, changes }| Change { version, at, by, changes })
        .collect();
    Ok(Json(Page { items, next_cursor }))
}

fn show(shortener: &Shortener, link: &model::Link) -> Link {
    let LinkSettings { redirect, forward_query, utm, password, rules, split } = link.settings.clone();
    Link {
        code: link.code.to_string(),
        domain: link.host.clone(),
        short_url: shortener.short_url(link),
        url: link.url.clone(),
        title: link.title.clone(),
        notes: link.notes.clone(),
        tags: link.tags.clone(),
        is_alias: link.is_alias,
        status: link.status(shortener.now()).into(),
        is_blocked: shortener.is_blocked(link),
        created_at: link.created_at,
        created_by: link.created_by.clone(),
        updated_at: link.updated_at,
        starts_at: link.starts_at,
        expires_at: link.expires_at,
        max_clicks: link.max_clicks,
        has_password: password.is_some(),
        redirect,
        forward_query,
        utm,
        rules,
        split,
    }
}
