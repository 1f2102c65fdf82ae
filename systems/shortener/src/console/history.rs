//! What happened to a link.

use console::{Event, Markup, Status, Timeline, format, html};
use kernel::Timestamp;
use serde_json::Value;

use crate::{
    model::{LinkState, LinkWithClicks},
    store::LinkChange,
};

/// The most changes that the page shows.
pub(super) const MAX_CHANGES: u32 = 20;
/// The longest value that is shown whole, in characters.
const MAX_CHARS: usize = 300;

/// Everything that happened, the newest first.
pub(super) fn timeline(now: Timestamp, listed: &LinkWithClicks, changes: &[LinkChange]) -> Timeline {
    let link = &listed.link;
    let mut events = Vec::new();
    if let Some(at) = link.expires_at {
        let words = if link.is_expired(now) { "Expired" } else { "Will expire" };
        events.push((at, Event::new(at, words).detail("It answers 410 from then on.")));
    }
    if let Some(at) = link.starts_at {
        let words = if at > now { "Will start" } else { "Started" };
        events.push((at, Event::new(at, words)));
    }
    if let Some(at) = super::list::last_click(listed) {
        events.push((at, Event::new(at, "Last followed")));
    }
    for change in changes {
        let event = Event::new(change.at, title(change)).status(status(change)).who(&change.by);
        events.push((change.at, event.detail(details(change))));
    }
    events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let made = if link.is_alias { "Created under an alias" } else { "Created" };
    let made = Event::new(link.created_at, made).status(Status::Ok).who(&link.created_by);
    events.into_iter().fold(Timeline::new(now), |timeline, (_, event)| timeline.event(event)).event(made)
}

/// A change of one thing is called by it.
fn title(change: &LinkChange) -> String {
    let mut names = change.changes.iter();
    match (names.next(), names.next()) {
        (Some((name, values)), None) if name == "is_disabled" => {
            if values.get(1) == Some(&Value::Bool(true)) { "Disabled" } else { "Enabled" }.to_owned()
        }
        (Some((name, values)), None) if name == "state" => {
            match values.get(1).and_then(Value::as_str).and_then(LinkState::parse) {
                Some(LinkState::TakenDown(_)) => "Taken down",
                _ => "State changed",
            }
            .to_owned()
        }
        (Some((name, _)), None) => format!("{} changed", label(name)),
        _ => format!("{} things changed", change.changes.len()),
    }
}

fn status(change: &LinkChange) -> Status {
    match change.changes.get("is_disabled").and_then(|values| values.get(1)) {
        Some(Value::Bool(true)) => Status::Degraded,
        Some(_) => Status::Ok,
        None => Status::Unknown,
    }
}

fn details(change: &LinkChange) -> Markup {
    html! {
        @for (name, values) in change.changes.iter().filter(|(name, _)| *name != "is_disabled") {
            p {
                span.quiet { (label(name)) ": " }
                (value(values.get(0))) span.quiet { " → " } (value(values.get(1)))
            }
        }
    }
}

fn label(name: &str) -> String {
    match name {
        "url" => "Destination".to_owned(),
        "starts_at" => "Start".to_owned(),
        "expires_at" => "Expiry".to_owned(),
        "max_clicks" => "Most clicks".to_owned(),
        "redirect" => "Redirect status".to_owned(),
        "forward_query" => "Handing on the query".to_owned(),
        "has_password" => "Password".to_owned(),
        "utm" => "Campaign parameters".to_owned(),
        name => {
            let mut chars = name.chars();
            chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
        }
    }
}

fn value(value: Option<&Value>) -> Markup {
    let text = match value {
        None | Some(Value::Null) => return html! { span.quiet { "none" } },
        Some(Value::Bool(on)) => if *on { "yes" } else { "no" }.to_owned(),
        Some(Value::String(text)) => match Timestamp::parse(text) {
            Some(at) => return format::exact_time(at),
            None => text.clone(),
        },
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Some(Value::Object(fields)) if fields.values().all(Value::is_string) => fields
            .iter()
            .map(|(name, v)| format!("{name}={}", v.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(" "),
        Some(other) => other.to_string(),
    };
    if text.is_empty() {
        return html! { span.quiet { "none" } };
    }
    let short: String = text.chars().take(MAX_CHARS).collect();
    let is_cut = short.len() < text.len();
    html! { code { (short) @if is_cut { "…" } } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_in_words() {
        let change = |changes: Value| {
            let Value::Object(changes) = changes else { panic!() };
            LinkChange { version: 2, at: Timestamp::EPOCH, by: "ada".to_owned(), changes }
        };
        for (changes, told, detail) in [
            (
                json!({ "url": ["https://a.example/", "https://b.example/<i>"] }),
                "Destination changed",
                "https://b.example/&lt;i&gt;",
            ),
            (json!({ "is_disabled": [false, true] }), "Disabled", ""),
            (json!({ "is_disabled": [true, false] }), "Enabled", ""),
            (json!({ "expires_at": [null, "2036-01-01T00:00:00Z"] }), "Expiry changed", "2036-01-01 00:00:00 UTC"),
            (json!({ "tags": [["a", "b"], []] }), "Tags changed", "a, b"),
            (json!({ "utm": [{}, { "source": "mail" }] }), "Campaign parameters changed", "source=mail"),
            (json!({ "title": ["", "x"], "notes": ["", "y"] }), "2 things changed", "Notes"),
        ] {
            let change = change(changes);
            assert_eq!(title(&change), told);
            assert!(details(&change).0.contains(detail), "{}", details(&change).0);
        }
    }
}
