//! Checks and reservations over HTTP.

use std::{fmt, time::Duration};

use access::Caller;
use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use identity::Principal;
use kernel::{Problem, ProjectId};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use utoipa::ToSchema;
use web::{Json, Result};

use crate::{
    SYSTEM,
    error::Error,
    model::{self, Descriptor, LimitOverride, MAX_ENTRIES, Matching, Outcome, Span},
    service::Limiter,
};

/// The most checks of a batch.
const MAX_BATCH: usize = 1_000;
/// How many checks of a batch wait for Redis at once.
const BATCH_WIDTH: usize = 32;
/// How long a reservation lasts when nothing is said.
const DEFAULT_LEASE_MS: u64 = 60_000;

/// Entries of a descriptor: `{"user": "42", "route": "/search"}`, in their order.
#[derive(Debug, Default)]
struct Entries(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                // Checks have few; the core refuses more than its limit by name.
                let mut entries: Vec<(String, String)> = Vec::with_capacity(4);
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom(format_args!("the key {key:?} comes twice")));
                    }
                    if entries.len() > MAX_ENTRIES {
                        return Err(serde::de::Error::custom(format_args!("at most {MAX_ENTRIES} entries")));
                    }
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// One side of what is done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedDescriptor {
    /// Keys and values, such as `{"user": "42", "route": "/search"}`.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>, required = false)]
    entries: Entries,
    /// What it costs, instead of the cost of the check.
    #[serde(default)]
    #[schema(nullable = true, maximum = 1_000_000_000)]
    cost: Option<u64>,
    /// A limit in the place of the rules, for exactly these entries.
    #[serde(default)]
    #[schema(nullable = true)]
    limit: Option<AskedLimit>,
}

/// A limit that comes with the question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedLimit {
    /// How much in a window.
    #[schema(maximum = 1_000_000_000)]
    limit: u64,
    /// The window, aligned to the Unix epoch.
    #[schema(value_type = String, example = "1m")]
    window: Span,
}

/// Which rules apply to a descriptor.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AskedMatching {
    /// Those whose keys are among its keys.
    #[default]
    Contains,
    /// Those whose keys are exactly its keys.
    Exact,
}

/// One check.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedCheck {
    /// The set of rules.
    #[schema(example = "api", max_length = 64)]
    domain: String,
    /// What is done, seen from different sides. All rules that apply to any of them are charged, or none.
    #[schema(max_items = 32)]
    descriptors: Vec<AskedDescriptor>,
    /// What it costs.
    #[serde(default = "one")]
    #[schema(default = 1, maximum = 1_000_000_000)]
    cost: u64,
    /// Which rules apply.
    #[serde(default)]
    matching: AskedMatching,
}

const fn one() -> u64 {
    1
}

/// One check, or up to 1,000 of them in `checks`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedChecks {
    /// The set of rules; needed where there is no `checks`.
    #[serde(default)]
    #[schema(nullable = true, example = "api", max_length = 64)]
    domain: Option<String>,
    /// What is done, seen from different sides. All rules that apply to any of them are charged, or none.
    #[serde(default)]
    #[schema(max_items = 32, required = false)]
    descriptors: Vec<AskedDescriptor>,
    /// What it costs.
    #[serde(default = "one")]
    #[schema(default = 1, maximum = 1_000_000_000)]
    cost: u64,
    /// Which rules apply.
    #[serde(default)]
    matching: AskedMatching,
    /// Several checks, each decided by itself and in no given order; then nothing else is set.
    #[serde(default)]
    #[schema(nullable = true, max_items = 1000)]
    checks: Option<Vec<AskedCheck>>,
}

/// A check whose cost is not known exactly yet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedReservation {
    /// The set of rules.
    #[schema(example = "api", max_length = 64)]
    domain: String,
    /// What is done, seen from different sides.
    #[schema(max_items = 32)]
    descriptors: Vec<AskedDescriptor>,
    /// What it may cost.
    #[serde(default = "one")]
    #[schema(default = 1, maximum = 1_000_000_000)]
    cost: u64,
    /// Which rules apply.
    #[serde(default)]
    matching: AskedMatching,
    /// How long it can be settled, in milliseconds: 1,000 to 3,600,000.
    #[serde(default = "default_lease_ms")]
    #[schema(default = 60_000, minimum = 1_000, maximum = 3_600_000)]
    lease_ms: u64,
}

const fn default_lease_ms() -> u64 {
    DEFAULT_LEASE_MS
}

/// What a reservation cost in the end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedSettlement {
    /// The text that the reservation gave.
    #[schema(max_length = 4096)]
    reservation: String,
    /// What it cost; 0 gives everything back.
    #[schema(maximum = 1_000_000_000)]
    actual_cost: u64,
}

/// What one rule says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldDecision {
    /// To which descriptor, by its place.
    descriptor: usize,
    /// The name of the rule.
    #[schema(value_type = String)]
    rule: std::sync::Arc<str>,
    /// How much it allows in a window; for concurrency at once.
    limit: u64,
    /// The window, period or lease, in milliseconds.
    window_ms: u64,
    /// Whether this rule allows it.
    is_allowed: bool,
    /// In shadow mode: counted, and never refuses.
    is_shadow: bool,
    /// What is left.
    remaining: u64,
    /// When all of the limit is there again, in milliseconds.
    reset_after_ms: u64,
    /// When this cost fits again, in milliseconds; `null` when it fits now, or never does.
    retry_after_ms: Option<u64>,
    /// Who decided: `exact`, `leased`, `short_cut`, `fallback`, `open`, `closed` or `blocked`.
    source: &'static str,
}

/// The answer to a check.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldOutcome {
    /// Whether it may go on. Then everything was charged, else nothing.
    is_allowed: bool,
    /// When to try again, in milliseconds; `null` when allowed, or when it can never be.
    retry_after_ms: Option<u64>,
    /// What each rule that applies says. Empty: nothing limits it.
    decisions: Vec<ToldDecision>,
}

/// The answer to a reservation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldReservation {
    /// The text that settles it; `null` when refused.
    reservation: Option<String>,
    /// Whether it may go on.
    is_allowed: bool,
    /// When to try again, in milliseconds.
    retry_after_ms: Option<u64>,
    /// What each rule that applies says.
    decisions: Vec<ToldDecision>,
}

/// What became of a reservation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldSettlement {
    /// Whether this call settled it; `false` when an earlier one did, and this one changed nothing.
    is_first: bool,
    /// What was reserved.
    reserved: u64,
    /// What was asked to be charged in the end.
    charged: u64,
}

/// Why one check of a batch could not be decided.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldError {
    /// The stable code, with a page in the documentation.
    code: &'static str,
    /// What happened here.
    detail: String,
    /// The field that is wrong.
    field: Option<String>,
}

/// One check of a batch: an outcome or an error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ToldResult {
    /// Decided.
    Outcome(ToldOutcome),
    /// Not decided; nothing was charged.
    Error {
        /// Why.
        error: ToldError,
    },
}

/// The answers to a batch, in its order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToldResults {
    /// One for each check.
    results: Vec<ToldResult>,
}

/// One outcome, or those of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ToldCheck {
    /// Of one check.
    One(ToldOutcome),
    /// Of a batch.
    Batch(ToldResults),
}

/// A check as the core takes it.
struct Ready {
    domain: String,
    descriptors: Vec<Descriptor>,
    cost: u64,
    matching: Matching,
}

impl Ready {
    fn new(domain: String, descriptors: Vec<AskedDescriptor>, cost: u64, matching: AskedMatching) -> Self {
        let descriptor = |one: AskedDescriptor| Descriptor {
            entries: one.entries.0,
            cost: one.cost,
            limit: one.limit.map(|asked| LimitOverride { limit: asked.limit, window: asked.window.0 }),
        };
        let matching = match matching {
            AskedMatching::Contains => Matching::Contains,
            AskedMatching::Exact => Matching::Exact,
        };
        Self { domain, descriptors: descriptors.into_iter().map(descriptor).collect(), cost, matching }
    }

    fn check(&self) -> model::Check<'_> {
        let Self { domain, descriptors, cost, matching } = self;
        model::Check { domain, descriptors, matching: *matching, cost: *cost }
    }
}

/// Asks whether something may go on, and charges it. Not repeated by `Idempotency-Key`: a check that is sent twice is two checks.
#[utoipa::path(
    post, path = "/v1/limits/check", operation_id = "check_limits", tag = "limits", request_body = AskedChecks,
    responses((status = 200, description = "The outcome, also when it is a refusal; of a batch one for each check.", body = ToldCheck))
)]
pub(super) async fn check(
    caller: Caller,
    State(limiter): State<Limiter>,
    Json(asked): Json<AskedChecks>,
) -> Result<Json<ToldCheck>> {
    caller.require(SYSTEM, "write")?;
    let project = caller.project();
    if let Some(checks) = asked.checks {
        let is_alone = asked.domain.is_none() && asked.descriptors.is_empty();
        let field = if is_alone { "/checks" } else { "/domain" };
        if !is_alone || checks.len() > MAX_BATCH {
            let detail = format!("either one check, or at most {MAX_BATCH} in `checks`");
            return Err(Error::CheckInvalid { field: field.to_owned(), detail }.into());
        }
        let results = stream::iter(checks)
            .map(|one| decide(&limiter, project, one))
            .buffered(BATCH_WIDTH)
            .collect::<Vec<ToldResult>>()
            .await;
        return Ok(Json(ToldCheck::Batch(ToldResults { results })));
    }
    let domain = asked.domain.ok_or_else(|| Error::CheckInvalid {
        field: "/domain".to_owned(),
        detail: "a check names the domain of its rules".to_owned(),
    })?;
    let ready = Ready::new(domain, asked.descriptors, asked.cost, asked.matching);
    let outcome = match limiter.try_check(project, &ready.check()) {
        Some(outcome) => outcome?,
        None => limiter.check(project, &ready.check()).await?,
    };
    Ok(Json(ToldCheck::One(tell(outcome))))
}

/// The body of the answer to a single check, appended to `out`, where it can be decided without waiting and nothing is wrong with it.
/// Else `false`: nothing was charged, and the route has to be asked.
pub fn try_check(limiter: &Limiter, principal: &Principal, body: &[u8], out: &mut Vec<u8>) -> bool {
    if !principal.allows(SYSTEM, "write") {
        return false;
    }
    let Ok(asked) = serde_json::from_slice::<AskedChecks>(body) else { return false };
    let (Some(domain), None) = (asked.domain, asked.checks) else { return false };
    let ready = Ready::new(domain, asked.descriptors, asked.cost, asked.matching);
    let Some(Ok(outcome)) = limiter.try_check(&principal.project, &ready.check()) else { return false };
    // Numbers, truths and names: it cannot fail.
    serde_json::to_writer(out, &tell(outcome)).is_ok()
}

async fn decide(limiter: &Limiter, project: &ProjectId, one: AskedCheck) -> ToldResult {
    let ready = Ready::new(one.domain, one.descriptors, one.cost, one.matching);
    match limiter.check(project, &ready.check()).await {
        Ok(outcome) => ToldResult::Outcome(tell(outcome)),
        Err(error) => {
            let problem = Problem::from(error);
            let field = problem.fields.into_iter().next().map(|field| format!("{}: {}", field.field, field.detail));
            ToldResult::Error { error: ToldError { code: problem.code.name, detail: problem.detail, field } }
        }
    }
}

/// What a check would be answered now; charges nothing.
#[utoipa::path(
    post, path = "/v1/limits/peek", operation_id = "peek_limits", tag = "limits", request_body = AskedCheck,
    responses((status = 200, description = "What would be the outcome.", body = ToldOutcome))
)]
pub(super) async fn peek(
    caller: Caller,
    State(limiter): State<Limiter>,
    Json(asked): Json<AskedCheck>,
) -> Result<Json<ToldOutcome>> {
    caller.require(SYSTEM, "read")?;
    let ready = Ready::new(asked.domain, asked.descriptors, asked.cost, asked.matching);
    Ok(Json(tell(limiter.peek(caller.project(), &ready.check()).await?)))
}

/// Reserves what something may cost, to be settled when it is known. Rules of concurrency need it.
#[utoipa::path(
    post, path = "/v1/limits/reserve", operation_id = "reserve_limits", tag = "limits", request_body = AskedReservation,
    responses((status = 200, description = "The outcome, with the text that settles it.", body = ToldReservation))
)]
pub(super) async fn reserve(
    caller: Caller,
    State(limiter): State<Limiter>,
    Json(asked): Json<AskedReservation>,
) -> Result<Json<ToldReservation>> {
    caller.require(SYSTEM, "write")?;
    let ready = Ready::new(asked.domain, asked.descriptors, asked.cost, asked.matching);
    let lease = Duration::from_millis(asked.lease_ms);
    let (outcome, token) = limiter.reserve(caller.project(), &ready.check(), lease).await?;
    let ToldOutcome { is_allowed, retry_after_ms, decisions } = tell(outcome);
    let reservation = token.map(|token| token.as_str().to_owned());
    Ok(Json(ToldReservation { reservation, is_allowed, retry_after_ms, decisions }))
}

/// Says what a reservation cost: the difference is charged or given back, and places are free again. Once: again changes nothing.
#[utoipa::path(
    post, path = "/v1/limits/settle", operation_id = "settle_limits", tag = "limits", request_body = AskedSettlement,
    responses((status = 200, description = "It is settled, by this call or an earlier one.", body = ToldSettlement))
)]
pub(super) async fn settle(
    caller: Caller,
    State(limiter): State<Limiter>,
    Json(asked): Json<AskedSettlement>,
) -> Result<Json<ToldSettlement>> {
    caller.require(SYSTEM, "write")?;
    let settled = limiter.settle(caller.project(), &asked.reservation, asked.actual_cost).await?;
    let model::Settled { is_first, reserved, charged } = settled;
    Ok(Json(ToldSettlement { is_first, reserved, charged }))
}

/// Whole milliseconds, rounded up: who comes back then is not too early.
fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn tell(outcome: Outcome) -> ToldOutcome {
    let decision = |decision: model::Decision| ToldDecision {
        descriptor: decision.descriptor,
        rule: decision.rule,
        limit: decision.limit,
        window_ms: ms(decision.window),
        is_allowed: decision.is_allowed,
        is_shadow: decision.is_shadow,
        remaining: decision.remaining,
        reset_after_ms: ms(decision.reset_after),
        retry_after_ms: decision.retry_after.map(ms),
        source: decision.source.as_str(),
    };
    ToldOutcome {
        is_allowed: outcome.is_allowed,
        retry_after_ms: outcome.retry_after.map(ms),
        decisions: outcome.decisions.into_iter().map(decision).collect(),
    }
}
