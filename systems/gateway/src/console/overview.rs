//! What the gateway does now.

use std::collections::HashMap;

use ::console::{
    Chrome, Column, Head, Link, Markup, RequestBox, Row, Status, Table, Tile, badge, charts::Topology, empty, format,
    html, live, section, tiles,
};
use ::upstream::{EndpointState, UpstreamState};
use access::Caller;
use axum::{
    extract::{Extension, State},
    response::Response,
};
use http::StatusCode;
use kernel::Problem;

use super::{EXPLAIN, Fragments, PATH, Pages, STREAM, UPSTREAMS, VERSIONS, answer, events, is_operator};
use crate::{
    DataPath, Gateway, SYSTEM,
    model::{Action, Origin, Route, RouteNumbers, Table as Routes},
};

/// How many routes the picture and the table show: those with the most requests.
const SHOWN_ROUTES: usize = 12;
const LISTED_ROUTES: usize = 100;
/// Slow requests and differences that are shown.
const SHOWN_SLOW: usize = 20;
/// Endpoints of an upstream in the picture; the rest is one node.
const SHOWN_ENDPOINTS: usize = 4;

/// The page.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, data_path, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let head = Head::new("Gateway", "Which route leads where, how its back ends are, and what it costs.")
            .live(Link::new(STREAM))
            .actions(html! {
                a.button href=(Link::new(EXPLAIN)) { "Explain a request" }
                @if is_operator(caller.principal()) { a.button.primary href=(Link::new(VERSIONS)) { "Document" } }
            });
        let body = html! {
            @for (id, content) in fragments(&chrome, &gateway, &data_path) { (live::fragment(id, content)) }
            (chrome.request(&RequestBox::get("/v1/gateway/routes").cli(["gateway", "routes"])))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// What changes on it.
pub(super) async fn stream(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(pages): State<Pages>,
) -> Response {
    if let Err(e) = caller.require(SYSTEM, "read") {
        return answer(&chrome, Err(e.into()), StatusCode::OK);
    }
    let (gateway, data_path) = (pages.gateway.clone(), pages.data_path.clone());
    events(&pages, move || fragments(&chrome, &gateway, &data_path))
}

fn fragments(chrome: &Chrome, gateway: &Gateway, data_path: &DataPath) -> Fragments {
    let table = gateway.table();
    let states = gateway.upstreams().states();
    let mut routes: Vec<(&Route, RouteNumbers)> = table.routes().iter().map(|r| (&**r, r.stats.numbers())).collect();
    // The busiest first; those that nobody asked for stay in the order of the document.
    routes.sort_by_key(|(_, numbers)| std::cmp::Reverse(numbers.total));
    vec![
        ("gateway-tiles", overview(gateway, &table, &routes, &states)),
        ("gateway-map", map(&routes, &states)),
        ("gateway-routes", self::routes(chrome, &routes)),
        ("gateway-upstreams", upstreams(chrome, &states)),
        ("gateway-slow", slow(chrome, gateway, data_path)),
        ("gateway-mirrors", mirrors(chrome, gateway, data_path)),
    ]
}

fn count(n: u64) -> String {
    format::full(i64::try_from(n).unwrap_or(i64::MAX))
}

fn overview(gateway: &Gateway, table: &Routes, routes: &[(&Route, RouteNumbers)], states: &[UpstreamState]) -> Markup {
    let document = match (gateway.trouble(), table.origin) {
        (Some(_), _) => Tile::new("Document", "stale").status(Status::Down).note("the one that should hold cannot"),
        (None, Origin::Database) => Tile::new("Document", format!("v{}", table.version)).status(Status::Ok),
        (None, Origin::File) => Tile::new("Document", "file").status(Status::Ok),
        (None, _) => Tile::new("Document", "none").note("the public listener serves short links"),
    };
    let document = match gateway.applied_at().filter(|_| gateway.trouble().is_none()) {
        Some(at) => document.note(format!("holds since {}", format::ago(at, gateway.0.clock.now()))),
        None => document,
    };
    let (requests, failures) =
        routes.iter().fold((0, 0), |(all, failed), (_, n)| (all + n.total, failed + n.by_class[5]));
    let in_flight: u64 = routes.iter().map(|(_, n)| u64::from(n.in_flight)).sum();
    let well: usize = states.iter().map(|s| s.well_count).sum();
    let all: usize = states.iter().map(|s| s.endpoints.iter().filter(|e| !e.is_retired).count()).sum();
    let open = states.iter().filter(|s| s.breaker.as_ref().is_some_and(|b| b.state != "closed")).count();
    let endpoints = Tile::new("Back ends well", format!("{well} of {all}")).status(match (well, all) {
        (_, 0) => Status::Unknown,
        (well, all) if well == all => Status::Ok,
        (0, _) => Status::Down,
        _ => Status::Degraded,
    });
    html! {
        @if let Some(why) = gateway.trouble() { p.problem role="alert" { (badge(Status::Down, "stale")) " " (why) } }
        (tiles([
            document,
            Tile::new("Requests", count(requests)).note("on this node, since it runs"),
            Tile::new("Failed", count(failures)).note("answered 5xx"),
            Tile::new("Worked on now", count(in_flight)),
            endpoints,
            Tile::new("Breakers open", open.to_string()).status(if open == 0 { Status::Ok } else { Status::Down }),
        ]))
    }
}

/// How an endpoint is, and the word for it.
pub(super) fn endpoint_status(endpoint: &EndpointState) -> (Status, &'static str) {
    if endpoint.is_draining || endpoint.is_retired {
        return (Status::Unknown, if endpoint.is_retired { "leaving" } else { "draining" });
    }
    if endpoint.is_ejected {
        return (Status::Degraded, "ejected");
    }
    match (endpoint.health, endpoint.is_healthy_at_source) {
        (::upstream::Health::Unhealthy, _) => (Status::Down, "unhealthy"),
        (_, false) => (Status::Down, "unhealthy at source"),
        _ if endpoint.warmth_percent < 100 => (Status::Degraded, "warming up"),
        _ => (Status::Ok, "well"),
    }
}

/// How an upstream is, and the word for it.
pub(super) fn upstream_status(state: &UpstreamState) -> (Status, &'static str) {
    if state.breaker.as_ref().is_some_and(|b| b.state == "open") {
        return (Status::Down, "breaker open");
    }
    let there = state.endpoints.iter().filter(|e| !e.is_retired).count();
    match (state.well_count, there) {
        (_, 0) => (Status::Down, "no endpoints"),
        (0, _) => (Status::Down, "nobody well"),
        _ if state.is_panic => (Status::Degraded, "panic: all are used"),
        (well, there) if well < there => (Status::Degraded, "some unwell"),
        _ => (Status::Ok, "well"),
    }
}

fn route_status(numbers: &RouteNumbers) -> Status {
    match numbers.total {
        0 => Status::Unknown,
        total if numbers.by_class[5] * 20 > total => Status::Degraded,
        _ => Status::Ok,
    }
}

/// The picture: the listener, routes, upstreams, endpoints.
fn map(routes: &[(&Route, RouteNumbers)], states: &[UpstreamState]) -> Markup {
    let by_name: HashMap<&str, &UpstreamState> = states.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut picture =
        Topology::new("Listener, routes, upstreams, endpoints").node("public", "public", "listener", Status::Ok);
    let mut drawn: Vec<&str> = Vec::new();
    for (route, numbers) in routes.iter().take(SHOWN_ROUTES) {
        let id = format!("route {}", route.name);
        let status = route_status(numbers);
        let note =
            if numbers.total == 0 { route.kind().to_owned() } else { format!("{} requests", count(numbers.total)) };
        picture = picture.node(&id, &*route.name, note, status).edge("public", &id, "", status);
        if let Action::Service(name) = &route.action {
            let service = format!("service {name}");
            picture = picture.node(&service, &**name, "Mainstay", Status::Ok).edge(&id, &service, "", status);
        }
        for name in route.upstreams() {
            let Some(state) = by_name.get(name) else { continue };
            let (status, word) = upstream_status(state);
            let upstream = format!("upstream {name}");
            picture = picture.node(&upstream, name, word, status).href(String::from(&address(name))).edge(
                &id,
                &upstream,
                share(route, name),
                status,
            );
            if !drawn.contains(&name) {
                drawn.push(name);
                picture = endpoints(picture, state, &upstream);
            }
        }
    }
    section(
        "What talks to what",
        html! {
            (picture)
            @if routes.len() > SHOWN_ROUTES {
                p.quiet { "The " (SHOWN_ROUTES) " busiest of " (routes.len()) " routes." }
            }
        },
    )
}

fn endpoints(mut picture: Topology, state: &UpstreamState, upstream: &str) -> Topology {
    for endpoint in state.endpoints.iter().take(SHOWN_ENDPOINTS) {
        let (status, word) = endpoint_status(endpoint);
        let id = format!("endpoint {} {}", state.name, endpoint.address);
        picture = picture.node(&id, &endpoint.address, word, status).edge(upstream, &id, "", status);
    }
    let more = state.endpoints.len().saturating_sub(SHOWN_ENDPOINTS);
    if more > 0 {
        let id = format!("more {}", state.name);
        picture = picture.node(&id, format!("{more} more"), "endpoints", Status::Unknown).edge(
            upstream,
            &id,
            "",
            Status::Unknown,
        );
    }
    picture
}

/// The share of an upstream in a split.
fn share(route: &Route, name: &str) -> String {
    let Action::Forward(forward) = &route.action else { return String::new() };
    match forward.to.iter().find(|split| *split.name == *name) {
        Some(split) if forward.to.len() > 1 => format!("{}%", split.weight * 100 / forward.total_weight.max(1)),
        Some(_) => String::new(),
        None if forward.canary.as_ref().is_some_and(|c| *c.name == *name) => "canary".to_owned(),
        None if forward.mirror.as_ref().is_some_and(|m| *m.name == *name) => "mirror".to_owned(),
        None => "fallback".to_owned(),
    }
}

fn millis(time: Option<std::time::Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |t| format!("≤ {}", format::millis(t.as_secs_f64() * 1_000.0)))
}

fn routes(chrome: &Chrome, routes: &[(&Route, RouteNumbers)]) -> Markup {
    let table = Table::new("Routes", chrome.at())
        .column(Column::text("route", "Route"))
        .column(Column::text("for", "For"))
        .column(Column::text("to", "Leads to"))
        .column(Column::number("requests", "Requests"))
        .column(Column::number("failed", "5xx"))
        .column(Column::number("now", "Now"))
        .column(Column::number("p50", "p50"))
        .column(Column::number("p99", "p99"))
        .rows(routes.iter().take(LISTED_ROUTES).map(|(route, numbers)| {
            let hosts = &route.spec.matching.hosts;
            Row::new(&*route.name)
                .cell(html! { div { strong { (route.name) } @if !route.spec.description.is_empty() { div.quiet { (route.spec.description) } } } })
                .cell(html! { div { @if hosts.is_empty() { "every host" } @else { (hosts.join(", ")) } div.quiet { (route.path_text()) } } })
                .cell(html! { div { (route.about()) div.quiet { (route.kind()) @for policy in &route.spec.policies { " · " (policy) } } } })
                .cell(count(numbers.total))
                .cell(count(numbers.by_class[5]))
                .cell(numbers.in_flight.to_string())
                .cell(millis(numbers.p50))
                .cell(millis(numbers.p99))
        }))
        .empty(empty(
            "No routes.",
            "A route says which requests go to which back ends.",
            chrome.request(&RequestBox::get("/v1/gateway/config").cli(["gateway", "check", "gateway.toml"]).open()),
        ));
    section("Routes", html! { (table) })
}

/// Where the page of an upstream is.
pub(super) fn address(name: &str) -> Link {
    Link::new(format!("{UPSTREAMS}/{}", ::console::link::escape(name)))
}

fn upstreams(chrome: &Chrome, states: &[UpstreamState]) -> Markup {
    if states.is_empty() {
        return html! {};
    }
    let table = Table::new("Upstreams", chrome.at())
        .column(Column::text("upstream", "Upstream"))
        .column(Column::text("state", "State"))
        .column(Column::text("from", "From"))
        .column(Column::text("algorithm", "Chooses by"))
        .column(Column::number("well", "Well"))
        .column(Column::number("now", "Now"))
        .column(Column::number("refused", "Refused"))
        .column(Column::text("breaker", "Breaker"))
        .rows(states.iter().map(|state| {
            let (status, word) = upstream_status(state);
            let algorithm = serde_json::to_value(state.algorithm).ok().and_then(|v| v.as_str().map(str::to_owned));
            let refused = state.refused_empty_count + state.refused_full_count + state.refused_open_count;
            let there = state.endpoints.iter().filter(|e| !e.is_retired).count();
            Row::new(&state.name)
                .link(&state.name, &address(&state.name))
                .cell(badge(status, word))
                .cell(html! { (state.source.kind) @if let Some(name) = &state.source.name { " " code { (name) } } })
                .cell(algorithm.unwrap_or_default().replace('_', " "))
                .cell(format!("{} of {there}", state.well_count))
                .cell(format!("{} of {}", state.in_flight, state.max_in_flight))
                .cell(count(refused))
                .cell(breaker(state))
        }));
    section("Upstreams", html! { (table) })
}

/// The breaker of an upstream as a badge.
pub(super) fn breaker(state: &UpstreamState) -> Markup {
    match state.breaker.as_ref().map(|b| b.state) {
        None => html! { span.quiet { "none" } },
        Some("closed") => badge(Status::Ok, "closed"),
        Some("open") => badge(Status::Down, "open"),
        Some(other) => badge(Status::Degraded, &other.replace('_', " ")),
    }
}

/// Back to the page.
pub(super) fn home() -> Link {
    Link::new(PATH)
}

/// The slowest requests of the last minutes.
fn slow(chrome: &Chrome, gateway: &Gateway, data_path: &DataPath) -> Markup {
    let now = gateway.0.clock.now();
    let slow = data_path.slow();
    if slow.is_empty() {
        return html! {};
    }
    let took = |time: std::time::Duration| format::millis(time.as_secs_f64() * 1_000.0);
    let table = Table::new("Slow requests", chrome.at())
        .column(Column::text("at", "When"))
        .column(Column::text("request", "Request").cut())
        .column(Column::text("route", "Route"))
        .column(Column::text("endpoint", "Answered by"))
        .column(Column::number("status", "Status"))
        .column(Column::number("took", "Took"))
        .column(Column::number("upstream", "Back end"))
        .column(Column::number("tries", "Tries"))
        .rows(slow.iter().take(SHOWN_SLOW).map(|one| {
            let endpoint = one.endpoint.map_or_else(|| "–".to_owned(), |address| address.to_string());
            Row::new(&one.request_id)
                .cell(format::time(one.at, now))
                .cell(html! { code { (one.method.as_str()) " " (one.path) } })
                .cell(&one.route)
                .cell(html! { div { @if one.upstream.is_empty() { span.quiet { "–" } } @else { (one.upstream) } div.quiet { (endpoint) @if !one.error.is_empty() { " · " (one.error) } } } })
                .cell(one.status.to_string())
                .cell(took(one.took))
                .cell(one.upstream_took.map_or_else(|| "–".to_owned(), took))
                .cell(one.tries.to_string())
        }));
    section("Slowest requests of the last minutes", html! { (table) })
}

/// What mirrors answered otherwise.
fn mirrors(chrome: &Chrome, gateway: &Gateway, data_path: &DataPath) -> Markup {
    let (numbers, now) = (data_path.mirrors(), gateway.0.clock.now());
    if numbers == crate::proxy::MirrorNumbers::default() {
        return html! {};
    }
    let table = Table::new("Differences of mirrors", chrome.at())
        .column(Column::text("at", "When"))
        .column(Column::text("request", "Request").cut())
        .column(Column::text("route", "Route"))
        .column(Column::text("what", "What differs"))
        .rows(data_path.differences().iter().take(SHOWN_SLOW).enumerate().map(|(number, one)| {
            Row::new(number.to_string())
                .cell(format::time(one.at, now))
                .cell(html! { code { (one.method.as_str()) " " (one.path) } })
                .cell(&one.route)
                .cell(html! { ul { @for what in &one.differences { li { code { (what) } } } } })
        }));
    section(
        "Mirrors",
        html! {
            p { (count(numbers.compared_count)) " pairs of answers compared, " strong { (count(numbers.different_count)) " differ" } ", "
                (count(numbers.failed_count)) " not answered by the mirror, " (count(numbers.skipped_count)) " left out." }
            @if numbers.different_count > 0 { (table) }
        },
    )
}
