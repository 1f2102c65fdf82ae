//! The page of one link.

use console::{
    Chrome, Confirm, Flash, Head, KeyValues, Link as Address, Markup, PreEscaped, RequestBox, Tile, columns, format,
    html, live, post_button, section, section_with, tag, tiles,
};
use kernel::{Problem, ProjectId};

use super::{
    Fragments, PATH, STREAMS, action_of, api_path, chart,
    form::Sent,
    history, host_of,
    list::{last_click, state},
    moderation, panels, shown_url, with_domain,
};
use crate::{
    error::Error,
    model::{
        Link, LinkState, LinkWithClicks,
        qr::{Correction, Drawing, Qr},
    },
    service::Shortener,
};

/// What the page shows besides, after a form on it was refused.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// Nothing was sent.
    Nothing,
    /// The question before deletion was answered wrongly.
    Delete,
    /// The appeal that was sent, and what is wrong with it.
    Appeal(&'a Sent, &'a Problem),
}

/// The page.
pub(super) async fn page(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    code: &str,
    asked: Asked<'_>,
) -> Result<Markup, Problem> {
    let host = host_of(chrome);
    let listed = shortener.get_on(project, host, code).await?;
    let link = &listed.link;
    let short_url = shortener.short_url(link);
    let parts = parts(chrome, shortener, &listed).await?;
    let panels = panels::of_link(chrome, shortener, link.id).await?;
    let (changes, older) = shortener.history(project, host, code, None, history::MAX_CHANGES).await?;
    let notice = match (link.state, asked) {
        (LinkState::TakenDown(_), Asked::Appeal(sent, problem)) => {
            Some(moderation::notice(chrome, shortener, link, Some((sent, problem))).await?)
        }
        (LinkState::TakenDown(_), _) => Some(moderation::notice(chrome, shortener, link, None).await?),
        _ => None,
    };
    let title = if link.title.is_empty() { code } else { &link.title };
    let stream = Address::new(format!("{STREAMS}/{code}")).with("range", chrome.range.name());
    let head = Head::new(title, format!("{} leads to {}", shown_url(&short_url), shown_url(&link.url)))
        .crumb("Links", Address::new(PATH))
        .live(with_domain(stream, host))
        .ranged()
        .actions(actions(chrome, link));
    let read = link_request(link, RequestBox::get(api_path(link, "")), "get");
    let clicks = RequestBox::get(Address::parse(&api_path(link, "/clicks")).with("step", "hour").to_string());
    let clicks = link_request(link, clicks, "clicks");
    let body = html! {
        @if let Some(flash) = flash(chrome, &short_url, link) { (flash) }
        @if let Some(notice) = notice { (notice) }
        @for (id, content) in parts { (live::fragment(id, content)) }
        (section_with(
            "Who follows it",
            html! { span.quiet { "people only, by days in UTC" } },
            panels,
        ))
        (columns(
            section("Link", html! { (values(shortener, &listed, &short_url)) (chrome.request(&read)) (chrome.request(&clicks)) }),
            section("What happened", html! {
                (history::timeline(shortener.now(), &listed, &changes))
                @if older.is_some() { p.quiet { "Only the last " (history::MAX_CHANGES) " changes are shown; the API has all." } }
                (chrome.request(&link_request(link, RequestBox::get(api_path(link, "/history")), "history")))
            }),
        ))
        (columns(
            section("QR code", qr(chrome, link, &short_url)),
            section("Before it is followed", html! {
                p { "With a + behind it, the short URL shows where it leads instead of leading there: "
                    a href={ (short_url) "+" } rel="noreferrer" { (shown_url(&short_url)) "+" } }
            }),
        ))
        (section("Delete", html! {
            details open[matches!(asked, Asked::Delete)] { summary { "Delete this link" } (deletion(chrome, &listed, &short_url, asked)) }
        }))
    };
    Ok(chrome.page_with(head, body))
}

/// With the line of the CLI.
fn link_request(link: &Link, request: RequestBox, command: &str) -> RequestBox {
    request.cli(super::cli(link, command))
}

fn flash(chrome: &Chrome, short_url: &str, link: &Link) -> Option<Flash> {
    if chrome.at().get("made").is_some() {
        return Some(Flash::done(format!("{short_url} leads to {} now.", link.url)));
    }
    match chrome.at().get("done")? {
        "appealed" => Some(Flash::done("Your appeal is sent. A moderator decides.")),
        "saved" => Some(Flash::done("Saved. Visitors are led by it at once, on every node.")),
        "disabled" => Some(Flash::done("Disabled. Visitors read that the link is switched off.").undo(switch(
            chrome,
            link,
            "Enable again",
        ))),
        "enabled" => Some(Flash::done("Enabled. Visitors are led to its destination again.")),
        _ => None,
    }
}

/// The button that switches the link off, or on again.
fn switch(chrome: &Chrome, link: &Link, words: &str) -> Markup {
    let to = if link.state == LinkState::Disabled { "active" } else { "disabled" };
    post_button(chrome, &action_of(link, "state").to_string(), words, &[("to", to)])
}

fn actions(chrome: &Chrome, link: &Link) -> Markup {
    html! {
        @match link.state {
            LinkState::Active => (switch(chrome, link, "Disable")),
            LinkState::Disabled => (switch(chrome, link, "Enable")),
            LinkState::TakenDown(_) => {}
        }
        @if !matches!(link.state, LinkState::TakenDown(_)) {
            a.button.small.primary href=(action_of(link, "edit")) { "Edit" }
        }
    }
}

fn values(shortener: &Shortener, listed: &LinkWithClicks, short_url: &str) -> KeyValues {
    let link = &listed.link;
    let settings = &link.settings;
    let mut values = KeyValues::new()
        .copy("Short URL", short_url)
        .item("Leads to", html! { a href=(link.url) rel="noreferrer nofollow" { (link.url) } })
        .item("State", state(shortener, listed))
        .item("Code", tag(if link.is_alias { "alias" } else { "generated" }))
        .item("Created", html! { (format::exact_time(link.created_at)) " by " (link.created_by) })
        .item("Expires", link.expires_at.map_or_else(|| html! { "never" }, format::exact_time));
    if let Some(at) = link.starts_at {
        values = values.item("Starts", format::exact_time(at));
    }
    if let Some(most) = link.max_clicks {
        values = values.item("Most clicks", format::full(i64::try_from(most).unwrap_or(i64::MAX)));
    }
    if settings.password.is_some() {
        values = values.item("Password", "visitors are asked for it");
    }
    values = values.item("Redirect", u16::from(settings.redirect).to_string());
    if settings.forward_query {
        values = values.item("Query", "handed on");
    }
    let utm: Vec<String> = settings.utm.parameters().map(|(name, value)| format!("{name}={value}")).collect();
    if !utm.is_empty() {
        values = values.item("Campaign", html! { @for part in utm { code { (part) } br; } });
    }
    if !settings.rules.is_empty() {
        values = values.item("Rules", settings.rules.len().to_string());
    }
    if !settings.split.is_empty() {
        values = values.item("Split", format!("among {}", settings.split.len()));
    }
    if !link.tags.is_empty() {
        values = values.item(
            "Tags",
            html! {
                @for word in &link.tags { a href=(Address::new(PATH).with("tag", word)) { (tag(word)) } " " }
            },
        );
    }
    if !link.notes.is_empty() {
        values = values.item("Notes", html! { @for line in link.notes.lines() { (line) br; } });
    }
    values
}

/// The code to print, and the same as files.
fn qr(chrome: &Chrome, link: &Link, short_url: &str) -> Markup {
    let Some(code) = Qr::new(short_url, Correction::default()) else {
        return html! { p.quiet { "The short URL is longer than a QR code holds." } };
    };
    let path = Address::parse(&api_path(link, "/qr"));
    let large = path.clone().with("format", "png").with("size", 1024);
    html! {
        (PreEscaped(code.svg(Drawing { size: 176, margin: 4 })))
        div.buttons {
            a.button.small href=(super::qr::address(link, "svg")) download { "Download SVG" }
            a.button.small href=(super::qr::address(link, "png")) download { "Download PNG" }
        }
        (chrome.request(&RequestBox::get(large.to_string())))
    }
}

fn deletion(chrome: &Chrome, listed: &LinkWithClicks, short_url: &str, asked: Asked<'_>) -> Confirm {
    let link = &listed.link;
    let people = format::full(i64::try_from(listed.total.people).unwrap_or(i64::MAX));
    let consequence = format!(
        "1 link is deleted: {short_url} answers 404 at once, and its code is never given again. Its {people} clicks stay in the \
         totals of the project."
    );
    let request = link_request(link, RequestBox::delete(api_path(link, "")), "delete");
    let question = Confirm::new(chrome, action_of(link, "delete"), link.code.as_str(), consequence, "Delete this link")
        .request(chrome, &request);
    if matches!(asked, Asked::Delete) { question.refused() } else { question }
}

/// What changes from second to second.
pub(super) async fn fragments(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    code: &str,
) -> Result<Fragments, Problem> {
    let listed = shortener.get_on(project, host_of(chrome), code).await?;
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
    let days = chart::days(chrome.range, now).map_err(Error::Range)?;
    let visitors: u64 = shortener.visitors_of(id, days).await?.iter().sum();
    let row = tiles([
        Tile::new("Clicks", format::short(chart::number(listed.total.people))).note("by people, since it was made"),
        hourly,
        Tile::new("Visitors", format::short(chart::number(visitors))).note(chart::days_in_words(&days)),
        Tile::new("Bots", format::short(chart::number(listed.total.bots))).note("programs that say so"),
        match last_click(listed) {
            Some(at) => Tile::new("Last click", format::ago(at, now)).note(format::date_time(at)),
            None => Tile::new("Last click", "–").note("none yet"),
        },
    ]);
    Ok(vec![("link-tiles", row), ("link-chart", html! { (chart::draw(&points, group)) })])
}
