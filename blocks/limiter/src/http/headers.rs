//! What a client is told of its limits, in headers.
//!
//! - `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10; lists of structured fields, RFC 9651):
//!
//!   ```text
//!   RateLimit-Policy: "per-user";q=100;w=60, "per-day";q=5000;w=86400
//!   RateLimit: "per-user";r=17;t=12, "per-day";r=4021;t=39600
//!   ```
//!
//!   `q` is the quota, `w` its window in seconds (left out when it is not a whole number of them), `r` what remains, `t` in how
//!   many seconds the whole quota is there again, rounded up. Rules in shadow mode are not told: they refuse nothing.
//! - `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds from now), for clients that know only those: of the one rule that is
//!   nearest to refusing.
//! - `Retry-After` (RFC 9110) when it refuses, in whole seconds, rounded up; not when waiting cannot help.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sfv::{KeyRef, ListSerializer, StringRef};

use crate::{Decision, Outcome};

/// The most rules that are told: those nearest to refusing.
const MAX_TOLD: usize = 8;
/// The largest integer of a structured field (RFC 9651, 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// Which headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `RateLimit-Policy`, `RateLimit`, `Retry-After`.
    #[default]
    Standard,
    /// `X-RateLimit-*` beside them.
    WithX,
}

/// The headers that tell of `outcome`; none when nothing limits it.
pub fn headers(outcome: &Outcome, form: Form) -> HeaderMap {
    let mut told = HeaderMap::new();
    add(&mut told, outcome, form);
    told
}

/// Adds the headers to those of a response. Limits that the response tells of already, because another layer looked before, stay.
pub fn add(to: &mut HeaderMap, outcome: &Outcome, form: Form) {
    let told = nearest(outcome);
    if let Some(policy) = list(&told, |decision| {
        let window = (decision.window.subsec_nanos() == 0).then_some(("w", decision.window.as_secs()));
        [Some(("q", decision.limit)), window]
    }) {
        to.append(HeaderName::from_static("ratelimit-policy"), policy);
    }
    if let Some(state) =
        list(&told, |decision| [Some(("r", decision.remaining)), Some(("t", seconds_up(decision.reset_after)))])
    {
        to.append(HeaderName::from_static("ratelimit"), state);
    }
    if form == Form::WithX
        && let Some(decision) = told.first()
    {
        for (name, value) in [
            ("x-ratelimit-limit", decision.limit),
            ("x-ratelimit-remaining", decision.remaining),
            ("x-ratelimit-reset", seconds_up(decision.reset_after)),
        ] {
            to.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
    if !outcome.is_allowed
        && let Some(after) = outcome.retry_after
    {
        to.insert(header::RETRY_AFTER, HeaderValue::from(seconds_up(after).max(1)));
    }
}

/// The rules to tell of, each once, the one nearest to refusing first: who refuses longest, then who has least left.
fn nearest(outcome: &Outcome) -> Vec<&Decision> {
    let mut told: Vec<&Decision> = outcome.decisions.iter().filter(|d| !d.is_shadow).collect();
    told.sort_by(|a, b| nearness(b).total_cmp(&nearness(a)));
    let mut names: Vec<&str> = Vec::with_capacity(told.len().min(MAX_TOLD));
    told.retain(|d| {
        let is_new = names.len() < MAX_TOLD && !names.contains(&&*d.rule);
        if is_new {
            names.push(&d.rule);
        }
        is_new
    });
    told
}

/// Above 1 for one that refuses, larger the longer it does; else the part that is used.
#[allow(clippy::cast_precision_loss, reason = "an order, in which the last digits do not matter")]
fn nearness(decision: &Decision) -> f64 {
    if decision.is_allowed {
        return 1.0 - decision.remaining as f64 / decision.limit.max(1) as f64;
    }
    2.0 + decision.retry_after.map_or(f64::MAX, |after| after.as_secs_f64())
}

type Parameter = Option<(&'static str, u64)>;

fn list(told: &[&Decision], parameters: impl Fn(&Decision) -> [Parameter; 2]) -> Option<HeaderValue> {
    let mut list = ListSerializer::new();
    for decision in told {
        // Names of rules are ASCII; one that were not would be left out, not sent wrong.
        let Ok(name) = StringRef::from_str(&decision.rule) else { continue };
        let mut item = list.bare_item(name);
        for (key, value) in parameters(decision).into_iter().flatten() {
            let value = sfv::Integer::try_from(value.min(MAX_INTEGER)).ok();
            if let (Ok(key), Some(value)) = (KeyRef::from_str(key), value) {
                item = item.parameter(key, value);
            }
        }
    }
    list.finish().and_then(|text| HeaderValue::try_from(text).ok())
}

/// Whole seconds, rounded up.
pub(crate) fn seconds_up(d: Duration) -> u64 {
    d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn decision(rule: &str, (limit, window_ms): (u64, u64), remaining: u64, reset_ms: u64) -> Decision {
        Decision {
            descriptor: 0,
            rule: rule.into(),
            limit,
            window: Duration::from_millis(window_ms),
            is_allowed: true,
            is_shadow: false,
            remaining,
            reset_after: Duration::from_millis(reset_ms),
            retry_after: None,
            source: Source::Exact,
        }
    }

    fn refusing(decision: Decision, retry_ms: Option<u64>) -> Decision {
        Decision { is_allowed: false, retry_after: retry_ms.map(Duration::from_millis), ..decision }
    }

    fn outcome(decisions: Vec<Decision>) -> Outcome {
        let refusing = || decisions.iter().filter(|d| !d.is_allowed && !d.is_shadow);
        let retry_after = refusing().map(|d| d.retry_after).max().flatten();
        Outcome { is_allowed: refusing().next().is_none(), retry_after, decisions }
    }

    fn check(decisions: Vec<Decision>, form: Form, expected: &[(&str, &str)]) {
        let told = headers(&outcome(decisions), form);
        let told: Vec<_> = told.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_told() {
        let minute = decision("per-user", (100, 60_000), 17, 11_001);
        let day = decision("per-day", (5_000, 86_400_000), 4_021, 39_600_000);
        check(vec![], Form::WithX, &[]);
        check(vec![Decision { is_shadow: true, ..minute.clone() }], Form::WithX, &[]);
        // The one with least left stands first.
        check(
            vec![day.clone(), minute.clone()],
            Form::Standard,
            &[
                ("ratelimit-policy", "\"per-user\";q=100;w=60, \"per-day\";q=5000;w=86400"),
                ("ratelimit", "\"per-user\";r=17;t=12, \"per-day\";r=4021;t=39600"),
            ],
        );
        // Refused: how long until it fits.
        check(
            vec![minute.clone(), refusing(day.clone(), Some(1_500))],
            Form::WithX,
            &[
                ("ratelimit-policy", "\"per-day\";q=5000;w=86400, \"per-user\";q=100;w=60"),
                ("ratelimit", "\"per-day\";r=4021;t=39600, \"per-user\";r=17;t=12"),
                ("x-ratelimit-limit", "5000"),
                ("x-ratelimit-remaining", "4021"),
                ("x-ratelimit-reset", "39600"),
                ("retry-after", "2"),
            ],
        );
        // Waiting cannot help.
        check(
            vec![refusing(decision("tiny", (1, 500), 1, 0), None)],
            Form::Standard,
            &[("ratelimit-policy", "\"tiny\";q=1"), ("ratelimit", "\"tiny\";r=1;t=0")],
        );
    }

    #[test]
    fn each_rule_once_and_at_most_eight() {
        let far = decision("per-user", (10, 1_000), 9, 0);
        let near = decision("per-user", (10, 1_000), 2, 1_000);
        check(
            vec![far, near],
            Form::Standard,
            &[("ratelimit-policy", "\"per-user\";q=10;w=1"), ("ratelimit", "\"per-user\";r=2;t=1")],
        );
        let many = (0..32).map(|i| decision(&format!("rule-{i}"), (100, 1_000), i, 0)).collect();
        let told = headers(&outcome(many), Form::Standard);
        let policy = told["ratelimit-policy"].to_str().unwrap();
        assert_eq!((policy.split(", ").count(), policy.contains("\"rule-7\"")), (8, true), "{policy}");
    }

    #[test]
    fn numbers_stay_inside_of_what_a_field_can_hold() {
        check(
            vec![decision("huge", (u64::MAX, 1_000), u64::MAX, u64::MAX)],
            Form::Standard,
            &[
                ("ratelimit-policy", "\"huge\";q=999999999999999;w=1"),
                ("ratelimit", "\"huge\";r=999999999999999;t=999999999999999"),
            ],
        );
    }
}
