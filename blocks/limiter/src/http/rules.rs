//! Rules over HTTP.

use access::Caller;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::header;
use kernel::{ProjectId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Conditions, ETag, Json, Page, Path, Query, Result, conditional::Outcome};

use crate::{
    SYSTEM,
    error::Error,
    model::{RuleSpec, RulesDiff},
    service::{Expected, Limiter, RuleSet, Version, Written},
};

/// Rules to be put.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutRules {
    /// All rules of the domain; none: nothing is limited.
    #[schema(max_items = 1000)]
    rules: Vec<RuleSpec>,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    message: String,
}

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
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
    /// The version after; left out: the rules as they hold now.
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

/// The rules of a domain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldRules {
    /// The domain.
    domain: String,
    /// `database`, `file` (read-only) or `built_in`.
    origin: &'static str,
    /// Counts up with every change; 0 where they are not in the database.
    version: i64,
    /// Who wrote this version.
    written: Option<ToldWritten>,
    /// The rules.
    rules: Vec<RuleSpec>,
}

/// A version without its rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldVersion {
    /// Its number.
    version: i64,
    /// How many rules it has.
    rule_count: u32,
    /// Who wrote it.
    written: ToldWritten,
}

/// A domain without its rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldDomain {
    /// Its name.
    domain: String,
    /// `database`, `file` (read-only) or `built_in`.
    origin: &'static str,
    /// Counts up with every change; 0 where it is not in the database.
    version: i64,
    /// How many rules it has.
    rule_count: u32,
}

/// All domains of a project; at most 100 of the database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldDomains {
    /// By name.
    items: Vec<ToldDomain>,
}

/// A rule that changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldChange {
    /// As it was.
    before: RuleSpec,
    /// As it became.
    after: RuleSpec,
}

/// What differs between two versions, by the names of rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldDiff {
    /// Rules that came.
    added: Vec<RuleSpec>,
    /// Rules that went.
    removed: Vec<RuleSpec>,
    /// Rules that changed.
    changed: Vec<ToldChange>,
}

fn written(written: Written) -> ToldWritten {
    let Written { by, at, message, rolled_back_to } = written;
    ToldWritten { by, at, message, rolled_back_to }
}

fn show(set: RuleSet) -> ToldRules {
    let RuleSet { domain, origin, version, rules, written: by } = set;
    ToldRules { domain, origin: origin.as_str(), version, written: by.map(written), rules }
}

/// The answer with its tag; what is not in the database has no version to be named by.
fn answer(set: RuleSet) -> Response {
    let version = (set.version > 0).then(|| ETag::of_version(set.version).header_value());
    let mut response = Json(show(set)).into_response();
    if let Some(tag) = version {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Domains that have rules.
#[utoipa::path(
    get, path = "/v1/limits/rules", operation_id = "list_limit_domains", tag = "limits",
    responses((status = 200, description = "All domains, by name.", body = ToldDomains))
)]
pub(super) async fn domains(caller: Caller, State(limiter): State<Limiter>) -> Result<Json<ToldDomains>> {
    caller.require(SYSTEM, "read")?;
    let domain = |one: crate::service::DomainSummary| ToldDomain {
        domain: one.domain,
        origin: one.origin.as_str(),
        version: one.version,
        rule_count: one.rule_count,
    };
    let items = limiter.domains(caller.project()).await?.into_iter().map(domain).collect();
    Ok(Json(ToldDomains { items }))
}

/// The rules of a domain as they hold now.
#[utoipa::path(
    get, path = "/v1/limits/rules/{domain}", operation_id = "get_limit_rules", tag = "limits",
    params(("domain" = String, Path, description = "Its name.", max_length = 64)),
    responses(
        (status = 200, description = "The rules.", body = ToldRules, headers(("ETag" = String, description = "Their version."))),
        (status = 304, description = "They are still at the version in If-None-Match."),
        (status = 412, description = "They are at another version than If-Match says."),
    )
)]
pub(super) async fn read(
    caller: Caller,
    State(limiter): State<Limiter>,
    Path(domain): Path<String>,
    conditions: Conditions,
) -> Result<Response> {
    caller.require(SYSTEM, "read")?;
    let set = limiter.rules(caller.project(), &domain).await?;
    if set.version == 0 {
        return Ok(answer(set));
    }
    let etag = ETag::of_version(set.version);
    Ok(conditions.answer(&etag, || answer(set)))
}

/// Puts rules in the place of those of a domain, as a new version. They hold on every node within a second.
#[utoipa::path(
    put, path = "/v1/limits/rules/{domain}", operation_id = "put_limit_rules", tag = "limits", request_body = PutRules,
    params(
        ("domain" = String, Path, description = "1 to 64 of `A-Z a-z 0-9 _ - .`", max_length = 64),
        ("If-Match" = Option<String>, Header, description = "Only when the rules still have this ETag."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when the domain has no rules yet."),
    ),
    responses(
        (status = 200, description = "The rules.", body = ToldRules, headers(("ETag" = String, description = "Their version."))),
        (status = 412, description = "They are at another version than If-Match says."),
    )
)]
pub(super) async fn put(
    caller: Caller,
    State(limiter): State<Limiter>,
    Path(domain): Path<String>,
    conditions: Conditions,
    Json(body): Json<PutRules>,
) -> Result<Response> {
    caller.require(SYSTEM, "admin")?;
    let expected = expected(&limiter, caller.project(), &domain, &conditions).await?;
    Ok(answer(limiter.put_rules(caller.principal(), &domain, body.rules, &body.message, expected).await?))
}

/// Makes an old version of the rules the newest.
#[utoipa::path(
    post, path = "/v1/limits/rules/{domain}/rollback", operation_id = "roll_back_limit_rules", tag = "limits",
    request_body = RollBack,
    params(
        ("domain" = String, Path, description = "Its name.", max_length = 64),
        ("If-Match" = Option<String>, Header, description = "Only when the rules still have this ETag."),
    ),
    responses(
        (status = 200, description = "The rules.", body = ToldRules, headers(("ETag" = String, description = "Their version."))),
        (status = 412, description = "They are at another version than If-Match says."),
    )
)]
pub(super) async fn roll_back(
    caller: Caller,
    State(limiter): State<Limiter>,
    Path(domain): Path<String>,
    conditions: Conditions,
    Json(RollBack { version, message }): Json<RollBack>,
) -> Result<Response> {
    caller.require(SYSTEM, "admin")?;
    let expected = expected(&limiter, caller.project(), &domain, &conditions).await?;
    Ok(answer(limiter.roll_back(caller.principal(), &domain, version, &message, expected).await?))
}

/// Versions of a domain, the newest first. The last 200 are kept.
#[utoipa::path(
    get, path = "/v1/limits/rules/{domain}/versions", operation_id = "list_limit_versions", tag = "limits",
    params(("domain" = String, Path, description = "Its name.", max_length = 64), VersionsQuery),
    responses((status = 200, description = "A page of versions.", body = Page<ToldVersion>))
)]
pub(super) async fn versions(
    caller: Caller,
    State(limiter): State<Limiter>,
    Path(domain): Path<String>,
    Query(VersionsQuery { limit, cursor }): Query<VersionsQuery>,
) -> Result<Json<Page<ToldVersion>>> {
    caller.require(SYSTEM, "read")?;
    let page = limiter.version_page(caller.project(), &domain, cursor, limit).await?;
    let told =
        |one: Version| ToldVersion { version: one.version, rule_count: one.rule_count, written: written(one.written) };
    Ok(Json(page.map(told)))
}

/// One version of the rules.
#[utoipa::path(
    get, path = "/v1/limits/rules/{domain}/versions/{version}", operation_id = "get_limit_version", tag = "limits",
    params(
        ("domain" = String, Path, description = "The domain.", max_length = 64),
        ("version" = i64, Path, description = "Its number."),
    ),
    responses((status = 200, description = "The rules.", body = ToldRules))
)]
pub(super) async fn version(
    caller: Caller,
    State(limiter): State<Limiter>,
    Path((domain, version)): Path<(String, i64)>,
) -> Result<Json<ToldRules>> {
    caller.require(SYSTEM, "read")?;
    Ok(Json(show(limiter.version(caller.project(), &domain, version).await?)))
}

/// What differs between two versions.
#[utoipa::path(
    get, path = "/v1/limits/rules/{domain}/diff", operation_id = "diff_limit_rules", tag = "limits",
    params(("domain" = String, Path, description = "The domain.", max_length = 64), DiffQuery),
    responses((status = 200, description = "Rules that came, went and changed.", body = ToldDiff))
)]
pub(super) async fn diff(
    caller: Caller,
    State(limiter): State<Limiter>,
    Path(domain): Path<String>,
    Query(DiffQuery { from, to }): Query<DiffQuery>,
) -> Result<Json<ToldDiff>> {
    caller.require(SYSTEM, "read")?;
    let before = limiter.version(caller.project(), &domain, from).await?;
    let after = match to {
        Some(to) => limiter.version(caller.project(), &domain, to).await?,
        None => limiter.rules(caller.project(), &domain).await?,
    };
    let RulesDiff { added, removed, changed } = RulesDiff::new(&before.rules, &after.rules);
    let changed = changed.into_iter().map(|(before, after)| ToldChange { before, after }).collect();
    Ok(Json(ToldDiff { added, removed, changed }))
}

/// What the conditions of a change expect. What was judged is what is replaced: a change in between is noticed inside of the
/// transaction.
async fn expected(
    limiter: &Limiter,
    project: &ProjectId,
    domain: &str,
    conditions: &Conditions,
) -> Result<Expected, Error> {
    let head = limiter.newest_version(project, domain).await?;
    let etag = head.map(ETag::of_version);
    if conditions.judge(etag.as_ref(), None) != Outcome::Proceed {
        return Err(Error::RulesChanged);
    }
    Ok(match head {
        _ if !conditions.has_any() => Expected::Any,
        Some(version) => Expected::Version(version),
        None => Expected::Nothing,
    })
}
