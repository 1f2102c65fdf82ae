//! The page of links.

use access::Caller;
use axum::{
    extract::{Extension, State},
    response::Response,
};
use console::{
    Chrome, Column, Filters, Flash, Form, Head, Link as Address, Markup, RequestBox, Row, Status, Table, Tile, badge,
    copyable_under, empty, format, html, live, section, tag, tiles,
};
use kernel::{Problem, ProjectId};
use serde_json::json;

use super::{
    BULK, EXAMPLE, Fragments, PATH, Pages, Pairs, STREAMS, a_week, accept, answer, bulk, chart,
    form::{Choices, LinkText, Sent, token},
    page_of, see, shown_url,
};
use crate::{
    error::Error,
    model::{DomainId, LinkStatus, LinkWithClicks},
    service::{LinkPage, Shortener},
    store::ListFilter,
};

const PAGE_ROWS: u32 = 25;
/// In the choice of domains: the installation's own, which has no name of its own in the API.
const OWN: &str = "own";

/// A form that was sent and refused.
pub(super) type Refused<'a> = Option<(&'a LinkText, &'a Problem)>;

/// The page; with the form as it was sent and what is wrong with it, when it was refused.
pub(super) async fn page(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    refused: Refused<'_>,
) -> Result<Markup, Problem> {
    let at = chrome.at();
    let choices = Choices::load(shortener, project).await?;
    let filters = filters(&choices, at);
    // Who looks for a link wants the list first.
    let is_searching = refused.is_none() && (filters.active(at) || at.get("cursor").is_some());
    let page = match filter(chrome, shortener, project).await? {
        Some(filter) => shortener.list(project, &filter, at.get("cursor"), PAGE_ROWS).await?,
        None => LinkPage { links: Vec::new(), next_cursor: None },
    };
    let mut head = Head::new("Links", "Short URLs of this project, where they lead, and how often they are followed.");
    let mut parts = Vec::new();
    // A project without links sees how to make one, and no charts of nothing.
    let is_new = !is_searching && page.links.is_empty();
    if is_searching {
        head = head.actions(html! { a.button.primary href=(PATH) { "New link" } });
    } else if !is_new {
        head = head.live(Address::new(STREAMS).with("range", chrome.range.name())).ranged();
        parts = fragments(chrome, shortener, project).await?;
    }
    let body = html! {
        @if let Some(flash) = flash(at) { (flash) }
        @for (id, content) in parts { (live::fragment(id, content)) }
        @if !is_searching { (section("Shorten a URL", form(chrome, shortener, &choices, refused))) }
        (section("All links", table(chrome, shortener, &page, (!is_new).then_some(filters))))
    };
    Ok(chrome.page_with(head, body))
}

/// What the request before did.
fn flash(at: &Address) -> Option<Flash> {
    if let Some(code) = at.get("deleted") {
        return Some(Flash::done(format!(
            "{code} is deleted. It answers 404 from now on, and its code is never given again."
        )));
    }
    bulk::flash(at)
}

/// What the address asks for; `None` for what no link can be.
async fn filter(chrome: &Chrome, shortener: &Shortener, project: &ProjectId) -> Result<Option<ListFilter>, Problem> {
    let given = |name: &str| chrome.at().get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let domain = match given("domain") {
        None => None,
        Some(host) if host == OWN => Some(DomainId::OWN),
        Some(host) => match shortener.domain(project, &host).await {
            Ok(domain) => Some(domain.id),
            Err(Error::DomainNotFound) => return Ok(None),
            Err(e) => return Err(e.into()),
        },
    };
    let status = given("status");
    let status = match status.as_deref().map(LinkStatus::parse) {
        Some(None) => return Ok(None),
        Some(status) => status,
        None => None,
    };
    let tag = given("tag").map(|tag| tag.to_lowercase());
    Ok(Some(ListFilter { prefix: given("code"), tag, domain, status, text: given("q") }))
}

fn filters(choices: &Choices, at: &Address) -> Filters {
    let filters = Filters::new()
        .text("q", "Code, URL or title holds", "Search links")
        .text("code", "Code starts with", "Code begins")
        .text("tag", "Tag", "Tag");
    let filters = if choices.hosts.is_empty() && at.get("domain").is_none() {
        filters
    } else {
        let all = [(String::new(), "all".to_owned()), (OWN.to_owned(), choices.own_host.clone())];
        let hosts = choices.hosts.iter().map(|host| (host.clone(), host.clone()));
        filters.choice("domain", "Domain", all.into_iter().chain(hosts))
    };
    filters.choice(
        "status",
        "State",
        std::iter::once(("", "all")).chain(LinkStatus::ALL.map(|status| (status.as_str(), words(status)))),
    )
}

/// What changes from second to second.
pub(super) async fn fragments(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
) -> Result<Fragments, Problem> {
    let now = shortener.now();
    let totals = shortener.totals(project).await?;
    let recent = shortener.project_clicks(project, chart::two_hours(now).map_err(Error::Range)?).await?;
    let (series, group) = chart::series(chrome.range, now).map_err(Error::Range)?;
    let points = shortener.project_clicks(project, series).await?;
    let (hour, spark, change) = chart::last_hour(&recent);
    let all = totals.clicks.people + totals.clicks.bots;
    let last =
        totals.last_click_at.map_or_else(|| "none yet".to_owned(), |at| format!("last {}", format::ago(at, now)));
    let mut hourly = Tile::new("Last hour", format::short(chart::number(hour))).spark(spark);
    hourly = match change {
        Some(percent) => hourly.change(percent, "than the hour before"),
        None => hourly.note("clicks by people"),
    };
    let share = if all == 0 { 0.0 } else { chart::number(totals.clicks.bots) / chart::number(all) * 100.0 };
    let pending = shortener.pending_clicks();
    let (node, note) = if shortener.is_degraded() {
        (Status::Degraded, "invalidations do not arrive: links are asked for again after 2 s")
    } else {
        (Status::Ok, "invalidations arrive")
    };
    let row = tiles([
        Tile::new("Links", format::short(chart::number(totals.link_count))).note("the expired ones included"),
        Tile::new("Clicks", format::short(chart::number(totals.clicks.people))).note(last),
        hourly,
        Tile::new("Bots", format::short(chart::number(totals.clicks.bots))).note(format!("{share:.0} % of all visits")),
        Tile::new("To be written", format::short(chart::number(pending))).note("clicks in memory of this node"),
        Tile::new("Near cache", format::short(chart::number(shortener.cached_links() as u64))).status(node).note(note),
    ]);
    Ok(vec![("links-tiles", row), ("links-chart", html! { (chart::draw(&points, group)) })])
}

fn example() -> RequestBox {
    RequestBox::post("/v1/links").json(json!({ "url": EXAMPLE })).cli(["links", "create", EXAMPLE])
}

fn form(chrome: &Chrome, shortener: &Shortener, choices: &Choices, refused: Refused<'_>) -> Markup {
    let blank = LinkText::default();
    let text = refused.map_or(&blank, |(text, _)| text);
    let mut form = Form::post(chrome, PATH)
        .hidden("once", shortener.form_token())
        .fields(text.new_fields(choices))
        .submit("Shorten");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &example());
    html! { (form) }
}

fn table(chrome: &Chrome, shortener: &Shortener, page: &LinkPage, filters: Option<Filters>) -> Markup {
    // What was done before is said once.
    let at = ["done", "count", "of", "deleted"].into_iter().fold(chrome.at().clone(), Address::without);
    let action = Address::new(BULK).with("next", &at);
    let table = Table::new("Links", &at)
        .column(Column::text("link", "Link"))
        .column(Column::text("url", "Leads to").cut())
        .column(Column::text("tags", "Tags"))
        .column(Column::number("clicks", "Clicks"))
        .column(Column::text("last", "Last click"))
        .column(Column::text("state", "State"))
        .rows(page.links.iter().map(|l| row(shortener, l)))
        .next_cursor(page.next_cursor.clone())
        .bulk(action, chrome.csrf.clone())
        .bulk_button("enable", "Enable…", false)
        .bulk_button("disable", "Disable…", false)
        .bulk_button("delete", "Delete…", true)
        .empty(empty(
            "No links yet.",
            "A short link leads visitors of the public listener to its destination, and counts them.",
            chrome.request(&example().open()),
        ));
    let table = match filters {
        Some(filters) => table.filters(filters),
        None => table,
    };
    html! { (table) }
}

fn row(shortener: &Shortener, listed: &LinkWithClicks) -> Row {
    let (link, now) = (&listed.link, shortener.now());
    let short_url = shortener.short_url(link);
    let count = |n| format::full(i64::try_from(n).unwrap_or(i64::MAX));
    Row::new(bulk::id_of(link))
        .named(shown_url(&short_url))
        .cell(html! {
            (copyable_under(html! { a.strong href=(page_of(link)) { (link.code) } }, &short_url))
        })
        .cell(html! {
            div {
                @if !link.title.is_empty() { div.strong { (link.title) } }
                a href=(link.url) rel="noreferrer nofollow" title=(link.url) { (shown_url(&link.url)) }
            }
        })
        .cell(html! {
            @if !link.tags.is_empty() {
                div { @for word in &link.tags { a href=(Address::new(PATH).with("tag", word)) { (tag(word)) } " " } }
            }
        })
        .cell(html! {
            div {
                (count(listed.total.people))
                @if listed.total.bots > 0 { div.note { "+ " (count(listed.total.bots)) " bots" } }
            }
        })
        .cell(last_click(listed).map_or_else(|| html! { "–" }, |at| format::time(at, now)))
        .cell(state(shortener, listed))
}

/// The last click, which cannot have come before there was a link: clocks of several nodes differ a little.
pub(super) fn last_click(listed: &LinkWithClicks) -> Option<kernel::Timestamp> {
    listed.last_click_at.map(|at| at.max(listed.link.created_at))
}

/// A status in words.
pub(super) const fn words(status: LinkStatus) -> &'static str {
    match status {
        LinkStatus::Active => "active",
        LinkStatus::Scheduled => "scheduled",
        LinkStatus::Expired => "expired",
        LinkStatus::Disabled => "disabled",
        LinkStatus::TakenDown => "taken down",
    }
}

/// Whether a link can be followed.
pub(super) fn state(shortener: &Shortener, listed: &LinkWithClicks) -> Markup {
    let status = listed.link.status(shortener.now());
    let shape = match status {
        LinkStatus::Active => Status::Ok,
        LinkStatus::Scheduled => Status::Degraded,
        LinkStatus::Expired | LinkStatus::Disabled => Status::Unknown,
        LinkStatus::TakenDown => Status::Down,
    };
    badge(shape, words(status))
}

/// Makes the link of a form.
pub(super) async fn create(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let chrome = a_week(chrome);
    let text = LinkText::read(&Sent::new(pairs.0.clone()));
    let made = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        Ok::<_, Problem>(shortener.create(caller.principal(), text.new_link(token(&sent))?).await?)
    };
    match made.await {
        Ok(made) => see(&page_of(&made.link).with("made", "1")),
        Err(problem) => {
            let status = web::status(problem.code.kind);
            let drawn = page(&chrome, &shortener, caller.project(), Some((&text, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}
