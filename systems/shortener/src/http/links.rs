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
    model::{self, LinkWithClicks},
    service::{NewLink, Shortener},
};

/// What to shorten.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateLink {
    /// An absolute `http` or `https` URL without user name or password, at most 2048 characters.
    #[schema(example = "https://example.com/a/long/page?with=parameters", max_length = 2048)]
    url: String,
    /// The code you want: 3 to 64 of `A-Z a-z 0-9 _ -` with at least one letter or digit. Left out: a generated code.
    #[serde(default)]
    #[schema(example = "spring-sale", nullable = true, min_length = 3, max_length = 64)]
    alias: Option<String>,
    /// From when on the link answers 410; RFC 3339, in the future. Left out: never.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2036-01-01T00:00:00Z")]
    expires_at: Option<Timestamp>,
}

/// Whether a link can be followed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It can.
    Active,
    /// Its time is over: it answers 410.
    Expired,
}

/// A short link.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Link {
    /// What follows the slash of the short URL.
    #[schema(example = "7gQsw2")]
    code: String,
    /// The URL to give away.
    #[schema(example = "https://go.example.com/7gQsw2")]
    short_url: String,
    /// Where it leads, normalised.
    #[schema(example = "https://example.com/a/long/page?with=parameters")]
    url: String,
    /// Whether its owner chose the code.
    is_alias: bool,
    /// Whether it can be followed.
    status: Status,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The name of the key that made it.
    created_by: String,
    /// From when on it answers 410.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
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
    /// The minute of the last click.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_click_at: Option<Timestamp>,
}

/// A page of links.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
    /// Only codes that start with this, in the order of codes; case matters.
    #[serde(default)]
    #[param(max_length = 64, required = false, nullable = false)]
    code: Option<String>,
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
    let CreateLink { url, alias, expires_at } = body;
    let made = shortener.create(caller.principal(), NewLink { url, alias, expires_at, token }).await?;
    let location = HeaderValue::try_from(format!("/v1/links/{}", made.link.code)).map_err(web::Reject::internal)?;
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
    let page = shortener.list(caller.project(), query.code.as_deref(), query.cursor.as_deref(), query.limit).await?;
    let items = page
        .links
        .iter()
        .map(|l| ListedLink {
            link: show(&shortener, &l.link),
            click_count: l.total.people,
            bot_count: l.total.bots,
            last_click_at: l.last_click_at,
        })
        .collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One link.
#[utoipa::path(
    get, path = "/v1/links/{code}", operation_id = "get_link", tag = "links",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64)),
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
    conditions: Conditions,
) -> Result<Response> {
    caller.require(SYSTEM, "read")?;
    let LinkWithClicks { link, .. } = shortener.get(caller.project(), &code).await?;
    let etag = ETag::of_version(link.version);
    Ok(conditions.answer(&etag, || Json(show(&shortener, &link)).into_response()))
}

/// Deletes a link: it stops to lead anywhere, and its code is never given again.
#[utoipa::path(
    delete, path = "/v1/links/{code}", operation_id = "delete_link", tag = "links",
    params(
        ("code" = String, Path, description = "Its code; case matters.", max_length = 64),
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
    conditions: Conditions,
) -> Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    let LinkWithClicks { link, .. } = shortener.get(caller.project(), &code).await?;
    if conditions.judge(Some(&ETag::of_version(link.version)), None) != Outcome::Proceed {
        return Err(Error::LinkChanged.into());
    }
    // What was judged is what is deleted: a change in between is noticed inside the transaction.
    shortener.delete(caller.principal(), &code, Some(link.version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn show(shortener: &Shortener, link: &model::Link) -> Link {
    Link {
        code: link.code.to_string(),
        short_url: shortener.short_url(&link.code),
        url: link.url.clone(),
        is_alias: link.is_alias,
        status: if link.is_expired(shortener.now()) { Status::Expired } else { Status::Active },
        created_at: link.created_at,
        created_by: link.created_by.clone(),
        expires_at: link.expires_at,
    }
}
