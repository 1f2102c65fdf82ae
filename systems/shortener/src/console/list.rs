//! The page of links.

use console::{
    Chrome, Column, Field, Filters, Flash, Form, Head, Link as Address, Markup, RequestBox, Row, Status, Table, Tile,
    badge, empty, format, html, live, section, tiles,
};
use kernel::{Problem, ProjectId};
use serde_json::json;

use super::{CreateForm, Fragments, PATH, STREAMS, address_of, chart};
use crate::{
    error::Error,
    model::LinkWithClicks,
    service::{LinkPage, Shortener},
    store::ListFilter,
};

const PAGE_ROWS: u32 = 25;
const EXAMPLE: &str = "https://example.com/a/long/page";

/// The page; with the form as it was sent and what is wrong with it, when it was refused.
pub(super) async fn page(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    refused: Option<(&CreateForm, &Problem)>,
) -> Result<Markup, Problem> {
    let at = chrome.at();
    let prefix = at.get("code").map(str::trim).filter(|p| !p.is_empty());
    let filter = ListFilter { prefix: prefix.map(str::to_owned), ..ListFilter::default() };
    let page = shortener.list(project, &filter, at.get("cursor"), PAGE_ROWS).await?;
    let parts = fragments(chrome, shortener, project).await?;
    let head = Head::new("Links", "Short URLs of this project, where they lead, and how often they are followed.")
        .live(Address::new(STREAMS).with("range", chrome.range.name()))
        .ranged();
    let body = html! {
        @if let Some(code) = at.get("deleted") {
            (Flash::done(format!("{code} is deleted. It answers 404 from now on, and its code is never given again.")))
        }
        @for (id, content) in parts { (live::fragment(id, content)) }
        (section("Shorten a URL", form(chrome, shortener, refused)))
        (section("Links", table(chrome, shortener, &page)))
    };
    Ok(chrome.page_with(head, body))
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
    Ok(vec![
        ("links-tiles", row),
        ("links-chart", section("Clicks over time (UTC)", html! { (chart::draw(&points, group)) })),
    ])
}

fn form(chrome: &Chrome, shortener: &Shortener, refused: Option<(&CreateForm, &Problem)>) -> Markup {
    let given = |get: fn(&CreateForm) -> &String| refused.map(|(form, _)| get(form).clone()).unwrap_or_default();
    let request = RequestBox::post("/v1/links").json(json!({ "url": EXAMPLE })).cli(["links", "create", EXAMPLE]);
    let mut form = Form::post(chrome, PATH)
        .hidden("once", shortener.form_token())
        .field(
            Field::url("url", "Destination")
                .value(given(|f| &f.url))
                .placeholder(EXAMPLE)
                .help("An http or https URL of at most 2048 characters.")
                .longest(2048)
                .required(),
        )
        .field(
            Field::text("alias", "Alias")
                .value(given(|f| &f.alias))
                .help("3 to 64 of A-Z, a-z, 0-9, _ and -. Left empty: a code that cannot be guessed.")
                .longest(64)
                .mono(),
        )
        .field(
            Field::date_time("expires_at", "Expires (UTC)")
                .value(given(|f| &f.expires_at))
                .help("From then on it answers 410. Left empty: never."),
        )
        .submit("Shorten");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &request);
    html! { (form) }
}

fn table(chrome: &Chrome, shortener: &Shortener, page: &LinkPage) -> Markup {
    let first = RequestBox::post("/v1/links").json(json!({ "url": EXAMPLE })).cli(["links", "create", EXAMPLE]).open();
    let table = Table::new("Links", chrome.at())
        .column(Column::text("code", "Code"))
        .column(Column::text("url", "Destination").cut())
        .column(Column::number("clicks", "Clicks"))
        .column(Column::number("bots", "Bots"))
        .column(Column::text("last", "Last click"))
        .column(Column::text("created", "Created"))
        .column(Column::text("state", "State"))
        .rows(page.links.iter().map(|l| row(shortener, l)))
        .filters(Filters::new().text("code", "Code starts with", "spring"))
        .next_cursor(page.next_cursor.clone())
        .empty(empty(
            "No links yet.",
            "A short link leads visitors of the public listener to its destination, and counts them.",
            chrome.request(&first),
        ));
    html! { (table) }
}

fn row(shortener: &Shortener, listed: &LinkWithClicks) -> Row {
    let (link, now) = (&listed.link, shortener.now());
    Row::new(link.code.as_str())
        .link(link.code.as_str(), &address_of(link.code.as_str()))
        .cell(html! { a href=(link.url) rel="noreferrer nofollow" title=(link.url) { (link.url) } })
        .cell(format::full(i64::try_from(listed.total.people).unwrap_or(i64::MAX)))
        .cell(format::full(i64::try_from(listed.total.bots).unwrap_or(i64::MAX)))
        .cell(listed.last_click_at.map_or_else(|| html! { "–" }, |at| format::time(at, now)))
        .cell(format::time(link.created_at, now))
        .cell(state(shortener, listed))
}

/// Whether a link can be followed.
pub(super) fn state(shortener: &Shortener, listed: &LinkWithClicks) -> Markup {
    if listed.link.is_expired(shortener.now()) {
        badge(Status::Unknown, "expired")
    } else {
        badge(Status::Ok, "active")
    }
}
