//! The row of numbers at the top of a page.

use maud::{Markup, Render, html};

use crate::{Link, Status, charts, safe_href};

/// How a number moved since the period before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    percent: f64,
    more_is: Option<bool>,
}

/// One number: what it is, the number, its unit, how it changed and how it went.
#[derive(Debug, Clone, Default)]
pub struct Tile {
    label: String,
    number: String,
    unit: String,
    change: Option<Change>,
    since: String,
    note: Option<String>,
    status: Option<Status>,
    spark: Vec<Option<f64>>,
    href: Option<String>,
}

impl Tile {
    /// A label and a number as text (see [`crate::format`]).
    pub fn new(label: impl Into<String>, number: impl Into<String>) -> Self {
        Self { label: label.into(), number: number.into(), ..Self::default() }
    }

    /// The unit after the number, such as `/s` or `ms`.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// The change in percent; `since` says against what (`the hour before`). Not finite is left out.
    #[must_use]
    pub fn change(mut self, percent: f64, since: impl Into<String>) -> Self {
        self.change = percent.is_finite().then_some(Change { percent, more_is: None });
        self.since = since.into();
        self
    }

    /// A rise is good news: colours the change.
    #[must_use]
    pub fn more_is_better(mut self) -> Self {
        self.change = self.change.map(|c| Change { more_is: Some(true), ..c });
        self
    }

    /// A rise is bad news (errors, latency): colours the change.
    #[must_use]
    pub fn more_is_worse(mut self) -> Self {
        self.change = self.change.map(|c| Change { more_is: Some(false), ..c });
        self
    }

    /// A line below instead of a change: `3 of 4 nodes`.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Its status, drawn as a shape beside the label.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// How the number went, oldest first; `None` is no data and drawn as a gap.
    #[must_use]
    pub fn spark(mut self, values: impl Into<Vec<Option<f64>>>) -> Self {
        self.spark = values.into();
        self
    }

    /// Where a click on the tile leads.
    #[must_use]
    pub fn href(mut self, to: impl Into<String>) -> Self {
        self.href = Some(to.into());
        self
    }

    /// As [`Tile::href`], for a [`Link`].
    #[must_use]
    pub fn link(self, to: &Link) -> Self {
        self.href(to.to_string())
    }
}

impl Render for Tile {
    fn render(&self) -> Markup {
        html! {
            div.tile {
                dt {
                    @if let Some(status) = self.status { (status.dot()) }
                    @if let Some(href) = &self.href { a href=(safe_href(href)) { (self.label) } } @else { (self.label) }
                }
                dd.number { (self.number) @if !self.unit.is_empty() { span.unit { (self.unit) } } }
                @if let Some(change) = self.change {
                    @let word = if change.percent > 0.0 { "up" } else if change.percent < 0.0 { "down" } else { "same" };
                    @let news = match (change.more_is, word) {
                        (None, _) | (_, "same") => "",
                        (Some(more_is_good), word) => if more_is_good == (word == "up") { "good" } else { "poor" },
                    };
                    dd.note { span.change.(news) { (percent_text(change.percent)) } " " (self.since) }
                } @else if let Some(note) = &self.note {
                    dd.note { (note) }
                }
                @if !self.spark.is_empty() { dd.spark { (charts::sparkline(&self.label, &self.spark)) } }
            }
        }
    }
}

fn percent_text(percent: f64) -> String {
    let size = percent.abs();
    let arrow = if percent > 0.0 {
        "↑"
    } else if percent < 0.0 {
        "↓"
    } else {
        "→"
    };
    if size >= 1_000.0 {
        format!("{arrow} over 1,000 %")
    } else if size >= 10.0 || size == 0.0 {
        format!("{arrow} {size:.0} %")
    } else {
        format!("{arrow} {size:.1} %")
    }
}

/// A row of four to six tiles.
pub fn tiles(tiles: impl IntoIterator<Item = Tile>) -> Markup {
    html! { dl.tiles { @for tile in tiles { (tile) } } }
}
