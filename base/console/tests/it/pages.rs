//! Sizes, names, and what a page needs for keyboards and screen readers.

use console::{
    Chrome, Column, Flash, Head, Link, Markup, NavGroup, NavItem, Render, RequestBox, Row, Sort, Status, Table, Theme,
    Tile, Unit, assets, charts::Chart, html, paths, section, tiles,
};
use kernel::{ProjectId, Timestamp};

use crate::html::{assert_inert, tags};

const MOST_BYTES: usize = 20_000;

fn chrome(at: &str) -> Chrome {
    let item = |name: &str| NavItem { name: name.into(), path: format!("/console/{name}"), status: Some(Status::Ok) };
    let nav = ["Traffic", "State", "Work", "People", "Seeing"].map(|name| NavGroup {
        name: name.into(),
        items: ["links", "link-checks", "jobs", "logs", "keys"].map(item).into(),
    });
    let mut chrome = Chrome::new(nav, Link::parse(at), ProjectId::default_project());
    chrome.user = String::from("ada");
    chrome.csrf = String::from("token");
    chrome
}

/// A page as a room has it: tiles with sparklines, two charts of 120 points, a table of 50 rows.
fn sample() -> Markup {
    let chrome = chrome("/console/links?sort=-clicks&range=1h");
    let values = |n: u32| (0..n).map(|i| Some(f64::from(i * 37 % 101) * 12.345)).collect::<Vec<_>>();
    let times: Vec<_> = (0..120).map(|i| Timestamp::from_millis(1_800_000_000_000 + i * 30_000)).collect();
    let latency = Chart::line("Latency")
        .unit(Unit::Millis)
        .times(times.clone())
        .series("p50", values(120))
        .series("p99", values(120));
    let clicks = Chart::bars("Clicks").times(times).series("clicks", values(120));
    let table = Table::new("Links", chrome.at())
        .column(Column::text("code", "Code").sortable())
        .column(Column::text("url", "Leads to").cut())
        .column(Column::number("clicks", "Clicks").sortable())
        .sorted(Sort::from_link(chrome.at(), &["clicks"]))
        .bulk("/console/links/bulk", "token")
        .bulk_button("delete", "Delete…", true)
        .next_cursor(Some("cursor".into()))
        .rows((0..50).map(|i| {
            let code = format!("code{i}");
            Row::new(&code)
                .link(&code, &Link::new(format!("/console/links/{code}")))
                .cell("https://example.com/".repeat(4))
                .cell(i)
        }));
    let numbers =
        (0..6).map(|_| Tile::new("Requests", "1.2k").unit("/s").change(3.0, "the hour before").spark(values(60)));
    let body = html! {
        (tiles(numbers)) (latency) (clicks) (section("Links", table.render()))
        (chrome.request(&RequestBox::get("/v1/links").cli(["links", "list"])))
    };
    chrome.page_with(Head::new("Links", "Short addresses.").live(Link::new("/console/links/live")).ranged(), body)
}

#[test]
fn everything_stays_small() {
    let [style, script, logo] = &*assets::ALL;
    for asset in [style, script, logo] {
        assert!(asset.bytes.len() < MOST_BYTES, "{} has {} bytes", asset.name, asset.bytes.len());
    }
    let page = sample().into_string();
    assert!(page.len() < 100_000, "the page has {} bytes", page.len());
    assert_inert(&page);
}

#[test]
fn assets_are_found_by_the_names_that_pages_use() {
    let page = sample().into_string();
    let names: Vec<_> = tags(&page)
        .iter()
        .filter_map(|t| {
            t.get("src").or(t.get("href")).and_then(|a| a.strip_prefix(paths::ASSETS)).map(|a| a[1..].to_owned())
        })
        .collect();
    assert_eq!(names.len(), 3);
    for name in names {
        assert!(assets::find(&name).is_some(), "{name}");
    }
    assert!(assets::find("console.css").is_none() && assets::find("../Cargo.toml").is_none());
}

#[test]
fn nothing_that_the_policy_refuses() {
    let [style, script, _] = &*assets::ALL;
    let (style, script) = (std::str::from_utf8(style.bytes).unwrap(), std::str::from_utf8(script.bytes).unwrap());
    assert!(!style.contains("url(") && !style.contains("@import"), "the stylesheet loads something");
    for refused in ["eval(", "new Function", "http://", "https://", ".style.cssText", "setAttribute(\"style\""] {
        assert!(!script.replace("http://www.w3.org/2000/svg", "").contains(refused), "{refused} in the script");
    }
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(assets::CONTENT_SECURITY_POLICY.contains(rule));
    }
    assert!(!assets::CONTENT_SECURITY_POLICY.contains("unsafe"));
}

#[test]
fn a_page_can_be_used_without_eyes_or_a_mouse() {
    let page = sample().into_string();
    let tags = tags(&page);
    let all = |name: &str| tags.iter().filter(|t| t.name == name).collect::<Vec<_>>();
    assert_eq!(all("h1").len(), 1);
    assert_eq!(all("main").len(), 1);
    assert_eq!(all("html")[0].get("lang"), Some("en"));
    // The first thing that the keyboard reaches leads past the rail.
    assert_eq!(all("a")[0].get("href"), Some("#content"));
    let ids: Vec<_> = tags.iter().filter_map(|t| t.get("id")).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(ids.len(), once.len(), "an id stands twice: {ids:?}");
    let labelled: Vec<_> = tags.iter().filter_map(|t| t.get("for")).collect();
    for input in tags
        .iter()
        .filter(|t| ["input", "select", "textarea"].contains(&t.name.as_str()) && t.get("type") != Some("hidden"))
    {
        let label = input.get("aria-label").is_some() || input.get("id").is_some_and(|id| labelled.contains(&id));
        assert!(label, "{:?} has no label", input.attributes);
    }
    for form in tags.iter().filter(|t| t.name == "form") {
        assert!(matches!(form.get("method"), Some("post" | "get")));
    }
    let posts = all("form").iter().filter(|f| f.get("method") == Some("post")).count();
    let tokens =
        all("input").iter().filter(|i| i.get("name") == Some("csrf") && i.get("value") == Some("token")).count();
    assert_eq!(posts, tokens, "a POST form without the CSRF token");
}

#[test]
fn the_rail_shows_where_one_is() {
    let current = |at: &str| {
        let page = chrome(at).page("Title", "", html! {}).into_string();
        let hrefs: Vec<_> = tags(&page)
            .iter()
            .filter(|t| t.get("aria-current") == Some("page"))
            .map(|t| t.get("href").unwrap().to_owned())
            .collect();
        hrefs
    };
    assert_eq!(current("/console"), ["/console"]);
    assert_eq!(current("/console/"), ["/console"]);
    // Each group of this sample holds the same five pages.
    assert_eq!(current("/console/links?x=y"), ["/console/links"; 5]);
    assert_eq!(current("/console/links/launch"), ["/console/links"; 5]);
    assert_eq!(current("/console/link-checks"), ["/console/link-checks"; 5]);
    assert!(current("/console/elsewhere").is_empty());
}

#[test]
fn the_theme_is_chosen_without_script() {
    for (theme, attribute) in [(Theme::Auto, None), (Theme::Light, Some("light")), (Theme::Dark, Some("dark"))] {
        let mut chrome = chrome("/console");
        chrome.theme = theme;
        let page = chrome.page("Title", "", html! {}).into_string();
        let tags = tags(&page);
        assert_eq!(tags.iter().find(|t| t.name == "html").unwrap().get("data-theme"), attribute);
        let pressed: Vec<_> =
            tags.iter().filter(|t| t.get("aria-pressed") == Some("true")).map(|t| t.get("value").unwrap()).collect();
        assert_eq!(pressed, [theme.name()]);
        assert_eq!(Theme::parse(theme.name()), theme);
    }
}

#[test]
fn tables_keep_their_state_in_the_url() {
    let at = Link::parse("/console/links?state=active&sort=-clicks&cursor=abc");
    let table = |sort| {
        Table::new("Links", &at)
            .column(Column::text("code", "Code").sortable())
            .column(Column::number("clicks", "Clicks").sortable())
            .sorted(sort)
            .row(Row::new("a").cell("a").cell(1))
            .next_cursor(Some("def".into()))
            .render()
            .into_string()
    };
    let sort = Sort::from_link(&at, &["code", "clicks"]);
    assert_eq!(sort, Some(Sort { key: "clicks".into(), descending: true }));
    assert_eq!(Sort::from_link(&at, &["code"]), None, "only the keys of the table");
    let page = table(sort);
    let tags = tags(&page);
    let hrefs: Vec<_> = tags.iter().filter(|t| t.name == "a").map(|t| t.get("href").unwrap()).collect();
    assert_eq!(
        hrefs,
        [
            // Another order starts from the first page; the column in force turns round.
            "/console/links?state=active&sort=code",
            "/console/links?state=active&sort=clicks",
            "/console/links?state=active&sort=-clicks",
            "/console/links?state=active&sort=-clicks&cursor=def",
        ]
    );
    assert!(tags.iter().any(|t| t.get("aria-sort") == Some("descending")));
    let labels: Vec<_> = tags.iter().filter_map(|t| t.get("data-label")).collect();
    assert_eq!(labels, ["Code", "Clicks"], "cards on narrow screens need them");
}

#[test]
fn a_flash_is_announced() {
    for (flash, role) in
        [(Flash::done("Done."), "status"), (Flash::warning("Part."), "status"), (Flash::failed("No."), "alert")]
    {
        assert_eq!(tags(&flash.render().0)[0].get("role"), Some(role));
    }
}
