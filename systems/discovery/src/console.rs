//! The registry's pages in the console: the services and how they are, and the instances of each.

use access::Caller;
use axum::{
    Router,
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use console::{
    Chrome, Column, Head, Link, Markup, RequestBox, Row, Status, Table, Tile, badge, empty, format, html, section, tag,
    tiles,
};
use http::header;
use kernel::{Problem, Timestamp};

use crate::{
    SYSTEM,
    model::{Guard, Health, Instance, Service},
    service::Discovery,
};

/// The page of all services; below it, the page of each.
pub const PATH: &str = "/console/discovery";

/// The pages, to be put inside of the console's own layers (sign-in, [`Chrome`], `Caller`).
pub fn routes(discovery: Discovery) -> Router {
    Router::new().route(PATH, get(overview)).route("/console/discovery/{service}", get(service)).with_state(discovery)
}

fn answer(chrome: &Chrome, drawn: Result<Markup, Problem>) -> Response {
    let (status, page) = match drawn {
        Ok(page) => (http::StatusCode::OK, page),
        Err(problem) => (web::status(problem.code.kind), chrome.error_page(&problem)),
    };
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, page.0).into_response()
}

fn guard(guard: Guard) -> Markup {
    match guard {
        Guard::None => badge(Status::Ok, "well"),
        Guard::Panic => badge(Status::Down, "panic: also what fails is given out"),
        Guard::Draining => badge(Status::Degraded, "only what drains is left"),
    }
}

fn health(one: &Instance) -> Markup {
    match (one.is_draining(), one.state.damper.is_held, one.state.health()) {
        (true, ..) => badge(Status::Unknown, "draining"),
        (_, true, _) => badge(Status::Degraded, "held for flapping"),
        (.., Health::Passing) => badge(Status::Ok, "passing"),
        (.., Health::Warning) => badge(Status::Degraded, "warning"),
        (.., Health::Critical) => badge(Status::Down, "critical"),
    }
}

async fn overview(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(discovery): State<Discovery>,
) -> Response {
    let drawn = || {
        caller.require(SYSTEM, "read")?;
        let (services, _) = discovery.services(caller.project());
        let seen = discovery.overview();
        let sum = |of: fn(&Service) -> usize| services.iter().map(|one| of(one)).sum::<usize>().to_string();
        let expiry = match &seen.suspended {
            None => Tile::new("Expiry", "on").status(Status::Ok),
            Some(why) => Tile::new("Expiry", "suspended").status(Status::Degraded).note(why.clone()),
        };
        let blind = seen.members.iter().filter(|member| member.is_blind).count();
        let nodes = Tile::new("Nodes", seen.members.len().to_string());
        let nodes = if blind > 0 { nodes.note(format!("{blind} cannot reach Redis")) } else { nodes };
        let table = Table::new("Services", chrome.at())
            .column(Column::text("service", "Service"))
            .column(Column::text("state", "State"))
            .column(Column::number("well", "Well"))
            .column(Column::number("given", "Given out"))
            .column(Column::number("all", "Registered"))
            .column(Column::text("tags", "Tags"))
            .rows(services.iter().map(|one| {
                Row::new(&one.name)
                    .link(&one.name, &Link::new(format!("{PATH}/{}", one.name)))
                    .cell(guard(one.guard))
                    .cell(one.well_count.to_string())
                    .cell(one.usable.len().to_string())
                    .cell(one.instances.len().to_string())
                    .cell(html! { @for word in one.tags().iter().take(8) { (tag(word)) " " } })
            }))
            .empty(empty(
                "No services yet.",
                "An instance registers itself, says that it is alive or is asked, and leaves before it stops.",
                chrome.request(
                    &RequestBox::new("PUT", "/v1/discovery/instances/shop-1")
                        .json(serde_json::json!({ "service": "shop", "address": "10.0.0.7", "port": 8080 }))
                        .open(),
                ),
            ));
        let head = Head::new("Discovery", "Who serves what, where, and is it well.");
        let body = html! {
            (tiles([
                Tile::new("Services", services.len().to_string()),
                Tile::new("Instances", sum(|one| one.instances.len())),
                Tile::new("Well", sum(|one| one.well_count)),
                expiry,
                nodes,
            ]))
            (section("Services", html! { (table) }))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn())
}

async fn service(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(discovery): State<Discovery>,
    Path(name): Path<String>,
) -> Response {
    let drawn = || {
        caller.require(SYSTEM, "read")?;
        let service = discovery.service(caller.project(), &name);
        let now = discovery.shared().clock.now();
        let told = |one: &Instance| {
            let failing = one.spec.checks.iter().filter_map(|check| one.state.checks.get(&check.id));
            let output = failing.filter(|state| state.health != Health::Passing).map(|state| state.output.clone());
            Row::new(&one.id)
                .cell(html! { strong { (one.id) } })
                .cell(html! { code { (one.spec.address) ":" (one.spec.port) } })
                .cell(health(one))
                .cell(one.spec.zone.clone())
                .cell(output.collect::<Vec<_>>().join("; "))
                .cell(format::time(Timestamp::from_millis(one.changed_at.as_millis()), now))
        };
        let table = Table::new("Instances", chrome.at())
            .column(Column::text("id", "Instance"))
            .column(Column::text("address", "Address"))
            .column(Column::text("health", "Health"))
            .column(Column::text("zone", "Zone"))
            .column(Column::text("output", "Because"))
            .column(Column::text("changed", "Changed"))
            .rows(service.instances.iter().map(|one| told(one)))
            .empty(empty("No instances.", "Nobody has registered this service, or all have left.", html! {}));
        let head = Head::new(service.name.clone(), "Its instances, those that are not given out included.")
            .crumb("Discovery", Link::new(PATH));
        let body = html! {
            (tiles([
                Tile::new("State", service.guard.as_str().replace("none", "well")).status(match service.guard {
                    Guard::None => Status::Ok,
                    Guard::Draining => Status::Degraded,
                    Guard::Panic => Status::Down,
                }),
                Tile::new("Well", service.well_count.to_string()),
                Tile::new("Given out", service.usable.len().to_string()),
                Tile::new("Index", service.index.to_string()),
            ]))
            (section("Instances", html! { (table) }))
            (chrome.request(&RequestBox::get(format!("/v1/discovery/services/{}", service.name)).cli(["discovery", "show", service.name.as_str()])))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn())
}
