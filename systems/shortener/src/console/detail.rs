//! The page of one link.

use console::{
    Chrome, Confirm, Event, Flash, Head, KeyValues, Link as Address, Markup, RequestBox, Status, Tile, Timeline,
    columns, format, html, live, section, tag, tiles,
};
use kernel::{Problem, ProjectId};

use super::{Fragments, PATH, STREAMS, address_of, chart, list::state};
use crate::{error::Error, model::LinkWithClicks, service::Shortener};

/// The page; `confirm` changes the question before deletion when its answer was wrong.
pub(super) async fn page(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    code: &str,
    confirm: Option<fn(Confirm) -> Confirm>,
) -> Result<Markup, Problem> {
    let listed = shortener.get(project, code).await?;
    let parts = parts(chrome, shortener, &listed).await?;
    let link = &listed.link;
    let short_url = shortener.short_url(link);
    let head = Head::new(code, "A short link: where it leads and how often it is followed.")
        .crumb("Links", Address::new(PATH))
        .live(Address::new(format!("{STREAMS}/{code}")).with("range", chrome.range.name()))
        .ranged();
    let values = KeyValues::new()
        .copy("Short URL", &short_url)
        .item("Leads to", html! { a href=(link.url) rel="noreferrer nofollow" { (link.url) } })
        .item("State", state(shortener, &listed))
        .item("Code", tag(if link.is_alias { "alias" } else { "generated" }))
        .item("Created", html! { (format::exact_time(link.created_at)) " by " (link.created_by) })
        .item("Expires", link.expires_at.map_or_else(|| html! { "never" }, format::exact_time));
    let read = RequestBox::get(format!("/v1/links/{code}")).cli(["links", "get", code]);
    let clicks = RequestBox::get(format!("/v1/links/{code}/clicks?step=hour")).cli(["links", "clicks", code]);
    let mut question = Confirm::new(
        chrome,
        format!("{}/delete", address_of(code)),
        code,
        format!(
            "1 link is deleted: {short_url} answers 404 at once, and its code is never given again. Its {} clicks stay in the \
             totals of the project.",
            format::full(i64::try_from(listed.total.people).unwrap_or(i64::MAX))
        ),
        "Delete this link",
    )
    .request(chrome, &RequestBox::delete(format!("/v1/links/{code}")).cli(["links", "delete", code]));
    let is_refused = confirm.is_some();
    if let Some(change) = confirm {
        question = change(question);
    }
    let body = html! {
        @if chrome.at().get("made").is_some() {
            (Flash::done(format!("{short_url} leads to {} now.", link.url)))
        }
        @for (id, content) in parts { (live::fragment(id, content)) }
        (columns(
            section("Link", html! { (values) (chrome.request(&read)) (chrome.request(&clicks)) }),
            section("What happened", html! { (timeline(shortener, &listed)) }),
        ))
        (section("Delete", html! {
            details open[is_refused] { summary { "Delete this link" } (question) }
        }))
    };
    Ok(chrome.page_with(head, body))
}

/// What changes from second to second.
pub(super) async fn fragments(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    code: &str,
) -> Result<Fragments, Problem> {
    let listed = shortener.get(project, code).await?;
    parts(chrome, shortener, &listed).await
}

async fn parts(chrome: &Chrome, shortener: &Shortener, listed: &LinkWithClicks) -> Result<Fragments, Problem> {
    let now = shortener.now();
    let id = listed.link.id;
    let recent = shortener.clicks_of(id, chart::two_hours(now).map_err(Error::Range)?).await?;
    let (series, group) = chart::series(chrome.range, now).map_err(Error::Range)?;
    let points = shortener.clicks_of(id, series).await?;
    let (hour, spark, change) = chart::last_hour(&recent);
    let mut hourly = Tile::new("Last hour", format::short(chart::number(hour))).spark(spark);
    hourly = match change {
        Some(percent) => hourly.change(percent, "than the hour before"),
        None => hourly.note("clicks by people"),
    };
    let row = tiles([
        Tile::new("Clicks", format::short(chart::number(listed.total.people))).note("by people, since it was made"),
        hourly,
        Tile::new("Bots", format::short(chart::number(listed.total.bots))).note("programs that say so"),
        match listed.last_click_at {
            Some(at) => Tile::new("Last click", format::ago(at, now)).note(format::date_time(at)),
            None => Tile::new("Last click", "–").note("none yet"),
        },
    ]);
    Ok(vec![
        ("link-tiles", row),
        ("link-chart", section("Clicks over time (UTC)", html! { (chart::draw(&points, group)) })),
    ])
}

fn timeline(shortener: &Shortener, listed: &LinkWithClicks) -> Timeline {
    let now = shortener.now();
    let link = &listed.link;
    let mut timeline = Timeline::new(now);
    if let Some(at) = link.expires_at {
        let words = if link.is_expired(now) { "Expired" } else { "Will expire" };
        timeline = timeline.event(Event::new(at, words).status(Status::Unknown).detail("It answers 410 from then on."));
    }
    if let Some(at) = listed.last_click_at {
        timeline = timeline.event(Event::new(at, "Last followed"));
    }
    let made = if link.is_alias { "Created under an alias" } else { "Created" };
    timeline.event(
        Event::new(link.created_at, made)
            .status(Status::Ok)
            .who(&link.created_by)
            .detail(html! { "Leads to " (link.url) }),
    )
}
