//! Parts of a whole by name: a table whose rows are the bars.

use maud::{Markup, Render, html};

use super::scale::number;
use crate::format;

/// The most rows that are drawn.
const MAX_ROWS: usize = 200;

/// How a number is made up: the names with the largest counts, a bar each. It is a table, so it needs none behind it.
#[derive(Debug, Clone)]
pub struct Breakdown {
    title: String,
    total: u64,
    rows: Vec<(String, u64)>,
    rest: Option<(String, u64)>,
    nothing: String,
}

impl Breakdown {
    /// A breakdown of `total`; shares are of it.
    pub fn new(title: impl Into<String>, total: u64) -> Self {
        Self { title: title.into(), total, rows: Vec::new(), rest: None, nothing: "No data".to_owned() }
    }

    /// The next row, the largest first.
    #[must_use]
    pub fn row(mut self, name: impl Into<String>, count: u64) -> Self {
        if self.rows.len() < MAX_ROWS {
            self.rows.push((name.into(), count));
        }
        self
    }

    /// What all other names have together; left out when it is nothing.
    #[must_use]
    pub fn rest(mut self, name: impl Into<String>, count: u64) -> Self {
        self.rest = (count > 0).then(|| (name.into(), count));
        self
    }

    /// What is said when there are no rows.
    #[must_use]
    pub fn nothing(mut self, words: impl Into<String>) -> Self {
        self.nothing = words.into();
        self
    }

    fn share(&self, count: u64) -> f64 {
        if self.total == 0 { 0.0 } else { (small(count) / small(self.total) * 100.0).clamp(0.0, 100.0) }
    }
}

fn small(count: u64) -> f64 {
    number(usize::try_from(count).unwrap_or(usize::MAX))
}

impl Render for Breakdown {
    fn render(&self) -> Markup {
        html! {
            figure.chart {
                figcaption { span.chart-title { (self.title) } }
                @if self.rows.is_empty() && self.rest.is_none() { p.quiet { (self.nothing) } }
                @else {
                    div.scroll tabindex="0" {
                        table.ranks {
                            caption.sr { (self.title) }
                            thead.sr { tr { th scope="col" { "Name" } th scope="col" { "Count" } th scope="col" { "Share" } } }
                            tbody {
                                @for (i, (name, count)) in self.rows.iter().chain(&self.rest).enumerate() {
                                    @let share = self.share(*count);
                                    tr {
                                        th scope="row" {
                                            (name)
                                            svg.{ "s" (if i < self.rows.len() { 0 } else { 4 }) } width="100%" height="4" aria-hidden="true" {
                                                rect width=(format!("{share:.1}%")) height="4" rx="2" fill="currentColor" {}
                                            }
                                        }
                                        td { (format::full(i64::try_from(*count).unwrap_or(i64::MAX))) }
                                        td.quiet { (format!("{share:.0} %")) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_shares_of_the_whole_and_the_rest_is_said() {
        let drawn = Breakdown::new("Browsers", 8).row("<firefox>", 6).row("safari", 1).rest("others", 1).render().0;
        for part in ["&lt;firefox&gt;", "75.0%", "75 %", "12.5%", "others", "scope=\"row\""] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
        assert!(!Breakdown::new("Browsers", 0).rest("others", 0).render().0.contains("<table"));
        // Counts that are ahead of their total (it was read first) fill the bar and no more.
        assert!(Breakdown::new("Browsers", 1).row("firefox", 2).render().0.contains("width=\"100.0%\""));
    }
}
