//! Writes a page with every component, to look at: `cargo run -p console --example gallery -- FOLDER [light|dark]`.

use std::{path::Path, time::Duration};

use console::{
    Chrome, Column, Confirm, Event, Field, Filters, Flash, Form, Head, KeyValues, Link, NavGroup, NavItem, RequestBox,
    Row, Sort, Status, Table, Theme, Tile, Timeline, Unit, assets, badge,
    charts::{Chart, HeatMap, Histogram, Topology},
    columns, empty, error_state, format, live, post_button, search, section, section_with, tag, tiles,
};
use kernel::{Problem, ProjectId, Timestamp};
use maud::{Markup, html};

fn nav() -> Vec<NavGroup> {
    let item = |name: &str, path: &str, status| NavItem { name: name.into(), path: format!("/console/{path}"), status };
    let (ok, warn, bad) = (Some(Status::Ok), Some(Status::Degraded), Some(Status::Down));
    let group = |name: &str, items| NavGroup { name: name.into(), items };
    vec![
        group(
            "Traffic",
            vec![
                item("Gateway", "gateway", ok),
                item("Edge cache", "edge", ok),
                item("Limits", "limits", ok),
                item("Links", "links", ok),
            ],
        ),
        group(
            "State",
            vec![
                item("Database", "database", ok),
                item("Memory", "memory", warn),
                item("Uploads", "uploads", Some(Status::Unknown)),
            ],
        ),
        group(
            "Work",
            vec![
                item("Jobs", "jobs", ok),
                item("Schedules", "schedules", ok),
                item("Notifications", "notifications", bad),
            ],
        ),
        group("People", vec![item("Keys", "keys", None), item("Audit", "audit", None)]),
        group("Seeing", vec![item("Logs", "logs", ok), item("Metrics", "metrics", ok)]),
    ]
}

/// A curve that looks like traffic, the same every time.
fn wave(i: u32, size: f64, phase: f64) -> f64 {
    let x = f64::from(i) / 11.0 + phase;
    let jitter = f64::from((i.wrapping_mul(2_654_435_761) >> 16) % 100) / 100.0;
    size * (1.0 + 0.45 * x.sin() + 0.2 * (x * 2.7).cos() + 0.18 * jitter)
}

fn series(count: u32, size: f64, phase: f64) -> Vec<Option<f64>> {
    (0..count).map(|i| (!(46..54).contains(&i)).then(|| wave(i, size, phase))).collect()
}

fn times(now: Timestamp, count: u32, step: u64) -> Vec<Timestamp> {
    (0..count).map(|i| now.minus(Duration::from_secs(u64::from(count - 1 - i) * step))).collect()
}

fn the_charts(now: Timestamp) -> Markup {
    let minute = times(now, 120, 30);
    let latency = Chart::line("Latency")
        .unit(Unit::Millis)
        .times(minute.clone())
        .series("p50", series(120, 4.2, 0.0))
        .series("p99", series(120, 21.0, 1.0));
    let requests = Chart::area("Requests by answer")
        .unit(Unit::PerSecond)
        .times(minute.clone())
        .series("2xx", series(120, 840.0, 0.2))
        .series("3xx", series(120, 310.0, 0.9))
        .series("4xx", series(120, 60.0, 2.0));
    let clicks = Chart::bars("Clicks an hour").times(times(now, 48, 3_600)).series(
        "clicks",
        (0..48).map(|i| (!(20..24).contains(&i)).then(|| wave(i, 420.0, 0.5).round())).collect::<Vec<_>>(),
    );
    let bounds = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
    let mut heat = HeatMap::new("Where latencies fall", Unit::Millis, bounds);
    for (i, at) in (0_u32..).zip(times(now, 60, 60)) {
        let middle = 2.5 + wave(i, 1.2, 0.0);
        let counts = (0_u32..10)
            .map(|row| {
                let away = f64::from(row) - middle;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an example's numbers")]
                let n = (900.0 * (-away * away / 1.6).exp() + if row == 8 && i % 7 == 0 { 9.0 } else { 0.0 }) as u64;
                n
            })
            .collect();
        heat = heat.column(at, (!(23..27).contains(&i)).then_some(counts));
    }
    let mut spread = Histogram::new("How long redirects take", Unit::Millis, 0.0).mark("p50", 1.4).mark("p99", 34.0);
    for (up_to, count) in [
        (0.5, 1_204),
        (1.0, 5_880),
        (2.0, 8_410),
        (5.0, 4_120),
        (10.0, 1_320),
        (20.0, 410),
        (50.0, 160),
        (100.0, 22),
        (250.0, 3),
    ] {
        spread = spread.bucket(up_to, count);
    }
    let none = Chart::line("Cache hit ratio").unit(Unit::Percent).times(minute).series("ratio", vec![None; 120]);
    let graph = Topology::new("What talks to what")
        .node("edge", "Edge cache", "2.4k/s", Status::Ok)
        .node("gateway", "Gateway", "1.1k/s", Status::Ok)
        .node("links", "Links", "340/s", Status::Ok)
        .href("/console/links")
        .node("jobs", "Jobs", "58/s", Status::Ok)
        .node("notes", "Notifications", "no answer", Status::Down)
        .node("db", "Database", "2.1 ms p99", Status::Ok)
        .node("memory", "Memory", "falling back", Status::Degraded)
        .edge("edge", "gateway", "1.1k/s", Status::Ok)
        .edge("gateway", "links", "340/s", Status::Ok)
        .edge("gateway", "jobs", "58/s", Status::Ok)
        .edge("gateway", "notes", "12/s", Status::Down)
        .edge("links", "db", "22/s", Status::Ok)
        .edge("links", "memory", "318/s", Status::Degraded)
        .edge("jobs", "db", "58/s", Status::Ok);
    html! {
        (columns(html! { (latency) (clicks) (none) }, html! { (requests) (heat) (spread) }))
        (graph)
    }
}

fn links_table(chrome: &Chrome, now: Timestamp) -> Table {
    let ago = |seconds| format::time(now.minus(Duration::from_secs(seconds)), now);
    let mut table = Table::new("Links", chrome.at())
        .column(Column::text("code", "Code").sortable())
        .column(Column::text("target", "Leads to").cut())
        .column(Column::text("state", "State"))
        .column(Column::number("clicks", "Clicks").sortable())
        .column(Column::text("created_at", "Created").sortable())
        .sorted(Sort::from_link(chrome.at(), &["code", "clicks", "created_at"]))
        .filters(Filters::new().text("q", "Code or address", "Code or address").choice(
            "state",
            "State",
            [("", "All"), ("active", "Active"), ("expired", "Expired")],
        ))
        .bulk("/console/links/bulk", &chrome.csrf)
        .bulk_button("expire", "Expire", false)
        .bulk_button("delete", "Delete…", true)
        .total("about 12.4k in all")
        .next_cursor(Some("eyJhIjoxfQ".into()));
    for (code, target, status, clicks, seconds) in [
        (
            "launch",
            "https://example.com/blog/2026/11/introducing-mainstay-one-binary-for-everything?utm_source=mail",
            Status::Ok,
            48_211,
            32,
        ),
        ("q7Rk2", "https://docs.example.com/start", Status::Ok, 9_034, 4_200),
        ("spring", "https://shop.example.com/sale", Status::Degraded, 5_120, 86_400),
        ("x9LmP", "https://example.com/old", Status::Down, 311, 864_000),
    ] {
        let word = match status {
            Status::Ok => "active",
            Status::Degraded => "expires soon",
            _ => "expired",
        };
        table = table.row(
            Row::new(code)
                .link(code, &Link::new(format!("/console/links/{code}")))
                .cell(target)
                .cell(badge(status, word))
                .cell(format::full(clicks))
                .cell(ago(seconds)),
        );
    }
    table
}

fn body(chrome: &Chrome, now: Timestamp) -> Markup {
    let spark = |size, phase| series(60, size, phase);
    let create = RequestBox::post("/v1/links")
        .json(serde_json::json!({ "url": "https://example.com/it's", "alias": "launch" }))
        .cli(["links", "create", "https://example.com/it's", "--alias", "launch"]);
    let mut problem = Problem::new(
        &kernel::error::UNAVAILABLE,
        "The database does not answer. Reads go on from memory; nothing that was acknowledged is lost.",
    );
    problem.retry_after = Some(Duration::from_secs(5));
    let refused = Problem::new(&kernel::error::INVALID_CURSOR, "One field has to change.")
        .field("/alias", "“launch” is taken; try launch-2.");
    html! {
        (live::fragment("numbers", tiles([
            Tile::new("Requests", "1.21k").unit("/s").change(12.4, "the hour before").spark(spark(10.0, 0.0)).status(Status::Ok),
            Tile::new("Redirect, p99", "2.14").unit("ms").change(-8.1, "the hour before").more_is_worse().spark(spark(10.0, 1.0)),
            Tile::new("Errors", "0.03").unit("%").change(41.0, "the hour before").more_is_worse().spark(spark(10.0, 2.0)),
            Tile::new("Links", "12.4k").change(1.2, "the week before").more_is_better().spark(spark(10.0, 2.5)).href("/console/links"),
            Tile::new("Nodes", "2").unit("of 3").note("node-3 left 4 min ago").status(Status::Degraded),
        ])))
        (the_charts(now))
        (section("Links", html! { (links_table(chrome, now)) }))
        (section_with("launch", html! { (badge(Status::Ok, "active")) (tag("alias")) }, html! {
            (KeyValues::new().copy("Short address", "http://127.0.0.1:8080/launch").item("Clicks", format::full(48_211)).item("Created", format::time(now.minus(Duration::from_secs(32)), now)).item("Expires", "never"))
            (chrome.request(&RequestBox::get("/v1/links/launch").cli(["links", "get", "launch"])))
        }))
        (columns(
            html! {
                (section("What happened", html! { (Timeline::new(now)
                    .event(Event::new(now.minus(Duration::from_secs(32)), "Destination changed").who("ada").status(Status::Ok).detail(html! { "from " code { "https://example.com/a" } " to " code { "https://example.com/b" } }))
                    .event(Event::new(now.minus(Duration::from_mins(5)), "Redirects failed").status(Status::Down).detail("The database did not answer for 12 s; 40 redirects were answered from memory."))
                    .event(Event::new(now.minus(Duration::from_hours(2)), "Renamed").who("grace").status(Status::Degraded))
                    .event(Event::new(now.minus(Duration::from_hours(48)), "Created").who("ada"))) }))
                (section("Found", search::results("launch", &[
                    search::Hit { kind: "link".into(), title: "launch".into(), detail: "https://example.com/blog".into(), to: Link::new("/console/links/launch") },
                    search::Hit { kind: "page".into(), title: "Launch checklist".into(), detail: "Operations".into(), to: Link::new("/console/docs") },
                ])))
            },
            section("Create a link", html! { (Form::post(chrome, "/console/links")
                .field(Field::url("url", "Destination").placeholder("https://example.com/page").required().help("http or https, at most 2,048 characters.").longest(2_048))
                .field(Field::text("alias", "Alias").value("launch").mono())
                .field(Field::choice("expires", "Expires", [("", "Never"), ("30d", "In 30 days")]))
                .field(Field::lines("note", "Note", 3))
                .field(Field::check("preview", "Show a preview page first").value("on").help("Visitors see where the link leads."))
                .problem(&refused)
                .submit("Create link").cancel(Link::new("/console/links")).request(chrome, &create)) }),
        ))
        (section("Delete", html! { (Confirm::new(chrome, "/console/links/launch/delete", "launch", "Deletes 1 link. Its 48,211 clicks stay in the statistics; visitors get 410 Gone. It can be undone for 30 days.", "Delete launch").cancel(Link::new("/console/links"))) }))
        (section("States", html! {
            p { (badge(Status::Ok, "serving")) " " (badge(Status::Degraded, "degraded")) " " (badge(Status::Down, "stopped")) " " (badge(Status::Unknown, "not started")) " " (tag("links:read")) }
            (Flash::warning("Saved on this node; the two others follow within 5 s."))
            (Flash::failed("Nothing was changed: the key lacks links:write."))
            (error_state(&problem))
            (empty("No links yet", "A link gives a long address a short one and counts who follows it.", chrome.request(&create.clone().open())))
        }))
    }
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "gallery".to_owned());
    let theme = Theme::parse(&arguments.next().unwrap_or_default());
    let now = Timestamp::parse("2026-11-24T06:42:00Z").unwrap_or_default();
    let projects = ["default", "shop", "staging"].into_iter().filter_map(ProjectId::parse).collect::<Vec<_>>();
    let mut chrome = Chrome::new(nav(), Link::parse("/console/links?sort=-clicks"), ProjectId::default_project());
    chrome.projects = projects.into();
    chrome.user = String::from("ada");
    chrome.csrf = String::from("0123456789abcdef");
    chrome.theme = theme;
    chrome.dev = true;
    chrome.flash = Some(Flash::done("Link “spring” is deleted.").undo(post_button(
        &chrome,
        "/console/links/undo",
        "Undo",
        &[("id", "spring")],
    )));
    let head = Head::new("Links", "Short addresses for long ones, followed in under a millisecond and counted.")
        .crumb("Traffic", Link::new("/console"))
        .actions(html! { a.button.primary href="/console/links/new" { "Create link" } })
        .live(Link::new("/console/links/live"))
        .ranged();
    let page = chrome.page_with(head, body(&chrome, now)).into_string();
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    for asset in assets::ALL.iter() {
        std::fs::write(folder.join(&asset.name), asset.bytes)?;
    }
    // Beside the page rather than below the console's path.
    let page = page.replace(&format!("{}/", console::paths::ASSETS), "");
    std::fs::write(folder.join(format!("{}.html", theme.name())), page)
}
