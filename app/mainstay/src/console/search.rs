//! Search over everything: pages by their name, links by their code, title and URL.

use access::Caller;
use axum::{Extension, extract::State, response::Html};
use console::{Chrome, Link, search};
use serde::Deserialize;
use shortener::{ListFilter, model};

use crate::house::House;

/// The most links that are shown; the page of links shows more.
const MAX_LINKS: usize = 10;

#[derive(Deserialize)]
pub(crate) struct Query {
    #[serde(default)]
    q: String,
}

/// Links: the one of that code first, then the newest whose code, title or URL holds the words, among the newest of the project.
async fn links(house: &House, caller: &Caller, wanted: &str) -> Vec<model::Link> {
    let mut found = Vec::new();
    if let Ok(exact) = house.shortener().get(caller.project(), wanted).await {
        found.push(exact.link);
    }
    let filter = ListFilter { text: Some(wanted.to_owned()), ..ListFilter::default() };
    if let Ok(page) = house.shortener().list(caller.project(), &filter, None, 10).await {
        let exact = found.first().map(|link| link.id);
        found.extend(page.links.into_iter().map(|listed| listed.link).filter(|link| Some(link.id) != exact));
    }
    found.truncate(MAX_LINKS);
    found
}

fn link_hit(link: &model::Link) -> search::Hit {
    let page = Link::new(format!("/console/links/{}", link.code));
    search::Hit {
        kind: "link".to_owned(),
        title: if link.title.is_empty() { link.code.to_string() } else { format!("{} · {}", link.code, link.title) },
        detail: link.url.clone(),
        to: match &link.host {
            Some(host) => page.with("domain", host),
            None => page,
        },
    }
}

/// What was found, best first; each look-up is by key or looks at a bounded number of rows.
pub(crate) async fn page(
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    State(house): State<House>,
    web::Query(query): web::Query<Query>,
) -> Html<String> {
    let wanted = query.q.trim();
    let mut hits = Vec::new();
    if !wanted.is_empty() {
        if caller.require("links", "read").is_ok() {
            hits.extend(links(&house, &caller, wanted).await.iter().map(link_hit));
        }
        let lower = wanted.to_lowercase();
        for room in house.rooms() {
            for page in room.pages.iter().filter(|page| (page.is_for)(caller.principal())) {
                if page.name.to_lowercase().contains(&lower) || room.title.to_lowercase().contains(&lower) {
                    hits.push(search::Hit {
                        kind: "page".to_owned(),
                        title: page.name.to_owned(),
                        detail: room.title.to_owned(),
                        to: Link::new(page.path),
                    });
                }
            }
        }
    }
    let body = search::results(wanted, &hits);
    Html(chrome.page("Search", "Pages and things of this project.", body).into_string())
}
