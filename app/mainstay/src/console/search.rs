//! Search over everything: pages by their name, links by their code.

use access::Caller;
use axum::{Extension, extract::State, response::Html};
use console::{Chrome, Link, search};
use serde::Deserialize;

use crate::house::House;

#[derive(Deserialize)]
pub(crate) struct Query {
    #[serde(default)]
    q: String,
}

/// What was found, best first; each look-up is by key or by a short list, never a scan.
pub(crate) async fn page(
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    State(house): State<House>,
    web::Query(query): web::Query<Query>,
) -> Html<String> {
    let wanted = query.q.trim();
    let mut hits = Vec::new();
    if !wanted.is_empty() {
        if caller.require("links", "read").is_ok()
            && let Ok(found) = house.shortener().get(caller.project(), wanted).await
        {
            hits.push(search::Hit {
                kind: "link".to_owned(),
                title: found.link.code.to_string(),
                detail: found.link.url.clone(),
                to: Link::new(format!("/console/links/{}", found.link.code)),
            });
        }
        let lower = wanted.to_lowercase();
        for room in house.rooms() {
            for page in room.pages {
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
