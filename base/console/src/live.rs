//! Live pages: one event stream a page, whose events each replace one fragment by its id.
//!
//! A page names its stream with [`crate::Head::live`] and wraps what changes in [`fragment`]. The handler of the stream
//! sends Server-Sent Events named [`EVENT`] whose data is [`data`]. The script opens one `EventSource`, closes it while the
//! page is hidden, holds it while the reader pauses, and leaves a fragment alone while a chart in it is being read or text in
//! it is selected. Without script the page is what it was when it was loaded.

use maud::{Markup, html};

/// The name of the events.
pub const EVENT: &str = "fragment";

/// A part of a page that the stream replaces. `id` is unique in the page: letters, digits and `-`.
pub fn fragment(id: &str, content: Markup) -> Markup {
    html! { div.fragment id=(id) { (content) } }
}

/// The data of one event: the new content of the fragment `id` (what was given to [`fragment`], without its wrapper).
pub fn data(id: &str, content: &Markup) -> String {
    // JSON escapes line breaks, which would end a line of the event stream.
    serde_json::json!({ "id": id, "html": content.0 }).to_string()
}

/// The whole event as it goes over the wire, for handlers that write the stream themselves.
pub fn event(id: &str, content: &Markup) -> String {
    format!("event: {EVENT}\ndata: {}\n\n", data(id, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_it_holds() {
        let text = event("tiles", &html! { p { "a\nb\r\n\"c\" </script>" } });
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[0], "event: fragment");
        let value: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(value["id"], "tiles");
        assert_eq!(value["html"], "<p>a\nb\r\n&quot;c&quot; &lt;/script&gt;</p>");
    }
}
