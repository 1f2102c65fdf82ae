//! What stands where there is nothing, where something failed, and where something was just done.

use kernel::Problem;
use maud::{Markup, PreEscaped, Render, html};

use crate::{Status, paths};

/// An empty state that teaches: what would be here, one sentence of why, and the first command.
pub fn empty(lead: &str, sentence: &str, first: Markup) -> Markup {
    html! { div.empty { p.lead { (lead) } p { (sentence) } (first) } }
}

/// What went wrong: its words, what to do, its code with a link to the page about it.
pub fn error_state(problem: &Problem) -> Markup {
    let retry = problem.retry_after.map(|d| format!("Trying again makes sense in {}.", crate::format::duration(d)));
    html! {
        div.failure role="alert" {
            p.lead { (Status::Down.shape()) (problem.code.title) }
            p { (problem.detail) }
            @if !problem.fields.is_empty() {
                ul { @for wrong in &problem.fields { li { code { (wrong.field) } ": " (wrong.detail) } } }
            }
            @if let Some(retry) = retry { p { (retry) } }
            p.quiet { "Code " a.code href=(paths::error_doc(problem.code.name)) { (problem.code.name) } " says what to do about it." }
        }
    }
}

/// A message about what was just done, perhaps with a way back.
#[derive(Debug, Clone)]
pub struct Flash {
    status: Status,
    text: String,
    undo: Option<String>,
}

impl Flash {
    /// Something was done.
    pub fn done(text: impl Into<String>) -> Self {
        Self { status: Status::Ok, text: text.into(), undo: None }
    }

    /// Something was done in part, or with a consequence worth reading.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { status: Status::Degraded, ..Self::done(text) }
    }

    /// Something was refused or failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { status: Status::Down, ..Self::done(text) }
    }

    /// A way back: markup of a [`crate::post_button`].
    #[must_use]
    pub fn undo(mut self, button: Markup) -> Self {
        self.undo = Some(button.into_string());
        self
    }
}

impl Render for Flash {
    fn render(&self) -> Markup {
        let role = if self.status == Status::Down { "alert" } else { "status" };
        html! {
            div.flash.(self.status.class()) role=(role) {
                (self.status.shape())
                p { (self.text) }
                @if let Some(undo) = &self.undo { (PreEscaped(undo)) }
            }
        }
    }
}

/// A value in the monospaced font with a button that copies it (the button appears with script).
pub fn copyable(value: &str) -> Markup {
    html! {
        span.copyable { code { (value) } button.small.copy type="button" data-copy="" hidden { "Copy" span.sr { " " (value) } } }
    }
}

/// The same under a name for it, for tables.
pub fn copyable_under(name: Markup, value: &str) -> Markup {
    html! {
        span.copyable {
            span { div { (name) } code.quiet { (value) } }
            button.small.copy type="button" data-copy="" hidden { "Copy" span.sr { " " (value) } }
        }
    }
}

/// How much of something is done, as a bar with its words; `label` names it for screen readers. Nothing to do counts as not begun.
pub fn progress(label: &str, done: u64, of: u64, words: &str) -> Markup {
    html! { progress aria-label=(label) value=(done.min(of)) max=(of.max(1)) {} div.note { (words) } }
}

/// Names and values of one thing.
#[derive(Debug, Clone, Default)]
pub struct KeyValues {
    items: Vec<(String, Markup)>,
}

impl KeyValues {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next: a name, and text, a number or markup.
    #[must_use]
    pub fn item(mut self, name: impl Into<String>, value: impl Render) -> Self {
        self.items.push((name.into(), value.render()));
        self
    }

    /// The next: a value to copy, in the monospaced font.
    #[must_use]
    pub fn copy(self, name: impl Into<String>, value: &str) -> Self {
        self.item(name, copyable(value))
    }
}

impl Render for KeyValues {
    fn render(&self) -> Markup {
        html! { dl.values { @for (name, value) in &self.items { div { dt { (name) } dd { (value) } } } } }
    }
}
