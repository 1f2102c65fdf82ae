//! How limits do now.

use access::Caller;
use axum::{
    extract::{Extension, State},
    response::Response,
};
use console::{
    Chrome, Column, Head, Link, Markup, RequestBox, Row, Status, Table, Tile, empty, format, html, live, section, tiles,
};
use http::StatusCode;
use kernel::{Problem, ProjectId};

use super::{Fragments, OPEN, PATH, Pages, STREAM, answer, domain, events};
use crate::{DomainSummary, Limiter, RuleStats, SYSTEM, Stats};

/// The page.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { limiter, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let head = Head::new("Limits", "How often things may be done, who is refused, and the rules that decide it.")
            .live(Link::new(STREAM));
        let parts = fragments(&chrome, &limiter, caller.project());
        let domains = limiter.domains(caller.project()).await?;
        let body = html! {
            @for (id, content) in parts { (live::fragment(id, content)) }
            (section("Domains", list(&chrome, &domains)))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// What changes on it.
pub(super) async fn stream(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(pages): State<Pages>,
) -> Response {
    if let Err(e) = caller.require(SYSTEM, "read") {
        return answer(&chrome, Err(e.into()), StatusCode::OK);
    }
    let project = caller.project().clone();
    let limiter = pages.limiter.clone();
    events(&pages, move || {
        let (chrome, limiter, project) = (chrome.clone(), limiter.clone(), project.clone());
        async move { Ok(fragments(&chrome, &limiter, &project)) }
    })
}

fn fragments(chrome: &Chrome, limiter: &Limiter, project: &ProjectId) -> Fragments {
    let stats = limiter.stats(project);
    vec![
        ("limit-tiles", overview(limiter, &stats)),
        ("limit-rules", rules(chrome, &stats)),
        ("limit-keys", keys(chrome, &stats)),
    ]
}

fn count(n: u64) -> String {
    format::full(i64::try_from(n).unwrap_or(i64::MAX))
}

fn overview(limiter: &Limiter, stats: &Stats) -> Markup {
    let sum = |of: fn(&RuleStats) -> u64| count(stats.rules.iter().map(of).sum());
    let state = match stats.down_since {
        None => Tile::new("Counting", "shared").status(Status::Ok),
        Some(at) => Tile::new("Counting", "as declared")
            .status(Status::Degraded)
            .note(format!("Redis is away {}", format::ago(at, limiter.clock().now()))),
    };
    tiles([
        state,
        Tile::new("Allowed", sum(|r| r.allowed)),
        Tile::new("Refused", sum(|r| r.refused)),
        Tile::new("Would be refused", sum(|r| r.shadow_refused)).note("rules in shadow mode"),
    ])
}

fn rules(chrome: &Chrome, stats: &Stats) -> Markup {
    let table = Table::new("Rules", chrome.at())
        .column(Column::text("rule", "Rule"))
        .column(Column::text("mode", "Mode"))
        .column(Column::number("allowed", "Allowed"))
        .column(Column::number("refused", "Refused"))
        .column(Column::number("shadow", "Would be refused"))
        .column(Column::text("by", "Decided by"))
        .rows(stats.rules.iter().map(|rule| {
            Row::new(format!("{}/{}", rule.domain, rule.rule))
                .cell(html! { div { span.quiet { a href=(Link::new(format!("{PATH}/{}", rule.domain))) { (rule.domain) } " / " } strong { (rule.rule) } } })
                .cell(domain::mode(rule.mode))
                .cell(count(rule.allowed))
                .cell(count(rule.refused))
                .cell(count(rule.shadow_refused))
                .cell(rule.by_source.iter().map(|(source, ..)| source.as_str().replace('_', " ")).collect::<Vec<_>>().join(", "))
        }))
        .empty(empty(
            "No rules yet.",
            "A rule says how often something may be done: by a user, a key, an address, a route.",
            chrome.request(&RequestBox::get("/v1/limits/rules").cli(["limits", "rules", "list"]).open()),
        ));
    section("Rules", html! { (table) })
}

/// Who is refused most.
fn keys(chrome: &Chrome, stats: &Stats) -> Markup {
    if stats.top_refused.is_empty() {
        return html! {};
    }
    let table = Table::new("Keys that are refused most", chrome.at())
        .column(Column::text("key", "Key"))
        .column(Column::text("rule", "Rule"))
        .column(Column::number("count", "Refused"))
        .rows(stats.top_refused.iter().map(|one| {
            let about = if one.overcount > 0 { "at most " } else { "" };
            Row::new(&one.key)
                .cell(html! { code { (one.key) } })
                .cell(format!("{} / {}", one.domain, one.rule))
                .cell(format!("{about}{}", count(one.count)))
        }));
    section("Refused most in the last 5 to 10 minutes", html! { (table) })
}

fn list(chrome: &Chrome, domains: &[DomainSummary]) -> Markup {
    let table = Table::new("Domains", chrome.at())
        .column(Column::text("domain", "Domain"))
        .column(Column::number("rules", "Rules"))
        .column(Column::text("origin", "From"))
        .column(Column::text("version", "Version"))
        .rows(domains.iter().map(|one| {
            let version = if one.version > 0 { one.version.to_string() } else { "–".to_owned() };
            Row::new(&one.domain)
                .link(&one.domain, &Link::new(format!("{PATH}/{}", one.domain)))
                .cell(one.rule_count.to_string())
                .cell(one.origin.as_str().replace('_', " "))
                .cell(version)
        }));
    html! {
        (table)
        form.form method="get" action=(OPEN) {
            div.field {
                label for="f-domain" { "Rules for a domain" }
                input id="f-domain" name="domain" type="text" required maxlength="64" placeholder="shop" autocomplete="off" spellcheck="false";
            }
            div.buttons { button type="submit" { "Write rules" } }
        }
    }
}
