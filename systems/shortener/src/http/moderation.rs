//! Reports, takedowns, appeals and the block list of moderators over HTTP.

use access::Caller;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use identity::Verb;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Json, Page, Path, Query, Result};

use super::{SYSTEM, domains::NamesQuery, links::DomainQuery};
use crate::{
    error::Error,
    model::{
        Takedown,
        moderation::{BlockId, ReportId, ReportReason, ReportState, Standing},
    },
    service::{LinkPlace, Reporter, Shortener, require_moderator},
    store::{LinkBlock, ModeratedLink, Report, TakedownRecord},
};

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    Phishing,
    Malware,
    Spam,
    Illegal,
    Copyright,
    Other,
}

impl From<Reason> for ReportReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Phishing => Self::Phishing,
            Reason::Malware => Self::Malware,
            Reason::Spam => Self::Spam,
            Reason::Illegal => Self::Illegal,
            Reason::Copyright => Self::Copyright,
            Reason::Other => Self::Other,
        }
    }
}

/// A report of a link, whosever it is.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReport {
    /// The code of the link.
    #[schema(max_length = 64)]
    code: String,
    /// The domain of the link; left out: the installation's own.
    #[serde(default)]
    #[schema(nullable = true, max_length = 253)]
    domain: Option<String>,
    /// What is wrong.
    reason: Reason,
    /// In your own words.
    #[serde(default)]
    #[schema(max_length = 1000)]
    detail: String,
}

/// The link that is spoken of.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SpokenOf {
    /// Whose it is.
    project: String,
    /// Its domain; `null` is the installation's own.
    domain: Option<String>,
    /// Its code.
    code: String,
    /// Where it leads.
    url: String,
    /// `active`, `disabled`, or what it was taken down for: `abuse`, `legal`.
    state: &'static str,
    /// Whether its owner has deleted it.
    is_deleted: bool,
}

impl From<ModeratedLink> for SpokenOf {
    fn from(link: ModeratedLink) -> Self {
        let ModeratedLink { project, host, code, url, state, is_deleted } = link;
        Self { project: project.to_string(), domain: host, code, url, state: state.as_str(), is_deleted }
    }
}

/// A report.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ShownReport {
    /// Its id.
    #[schema(value_type = String)]
    id: ReportId,
    /// What was reported.
    link: SpokenOf,
    /// What is said to be wrong.
    reason: &'static str,
    /// In the reporter's words.
    detail: String,
    /// The name of the reporter's key; `null` for a visitor.
    reported_by: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// `open`, `dismissed`, or `upheld`.
    state: &'static str,
    /// When that was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    decided_at: Option<Timestamp>,
    /// By which key.
    decided_by: Option<String>,
    /// What the moderator wrote.
    note: String,
    /// Open reports of the link that were only counted, because there are 20 already.
    beyond_count: u64,
}

impl From<Report> for ShownReport {
    fn from(r: Report) -> Self {
        Self {
            id: r.id,
            link: r.link.into(),
            reason: r.reason.as_str(),
            detail: r.detail,
            reported_by: r.reported_by,
            created_at: r.created_at,
            state: r.state.as_str(),
            decided_at: r.decided_at,
            decided_by: r.decided_by,
            note: r.note,
            beyond_count: r.beyond_count,
        }
    }
}

/// Which reports.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportsQuery {
    /// `open` (the oldest first), `dismissed` or `upheld` (the newest first).
    #[serde(default)]
    #[param(default = "open", required = false, nullable = false, max_length = 16)]
    state: Option<String>,
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
}

/// What a moderator decides about a report.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Dismissal {
    /// Why; other moderators read it.
    #[schema(max_length = 1000)]
    note: String,
    /// Whether every open report of the same link is dismissed with it.
    all_of_link: bool,
}

/// How many reports were dismissed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Dismissed {
    /// At least 1.
    count: u64,
}

/// For what a link is taken down.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Visitors get 403.
    Abuse,
    /// Visitors get 451.
    Legal,
}

/// A takedown.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTakedown {
    /// For what.
    kind: Kind,
    /// Why; the link's owner reads it.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// A moderator's word.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Note {
    /// Why; the link's owner reads it. Needed where an appeal is rejected.
    #[schema(max_length = 1000)]
    note: String,
}

/// What an owner says against a takedown.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAppeal {
    /// Why the takedown is wrong.
    #[schema(min_length = 1, max_length = 1000)]
    text: String,
}

/// A takedown and what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ShownTakedown {
    /// The link.
    link: SpokenOf,
    /// `abuse` or `legal`.
    kind: String,
    /// Why.
    reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    taken_at: Timestamp,
    /// `standing`, `appealed`, `upheld` (the appeal was rejected), or `lifted`.
    state: &'static str,
    /// What the owner says against it.
    appeal: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    appealed_at: Option<Timestamp>,
    /// What the moderator said to that, or about lifting it.
    decision: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    decided_at: Option<Timestamp>,
}

impl From<TakedownRecord> for ShownTakedown {
    fn from(t: TakedownRecord) -> Self {
        Self {
            link: t.link.into(),
            kind: t.kind,
            reason: t.reason,
            taken_at: t.taken_at,
            state: t.standing.as_str(),
            appeal: t.appeal,
            appealed_at: t.appealed_at,
            decision: t.decision,
            decided_at: t.decided_at,
        }
    }
}

/// A destination to be blocked.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBlock {
    /// `example.com` (with subdomains), `=www.example.com` (alone), or `https://example.com/path`.
    #[schema(example = "example.com", max_length = 2048)]
    entry: String,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 1000)]
    reason: String,
}

/// A blocked destination.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Block {
    /// Its id.
    #[schema(value_type = String)]
    id: BlockId,
    /// What is blocked, normalised.
    entry: String,
    /// Why.
    reason: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The name of the key that added it.
    created_by: String,
}

impl From<LinkBlock> for Block {
    fn from(b: LinkBlock) -> Self {
        let LinkBlock { id, entry, reason, created_at, created_by } = b;
        Self { id, entry, reason, created_at, created_by }
    }
}

fn moderator(caller: &Caller, verb: Verb) -> Result<()> {
    Ok(require_moderator(caller.principal(), verb)?)
}

/// Reports a link, whosever it is: at most 10 in an hour with one key, and 60 of one link.
#[utoipa::path(
    post, path = "/v1/link-reports", operation_id = "report_link", tag = "moderation", request_body = NewReport,
    responses(
        (status = 202, description = "It was taken; of links with many open reports it may only have been counted."),
        (status = 404, description = "There is no such link, or no such domain."),
    )
)]
pub(super) async fn report(
    caller: Caller,
    State(shortener): State<Shortener>,
    Json(body): Json<NewReport>,
) -> Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    let place = LinkPlace { host: body.domain.as_deref(), code: &body.code };
    shortener.report_at(place, body.reason.into(), &body.detail, Reporter::Key(caller.principal())).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Reports of all projects. For moderators.
#[utoipa::path(
    get, path = "/v1/link-reports", operation_id = "list_link_reports", tag = "moderation", params(ReportsQuery),
    responses((status = 200, description = "A page of reports.", body = Page<ShownReport>))
)]
pub(super) async fn reports(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<ReportsQuery>,
) -> Result<Json<Page<ShownReport>>> {
    moderator(&caller, Verb::Read)?;
    let state = match query.state.as_deref() {
        None => ReportState::Open,
        Some(name) => ReportState::parse(name).ok_or_else(|| {
            Error::Field(crate::model::Invalid::new("?state", "one of `open`, `dismissed`, `upheld`"))
        })?,
    };
    let list = format!("reports {}", state.as_str());
    let after = shortener.open_name(&list, caller.project(), query.cursor.as_deref())?;
    let mut reports = shortener.reports(state, &after, query.limit + 1).await?;
    let next_cursor = (reports.len() > query.limit as usize).then(|| {
        reports.truncate(query.limit as usize);
        let last = reports.last().map(|last| last.id.to_string()).unwrap_or_default();
        shortener.seal_name(&list, caller.project(), &last)
    });
    Ok(Json(Page { items: reports.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Dismisses a report: nothing is wrong with the link. For moderators.
#[utoipa::path(
    post, path = "/v1/link-reports/{id}/dismiss", operation_id = "dismiss_link_report", tag = "moderation",
    request_body = Dismissal, params(("id" = String, Path, description = "Of the report.", max_length = 40)),
    responses((status = 200, description = "It is dismissed.", body = Dismissed))
)]
pub(super) async fn dismiss(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(id): Path<String>,
    Json(body): Json<Dismissal>,
) -> Result<Json<Dismissed>> {
    moderator(&caller, Verb::Write)?;
    let id = ReportId::parse(&id).ok_or(Error::ReportUnknown)?;
    let count = shortener.dismiss_report(caller.principal(), id, &body.note, body.all_of_link).await?;
    Ok(Json(Dismissed { count }))
}

/// Takes a link of any project down: it leads nowhere, and its owner can neither change nor delete it. For moderators.
#[utoipa::path(
    post, path = "/v1/links/{code}/takedown", operation_id = "take_link_down", tag = "moderation", request_body = NewTakedown,
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses((status = 204, description = "It is down, on every node."))
)]
pub(super) async fn take_down(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    Json(body): Json<NewTakedown>,
) -> Result<StatusCode> {
    moderator(&caller, Verb::Write)?;
    let kind = match body.kind {
        Kind::Abuse => Takedown::Abuse,
        Kind::Legal => Takedown::Legal,
    };
    let place = LinkPlace { host: domain.as_deref(), code: &code };
    shortener.take_down(caller.principal(), place, kind, &body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The last takedown of a link of the project.
#[utoipa::path(
    get, path = "/v1/links/{code}/takedown", operation_id = "get_link_takedown", tag = "moderation",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses(
        (status = 200, description = "The takedown and what became of it.", body = ShownTakedown),
        (status = 409, description = "It was never taken down."),
    )
)]
pub(super) async fn takedown(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
) -> Result<Json<ShownTakedown>> {
    caller.require(SYSTEM, "read")?;
    let place = LinkPlace { host: domain.as_deref(), code: &code };
    Ok(Json(shortener.takedown_of(caller.project(), place).await?.into()))
}

/// Brings a link back that was taken down. For moderators.
#[utoipa::path(
    post, path = "/v1/links/{code}/restore", operation_id = "restore_link", tag = "moderation", request_body = Note,
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses((status = 204, description = "It is as it was before the takedown."))
)]
pub(super) async fn restore(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    Json(body): Json<Note>,
) -> Result<StatusCode> {
    moderator(&caller, Verb::Write)?;
    let place = LinkPlace { host: domain.as_deref(), code: &code };
    shortener.restore(caller.principal(), place, &body.note).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Appeals against the takedown of a link of the project: once for each takedown.
#[utoipa::path(
    post, path = "/v1/links/{code}/appeal", operation_id = "appeal_takedown", tag = "moderation", request_body = NewAppeal,
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses((status = 202, description = "A moderator will decide; `GET …/takedown` shows how."))
)]
pub(super) async fn appeal(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    Json(body): Json<NewAppeal>,
) -> Result<StatusCode> {
    caller.require(SYSTEM, "write")?;
    let place = LinkPlace { host: domain.as_deref(), code: &code };
    shortener.appeal(caller.principal(), place, &body.text).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Grants an appeal, which brings the link back. For moderators.
#[utoipa::path(
    post, path = "/v1/links/{code}/appeal/grant", operation_id = "grant_appeal", tag = "moderation", request_body = Note,
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses((status = 204, description = "The link is as it was before the takedown."))
)]
pub(super) async fn grant(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    Json(body): Json<Note>,
) -> Result<StatusCode> {
    moderator(&caller, Verb::Write)?;
    let place = LinkPlace { host: domain.as_deref(), code: &code };
    shortener.decide_appeal(caller.principal(), place, true, &body.note).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rejects an appeal: the takedown stands, and there is no further appeal. For moderators.
#[utoipa::path(
    post, path = "/v1/links/{code}/appeal/reject", operation_id = "reject_appeal", tag = "moderation", request_body = Note,
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), DomainQuery),
    responses((status = 204, description = "The takedown stands."))
)]
pub(super) async fn reject(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(DomainQuery { domain }): Query<DomainQuery>,
    Json(body): Json<Note>,
) -> Result<StatusCode> {
    moderator(&caller, Verb::Write)?;
    let place = LinkPlace { host: domain.as_deref(), code: &code };
    shortener.decide_appeal(caller.principal(), place, false, &body.note).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which takedowns.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TakedownsQuery {
    /// `appealed`, `standing`, `upheld` (the oldest first), or `lifted` (the newest first).
    #[serde(default)]
    #[param(default = "appealed", required = false, nullable = false, max_length = 16)]
    state: Option<String>,
    /// How many items at most, 1 to 200.
    #[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    cursor: Option<String>,
}

/// Takedowns of all projects: those with an appeal that waits, unless another state is asked for. For moderators.
#[utoipa::path(
    get, path = "/v1/link-takedowns", operation_id = "list_link_takedowns", tag = "moderation", params(TakedownsQuery),
    responses((status = 200, description = "A page of takedowns.", body = Page<ShownTakedown>))
)]
pub(super) async fn takedowns(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<TakedownsQuery>,
) -> Result<Json<Page<ShownTakedown>>> {
    moderator(&caller, Verb::Read)?;
    let standing = match query.state.as_deref() {
        None => Standing::Appealed,
        Some(name) => Standing::parse(name).ok_or_else(|| {
            Error::Field(crate::model::Invalid::new("?state", "one of `appealed`, `standing`, `upheld`, `lifted`"))
        })?,
    };
    let list = format!("takedowns {}", standing.as_str());
    let after = shortener.open_name(&list, caller.project(), query.cursor.as_deref())?.parse().ok();
    let mut items = shortener.takedowns(standing, after, query.limit + 1).await?;
    let next_cursor = (items.len() > query.limit as usize).then(|| {
        items.truncate(query.limit as usize);
        let last = items.last().map(|last| last.id.to_string()).unwrap_or_default();
        shortener.seal_name(&list, caller.project(), &last)
    });
    Ok(Json(Page { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Destinations that moderators have blocked, in the order in which they were added. For moderators.
#[utoipa::path(
    get, path = "/v1/link-blocks", operation_id = "list_link_blocks", tag = "moderation", params(NamesQuery),
    responses((status = 200, description = "A page of entries.", body = Page<Block>))
)]
pub(super) async fn blocks(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(NamesQuery { limit, cursor }): Query<NamesQuery>,
) -> Result<Json<Page<Block>>> {
    moderator(&caller, Verb::Read)?;
    let after = shortener.open_name("blocks", caller.project(), cursor.as_deref())?;
    let mut items = shortener.blocks(&after, limit + 1).await?;
    let next_cursor = (items.len() > limit as usize).then(|| {
        items.truncate(limit as usize);
        let last = items.last().map(|last| last.id.to_string()).unwrap_or_default();
        shortener.seal_name("blocks", caller.project(), &last)
    });
    Ok(Json(Page { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Blocks a destination: no link can lead there, and those that do show a page. For moderators.
#[utoipa::path(
    post, path = "/v1/link-blocks", operation_id = "add_link_block", tag = "moderation", request_body = NewBlock,
    responses((status = 201, description = "The entry.", body = Block))
)]
pub(super) async fn block(
    caller: Caller,
    State(shortener): State<Shortener>,
    Json(body): Json<NewBlock>,
) -> Result<Response> {
    moderator(&caller, Verb::Write)?;
    let block = shortener.add_block(caller.principal(), &body.entry, &body.reason).await?;
    let location = HeaderValue::try_from(format!("/v1/link-blocks/{}", block.id)).map_err(web::Reject::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(Block::from(block))).into_response())
}

/// Takes an entry away. For moderators.
#[utoipa::path(
    delete, path = "/v1/link-blocks/{id}", operation_id = "remove_link_block", tag = "moderation",
    params(("id" = String, Path, description = "Of the entry.", max_length = 40)),
    responses((status = 204, description = "It is gone; links that lead there can be followed again."))
)]
pub(super) async fn unblock(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    moderator(&caller, Verb::Write)?;
    let id = BlockId::parse(&id).ok_or(Error::BlockUnknown)?;
    shortener.remove_block(caller.principal(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
