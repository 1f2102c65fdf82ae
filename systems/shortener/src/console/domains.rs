//! Domains: the list, adding one, changing and removing one.

use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::Response,
};
use console::{
    Chrome, Column, Confirm, Field, Flash, Form, Head, KeyValues, Link as Address, Markup, RequestBox, Row, Table,
    confirmed, empty, format, html, section,
};
use http::StatusCode;
use kernel::{Problem, ProjectId};
use serde_json::json;

use super::{DOMAINS, PATH, Pages, Pairs, SYSTEM, accept, answer, form::Sent, see, shown_url};
use crate::{
    model::Domain,
    service::{DomainChange, NewDomain, Shortener},
};

const PAGE_ROWS: u32 = 50;
const CURSORS: &str = "console domains";

fn page_of(host: &str) -> Address {
    Address::new(format!("{DOMAINS}/{host}"))
}

/// The list and the form to add one.
pub(super) async fn list(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        draw_list(&chrome, &shortener, caller.project(), None).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

async fn draw_list(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    refused: Option<(&Sent, &Problem)>,
) -> Result<Markup, Problem> {
    let at = chrome.at();
    let after = shortener.open_name(CURSORS, project, at.get("cursor"))?;
    let mut domains = shortener.domains(project, &after, PAGE_ROWS + 1).await?;
    let has_more = domains.len() > PAGE_ROWS as usize;
    domains.truncate(PAGE_ROWS as usize);
    let next = domains.last().filter(|_| has_more).map(|last| shortener.seal_name(CURSORS, project, &last.host));
    let first = example().open();
    let table = Table::new("Domains", &at.clone().without("removed"))
        .column(Column::text("host", "Host"))
        .column(Column::text("root", "/ leads to").cut())
        .column(Column::text("unknown", "Unknown codes lead to").cut())
        .column(Column::text("case", "Case"))
        .column(Column::text("added", "Added"))
        .column(Column::text("links", "Links"))
        .rows(domains.iter().map(|domain| row(shortener, domain)))
        .next_cursor(next)
        .empty(empty(
            "No domains yet.",
            "Links answer on the installation's own host. A domain of your own, whose DNS leads to the public listener, gives short \
             URLs your name, and codes that are yours alone.",
            chrome.request(&first),
        ));
    let own = KeyValues::new().copy("The installation's own", shortener.public_url());
    let head = Head::new("Domains", "Hosts on which the links of this project answer.");
    let body = html! {
        @if let Some(host) = at.get("removed") {
            (Flash::done(format!("{host} is removed. Its visitors meet the installation's own links from now on.")))
        }
        (table)
        (own)
        (section("Add a domain", add_form(chrome, refused)))
    };
    Ok(chrome.page_with(head, body))
}

fn row(shortener: &Shortener, domain: &Domain) -> Row {
    let url = |url: Option<&String>, nothing: &str| {
        html! {
            @if let Some(url) = url { a href=(url) rel="noreferrer nofollow" title=(url) { (shown_url(url)) } }
            @else { span.quiet { (nothing) } }
        }
    };
    Row::new(&domain.host)
        .link(&domain.host, &page_of(&domain.host))
        .cell(url(domain.root_url.as_ref(), "a small page"))
        .cell(url(domain.unknown_url.as_ref(), "the page for 404"))
        .cell(if domain.is_case_sensitive { "matters" } else { "does not matter" })
        .cell(html! { div { (format::time(domain.created_at, shortener.now())) " by " (domain.created_by) } })
        .cell(html! { a href=(Address::new(PATH).with("domain", &domain.host)) { "Show links" } })
}

fn example() -> RequestBox {
    RequestBox::post("/v1/domains").json(json!({ "host": "go.example.com", "root_url": "https://example.com/" })).cli([
        "domains",
        "add",
        "go.example.com",
        "--root-url",
        "https://example.com/",
    ])
}

fn page_fields(root: &str, unknown: &str) -> [Field; 2] {
    [
        Field::url("root_url", "/ leads to")
            .value(root)
            .placeholder("https://example.com/")
            .help("Left empty: a small page.")
            .longest(2048),
        Field::url("unknown_url", "Unknown codes lead to")
            .value(unknown)
            .placeholder("https://example.com/not-found")
            .help("Left empty: the page for 404.")
            .longest(2048),
    ]
}

fn add_form(chrome: &Chrome, refused: Option<(&Sent, &Problem)>) -> Markup {
    let given = |name: &str| refused.map(|(sent, _)| sent.get(name)).unwrap_or_default();
    let [root, unknown] = page_fields(given("root_url"), given("unknown_url"));
    let mut form = Form::post(chrome, DOMAINS)
        .field(
            Field::text("host", "Host")
                .value(given("host"))
                .placeholder("go.example.com")
                .help("A host name whose DNS leads to the public listener: no scheme, no port, no address.")
                .longest(253)
                .required()
                .mono(),
        )
        .field(root)
        .field(unknown)
        .field(
            Field::check("ignores_case", "/Sale and /sale are the same code")
                .value(given("ignores_case"))
                .help("For print and for what people type. Stays as it is once the domain is added."),
        )
        .submit("Add the domain");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &example());
    html! { (form) }
}

/// Adds a domain.
pub(super) async fn add(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let sent = match accept(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let new = NewDomain {
        host: sent.get("host").to_owned(),
        is_case_sensitive: sent.get("ignores_case") != "on",
        root_url: Some(sent.get("root_url").to_owned()),
        unknown_url: Some(sent.get("unknown_url").to_owned()),
    };
    match shortener.add_domain(caller.principal(), new).await {
        Ok(domain) => see(&page_of(&domain.host).with("done", "added")),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            let drawn = draw_list(&chrome, &shortener, caller.project(), Some((&sent, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}

/// The page of one domain.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(host): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let domain = shortener.domain(caller.project(), &host).await?;
        Ok::<_, Problem>(draw(&chrome, &shortener, &domain, None, false, None))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

fn draw(
    chrome: &Chrome,
    shortener: &Shortener,
    domain: &Domain,
    refused: Option<(&Sent, &Problem)>,
    is_unsure: bool,
    kept: Option<&Problem>,
) -> Markup {
    let host = domain.host.as_str();
    let known = |url: &Option<String>| url.clone().unwrap_or_default();
    let (root, unknown) = match refused {
        Some((sent, _)) => (sent.get("root_url").to_owned(), sent.get("unknown_url").to_owned()),
        None => (known(&domain.root_url), known(&domain.unknown_url)),
    };
    let [root, unknown] = page_fields(&root, &unknown);
    let path = format!("/v1/domains/{host}");
    let mut form = Form::post(chrome, page_of(host)).field(root).field(unknown).submit("Save changes");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(
        chrome,
        &RequestBox::new("PATCH", path.as_str()).json(json!({ "root_url": "https://example.com/" })).cli([
            "domains",
            "update",
            host,
            "--root-url",
            "https://example.com/",
        ]),
    );
    let mut confirm = Confirm::new(
        chrome,
        format!("{DOMAINS}/{host}/remove"),
        host,
        "1 domain is removed, if no links are on it. Its visitors meet the installation's own links from then on.",
        "Remove this domain",
    )
    .request(chrome, &RequestBox::delete(path).cli(["domains", "remove", host]));
    if is_unsure {
        confirm = confirm.refused();
    }
    let example = format!("{}/spring-sale", shortener.url_of(host));
    let values = KeyValues::new()
        .copy("Short URLs look like", &example)
        .item("Case of codes", if domain.is_case_sensitive { "matters" } else { "does not matter" })
        .item("Added", html! { (format::exact_time(domain.created_at)) " by " (domain.created_by) })
        .item("Links", html! { a href=(Address::new(PATH).with("domain", host)) { "Show those on this domain" } });
    let head = Head::new(host, "A host on which links of this project answer.").crumb("Domains", Address::new(DOMAINS));
    let body = html! {
        @match chrome.at().get("done") {
            Some("added") => (Flash::done(format!("{host} is added. Let its DNS lead to the public listener."))),
            Some("saved") => (Flash::done("Saved. Visitors are led by it at once, on every node.")),
            _ => {}
        }
        @if let Some(problem) = kept { (Flash::failed(problem.detail.as_str())) }
        (values)
        (section("Where visitors go whom no link fits", html! { (form) }))
        (section("Remove", html! { details open[is_unsure] { summary { "Remove this domain" } (confirm) } }))
    };
    chrome.page_with(head, body)
}

/// Changes where `/` and unknown codes lead.
pub(super) async fn change(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(host): Path<String>,
    pairs: Pairs,
) -> Response {
    let found = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        Ok::<_, Problem>((shortener.domain(caller.project(), &host).await?, sent))
    };
    let (domain, sent) = match found.await {
        Ok(found) => found,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let url = |name: &str| Some(Some(sent.get(name).to_owned()));
    let change = DomainChange { root_url: url("root_url"), unknown_url: url("unknown_url") };
    match shortener.change_domain(caller.principal(), &host, change).await {
        Ok(domain) => see(&page_of(&domain.host).with("done", "saved")),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            answer(&chrome, Ok(draw(&chrome, &shortener, &domain, Some((&sent, &problem)), false, None)), status)
        }
    }
}

/// Removes a domain whose name was typed.
pub(super) async fn remove(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(host): Path<String>,
    pairs: Pairs,
) -> Response {
    let found = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        Ok::<_, Problem>((shortener.domain(caller.project(), &host).await?, sent))
    };
    let (domain, sent) = match found.await {
        Ok(found) => found,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    if !confirmed(sent.get(Confirm::FIELD), &host) {
        let page = draw(&chrome, &shortener, &domain, None, true, None);
        return answer(&chrome, Ok(page), StatusCode::UNPROCESSABLE_ENTITY);
    }
    match shortener.remove_domain(caller.principal(), &host).await {
        Ok(()) => see(&Address::new(DOMAINS).with("removed", &host)),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            answer(&chrome, Ok(draw(&chrome, &shortener, &domain, None, false, Some(&problem))), status)
        }
    }
}
