//! Clicks over HTTP.

use access::Caller;
use axum::extract::State;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Json, Path, Query, Result};

use super::SYSTEM;
use crate::{
    error::Error,
    model::{Series, Step},
    service::Shortener,
};

/// Which clicks.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClicksQuery {
    /// From this time on, RFC 3339. Left out: 2 hours, 2 days or 30 days before `to`, by step.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    from: Option<Timestamp>,
    /// Up to this time. Left out: now.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    to: Option<Timestamp>,
    /// The width of a point: `minute` (kept for `shortener.minutes_kept`), `hour` or `day`. Left out: `hour`.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    step: StepName,
    /// The host that the link answers on. Left out: the installation's own.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
}

/// The width of a point.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepName {
    /// One minute.
    Minute,
    /// One hour.
    #[default]
    Hour,
    /// One day of UTC.
    Day,
}

/// Clicks in one step of time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Point {
    /// Where the step starts.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Clicks by people.
    click_count: u64,
    /// Visits of programs that say so in their user agent.
    bot_count: u64,
    /// Different visitors, when `step` is `day`: an estimate with a standard error of 2.3 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    visitor_count: Option<u64>,
}

/// Clicks of a link over time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ClickSeries {
    /// The link.
    code: String,
    /// The width of a point.
    step: StepName,
    /// The start of the first point.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The end of the last point.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Clicks by people since the link was made, whatever the range.
    total_click_count: u64,
    /// Visits of programs since the link was made.
    total_bot_count: u64,
    /// Every step from `from` to `to`, those without clicks as zero.
    points: Vec<Point>,
}

/// Clicks of a link over time.
#[utoipa::path(
    get, path = "/v1/links/{code}/clicks", operation_id = "link_clicks", tag = "links",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), ClicksQuery),
    responses(
        (status = 200, description = "Clicks by step, at most 1,500 of them.", body = ClickSeries),
    )
)]
pub(super) async fn clicks(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(query): Query<ClicksQuery>,
) -> Result<Json<ClickSeries>> {
    caller.require(SYSTEM, "read")?;
    let step = match query.step {
        StepName::Minute => Step::Minute,
        StepName::Hour => Step::Hour,
        StepName::Day => Step::Day,
    };
    let to = query.to.unwrap_or_else(|| shortener.now());
    let from = query.from.unwrap_or_else(|| to.minus(step.usual_range()));
    let series = Series::new(from, to, step).map_err(Error::Range)?;
    let link = shortener.get_on(caller.project(), query.domain.as_deref(), &code).await?;
    let points = shortener.clicks_of(link.link.id, series).await?;
    let visitors = if step == Step::Day { shortener.visitors_of(link.link.id, series).await? } else { Vec::new() };
    Ok(Json(ClickSeries {
        code,
        step: query.step,
        from: series.from,
        to: series.to,
        total_click_count: link.total.people,
        total_bot_count: link.total.bots,
        points: points
            .iter()
            .enumerate()
            .map(|(i, p)| Point {
                at: p.at,
                click_count: p.counts.people,
                bot_count: p.counts.bots,
                visitor_count: visitors.get(i).copied(),
            })
            .collect(),
    }))
}
