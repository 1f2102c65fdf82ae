//! What moderators do: reports, appeals, takedowns, and the block list. And the owner's side of it, on the page of a link.

use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::Response,
};
use console::{
    Chrome, Column, Field, Filters, Flash, Form, Head, Link as Address, Markup, RequestBox, Row, Status, Table, badge,
    empty, format, html, post_button, section, tag,
};
use http::StatusCode;
use identity::Verb;
use kernel::{Problem, Timestamp};
use serde_json::json;

use super::{
    Pages, Pairs, a_week, accept, action_of, answer, api_path, detail,
    form::{Sent, check_csrf},
    host_of, page_of, see, shown_url, with_domain,
};
use crate::{
    model::{
        Link, Takedown,
        moderation::{BlockId, ReportId, ReportState, Standing},
    },
    service::{LinkPlace, Shortener, require_moderator},
    store::{LinkBlock, ModeratedLink, Report, TakedownRecord},
};

/// The page.
pub(super) const MODERATION: &str = "/console/moderation";
/// The form that takes a link down.
pub(super) const TAKE_DOWN: &str = "/console/moderation/take-down";
/// The form that decides an appeal.
pub(super) const APPEAL: &str = "/console/moderation/appeal";
const PAGE_ROWS: u32 = 25;

/// Which list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Reports,
    Appeals,
    Takedowns,
    Blocks,
}

impl View {
    const ALL: [Self; 4] = [Self::Reports, Self::Appeals, Self::Takedowns, Self::Blocks];

    const fn name(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Appeals => "appeals",
            Self::Takedowns => "takedowns",
            Self::Blocks => "blocks",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Reports => "Reports",
            Self::Appeals => "Appeals",
            Self::Takedowns => "Taken down",
            Self::Blocks => "Block list",
        }
    }

    fn of(chrome: &Chrome) -> Self {
        let name = chrome.at().get("view").unwrap_or_default();
        Self::ALL.into_iter().find(|view| view.name() == name).unwrap_or(Self::Reports)
    }

    fn address(self) -> Address {
        Address::new(MODERATION).with("view", self.name())
    }
}

/// The lists.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        require_moderator(caller.principal(), Verb::Read)?;
        draw(&chrome, &shortener, None).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

async fn draw(chrome: &Chrome, shortener: &Shortener, refused: Option<(&Sent, &Problem)>) -> Result<Markup, Problem> {
    let view = if refused.is_some() { View::Blocks } else { View::of(chrome) };
    let head = Head::new("Moderation", "What visitors report, and what is done about it, in every project.")
        .actions(html! { a.button.danger href=(TAKE_DOWN) { "Take a link down" } });
    let list = match view {
        View::Reports => reports(chrome, shortener).await?,
        View::Appeals | View::Takedowns => takedowns(chrome, shortener, view).await?,
        View::Blocks => blocks(chrome, shortener, refused).await?,
    };
    let body = html! {
        @if let Some(flash) = flash(chrome.at()) { (flash) }
        nav.buttons aria-label="Lists" {
            @for other in View::ALL {
                a.button.small.(if other == view { "primary" } else { "" }) href=(other.address()) aria-current=[(other == view).then_some("page")] {
                    (other.words())
                }
            }
        }
        (list)
    };
    Ok(chrome.page_with(head, body))
}

fn flash(at: &Address) -> Option<Flash> {
    Some(match at.get("done")? {
        "dismissed" => Flash::done("Dismissed: every open report of that link is decided, and the link stays."),
        "taken-down" => {
            Flash::done("Taken down on every node. Its open reports are upheld; its owner reads why, and may appeal.")
        }
        "restored" => Flash::done("Restored: visitors are led on as before it was taken down."),
        "rejected" => Flash::done("The appeal is rejected: the link stays down, and its owner reads why."),
        "blocked" => Flash::done("Blocked on every node: links that lead there show a page, and none are made."),
        "unblocked" => Flash::done("Taken off the block list."),
        _ => return None,
    })
}

/// The next page of a list that is `limit` long, by what its last item is called.
fn next_of<T>(items: &mut Vec<T>, name: impl Fn(&T) -> String) -> Option<String> {
    let has_more = items.len() > PAGE_ROWS as usize;
    items.truncate(PAGE_ROWS as usize);
    items.last().filter(|_| has_more).map(name)
}

fn place(link: &ModeratedLink) -> Address {
    with_domain(Address::new(TAKE_DOWN).with("code", &link.code), link.host.as_deref())
}

/// What is moderated: its destination as text, since nobody should follow it by mistake.
fn link_cell(shortener: &Shortener, link: &ModeratedLink) -> Markup {
    let host = link.host.as_deref().unwrap_or_else(|| shown_url(shortener.public_url()));
    html! {
        div {
            span.strong { (host) "/" (link.code) } " " (tag(link.project.as_str()))
            @if link.is_deleted { " " (tag("deleted")) }
            div.quiet title=(link.url) { (shown_url(&link.url)) }
        }
    }
}

async fn reports(chrome: &Chrome, shortener: &Shortener) -> Result<Markup, Problem> {
    let state = chrome.at().get("state").and_then(ReportState::parse).unwrap_or_default();
    let mut reports = shortener.reports(state, chrome.at().get("cursor").unwrap_or_default(), PAGE_ROWS + 1).await?;
    let next = next_of(&mut reports, |report| report.id.to_string());
    let states = [("open", "open"), ("dismissed", "dismissed"), ("upheld", "upheld")];
    let table = Table::new("Reports", &chrome.at().clone().without("done"))
        .column(Column::text("link", "Link").cut())
        .column(Column::text("reason", "Reported for"))
        .column(Column::text("by", "By"))
        .column(Column::text("state", "State"))
        .column(Column::text("actions", "Actions"))
        .rows(reports.iter().map(|report| report_row(chrome, shortener, report)))
        .filters(Filters::new().choice("state", "State", states))
        .next_cursor(next)
        .empty(empty(
            "No open reports.",
            "Visitors report a link from its preview, and anybody with a key by the API.",
            chrome.request(&RequestBox::get("/v1/link-reports")),
        ));
    Ok(html! { (table) })
}

fn report_row(chrome: &Chrome, shortener: &Shortener, report: &Report) -> Row {
    let is_open = report.state == ReportState::Open;
    let dismiss = format!("{MODERATION}/reports/{}/dismiss", report.id);
    Row::new(report.id.to_string())
        .cell(link_cell(shortener, &report.link))
        .cell(html! {
            div {
                (tag(report.reason.as_str()))
                @if !report.detail.is_empty() { div { (report.detail) } }
                @if report.beyond_count > 0 { div.note { "and " (report.beyond_count) " more" } }
            }
        })
        .cell(html! {
            div {
                (report.reported_by.as_deref().unwrap_or("a visitor"))
                div.note { (format::time(report.created_at, shortener.now())) }
            }
        })
        .cell(html! {
            div {
                (badge(if is_open { Status::Degraded } else { Status::Unknown }, report.state.as_str()))
                @if let Some(by) = &report.decided_by { div.note { "by " (by) } }
            }
        })
        .cell(html! {
            @if is_open {
                div.buttons {
                    a.button.small.danger href=(place(&report.link)) { "Take down…" }
                    (post_button(chrome, &dismiss, "Dismiss", &[]))
                }
            }
        })
}

async fn takedowns(chrome: &Chrome, shortener: &Shortener, view: View) -> Result<Markup, Problem> {
    let wanted = chrome.at().get("standing").and_then(Standing::parse);
    let standing = if view == View::Appeals { Standing::Appealed } else { wanted.unwrap_or(Standing::TakenDown) };
    let after = chrome.at().get("cursor").and_then(|id| id.parse().ok());
    let mut records = shortener.takedowns(standing, after, PAGE_ROWS + 1).await?;
    let next = next_of(&mut records, |record| record.id.to_string());
    let mut table = Table::new(view.words(), &chrome.at().clone().without("done"))
        .column(Column::text("link", "Link").cut())
        .column(Column::text("why", "Taken down for"))
        .column(Column::text("appeal", "Appeal"))
        .column(Column::text("actions", "Actions"))
        .rows(records.iter().map(|record| takedown_row(chrome, shortener, record)))
        .next_cursor(next);
    if view == View::Takedowns {
        let standings = [("standing", "down"), ("upheld", "down, appeal rejected"), ("lifted", "restored")];
        table = table.filters(Filters::new().choice("standing", "Standing", standings));
    }
    let (lead, sentence, path) = if view == View::Appeals {
        (
            "No appeals wait.",
            "The owner of a link that was taken down may say once why that was wrong.",
            "/v1/link-takedowns?standing=appealed",
        )
    } else {
        (
            "Nothing is taken down.",
            "A link that was taken down answers 403, or 451 for a legal demand.",
            "/v1/link-takedowns?standing=standing",
        )
    };
    let table = table.empty(empty(lead, sentence, chrome.request(&RequestBox::get(path))));
    Ok(html! { (table) })
}

fn takedown_row(chrome: &Chrome, shortener: &Shortener, record: &TakedownRecord) -> Row {
    let said = |words: Option<&String>, by: Option<&String>, at: Option<Timestamp>| {
        html! {
            @if let Some(words) = words { div { (words) } }
            @if let (Some(by), Some(at)) = (by, at) { div.note { "by " (by) ", " (format::time(at, shortener.now())) } }
        }
    };
    let decide = with_domain(Address::new(APPEAL).with("code", &record.link.code), record.link.host.as_deref());
    let fields = [("code", record.link.code.as_str()), ("domain", record.link.host.as_deref().unwrap_or_default())];
    Row::new(record.id.to_string())
        .cell(link_cell(shortener, &record.link))
        .cell(html! {
            div { (tag(&record.kind)) (said(Some(&record.reason), Some(&record.taken_by), Some(record.taken_at))) }
        })
        .cell(html! {
            div {
                (said(record.appeal.as_ref(), record.appealed_by.as_ref(), record.appealed_at))
                @if record.decided_at.is_some() {
                    span.quiet { "Decided: " }
                    (said(record.decision.as_ref(), record.decided_by.as_ref(), record.decided_at))
                }
            }
        })
        .cell(html! {
            @match record.standing {
                Standing::Appealed => a.button.small.primary href=(decide) { "Decide…" },
                Standing::TakenDown | Standing::Upheld => (post_button(chrome, &format!("{MODERATION}/restore"), "Restore", &fields)),
                Standing::Clear => {}
            }
        })
}

async fn blocks(chrome: &Chrome, shortener: &Shortener, refused: Option<(&Sent, &Problem)>) -> Result<Markup, Problem> {
    let mut blocks = shortener.blocks(chrome.at().get("cursor").unwrap_or_default(), PAGE_ROWS + 1).await?;
    let next = next_of(&mut blocks, |block| block.id.to_string());
    let request = RequestBox::post("/v1/link-blocks").json(json!({ "entry": "evil.example", "reason": "phishing" }));
    let table = Table::new("Block list", &chrome.at().clone().without("done"))
        .column(Column::text("entry", "Destination"))
        .column(Column::text("reason", "Why"))
        .column(Column::text("added", "Added"))
        .column(Column::text("actions", "Actions"))
        .rows(blocks.iter().map(|block| block_row(chrome, shortener, block)))
        .next_cursor(next)
        .empty(empty(
            "No entries.",
            "A destination on the list is refused for new links, and links that lead there show a page instead.",
            chrome.request(&request),
        ));
    let given = |name: &str| refused.map(|(sent, _)| sent.get(name)).unwrap_or_default();
    let mut form = Form::post(chrome, format!("{MODERATION}/blocks"))
        .field(
            Field::text("entry", "Destination")
                .value(given("entry"))
                .placeholder("evil.example")
                .help("A host (with all below it), or a URL with what follows it.")
                .longest(2048)
                .required()
                .mono(),
        )
        .field(Field::text("reason", "Why").value(given("reason")).longest(1000))
        .submit("Block it");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &request);
    Ok(html! { (table) (section("Block a destination", html! { (form) })) })
}

fn block_row(chrome: &Chrome, shortener: &Shortener, block: &LinkBlock) -> Row {
    Row::new(block.id.to_string())
        .cell(html! { code { (block.entry) } })
        .cell(&block.reason)
        .cell(html! { div { (format::time(block.created_at, shortener.now())) " by " (block.created_by) } })
        .cell(post_button(chrome, &format!("{MODERATION}/blocks/{}/remove", block.id), "Remove", &[]))
}

fn accept_moderator(caller: &Caller, chrome: &Chrome, pairs: Vec<(String, String)>) -> Result<Sent, Problem> {
    require_moderator(caller.principal(), Verb::Write)?;
    let sent = Sent::new(pairs);
    check_csrf(chrome, &sent)?;
    Ok(sent)
}

fn place_of(sent: &Sent) -> LinkPlace<'_> {
    let host = Some(sent.get("domain").trim()).filter(|host| !host.is_empty());
    LinkPlace { host, code: sent.get("code").trim() }
}

/// The form that takes a link down.
pub(super) async fn take_down_page(caller: Caller, Extension(chrome): Extension<Chrome>) -> Response {
    let drawn = require_moderator(caller.principal(), Verb::Write).map_err(Problem::from).map(|()| {
        let given: Vec<(String, String)> = chrome.at().params().to_vec();
        take_down_form(&chrome, &Sent::new(given), None)
    });
    answer(&chrome, drawn, StatusCode::OK)
}

fn take_down_form(chrome: &Chrome, sent: &Sent, refused: Option<&Problem>) -> Markup {
    let mut form = Form::post(chrome, TAKE_DOWN)
        .field(Field::text("code", "Code").value(sent.get("code")).longest(64).required().mono())
        .field(
            Field::text("domain", "Domain")
                .value(sent.get("domain"))
                .help("Left empty: the installation's own.")
                .longest(253)
                .mono(),
        )
        .field(
            Field::choice("kind", "For", [("abuse", "abuse: answers 403"), ("legal", "a legal demand: answers 451")])
                .value(sent.get("kind"))
                .required(),
        )
        .field(
            Field::lines("reason", "Why", 4)
                .value(sent.get("reason"))
                .help("Its owner reads this, and may appeal once.")
                .longest(1000)
                .required(),
        )
        .submit("Take it down")
        .danger()
        .cancel(Address::new(MODERATION));
    if let Some(problem) = refused {
        form = form.problem(problem);
    }
    let request = RequestBox::post("/v1/links/spring/takedown").json(json!({ "kind": "abuse", "reason": "Phishing" }));
    let form = form.request(chrome, &request);
    let head =
        Head::new("Take a link down", "1 link stops leading anywhere, on every node; its open reports are upheld.")
            .crumb("Moderation", Address::new(MODERATION));
    chrome.page_with(head, html! { (form) })
}

/// Takes a link down.
pub(super) async fn take_down(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let sent = match accept_moderator(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let kind = if sent.get("kind") == "legal" { Takedown::Legal } else { Takedown::Abuse };
    match shortener.take_down(caller.principal(), place_of(&sent), kind, sent.get("reason")).await {
        Ok(_) => see(&Address::new(MODERATION).with("done", "taken-down")),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            answer(&chrome, Ok(take_down_form(&chrome, &sent, Some(&problem))), status)
        }
    }
}

/// The form that decides an appeal.
pub(super) async fn appeal_page(caller: Caller, Extension(chrome): Extension<Chrome>) -> Response {
    let drawn = require_moderator(caller.principal(), Verb::Write).map_err(Problem::from).map(|()| {
        let given: Vec<(String, String)> = chrome.at().params().to_vec();
        appeal_form(&chrome, &Sent::new(given), None)
    });
    answer(&chrome, drawn, StatusCode::OK)
}

fn appeal_form(chrome: &Chrome, sent: &Sent, refused: Option<&Problem>) -> Markup {
    let choices = [("reject", "Reject: the link stays down"), ("grant", "Grant: the link is restored")];
    let mut form = Form::post(chrome, APPEAL)
        .hidden("code", sent.get("code"))
        .hidden("domain", sent.get("domain"))
        .field(Field::choice("decision", "Decision", choices).value(sent.get("decision")).required())
        .field(
            Field::lines("note", "Why", 4)
                .value(sent.get("note"))
                .help("Its owner reads this. A rejection needs it.")
                .longest(1000),
        )
        .submit("Decide")
        .cancel(View::Appeals.address());
    if let Some(problem) = refused {
        form = form.problem(problem);
    }
    let request =
        RequestBox::post(format!("/v1/links/{}/appeal/reject", sent.get("code"))).json(json!({ "note": "…" }));
    let form = form.request(chrome, &request);
    let head = Head::new(format!("Decide the appeal for {}", sent.get("code")), "An appeal is decided once.")
        .crumb("Moderation", Address::new(MODERATION))
        .crumb("Appeals", View::Appeals.address());
    chrome.page_with(head, html! { (form) })
}

/// Decides an appeal.
pub(super) async fn decide(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let sent = match accept_moderator(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let is_granted = sent.get("decision") == "grant";
    match shortener.decide_appeal(caller.principal(), place_of(&sent), is_granted, sent.get("note")).await {
        Ok(_) => see(&View::Appeals.address().with("done", if is_granted { "restored" } else { "rejected" })),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            answer(&chrome, Ok(appeal_form(&chrome, &sent, Some(&problem))), status)
        }
    }
}

/// Restores a link.
pub(super) async fn restore(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let restored = async {
        let sent = accept_moderator(&caller, &chrome, pairs.0)?;
        Ok::<_, Problem>(shortener.restore(caller.principal(), place_of(&sent), sent.get("note")).await?)
    };
    match restored.await {
        Ok(_) => see(&View::Takedowns.address().with("done", "restored")),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// Dismisses every open report of a report's link.
pub(super) async fn dismiss(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Response {
    let dismissed = async {
        let sent = accept_moderator(&caller, &chrome, pairs.0)?;
        let id = ReportId::parse(&id).ok_or(crate::error::Error::ReportUnknown)?;
        Ok::<_, Problem>(shortener.dismiss_report(caller.principal(), id, sent.get("note"), true).await?)
    };
    match dismissed.await {
        Ok(_) => see(&View::Reports.address().with("done", "dismissed")),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// Blocks a destination.
pub(super) async fn block(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let sent = match accept_moderator(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    match shortener.add_block(caller.principal(), sent.get("entry"), sent.get("reason")).await {
        Ok(_) => see(&View::Blocks.address().with("done", "blocked")),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            let drawn = draw(&chrome, &shortener, Some((&sent, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}

/// Takes an entry off the block list.
pub(super) async fn unblock(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Response {
    let removed = async {
        accept_moderator(&caller, &chrome, pairs.0)?;
        let id = BlockId::parse(&id).ok_or(crate::error::Error::BlockUnknown)?;
        Ok::<_, Problem>(shortener.remove_block(caller.principal(), id).await?)
    };
    match removed.await {
        Ok(()) => see(&View::Blocks.address().with("done", "unblocked")),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// What its owner reads on the page of a link that was taken down, and the form to appeal.
pub(super) async fn notice(
    chrome: &Chrome,
    shortener: &Shortener,
    link: &Link,
    refused: Option<(&Sent, &Problem)>,
) -> Result<Markup, Problem> {
    let at = LinkPlace { host: link.host.as_deref(), code: link.code.as_str() };
    let record = shortener.takedown_of(&link.project, at).await?;
    let now = shortener.now();
    let mut form = Form::post(chrome, action_of(link, "appeal"))
        .field(
            Field::lines("text", "Why this is wrong", 4)
                .value(refused.map(|(sent, _)| sent.get("text")).unwrap_or_default())
                .help("At most 1000 characters. A moderator decides once.")
                .longest(1000)
                .required(),
        )
        .submit("Appeal");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form
        .request(chrome, &RequestBox::post(api_path(link, "/appeal")).json(json!({ "text": "The page was cleaned." })));
    Ok(section(
        "Taken down",
        html! {
            (Flash::failed(format!("A moderator has taken this link down, for {}: {}", record.kind, record.reason)))
            p.quiet { "It leads nowhere and cannot be changed since " (format::time(record.taken_at, now)) "." }
            @match record.standing {
                Standing::TakenDown => (form),
                Standing::Appealed => p { "Your appeal waits for a moderator: “" (record.appeal.as_deref().unwrap_or_default()) "”" },
                Standing::Upheld => p { "Your appeal was rejected: “" (record.decision.as_deref().unwrap_or_default()) "”" },
                Standing::Clear => {}
            }
        },
    ))
}

/// Appeals for the owner of a link.
pub(super) async fn appeal(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
    pairs: Pairs,
) -> Response {
    let sent = match accept(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let at = LinkPlace { host: host_of(&chrome), code: &code };
    match shortener.appeal(caller.principal(), at, sent.get("text")).await {
        Ok(link) => see(&page_of(&link).with("done", "appealed")),
        Err(e) => {
            let (problem, chrome) = (Problem::from(e), a_week(chrome.clone()));
            let status = web::status(problem.code.kind);
            let asked = detail::Asked::Appeal(&sent, &problem);
            let drawn = detail::page(&chrome, &shortener, caller.project(), &code, asked).await;
            answer(&chrome, drawn, status)
        }
    }
}
