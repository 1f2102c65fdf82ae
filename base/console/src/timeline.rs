//! What happened to one thing, newest first.

use kernel::Timestamp;
use maud::{Markup, Render, html};

use crate::{Status, format};

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Event {
    at: Timestamp,
    title: String,
    status: Status,
    who: String,
    detail: Option<Markup>,
}

impl Event {
    /// When and what, in the past tense: `Created`, `Destination changed`.
    pub fn new(at: Timestamp, title: impl Into<String>) -> Self {
        Self { at, title: title.into(), status: Status::Unknown, who: String::new(), detail: None }
    }

    /// How it went.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Who did it.
    #[must_use]
    pub fn who(mut self, who: impl Into<String>) -> Self {
        self.who = who.into();
        self
    }

    /// More: text or markup.
    #[must_use]
    pub fn detail(mut self, detail: impl Render) -> Self {
        self.detail = Some(detail.render());
        self
    }
}

/// The timeline of a detail page. `now` is what "ago" counts from.
#[derive(Debug, Clone)]
pub struct Timeline {
    now: Timestamp,
    events: Vec<Event>,
}

impl Timeline {
    /// None yet.
    pub fn new(now: Timestamp) -> Self {
        Self { now, events: Vec::new() }
    }

    /// Adds what happened; the order of adding is the order shown.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }
}

impl Render for Timeline {
    fn render(&self) -> Markup {
        html! {
            ol.timeline {
                @for event in &self.events {
                    li {
                        (event.status.shape())
                        div {
                            p { strong { (event.title) } @if !event.who.is_empty() { " by " (event.who) } }
                            @if let Some(detail) = &event.detail { div.detail { (detail) } }
                            p.quiet { (format::time(event.at, self.now)) }
                        }
                    }
                }
            }
        }
    }
}
