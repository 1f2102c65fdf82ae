//! Filters of a table: a GET form, so that what is shown is in the URL.

use maud::{Markup, html};

use crate::Link;

#[derive(Debug, Clone)]
enum Filter {
    Text { name: &'static str, label: String, placeholder: String },
    Choice { name: &'static str, label: String, options: Vec<(String, String)> },
}

impl Filter {
    const fn name(&self) -> &'static str {
        match self {
            Self::Text { name, .. } | Self::Choice { name, .. } => name,
        }
    }
}

/// The filters above a table; their values come from the current address.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    filters: Vec<Filter>,
}

impl Filters {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A field of text, sent as `name`.
    #[must_use]
    pub fn text(mut self, name: &'static str, label: impl Into<String>, placeholder: impl Into<String>) -> Self {
        self.filters.push(Filter::Text { name, label: label.into(), placeholder: placeholder.into() });
        self
    }

    /// A choice among `(value, words)`, sent as `name`; the empty value means all.
    #[must_use]
    pub fn choice(
        mut self,
        name: &'static str,
        label: impl Into<String>,
        options: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let options = options.into_iter().map(|(value, words)| (value.into(), words.into())).collect();
        self.filters.push(Filter::Choice { name, label: label.into(), options });
        self
    }

    /// True when the address filters by at least one of these.
    pub fn active(&self, at: &Link) -> bool {
        self.filters.iter().any(|f| at.get(f.name()).is_some_and(|v| !v.is_empty()))
    }

    pub(crate) fn render_at(&self, at: &Link) -> Markup {
        let own = |name: &str| self.filters.iter().any(|f| f.name() == name);
        let mut clear = at.clone().without("cursor");
        for filter in &self.filters {
            clear = clear.without(filter.name());
        }
        html! {
            form.filters method="get" action=(crate::safe_href(at.path())) {
                // What the URL says besides these filters stays; the cursor belongs to the list before.
                @for (name, value) in at.params().iter().filter(|(name, _)| name != "cursor" && !own(name)) {
                    input type="hidden" name=(name) value=(value);
                }
                @for filter in &self.filters {
                    @let value = at.get(filter.name()).unwrap_or_default();
                    @match filter {
                        Filter::Text { name, label, placeholder } => {
                            label { span.sr { (label) }
                                input type="search" name=(name) value=(value) placeholder=(placeholder) maxlength="200" autocomplete="off"; }
                        }
                        Filter::Choice { name, label, options } => {
                            label { span { (label) }
                                select name=(name) data-submit="" {
                                    @for (option, words) in options { option value=(option) selected[option == value] { (words) } }
                                } }
                        }
                    }
                }
                button.small type="submit" { "Filter" }
                @if self.active(at) { a.quiet href=(clear) { "Clear" } }
            }
        }
    }
}
