//! The home page: is everything healthy, what is wrong, and how much is going on.

use std::time::Duration;

use console::{
    Chrome, Column, Head, KeyValues, Link, Markup, Row, Table, Tile, Unit, badge, charts::Chart, columns, format, html,
    live, section, tiles,
};
use kernel::Timestamp;
use telemetry::{State, golden::Point, process::Usage};

use super::status_of as status;
use crate::house::House;

/// Charts of the home page look this far back.
const POINTS: usize = 600;
/// Seconds that one point of a chart stands for.
const BUCKET: usize = 5;

/// The page's head; its stream replaces what [`fragments`] gives.
pub(crate) fn page(chrome: &Chrome, house: &House) -> Markup {
    let head = Head::new("Home", "Everything this node does, and whether it is well.").live(Link::new("/console/live"));
    let body = html! { @for (id, content) in fragments(chrome, house) { (live::fragment(id, content)) } };
    chrome.page_with(head, body)
}

/// What changes from second to second.
pub(crate) fn fragments(chrome: &Chrome, house: &House) -> Vec<(&'static str, Markup)> {
    let points = house.golden().series(None);
    let recent = window(&points);
    let last = points.last().map_or_else(|| house.clock().now(), |p| p.at);
    vec![
        ("home-tiles", overview(house, &recent)),
        ("home-charts", charts(&recent, last)),
        ("home-systems", systems(chrome, house)),
        ("home-routes", routes(chrome, house)),
        ("home-node", node(house)),
    ]
}

/// The last [`POINTS`] seconds, oldest first; `None` before the node began, which charts show as a gap.
fn window(points: &[Point]) -> Vec<Option<Point>> {
    let recent = &points[points.len().saturating_sub(POINTS)..];
    (recent.len()..POINTS).map(|_| None).chain(recent.iter().copied().map(Some)).collect()
}

fn overview(house: &House, points: &[Option<Point>]) -> Markup {
    let minute: Vec<Point> = points[points.len().saturating_sub(60)..].iter().flatten().copied().collect();
    let requests: u64 = minute.iter().map(|p| p.request_count).sum();
    let errors: u64 = minute.iter().map(|p| p.error_count).sum();
    let p99 =
        minute.iter().filter_map(|p| p.p99_ms).fold(None, |most: Option<f64>, v| Some(most.map_or(v, |m| m.max(v))));
    let usage = Usage::read();
    let state = house.health().state();
    tiles([
        Tile::new("State", state.to_string()).status(status(state)).note(health_note(house)),
        Tile::new("Requests", format::short(per_second(requests, minute.len()))).unit("/s").spark(bucketed(
            points,
            |p| Some(to_f64(p.request_count)),
            Fold::Mean,
        )),
        Tile::new("Errors", format::short(share(errors, requests) * 100.0))
            .unit("%")
            .note("5xx of the last minute")
            .spark(bucketed(points, |p| Some(to_f64(p.error_count)), Fold::Mean)),
        Tile::new("Latency", p99.map_or_else(|| "–".to_owned(), format::millis))
            .note("worst p99 of the last minute")
            .spark(bucketed(points, |p| p.p99_ms, Fold::Most)),
        Tile::new("Memory", format::bytes(usage.resident_bytes.map_or(0.0, to_f64))).note("resident"),
    ])
}

fn health_note(house: &House) -> String {
    let parts = house.health().parts();
    let well = parts.iter().filter(|p| p.state == State::Serving).count();
    format!("{well} of {} parts serve", parts.len())
}

fn charts(points: &[Option<Point>], last: Timestamp) -> Markup {
    let ago = |second: usize| Duration::from_secs((points.len() - 1 - second) as u64);
    let times: Vec<Timestamp> = (0..points.len()).step_by(BUCKET).map(|second| last.minus(ago(second))).collect();
    let requests = Chart::line("Requests")
        .unit(Unit::PerSecond)
        .times(times.clone())
        .series("answered", bucketed(points, |p| Some(to_f64(p.request_count)), Fold::Mean))
        .series("failed (5xx)", bucketed(points, |p| Some(to_f64(p.error_count)), Fold::Mean));
    let latency = Chart::line("Latency")
        .unit(Unit::Millis)
        .times(times)
        .series("p50", bucketed(points, |p| p.p50_ms, Fold::Mean))
        .series("p99", bucketed(points, |p| p.p99_ms, Fold::Most));
    columns(html! { (requests) }, html! { (latency) })
}

fn systems(chrome: &Chrome, house: &House) -> Markup {
    let now = house.clock().now();
    let table = Table::new("Parts of this node", chrome.at())
        .column(Column::text("part", "Part"))
        .column(Column::text("state", "State"))
        .column(Column::text("since", "Since"))
        .column(Column::text("needed", "Needed"))
        .rows(house.health().parts().into_iter().map(|part| {
            let word = part.reason.clone().unwrap_or_else(|| part.state.to_string());
            let row = Row::new(part.name);
            let row = match house.rooms().iter().find(|r| r.name == part.name) {
                Some(room) => match room.pages.first() {
                    Some(page) => row.link(room.title, &Link::new(page.path)),
                    None => row.cell(room.title),
                },
                None => row.cell(part.name),
            };
            row.cell(badge(status(part.state), &word)).cell(format::time(part.since, now)).cell(if part.required {
                "the node stops serving without it"
            } else {
                "the node degrades without it"
            })
        }));
    section("Systems", html! { (table) })
}

fn routes(chrome: &Chrome, house: &House) -> Markup {
    let mut rows: Vec<_> = house
        .golden()
        .routes()
        .into_iter()
        .map(|name| {
            let points = house.golden().series(Some(&name));
            let requests: u64 = points.iter().map(|p| p.request_count).sum();
            (requests, name, points)
        })
        .filter(|(requests, ..)| *requests > 0)
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rows.truncate(20);
    let table = Table::new("Routes by requests", chrome.at())
        .column(Column::text("route", "Route"))
        .column(Column::number("requests", "Requests"))
        .column(Column::number("errors", "5xx"))
        .column(Column::number("p99", "Worst p99"))
        .rows(rows.into_iter().map(|(requests, name, points)| {
            let errors: u64 = points.iter().map(|p| p.error_count).sum();
            let p99 =
                points.iter().filter_map(|p| p.p99_ms).fold(None, |m: Option<f64>, v| Some(m.map_or(v, |m| m.max(v))));
            Row::new(name.clone())
                .cell(html! { code { (name) } })
                .cell(format::short(to_f64(requests)))
                .cell(format::short(to_f64(errors)))
                .cell(p99.map_or_else(|| "–".to_owned(), format::millis))
        }));
    section("Busiest routes of the last 15 minutes", html! { (table) })
}

fn node(house: &House) -> Markup {
    let usage = Usage::read();
    let values = KeyValues::new()
        .item("State is kept in", house.describe_state())
        .item("Up for", format::duration(house.clock().monotonic()))
        .item("CPU time", format::duration(Duration::from_secs_f64(usage.cpu_seconds.unwrap_or(0.0))))
        .item("Open files", format!("{} of {}", usage.open_fds.unwrap_or(0), usage.max_fds.unwrap_or(0)))
        .item("Threads", usage.threads.unwrap_or(0).to_string())
        .item("Version", env!("CARGO_PKG_VERSION"));
    section("This node", html! { (values) })
}

#[derive(Clone, Copy)]
enum Fold {
    Mean,
    Most,
}

/// Seconds folded into buckets; a bucket without any value is a gap.
fn bucketed(points: &[Option<Point>], value: impl Fn(&Point) -> Option<f64>, fold: Fold) -> Vec<Option<f64>> {
    points
        .chunks(BUCKET)
        .map(|bucket| {
            let values: Vec<f64> = bucket.iter().flatten().filter_map(&value).collect();
            match fold {
                _ if values.is_empty() => None,
                Fold::Mean => Some(values.iter().sum::<f64>() / to_f64(values.len() as u64)),
                Fold::Most => values.into_iter().reduce(f64::max),
            }
        })
        .collect()
}

fn per_second(count: u64, seconds: usize) -> f64 {
    share(count, seconds as u64)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { to_f64(part) / to_f64(whole) }
}

#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
fn to_f64(n: u64) -> f64 {
    n as f64
}
