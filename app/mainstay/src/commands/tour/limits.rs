//! The tour's visit to the limiter.

use serde_json::{Value, json};

use super::{Tour, server::Server};
use crate::commands::client::Answer;

const RULES: &str = "/v1/limits/rules/tour";
/// What the tour's rule allows in a week.
const LIMIT: u64 = 10;

/// A rule on `key`. The log is exact in every window: whatever the time, no edge of one falls into the tour.
fn rule(name: &str, key: &str, limit: u64, mode: &str) -> Value {
    json!({
        "name": name, "keys": [{ "key": key }], "mode": mode,
        "limit": { "algorithm": "sliding_log", "limit": limit, "window": "7d" },
    })
}

fn put(server: &Server, headers: &[(&str, &str)], limit: u64, message: &str) -> Result<Answer, String> {
    let rules = [rule("per-user", "user", limit, "enforce"), rule("tried-out", "guest", 1, "shadow")];
    server.api.send("PUT", RULES, headers, Some(&json!({ "rules": rules, "message": message })))
}

fn ask(server: &Server, what: &str, entries: &Value, cost: u64) -> Result<Value, String> {
    let body = json!({ "domain": "tour", "descriptors": [{ "entries": entries }], "cost": cost });
    server.api.call("POST", &format!("/v1/limits/{what}"), Some(&body))
}

fn is_allowed(answer: &Value) -> bool {
    answer["is_allowed"] == true
}

/// What the first rule says is left; 0 where none applies, which no check expects.
fn remaining(answer: &Value) -> u64 {
    answer["decisions"][0]["remaining"].as_u64().unwrap_or_default()
}

/// Rules are put; exactly as much as they say is allowed; what was reserved too much comes back; an old version holds again.
pub(super) fn run(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let first = put(server, &[("if-none-match", "*")], LIMIT, "begin")?;
    tour.expect("PUT /v1/limits/rules/tour", &first, 200, &format!("ETag {}", first.header("etag")));
    checks(tour, server)?;
    reservations(tour, server)?;
    versions(tour, server)?;
    headers(tour, server)
}

fn checks(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let mut allowed = 0;
    let mut last = Value::Null;
    for _ in 0..2 * LIMIT {
        last = ask(server, "check", &json!({ "user": "ann" }), 1)?;
        allowed += u64::from(is_allowed(&last));
    }
    tour.saw(
        &format!("{} × POST /v1/limits/check of one user", 2 * LIMIT),
        &format!("{allowed} allowed; try again after {} ms", last["retry_after_ms"]),
        allowed == LIMIT && !is_allowed(&last) && last["retry_after_ms"].is_u64(),
    );
    let other = ask(server, "check", &json!({ "user": "bob" }), 1)?;
    let left = remaining(&other);
    tour.saw("of another user", &format!("allowed, {left} left"), is_allowed(&other) && left == LIMIT - 1);

    let (mut allowed, mut would_refuse) = (0, 0);
    for _ in 0..5 {
        let answer = ask(server, "check", &json!({ "guest": "g" }), 1)?;
        allowed += u64::from(is_allowed(&answer));
        would_refuse += u64::from(answer["decisions"][0]["is_allowed"] == false);
    }
    tour.saw(
        "5 × with a rule of 1 in shadow mode",
        &format!("{allowed} allowed, {would_refuse} would be refused"),
        allowed == 5 && would_refuse == 4,
    );
    Ok(())
}

fn reservations(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let user = json!({ "user": "cid" });
    let reserved = ask(server, "reserve", &user, 8)?;
    let left = remaining(&reserved);
    tour.saw("POST /v1/limits/reserve, cost 8", &format!("{left} left"), is_allowed(&reserved) && left == LIMIT - 8);
    let body = json!({ "reservation": reserved["reservation"], "actual_cost": 3 });
    let settled = server.api.call("POST", "/v1/limits/settle", Some(&body))?;
    let again = server.api.call("POST", "/v1/limits/settle", Some(&body))?;
    let left = remaining(&ask(server, "peek", &user, 1)?);
    tour.saw(
        "POST /v1/limits/settle twice, it was 3",
        &format!("{left} left; first: {}, then {}", settled["is_first"], again["is_first"]),
        left == LIMIT - 3 && settled["is_first"] == true && again["is_first"] == false,
    );
    Ok(())
}

fn versions(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let second = put(server, &[("if-match", "\"v1\"")], 2, "less")?;
    tour.expect("PUT with a limit of 2, If-Match", &second, 200, &format!("ETag {}", second.header("etag")));
    tour.expect("PUT again with the old If-Match", &put(server, &[("if-match", "\"v1\"")], 3, "late")?, 412, "");
    let diff = server.api.call("GET", &format!("{RULES}/diff?from=1"), None)?;
    let (before, after) =
        (&diff["changed"][0]["before"]["limit"]["limit"], &diff["changed"][0]["after"]["limit"]["limit"]);
    tour.saw("GET …/diff?from=1", &format!("{before} → {after}"), *before == LIMIT && *after == 2);
    let allowed_of = |user: &str| -> Result<u64, String> {
        (0..2 * LIMIT)
            .try_fold(0, |sum, _| Ok(sum + u64::from(is_allowed(&ask(server, "check", &json!({ "user": user }), 1)?))))
    };
    let allowed = allowed_of("dan")?;
    tour.saw(&format!("{} × POST /v1/limits/check", 2 * LIMIT), &format!("{allowed} allowed"), allowed == 2);
    let body = json!({ "version": 1, "message": "back" });
    let third = server.api.send("POST", &format!("{RULES}/rollback"), &[("if-match", "\"v2\"")], Some(&body))?;
    tour.expect("POST …/rollback to version 1", &third, 200, &format!("ETag {}", third.header("etag")));
    let allowed = allowed_of("eve")?;
    tour.saw(&format!("{} × POST /v1/limits/check", 2 * LIMIT), &format!("{allowed} allowed"), allowed == LIMIT);
    Ok(())
}

/// The server's own API under a rule of the domain `mainstay`.
fn headers(tour: &mut Tour, server: &Server) -> Result<(), String> {
    const OWN: &str = "/v1/limits/rules/mainstay";
    let limit = json!({ "algorithm": "sliding_log", "limit": 3, "window": "7d" });
    let rules = json!([{ "name": "tour", "keys": [{ "key": "route", "value": "/v1/utm-templates" }], "limit": limit }]);
    let body = json!({ "rules": rules, "message": "the tour" });
    tour.expect(
        "PUT /v1/limits/rules/mainstay, 3 of a route",
        &server.api.send("PUT", OWN, &[], Some(&body))?,
        200,
        "",
    );
    for left in (0..3_u64).rev() {
        let answer = server.api.send("GET", "/v1/utm-templates", &[], None)?;
        let told = answer.header("ratelimit").to_owned();
        let is_right = answer.status == 200 && told.starts_with(&format!("\"tour\";r={left};t="));
        tour.saw("GET /v1/utm-templates", &format!("{} RateLimit: {told}", answer.status), is_right);
    }
    let refused = server.api.send("GET", "/v1/utm-templates", &[], None)?;
    let after = refused.header("retry-after").to_owned();
    tour.expect("GET it once more", &refused, 429, &format!("Retry-After: {after}"));
    tour.saw("its Retry-After", &after, after.parse::<u64>().is_ok_and(|s| s > 0));
    // What follows in the tour is not held up.
    let body = json!({ "rules": [], "message": "the tour is over" });
    tour.expect("PUT /v1/limits/rules/mainstay, none", &server.api.send("PUT", OWN, &[], Some(&body))?, 200, "");
    Ok(())
}
