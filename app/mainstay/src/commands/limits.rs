//! `mainstay limits …`: the client of the rate limiter.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::client::{Answer, Client, Query, refusal, segment};
use crate::{
    cli::{CheckArgs, LimitsArgs, LimitsCommand, RulesCommand},
    output::{line, note, table},
};

/// Runs one of the commands. Gives whether what was asked may go on.
pub(crate) fn run(args: &LimitsArgs) -> Result<bool, String> {
    let client = Client::new(&args.client);
    let as_json = args.client.json;
    match &args.command {
        LimitsCommand::Check(check) => {
            let path = if check.peek { "/v1/limits/peek" } else { "/v1/limits/check" };
            let outcome = client.call("POST", path, Some(&question(check)?))?;
            tell(&outcome, as_json);
            return Ok(outcome["is_allowed"] == true);
        }
        LimitsCommand::Reserve { check, lease } => {
            let mut body = question(check)?;
            body["lease_ms"] = json!(lease.saturating_mul(1_000));
            let outcome = client.call("POST", "/v1/limits/reserve", Some(&body))?;
            tell(&outcome, as_json);
            if let Some(text) = outcome["reservation"].as_str().filter(|_| !as_json) {
                line(text);
            }
            return Ok(outcome["is_allowed"] == true);
        }
        LimitsCommand::Settle { reservation, cost } => {
            let body = json!({ "reservation": reservation, "actual_cost": cost });
            let settled = client.call("POST", "/v1/limits/settle", Some(&body))?;
            if as_json {
                line(settled);
            } else if settled["is_first"] == true {
                note(format!("reserved {}, charged {}", settled["reserved"], settled["charged"]));
            } else {
                note("an earlier call settled it; nothing changed");
            }
        }
        LimitsCommand::Rules { command } => rules(&client, command, as_json)?,
        LimitsCommand::Top => {
            let stats = client.call("GET", "/v1/limits/stats", None)?;
            if as_json { line(stats) } else { top(&stats) }
        }
    }
    Ok(true)
}

/// `user=42 route=/search + address=192.0.2.1` as two descriptors.
fn question(check: &CheckArgs) -> Result<Value, String> {
    let mut descriptors = vec![Map::new()];
    for entry in &check.entries {
        if entry == "+" {
            descriptors.push(Map::new());
            continue;
        }
        let (key, value) =
            entry.split_once('=').ok_or_else(|| format!("expected key=value, such as user=42, not {entry:?}"))?;
        if let Some(last) = descriptors.last_mut() {
            last.insert(key.to_owned(), json!(value));
        }
    }
    let descriptors: Vec<Value> = descriptors.into_iter().map(|entries| json!({ "entries": entries })).collect();
    let matching = if check.exact { "exact" } else { "contains" };
    Ok(json!({ "domain": check.domain, "descriptors": descriptors, "cost": check.cost, "matching": matching }))
}

/// An outcome, a line for each rule.
fn tell(outcome: &Value, as_json: bool) {
    if as_json {
        line(outcome);
        return;
    }
    let seconds = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", seconds(ms)));
    note(match (outcome["is_allowed"] == true, outcome["retry_after_ms"].as_u64()) {
        (true, _) => "allowed".to_owned(),
        (false, Some(ms)) => format!("refused; try again in {:.1} s", self::seconds(ms)),
        (false, None) => "refused; no waiting helps".to_owned(),
    });
    let row = |decision: &Value| {
        let verdict = match (decision["is_allowed"] == true, decision["is_shadow"] == true) {
            (true, _) => "allows",
            (false, false) => "refuses",
            (false, true) => "would refuse",
        };
        let left = format!("{} of {}", decision["remaining"], decision["limit"]);
        vec![
            text(decision, "rule"),
            verdict.to_owned(),
            left,
            seconds(&decision["window_ms"]),
            seconds(&decision["reset_after_ms"]),
            text(decision, "source"),
        ]
    };
    let rows: Vec<_> = list(outcome, "decisions").map(row).collect();
    if rows.is_empty() {
        note("no rule applies");
    } else {
        line(table(&["RULE", "VERDICT", "LEFT", "WINDOW", "WHOLE IN", "DECIDED BY"], &rows));
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn rules(client: &Client, command: &RulesCommand, as_json: bool) -> Result<(), String> {
    let of = |domain: &str, rest: &str| format!("/v1/limits/rules/{}{rest}", segment(domain));
    match command {
        RulesCommand::List => {
            let found = client.call("GET", "/v1/limits/rules", None)?;
            if as_json {
                line(found);
            } else {
                let rows = list(&found, "items")
                    .map(|d| ["domain", "origin", "version", "rule_count"].map(|n| text(d, n)).to_vec());
                line(table(&["DOMAIN", "FROM", "VERSION", "RULES"], &rows.collect::<Vec<_>>()));
            }
        }
        RulesCommand::Get { domain, at } => {
            let path = at.map_or_else(|| of(domain, ""), |version| of(domain, &format!("/versions/{version}")));
            let found = client.call("GET", &path, None)?;
            if as_json { line(found) } else { line(pretty(&found["rules"])) }
        }
        RulesCommand::Put { domain, file, message, if_version } => {
            let body = json!({ "rules": read(file)?, "message": message });
            let tag = if_version.map(|version| format!("\"v{version}\""));
            let headers: Vec<_> = tag.iter().map(|tag| ("if-match", tag.as_str())).collect();
            let put = accepted(&client.send("PUT", &of(domain, ""), &headers, Some(&body))?)?;
            changed(&put, as_json);
        }
        RulesCommand::Versions { domain } => {
            let page = client.call("GET", &of(domain, "/versions"), None)?;
            if as_json {
                line(page);
            } else {
                let row = |v: &Value| {
                    let written = &v["written"];
                    vec![
                        text(v, "version"),
                        text(v, "rule_count"),
                        text(written, "at"),
                        text(written, "by"),
                        text(written, "message"),
                    ]
                };
                line(table(
                    &["VERSION", "RULES", "WHEN", "WHO", "WHY"],
                    &list(&page, "items").map(row).collect::<Vec<_>>(),
                ));
            }
        }
        RulesCommand::Diff { domain, from, to } => {
            let (from, to) = (from.to_string(), to.map(|to| to.to_string()));
            let query = Query::of(of(domain, "/diff")).text("from", Some(&from)).text("to", to.as_deref());
            let diff = client.call("GET", &query.on_it(), None)?;
            if as_json { line(diff) } else { differences(&diff) }
        }
        RulesCommand::Rollback { domain, to, message } => {
            let body = json!({ "version": to, "message": message });
            changed(&client.call("POST", &of(domain, "/rollback"), Some(&body))?, as_json);
        }
    }
    Ok(())
}

fn changed(set: &Value, as_json: bool) {
    if as_json {
        line(set);
    } else {
        let count = set["rules"].as_array().map_or(0, Vec::len);
        note(format!("{}: version {} with {count} rules holds now", text(set, "domain"), set["version"]));
    }
}

/// Lines that went with `-`, lines that came with `+`.
fn differences(diff: &Value) {
    let show = |sign: &str, rule: &Value| {
        for text in pretty(rule).lines() {
            line(format!("{sign} {text}"));
        }
    };
    list(diff, "removed").for_each(|rule| show("-", rule));
    list(diff, "added").for_each(|rule| show("+", rule));
    for change in list(diff, "changed") {
        show("-", &change["before"]);
        show("+", &change["after"]);
    }
    if ["removed", "added", "changed"].iter().all(|part| list(diff, part).next().is_none()) {
        note("nothing differs");
    }
}

fn top(stats: &Value) {
    let mut rules: Vec<&Value> = list(stats, "rules").collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule["refused"].as_u64()));
    let names = ["domain", "rule", "mode", "allowed", "refused", "shadow_refused"];
    let rows: Vec<_> = rules.iter().map(|rule| names.map(|name| text(rule, name)).to_vec()).collect();
    line(table(&["DOMAIN", "RULE", "MODE", "ALLOWED", "REFUSED", "WOULD REFUSE"], &rows));
    let rows: Vec<_> = list(stats, "top_refused")
        .map(|key| ["domain", "rule", "key", "count"].map(|name| text(key, name)).to_vec())
        .collect();
    if !rows.is_empty() {
        note("refused most in the last 5 to 10 minutes:");
        line(table(&["DOMAIN", "RULE", "KEY", "TIMES"], &rows));
    }
    if let Some(since) = stats["down_since"].as_str() {
        note(format!("Redis is away since {since}: each limit does as its rule declares"));
    }
}

/// Rules of a file: a list of them, or what `rules get --json` gives.
fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    match value {
        Value::Object(mut object) => object.remove("rules").ok_or_else(|| format!("{}: no `rules`", file.display())),
        list => Ok(list),
    }
}

fn accepted(answer: &Answer) -> Result<Value, String> {
    if answer.status < 300 { Ok(answer.json()) } else { Err(refusal(answer)) }
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn text(of: &Value, name: &str) -> String {
    match &of[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
