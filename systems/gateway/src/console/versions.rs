//! Versions of the document: which holds, what differs, going back, and the form to change it.

use ::console::{
    Chrome, Column, Field, Flash, Form, Head, Link, Markup, RequestBox, Row, Status, Table, badge, format, html,
    post_button, section,
};
use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use kernel::Problem;
use serde_json::{Value, json};

use super::{Pages, Pairs, Sent, VERSIONS, accept, answer, operator, overview::home};
use crate::{
    Expected, Gateway, Version,
    error::{CONFIG_INVALID, Error},
    model::{Change, Changes, Document, Origin},
};

/// How many versions the page lists.
const LISTED: u32 = 20;

fn address(rest: &str) -> Link {
    Link::new(format!("{VERSIONS}{rest}"))
}

/// The page of the document.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        operator(&caller)?;
        let versions = gateway.versions(None, LISTED).await?;
        Ok::<_, Problem>(draw(&chrome, &gateway, &versions))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

fn draw(chrome: &Chrome, gateway: &Gateway, versions: &[Version]) -> Markup {
    let table = gateway.table();
    let sentence = match table.origin {
        Origin::Database => format!("Version {} holds on this node.", table.version),
        Origin::File => "It stands in the file that gateway.config_file names, and is changed there.".to_owned(),
        Origin::LastGood => "What held last on this machine holds: the one that should cannot.".to_owned(),
        Origin::Default => "There is none yet: the public listener serves short links.".to_owned(),
    };
    let mut head = Head::new("Document", sentence).crumb("Gateway", home());
    if !gateway.is_in_file() {
        head = head.actions(html! { a.button.primary href=(address("/edit")) { "Change it" } });
    }
    let body = html! {
        @if chrome.at().get("done").is_some() { (Flash::done("It holds on every node within a second.")) }
        @if let Some(why) = gateway.trouble() { p.problem role="alert" { (badge(Status::Down, "stale")) " " (why) } }
        @if !versions.is_empty() { (section("Versions", history(chrome, gateway, table.version, versions))) }
        (section("As it holds", html! { div.command { pre tabindex="0" { code { (pretty(&*table.document)) } } } }))
        (chrome.request(&RequestBox::get("/v1/gateway/config").cli(["gateway", "versions"])))
    };
    chrome.page_with(head, body)
}

fn history(chrome: &Chrome, gateway: &Gateway, holds: i64, versions: &[Version]) -> Markup {
    let now = gateway.0.clock.now();
    let newest = versions.first().map_or(0, |v| v.version);
    let rows = versions.iter().map(|one| {
        let number = one.version.to_string();
        Row::new(&number)
            .link(&format!("Version {number}"), &address(&format!("/versions/{number}")))
            .cell(one.route_count.to_string())
            .cell(one.upstream_count.to_string())
            .cell(html! { div { (format::time(one.written.at, now)) " by " (one.written.by) } })
            .cell(match one.written.rolled_back_to {
                Some(to) if one.written.message.is_empty() => format!("back to version {to}"),
                _ => one.written.message.clone(),
            })
            .cell(html! {
                @if one.version == holds { (badge(Status::Ok, "holds")) }
                @else if gateway.is_in_file() { span.quiet { "–" } }
                @else { (post_button(chrome, &String::from(&address("/rollback")), "Roll back to it",
                    &[("version", &number), ("expected", &newest.to_string())])) }
            })
    });
    let table = Table::new("Versions", chrome.at())
        .column(Column::text("version", "Version"))
        .column(Column::number("routes", "Routes"))
        .column(Column::number("upstreams", "Upstreams"))
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
    State(Pages { gateway, .. }): State<Pages>,
    Path(number): Path<i64>,
) -> Response {
    let drawn = async {
        operator(&caller)?;
        let old = gateway.version(number).await?;
        let changes = Changes::new(&gateway.table().document, &old.document);
        let head = Head::new(format!("Version {number}"), "What going back to it would change.")
            .crumb("Gateway", home())
            .crumb("Document", address(""));
        let body = html! {
            @if changes.is_empty() { p { "Nothing differs from what holds." } }
            @if changes.is_reordered { p { "Routes are in another order, which decides between equals." } }
            @for one in &changes.changes { (change(one)) }
            (chrome.request(&RequestBox::get(format!("/v1/gateway/config/diff?from={number}"))
                .cli(["gateway", "diff", &number.to_string()])))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// A thing before and after, line by line: `-` and `+` say it without colour.
fn change(one: &Change) -> Markup {
    let what = match (&one.before, &one.after) {
        (None, _) => "comes",
        (_, None) => "goes",
        _ => "changes",
    };
    let lines = |value: &Option<Value>| value.as_ref().map(pretty).unwrap_or_default();
    let (before, after) = (lines(&one.before), lines(&one.after));
    let only = |text: &str, other: &str, sign: &str| {
        text.lines()
            .filter(|line| !other.lines().any(|l| l.trim_end_matches(',') == line.trim_end_matches(',')))
            .fold(String::new(), |all, line| all + sign + " " + line + "\n")
    };
    let text = only(&before, &after, "-") + &only(&after, &before, "+");
    let title = format!("{} {} {what}", one.list.trim_end_matches('s'), one.name);
    section(&title, html! { div.command { pre tabindex="0" { code { (text) } } } })
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Makes an old version the newest.
pub(super) async fn roll_back(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let done = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        let number = |name: &str| sent.get(name).parse::<i64>().map_err(|_| Problem::from(Error::VersionUnknown));
        let (version, expected) = (number("version")?, Expected::Version(number("expected")?));
        gateway.roll_back(caller.principal(), version, "", expected).await?;
        Ok::<_, Problem>(())
    };
    match done.await {
        Ok(()) => Redirect::to(&address("").with("done", "1").to_string()).into_response(),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// The form to change it.
pub(super) async fn edit(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        operator(&caller)?;
        let head = gateway.newest_version().await?.unwrap_or(0);
        let text = if head == 0 { pretty(&example()) } else { pretty(&gateway.version(head).await?.document) };
        Ok::<_, Problem>(form(&chrome, &text, "", head, None))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

fn example() -> Value {
    json!({
        "upstreams": [{ "name": "shop", "endpoints": [{ "address": "127.0.0.1:9001" }] }],
        "routes": [
            { "name": "shop", "match": { "hosts": ["shop.example.com"] }, "forward": { "to": [{ "upstream": "shop" }] } },
            { "name": "links", "service": "links" },
        ],
    })
}

fn form(chrome: &Chrome, document: &str, message: &str, version: i64, wrong: Option<&Problem>) -> Markup {
    let mut form = Form::post(chrome, address("/edit"))
        .hidden("expected", version.to_string())
        .field(
            Field::lines("document", "Document", 30)
                .value(document)
                .help("Upstreams, policies and routes as JSON. It is checked whole; what cannot hold changes nothing.")
                .required()
                .mono(),
        )
        .field(Field::text("message", "Why").value(message).longest(500))
        .submit("Put this document")
        .cancel(address(""));
    if let Some(problem) = wrong {
        form = form.problem(problem);
    }
    let form = form.request(
        chrome,
        &RequestBox::new("PUT", "/v1/gateway/config").json(json!({ "document": example() })).cli([
            "gateway",
            "apply",
            "gateway.toml",
        ]),
    );
    let head = Head::new("Change the document", "All of it is put at once, as a new version.")
        .crumb("Gateway", home())
        .crumb("Document", address(""));
    let body = html! {
        @if let Some(problem) = wrong.filter(|p| !p.fields.is_empty()) {
            ul { @for fault in &problem.fields { li { code { (fault.field) } ": " (fault.detail) } } }
        }
        (form)
    };
    chrome.page_with(head, body)
}

/// Puts the document of the form.
pub(super) async fn put(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let sent = match accept(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let done = async {
        let document = read(&sent)?;
        let expected = match sent.get("expected").parse::<i64>() {
            Ok(version) if version > 0 => Expected::Version(version),
            _ => Expected::Nothing,
        };
        gateway.put(caller.principal(), document, sent.get("message"), expected).await?;
        Ok::<_, Problem>(())
    };
    match done.await {
        Ok(()) => Redirect::to(&address("").with("done", "1").to_string()).into_response(),
        Err(problem) => {
            let version = sent.get("expected").parse().unwrap_or(0);
            let page = form(&chrome, sent.get("document"), sent.get("message"), version, Some(&problem));
            answer(&chrome, Ok(page), web::status(problem.code.kind))
        }
    }
}

fn read(sent: &Sent) -> Result<Document, Problem> {
    let mut json = serde_json::Deserializer::from_str(sent.get("document"));
    serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        Problem::new(&CONFIG_INVALID, "Nothing was changed.").field(path, e.into_inner().to_string())
    })
}
