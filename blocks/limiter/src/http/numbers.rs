//! What a node has counted, over HTTP.

use access::Caller;
use axum::extract::State;
use kernel::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use web::{Json, Result};

use crate::{
    SYSTEM,
    model::Mode,
    service::{Limiter, RefusedKey, RuleStats},
};

/// Decisions of a rule by who made them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldSource {
    /// `exact`, `leased`, `short_cut`, `fallback`, `open`, `closed` or `blocked`.
    source: &'static str,
    /// Allowed.
    allowed: u64,
    /// Refused, in shadow mode included.
    refused: u64,
}

/// Decisions of a rule.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldRuleStats {
    /// Its domain.
    domain: String,
    /// Its name.
    rule: String,
    /// Its mode now.
    mode: Mode,
    /// Allowed.
    allowed: u64,
    /// Refused.
    refused: u64,
    /// Would have been refused: in shadow mode.
    shadow_refused: u64,
    /// By who decided.
    by_source: Vec<ToldSource>,
}

/// A key that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldRefused {
    /// The domain.
    domain: String,
    /// The rule.
    rule: String,
    /// The values of the rule's keys.
    #[schema(example = "user=42, route=/search")]
    key: String,
    /// How often, at most.
    count: u64,
    /// By how much `count` may be too high.
    overcount: u64,
}

/// What this node has counted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldStats {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Since when Redis is away; `null` while it serves.
    #[schema(value_type = Option<String>, format = DateTime)]
    down_since: Option<Timestamp>,
    /// Whether the file of rules can be used.
    is_file_stale: bool,
    /// By rule, in order of domain and name.
    rules: Vec<ToldRuleStats>,
    /// The keys that were refused most in the last 5 to 10 minutes.
    top_refused: Vec<ToldRefused>,
}

/// What the node that answers has counted for the project since it started.
#[utoipa::path(
    get, path = "/v1/limits/stats", operation_id = "limit_stats", tag = "limits",
    responses((status = 200, description = "Numbers by rule, and the keys that are refused most.", body = ToldStats))
)]
pub(super) async fn stats(caller: Caller, State(limiter): State<Limiter>) -> Result<Json<ToldStats>> {
    caller.require(SYSTEM, "read")?;
    let stats = limiter.stats(caller.project());
    let by_source = |(source, allowed, refused): (crate::Source, u64, u64)| ToldSource {
        source: source.as_str(),
        allowed,
        refused,
    };
    let rule = |one: RuleStats| ToldRuleStats {
        domain: one.domain.to_string(),
        rule: one.rule.to_string(),
        mode: one.mode,
        allowed: one.allowed,
        refused: one.refused,
        shadow_refused: one.shadow_refused,
        by_source: one.by_source.into_iter().map(by_source).collect(),
    };
    let refused = |one: RefusedKey| ToldRefused {
        domain: one.domain.to_string(),
        rule: one.rule.to_string(),
        key: one.key,
        count: one.count,
        overcount: one.overcount,
    };
    Ok(Json(ToldStats {
        since: stats.since,
        down_since: stats.down_since,
        // Where it is and what is wrong in it is for operators: health and the log tell.
        is_file_stale: stats.file_trouble.is_some(),
        rules: stats.rules.into_iter().map(rule).collect(),
        top_refused: stats.top_refused.into_iter().map(refused).collect(),
    }))
}
