//! One upstream: its endpoints, and taking requests away from one.

use ::console::{
    Chrome, Column, Flash, Head, Link, Markup, RequestBox, Row, Status, Table, Tile, badge, format, html, post_button,
    section, tiles,
};
use ::upstream::{EndpointState, UpstreamState};
use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use kernel::Problem;
use serde_json::json;

use super::{
    Pages, Pairs, accept, answer, is_operator,
    overview::{address, breaker, endpoint_status, home, upstream_status},
};
use crate::{Drain, Gateway, SYSTEM};

/// The page.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
    Path(name): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let state = gateway.upstream_state(&name)?;
        let drains = gateway.drains().await?;
        Ok::<_, Problem>(draw(&chrome, &gateway, &state, &drains, is_operator(caller.principal())))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

fn draw(chrome: &Chrome, gateway: &Gateway, state: &UpstreamState, drains: &[Drain], may_drain: bool) -> Markup {
    let (status, word) = upstream_status(state);
    let now = gateway.0.clock.now();
    let there = state.endpoints.iter().filter(|e| !e.is_retired).count();
    let source = match &state.source.name {
        Some(name) => format!("{} {name}", state.source.kind),
        None => state.source.kind.to_owned(),
    };
    let table = gateway.table();
    let users: Vec<_> = table.routes().iter().filter(|r| r.upstreams().any(|u| u == state.name)).collect();
    let head = Head::new(&state.name, "Back ends that do the same work, and how each is.").crumb("Gateway", home());
    let row = |endpoint: &EndpointState| {
        let (status, word) = endpoint_status(endpoint);
        let by_hand = drains.iter().find(|d| d.upstream == state.name && d.endpoint == endpoint.address);
        let latency = endpoint.latency_ms.map_or_else(|| "–".to_owned(), format::millis);
        let checked =
            endpoint.checked_at.map_or_else(|| html! { span.quiet { "not checked" } }, |at| format::time(at, now));
        Row::new(&endpoint.address)
            .cell(html! { div { strong { (endpoint.address) } @if let Some(zone) = &endpoint.zone { div.quiet { "zone " (zone) } } } })
            .cell(html! { div { (badge(status, word)) @if let Some(why) = &endpoint.check_error { div.quiet { (why) } }
                @if let Some(drain) = by_hand { div.quiet { "by " (drain.by) ", " (format::time(drain.at, now)) } } } })
            .cell(endpoint.weight.to_string())
            .cell(endpoint.in_flight.to_string())
            .cell(format::full(i64::try_from(endpoint.pick_count).unwrap_or(i64::MAX)))
            .cell(format::full(i64::try_from(endpoint.failure_count).unwrap_or(i64::MAX)))
            .cell(latency)
            .cell(checked)
            .cell(html! {
                @if may_drain && !endpoint.is_retired {
                    @let action = String::from(&Link::new(format!("{}/drain", String::from(&address(&state.name)))));
                    @let (words, to) = if by_hand.is_some() { ("Give requests back", "0") } else { ("Drain", "1") };
                    (post_button(chrome, &action, words, &[("endpoint", &endpoint.address), ("drain", to)]))
                }
            })
    };
    let endpoints = Table::new("Endpoints", chrome.at())
        .column(Column::text("endpoint", "Endpoint"))
        .column(Column::text("state", "State"))
        .column(Column::number("weight", "Weight"))
        .column(Column::number("now", "Now"))
        .column(Column::number("sent", "Sent"))
        .column(Column::number("failed", "Failed"))
        .column(Column::number("latency", "Latency"))
        .column(Column::text("checked", "Checked"))
        .column(Column::text("do", "Requests"))
        .rows(state.endpoints.iter().map(row));
    let path = format!("/v1/gateway/upstreams/{}/drain", ::console::link::escape(&state.name));
    let example = state.endpoints.first().map_or("127.0.0.1:9001", |e| e.address.as_str());
    let body = html! {
        @match chrome.at().get("done") {
            Some("1") => (Flash::done("No new requests go there, on every node within a second. Those under way end by themselves.")),
            Some(_) => (Flash::done("It takes requests again, on every node within a second.")),
            None => {}
        }
        (tiles([
            Tile::new("State", word).status(status),
            Tile::new("Well", format!("{} of {there}", state.well_count)),
            Tile::new("Worked on now", state.in_flight.to_string()).note(format!("at most {}", state.max_in_flight)),
            Tile::new("Refused", (state.refused_empty_count + state.refused_full_count + state.refused_open_count).to_string())
                .note("nobody there, full, or breaker open"),
            Tile::new("Ejections", state.ejection_count.to_string()),
        ]))
        p { "From " code { (source) } ", breaker " (breaker(state))
            @if let Some(error) = &state.source.error { " " (badge(Status::Degraded, "source does not answer")) " " (error) } }
        (section("Endpoints", html! { (endpoints) }))
        @if !users.is_empty() {
            (section("Routes that lead here", html! { ul { @for route in users { li { strong { (route.name) } " " span.quiet { (route.path_text()) } } } } }))
        }
        (chrome.request(&RequestBox::post(path).json(json!({ "endpoint": example })).cli(["gateway", "drain", &state.name, example])))
    };
    chrome.page_with(head, body)
}

/// Takes requests away from an endpoint, or gives them back.
pub(super) async fn drain(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { gateway, .. }): State<Pages>,
    Path(name): Path<String>,
    pairs: Pairs,
) -> Response {
    let done = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        let is_drained = sent.get("drain") == "1";
        gateway.set_drained(caller.principal(), &name, sent.get("endpoint"), is_drained).await?;
        Ok::<_, Problem>(is_drained)
    };
    match done.await {
        Ok(is_drained) => {
            Redirect::to(&address(&name).with("done", if is_drained { "1" } else { "0" }).to_string()).into_response()
        }
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}
