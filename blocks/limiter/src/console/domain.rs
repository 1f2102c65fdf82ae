//! The rules of a domain: as they hold, as they were, and the form to change them.

use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use console::{
    Chrome, Column, Field, Flash, Form, Head, Link, Markup, RequestBox, Row, Status, Table, badge, format, html,
    post_button, section,
};
use http::StatusCode;
use kernel::{Problem, Timestamp};
use serde_json::{Value, json};

use super::{PATH, Pages, Pairs, Sent, accept, answer};
use crate::{
    Expected, Limiter, Origin, RuleSet, RuleSpec, SYSTEM, Version,
    error::RULES_INVALID,
    model::{LimitSpec, Mode, RulesDiff},
};

/// How many versions the page lists.
const VERSIONS: u32 = 20;

fn address(domain: &str, rest: &str) -> Link {
    Link::new(format!("{PATH}/{}{rest}", console::link::escape(domain)))
}

/// `100 in 1m, token_bucket`.
fn words(limit: &LimitSpec) -> String {
    let span = limit.period.or(limit.window).or(limit.lease).map(|span| span.to_string());
    let calendar = limit.calendar.as_ref().map(|c| format!("each {} ({})", c.unit.as_str(), c.zone));
    let when = span.map(|span| format!("in {span}")).or(calendar).unwrap_or_else(|| "at once".to_owned());
    format!("{} {when}, {}", limit.limit, limit.algorithm.as_str().replace('_', " "))
}

fn rule_row(rule: &RuleSpec) -> Row {
    let keys = rule.keys.iter().map(|key| match &key.value {
        Some(value) => format!("{}={value}", key.key),
        None => key.key.clone(),
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    Row::new(&rule.name)
        // One element: where it is narrow, a cell lays its elements side by side.
        .cell(html! { div { strong { (rule.name) } @if !rule.description.is_empty() { div.quiet { (rule.description) } } } })
        .cell(html! { @if keys.is_empty() { span.quiet { "everything" } } @else { code { (keys) } } })
        .cell(words(&rule.limit))
        .cell(mode(rule.mode))
        .cell(rule.when_down.as_str())
        .cell(rule.overrides.len().to_string())
}

/// A mode as a badge.
pub(super) fn mode(mode: Mode) -> Markup {
    match mode {
        Mode::Enforce => badge(Status::Ok, "enforced"),
        Mode::Shadow => badge(Status::Degraded, "shadow"),
        Mode::Off => badge(Status::Unknown, "off"),
    }
}

/// The page of a domain.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { limiter, .. }): State<Pages>,
    Path(domain): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let set = limiter.rules(caller.project(), &domain).await?;
        let versions = limiter.versions(caller.project(), &domain, None, VERSIONS).await?;
        Ok::<_, Problem>(draw(&chrome, &limiter, &set, &versions))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

fn draw(chrome: &Chrome, limiter: &Limiter, set: &RuleSet, versions: &[Version]) -> Markup {
    let domain = &set.domain;
    let table = Table::new("Rules", chrome.at())
        .column(Column::text("rule", "Rule"))
        .column(Column::text("keys", "Applies to"))
        .column(Column::text("limit", "Allows"))
        .column(Column::text("mode", "Mode"))
        .column(Column::text("down", "Without Redis"))
        .column(Column::number("overrides", "Overrides"))
        .rows(set.rules.iter().map(rule_row));
    let sentence = match set.origin {
        Origin::Database => format!("Version {} of these rules holds.", set.version),
        Origin::File => "These rules are in the file of rules, and are changed there.".to_owned(),
        Origin::BuiltIn => "The server's defaults. A rule of the same name takes one's place.".to_owned(),
    };
    let mut head = Head::new(domain, sentence).crumb("Limits", Link::new(PATH));
    if set.origin != Origin::File {
        head = head.actions(html! { a.button.primary href=(address(domain, "/edit")) { "Change rules" } });
    }
    let request = RequestBox::get(format!("/v1/limits/rules/{}", console::link::escape(domain)))
        .cli(["limits", "rules", "get", domain]);
    let body = html! {
        @if chrome.at().get("done").is_some() { (Flash::done("They hold on every node within a second.")) }
        (section("Rules", html! { (table) }))
        @if !versions.is_empty() { (section("Versions", history(chrome, limiter, set, versions))) }
        (chrome.request(&request))
    };
    chrome.page_with(head, body)
}

fn history(chrome: &Chrome, limiter: &Limiter, set: &RuleSet, versions: &[Version]) -> Markup {
    let now: Timestamp = limiter.clock().now();
    let rows = versions.iter().map(|one| {
        let number = one.version.to_string();
        let is_now = one.version == set.version;
        Row::new(&number)
            .link(&format!("Version {number}"), &address(&set.domain, &format!("/versions/{number}")))
            .cell(one.rule_count.to_string())
            .cell(html! { div { (format::time(one.written.at, now)) " by " (one.written.by) } })
            .cell(&one.written.message)
            .cell(html! {
                @if is_now { (badge(Status::Ok, "holds")) }
                @else { (post_button(chrome, &String::from(&address(&set.domain, "/rollback")), "Roll back to it",
                    &[("version", &number), ("expected", &set.version.to_string())])) }
            })
    });
    let table = Table::new("Versions", chrome.at())
        .column(Column::text("version", "Version"))
        .column(Column::number("rules", "Rules"))
        .column(Column::text("written", "Written"))
        .column(Column::text("why", "Why").cut())
        .column(Column::text("do", "State"))
        .rows(rows);
    html! { (table) }
}

/// What going back to a version would change.
pub(super) async fn version(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { limiter, .. }): State<Pages>,
    Path((domain, number)): Path<(String, i64)>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let then = limiter.version(caller.project(), &domain, number).await?;
        let now = limiter.rules(caller.project(), &domain).await?;
        let diff = RulesDiff::new(&then.rules, &now.rules);
        let head =
            Head::new(format!("Version {number}"), "What has changed from this version to the rules that hold now.")
                .crumb("Limits", Link::new(PATH))
                .crumb(domain.as_str(), address(&domain, ""));
        let body = html! {
            @if diff.is_empty() { p { "Nothing differs." } }
            @for rule in &diff.removed { (change(&rule.name, "went", Some(rule), None)) }
            @for rule in &diff.added { (change(&rule.name, "came", None, Some(rule))) }
            @for (before, after) in &diff.changed { (change(&after.name, "changed", Some(before), Some(after))) }
            (chrome.request(&RequestBox::get(format!("/v1/limits/rules/{}/diff?from={number}", console::link::escape(&domain)))
                .cli(["limits", "rules", "diff", &domain, &number.to_string()])))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// A rule before and after, line by line: `-` and `+` say it without colour.
fn change(name: &str, what: &str, before: Option<&RuleSpec>, after: Option<&RuleSpec>) -> Markup {
    let lines = |rule: Option<&RuleSpec>| rule.map(pretty).unwrap_or_default();
    let (before, after) = (lines(before), lines(after));
    let only = |text: &str, other: &str, sign: &str| {
        text.lines()
            .filter(|line| !other.lines().any(|l| l.trim_end_matches(',') == line.trim_end_matches(',')))
            .fold(String::new(), |all, line| all + sign + " " + line + "\n")
    };
    let text = only(&before, &after, "-") + &only(&after, &before, "+");
    section(&format!("{name} {what}"), html! { div.command { pre tabindex="0" { code { (text) } } } })
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Makes an old version the newest.
pub(super) async fn roll_back(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { limiter, .. }): State<Pages>,
    Path(domain): Path<String>,
    pairs: Pairs,
) -> Response {
    let done = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        let number =
            |name: &str| sent.get(name).parse::<i64>().map_err(|_| Problem::from(crate::Error::VersionUnknown));
        let (version, expected) = (number("version")?, Expected::Version(number("expected")?));
        limiter.roll_back(caller.principal(), &domain, version, "", expected).await?;
        Ok::<_, Problem>(())
    };
    match done.await {
        Ok(()) => Redirect::to(&address(&domain, "").with("done", "1").to_string()).into_response(),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// Where a new domain's form leads.
pub(super) async fn open(Extension(chrome): Extension<Chrome>) -> Response {
    let domain = chrome.at().get("domain").unwrap_or_default().trim();
    Redirect::to(&address(domain, "/edit").to_string()).into_response()
}

/// The form to change the rules; of a domain that has none yet, with an example.
pub(super) async fn edit(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { limiter, .. }): State<Pages>,
    Path(domain): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let (text, version) = match limiter.rules(caller.project(), &domain).await {
            Ok(set) => (pretty(&set.rules), set.version),
            Err(crate::Error::DomainUnknown) => (pretty(&example()), 0),
            Err(e) => return Err(e.into()),
        };
        Ok::<_, Problem>(form(&chrome, &domain, &text, "", version, None))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

fn example() -> Value {
    json!([{
        "name": "per-user", "keys": [{ "key": "user" }],
        "limit": { "algorithm": "token_bucket", "limit": 100, "period": "1m" }, "mode": "shadow",
    }])
}

fn form(chrome: &Chrome, domain: &str, rules: &str, message: &str, version: i64, wrong: Option<&Problem>) -> Markup {
    let mut form = Form::post(chrome, address(domain, "/edit"))
        .hidden("expected", version.to_string())
        .field(
            Field::lines("rules", "Rules", 24)
                .value(rules)
                .help("A list of rules as JSON. A new rule may start in mode \"shadow\", which counts and refuses nothing.")
                .required()
                .mono(),
        )
        .field(Field::text("message", "Why").value(message).longest(500))
        .submit("Put these rules")
        .cancel(address(domain, ""));
    if let Some(problem) = wrong {
        form = form.problem(problem);
    }
    let form = form.request(
        chrome,
        &RequestBox::new("PUT", format!("/v1/limits/rules/{}", console::link::escape(domain)))
            .json(json!({ "rules": example() }))
            .cli(["limits", "rules", "put", domain, "rules.json"]),
    );
    let head = Head::new("Change rules", "All of them are put at once, as a new version.")
        .crumb("Limits", Link::new(PATH))
        .crumb(domain, address(domain, ""));
    let body = html! {
        @if let Some(problem) = wrong.filter(|p| !p.fields.is_empty()) {
            ul { @for fault in &problem.fields { li { code { (fault.field) } ": " (fault.detail) } } }
        }
        (form)
    };
    chrome.page_with(head, body)
}

/// Puts the rules of the form.
pub(super) async fn put(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { limiter, .. }): State<Pages>,
    Path(domain): Path<String>,
    pairs: Pairs,
) -> Response {
    let sent = match accept(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let done = async {
        let rules = read(&sent)?;
        let expected = match sent.get("expected").parse::<i64>() {
            Ok(version) if version > 0 => Expected::Version(version),
            _ => Expected::Nothing,
        };
        limiter.put_rules(caller.principal(), &domain, rules, sent.get("message"), expected).await?;
        Ok::<_, Problem>(())
    };
    match done.await {
        Ok(()) => Redirect::to(&address(&domain, "").with("done", "1").to_string()).into_response(),
        Err(problem) => {
            let version = sent.get("expected").parse().unwrap_or(0);
            let page = form(&chrome, &domain, sent.get("rules"), sent.get("message"), version, Some(&problem));
            answer(&chrome, Ok(page), web::status(problem.code.kind))
        }
    }
}

fn read(sent: &Sent) -> Result<Vec<RuleSpec>, Problem> {
    let mut json = serde_json::Deserializer::from_str(sent.get("rules"));
    serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = format!("/rules at {}", e.path());
        Problem::new(&RULES_INVALID, "Nothing was changed.").field(path, e.into_inner().to_string())
    })
}
