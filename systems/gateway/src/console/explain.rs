//! Why a request goes where it goes.

use ::console::{Chrome, Column, Head, Markup, RequestBox, Row, Status, Table, badge, html, section};
use access::Caller;
use axum::{
    extract::{Extension, State},
    response::Response,
};
use http::StatusCode;
use kernel::Problem;
use serde_json::json;

use super::{
    EXPLAIN, Pages, answer,
    overview::{address, home, upstream_status},
};
use crate::{Gateway, Question, SYSTEM, model::Explanation};

/// The page: a form, and what it asks for when its URL has one.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        Ok::<_, Problem>(draw(&chrome, &gateway))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// Lines of `name: value`.
fn headers(text: &str) -> Vec<(String, String)> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

fn draw(chrome: &Chrome, gateway: &Gateway) -> Markup {
    let given = |name: &str| chrome.at().get(name).unwrap_or_default().to_owned();
    let (method, url, lines) = (given("method"), given("url"), given("headers"));
    let question = Question { method: method.clone(), url: url.clone(), headers: headers(&lines) };
    let told = (!url.is_empty()).then(|| gateway.explain(&question).map_err(Problem::from));
    let shown_url = if url.is_empty() { "https://shop.example.com/cart" } else { &url };
    let shown_method = if method.is_empty() { "GET" } else { &method };
    let head = Head::new(
        "Explain a request",
        "Which route it takes, why not another, and what would be done. Nothing is sent.",
    )
    .crumb("Gateway", home());
    let body = html! {
        form.form method="get" action=(EXPLAIN) {
            div.field {
                label for="f-method" { "Method" }
                select id="f-method" name="method" {
                    @for one in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
                        option value=(one) selected[one == shown_method] { (one) }
                    }
                }
            }
            div.field {
                label for="f-url" { "URL" }
                input id="f-url" name="url" type="text" required maxlength="8000" value=(url) placeholder="https://shop.example.com/cart?step=2"
                    autocomplete="off" spellcheck="false";
            }
            div.field {
                label for="f-headers" { "Headers, one a line" }
                textarea.mono id="f-headers" name="headers" rows="3" spellcheck="false" placeholder="x-canary: always" { (lines) }
            }
            div.buttons { button.primary type="submit" { "Explain" } }
        }
        @match told {
            None => {}
            Some(Err(problem)) => {
                p.problem role="alert" { (badge(Status::Down, "not a request")) " " (problem.detail) }
                ul { @for fault in &problem.fields { li { code { (fault.field) } ": " (fault.detail) } } }
            }
            Some(Ok(told)) => (explained(chrome, gateway, &told)),
        }
        (chrome.request(&RequestBox::post("/v1/gateway/explain").json(json!({ "method": shown_method, "url": shown_url }))
            .cli(["gateway", "explain", shown_method, shown_url])))
    };
    chrome.page_with(head, body)
}

fn explained(chrome: &Chrome, gateway: &Gateway, told: &Explanation) -> Markup {
    let tried = Table::new("Routes that were looked at", chrome.at())
        .column(Column::text("route", "Route"))
        .column(Column::text("outcome", "Outcome"))
        .column(Column::text("why", "Why"))
        .rows(told.tried.iter().map(|one| {
            let outcome = match one.outcome {
                "taken" => badge(Status::Ok, "taken"),
                "later" => badge(Status::Unknown, "comes later"),
                _ => badge(Status::Unknown, "does not fit"),
            };
            Row::new(&one.route).cell(html! { strong { (one.route) } }).cell(outcome).cell(&one.why)
        }));
    html! {
        (section("What decides", html! {
            p {
                @match &told.route {
                    Some(route) => { (badge(Status::Ok, "taken")) " Route " strong { (route) } }
                    None => { (badge(Status::Down, "no route")) " It is answered with 404 " code { "GATEWAY_NO_ROUTE" } }
                }
                ", matched on host " code { (told.host) } " and path " code { (told.path) }
            }
            @if !told.captures.is_empty() {
                p { "Its path found " @for one in &told.captures { code { (one.name) "=" (one.value) } " " } }
            }
        }))
        @if !told.steps.is_empty() {
            (section("What is done, in order", html! {
                ol { @for step in &told.steps { li { strong { (step.step.replace('_', " ")) } ": " (step.about) } } }
            }))
        }
        @if !told.upstreams.is_empty() {
            (section("Where it may go", html! {
                ul {
                    @for state in told.upstreams.iter().filter_map(|name| gateway.upstream_state(name).ok()) {
                        @let (status, word) = upstream_status(&state);
                        li { a href=(address(&state.name)) { (state.name) } " " (badge(status, word)) }
                    }
                }
            }))
        }
        (section("Routes that were looked at", html! { (tried) }))
    }
}
