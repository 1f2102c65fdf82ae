//! How limits do now.

use access::Caller;
use axum::{
    extract::{Extension, State},
    response::Response,
};
use console::{
    Chrome, Column, Head, Link, Markup, RequestBox, Row, Status, Table, Tile, badge, empty, format, html, live,
    section, tiles,
};
use http::StatusCode;
use kernel::{Problem, ProjectId};

use super::{Fragments, Pages, STREAM, answer, events};
use crate::{Limiter, RuleStats, SYSTEM, Stats, model::Mode};

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
        let body = html! { @for (id, content) in parts { (live::fragment(id, content)) } };
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
    vec![("limit-tiles", overview(limiter, &stats)), ("limit-rules", rules(chrome, &stats))]
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
        .rows(stats.rules.iter().map(|rule| {
            let mode = match rule.mode {
                Mode::Enforce => badge(Status::Ok, "enforced"),
                Mode::Shadow => badge(Status::Degraded, "shadow"),
                Mode::Off => badge(Status::Unknown, "off"),
            };
            Row::new(format!("{}/{}", rule.domain, rule.rule))
                .cell(html! { span.quiet { (rule.domain) " / " } strong { (rule.rule) } })
                .cell(mode)
                .cell(count(rule.allowed))
                .cell(count(rule.refused + rule.shadow_refused))
        }))
        .empty(empty(
            "No rules yet.",
            "A rule says how often something may be done: by a user, a key, an address, a route.",
            chrome.request(&RequestBox::get("/v1/limits/rules").cli(["limits", "rules", "list"]).open()),
        ));
    section("Rules", html! { (table) })
}
