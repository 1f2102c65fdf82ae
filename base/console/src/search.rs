//! The results of searching everything.

use maud::{Markup, html};

use crate::{Link, tag};

/// One thing found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// What sort of thing: `link`, `job`, `page`.
    pub kind: String,
    /// Its name.
    pub title: String,
    /// More about it.
    pub detail: String,
    /// Its page.
    pub to: Link,
}

/// What was found for `query`; an empty list says so and what can be searched.
pub fn results(query: &str, hits: &[Hit]) -> Markup {
    html! {
        @if hits.is_empty() {
            div.empty {
                @if query.is_empty() { p.lead { "Search everything" } } @else { p.lead { "Nothing found for “" (query) "”." } }
                p { "Type a name, an id or the title of a page. " kbd { "/" } " goes to the search box from anywhere." }
            }
        } @else {
            ul.hits {
                @for hit in hits {
                    li { a href=(hit.to) { strong { (hit.title) } span.quiet { (hit.detail) } } (tag(&hit.kind)) }
                }
            }
        }
    }
}
