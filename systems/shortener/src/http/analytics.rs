//! What clicks have in common, over HTTP.

use std::time::Duration;

use access::Caller;
use axum::extract::State;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Json, Path, Query, Result};

use super::SYSTEM;
use crate::{
    model::Dimension,
    service::{Analytics, Shortener},
};

/// How far back one looks when nothing is said: 30 days.
const USUAL_RANGE: Duration = Duration::from_hours(24 * 30);

/// Which clicks, and by what they are told apart.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AnalyticsQuery {
    /// From the day of this time on, RFC 3339; days are UTC days. Left out: 30 days before `to`.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    from: Option<Timestamp>,
    /// Up to the end of the day of this time (not with it, when it starts a day). Left out: now.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    to: Option<Timestamp>,
    /// By what clicks are told apart. Left out: `referrer`.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    dimension: DimensionName,
    /// How many values at most, 1 to 200.
    #[serde(default = "usual_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 10, required = false)]
    limit: u32,
}

fn usual_limit() -> u32 {
    10
}

/// The host that a link answers on.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LinkAnalyticsQuery {
    /// From the day of this time on, RFC 3339; days are UTC days. Left out: 30 days before `to`.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    from: Option<Timestamp>,
    /// Up to the end of the day of this time (not with it, when it starts a day). Left out: now.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    to: Option<Timestamp>,
    /// By what clicks are told apart. Left out: `referrer`.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    dimension: DimensionName,
    /// How many values at most, 1 to 200.
    #[serde(default = "usual_limit", deserialize_with = "web::page::limit")]
    #[param(minimum = 1, maximum = 200, default = 10, required = false)]
    limit: u32,
    /// The host that the link answers on. Left out: the installation's own.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
}

/// By what clicks can be told apart.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DimensionName {
    /// The host of the page that led here, without `www.`.
    #[default]
    Referrer,
    /// The browser's family.
    Browser,
    /// The operating system's family.
    System,
    /// `desktop`, `mobile`, `tablet`, `tv` or `console`.
    Device,
    /// The country of the address, ISO 3166-1 alpha-2; only where the operator gave a database of countries.
    Country,
    /// The preferred language, ISO 639-1.
    Language,
}

impl From<DimensionName> for Dimension {
    fn from(name: DimensionName) -> Self {
        match name {
            DimensionName::Referrer => Self::Referrer,
            DimensionName::Browser => Self::Browser,
            DimensionName::System => Self::System,
            DimensionName::Device => Self::Device,
            DimensionName::Country => Self::Country,
            DimensionName::Language => Self::Language,
        }
    }
}

/// One value of the dimension.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct DimensionValue {
    /// The value; null for clicks that did not say, or not what is known here.
    #[schema(example = "news.example.com")]
    value: Option<String>,
    /// Clicks by people.
    click_count: u64,
}

/// Clicks of some days by one dimension.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct AnalyticsAnswer {
    /// The start of the first day.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The end of the last day.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Clicks by people in these days.
    click_count: u64,
    /// Visits of programs that say so in their user agent; they are in no other number.
    bot_count: u64,
    /// Different visitors of each day, added up: somebody who comes on two days counts twice. An estimate: its standard error is 2.3 %.
    visitor_count: u64,
    /// By what clicks are told apart.
    dimension: DimensionName,
    /// The values with the most clicks, the most first.
    values: Vec<DimensionValue>,
    /// Clicks by people with any other value; of each day, the 200 most frequent values are kept.
    other_click_count: u64,
}

/// Clicks of a link by referrer, browser, system, device, country or language.
#[utoipa::path(
    get, path = "/v1/links/{code}/analytics", operation_id = "link_analytics", tag = "links",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), LinkAnalyticsQuery),
    responses((status = 200, description = "The most frequent values of at most 1,500 days.", body = AnalyticsAnswer))
)]
pub(super) async fn link(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(query): Query<LinkAnalyticsQuery>,
) -> Result<Json<AnalyticsAnswer>> {
    caller.require(SYSTEM, "read")?;
    let LinkAnalyticsQuery { from, to, dimension, limit, domain } = query;
    let range = range(&shortener, from, to);
    let limit = usize::try_from(limit).unwrap_or(1);
    let link = (domain.as_deref(), code.as_str());
    let found = shortener.link_analytics(caller.project(), link, range, dimension.into(), limit).await?;
    Ok(Json(show(found, dimension)))
}

/// Clicks of all links of the project by referrer, browser, system, device, country or language.
#[utoipa::path(
    get, path = "/v1/link-analytics", operation_id = "project_link_analytics", tag = "links", params(AnalyticsQuery),
    responses((status = 200, description = "The most frequent values of at most 1,500 days.", body = AnalyticsAnswer))
)]
pub(super) async fn project(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<AnalyticsQuery>,
) -> Result<Json<AnalyticsAnswer>> {
    caller.require(SYSTEM, "read")?;
    let AnalyticsQuery { from, to, dimension, limit } = query;
    let range = range(&shortener, from, to);
    let limit = usize::try_from(limit).unwrap_or(1);
    let found = shortener.project_analytics(caller.project(), range, dimension.into(), limit).await?;
    Ok(Json(show(found, dimension)))
}

fn range(shortener: &Shortener, from: Option<Timestamp>, to: Option<Timestamp>) -> (Timestamp, Timestamp) {
    // This very moment included, also when it starts a day.
    let to = to.unwrap_or_else(|| shortener.now().plus(Duration::from_millis(1)));
    (from.unwrap_or_else(|| to.minus(USUAL_RANGE)), to)
}

fn show(found: Analytics, dimension: DimensionName) -> AnalyticsAnswer {
    AnalyticsAnswer {
        from: found.from,
        to: found.to,
        click_count: found.total.people,
        bot_count: found.total.bots,
        visitor_count: found.visitors,
        dimension,
        values: found
            .values
            .into_iter()
            .map(|v| DimensionValue { value: v.value.map(String::from), click_count: v.clicks })
            .collect(),
        other_click_count: found.other,
    }
}
