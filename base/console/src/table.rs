//! The table of things: sortable and filterable by the URL, paged by cursor, with bulk actions; cards below 480 px.

use maud::{Markup, PreEscaped, Render, html};

use crate::{Filters, Link};

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    key: &'static str,
    label: String,
    number: bool,
    sortable: bool,
    wide: bool,
}

impl Column {
    /// A column of text. `key` is its name in `?sort=`.
    pub fn text(key: &'static str, label: impl Into<String>) -> Self {
        Self { key, label: label.into(), number: false, sortable: false, wide: false }
    }

    /// A column of numbers: aligned to the right, tabular.
    pub fn number(key: &'static str, label: impl Into<String>) -> Self {
        Self { number: true, ..Self::text(key, label) }
    }

    /// Its heading becomes a link that sorts by it.
    #[must_use]
    pub fn sortable(mut self) -> Self {
        self.sortable = true;
        self
    }

    /// Long text (an address): may be cut with an ellipsis rather than widen the table.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.wide = true;
        self
    }
}

/// The order of a table as its URL says it: `?sort=clicks` or, descending, `?sort=-clicks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// The column's key.
    pub key: String,
    /// Largest first.
    pub descending: bool,
}

impl Sort {
    /// Reads the `sort` parameter of an address; only one of `keys`, else `None`.
    pub fn from_link(link: &Link, keys: &[&str]) -> Option<Self> {
        let text = link.get("sort")?;
        let (key, descending) = text.strip_prefix('-').map_or((text, false), |key| (key, true));
        keys.contains(&key).then(|| Self { key: key.to_owned(), descending })
    }
}

/// A row: an id (for bulk actions) and a cell for each column.
#[derive(Debug, Clone, Default)]
pub struct Row {
    id: String,
    name: String,
    cells: Vec<Markup>,
}

impl Row {
    /// A row; `id` is the value that a bulk action sends.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self { name: id.clone(), id, cells: Vec::new() }
    }

    /// What the row is called in the label of its checkbox, when its id does not say.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The next cell: text, a number or markup.
    #[must_use]
    pub fn cell(mut self, content: impl Render) -> Self {
        self.cells.push(content.render());
        self
    }

    /// The next cell: text that leads somewhere, usually the row's own page.
    #[must_use]
    pub fn link(self, text: &str, to: &Link) -> Self {
        self.cell(html! { a.strong href=(to) { (text) } })
    }
}

#[derive(Debug, Clone)]
struct Bulk {
    action: String,
    csrf: String,
    buttons: Vec<(String, String, bool)>,
}

/// A table. Its columns and rows have to be of the same number; cells that lack a column are left out.
#[derive(Debug, Clone)]
pub struct Table {
    caption: String,
    at: Link,
    columns: Vec<Column>,
    rows: Vec<Row>,
    sort: Option<Sort>,
    filters: Option<Filters>,
    next: Option<String>,
    bulk: Option<Bulk>,
    empty: Option<Markup>,
    total: Option<String>,
}

impl Table {
    /// A table at the address `at` (`chrome.at()`), from which its links are made. `caption` names it for screen readers.
    pub fn new(caption: impl Into<String>, at: &Link) -> Self {
        Self {
            caption: caption.into(),
            at: at.clone(),
            columns: Vec::new(),
            rows: Vec::new(),
            sort: None,
            filters: None,
            next: None,
            bulk: None,
            empty: None,
            total: None,
        }
    }

    /// Adds a column.
    #[must_use]
    pub fn column(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }

    /// Adds a row.
    #[must_use]
    pub fn row(mut self, row: Row) -> Self {
        self.rows.push(row);
        self
    }

    /// Adds rows.
    #[must_use]
    pub fn rows(mut self, rows: impl IntoIterator<Item = Row>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// The order in force, shown in the heading.
    #[must_use]
    pub fn sorted(mut self, sort: Option<Sort>) -> Self {
        self.sort = sort;
        self
    }

    /// A line of filters above, sent by GET.
    #[must_use]
    pub fn filters(mut self, filters: Filters) -> Self {
        self.filters = Some(filters);
        self
    }

    /// The cursor of the next page, from the service's page.
    #[must_use]
    pub fn next_cursor(mut self, cursor: Option<String>) -> Self {
        self.next = cursor;
        self
    }

    /// Words beside the pager, such as `1.2k in all` (never worth a scan).
    #[must_use]
    pub fn total(mut self, total: impl Into<String>) -> Self {
        self.total = Some(total.into());
        self
    }

    /// Checkboxes named `id` and buttons that POST them to `action` with the CSRF token; each button sends
    /// `do=<value>`. A `danger` button should lead to a page that says what will happen to how many.
    #[must_use]
    pub fn bulk(mut self, action: impl Into<String>, csrf: impl Into<String>) -> Self {
        self.bulk = Some(Bulk { action: action.into(), csrf: csrf.into(), buttons: Vec::new() });
        self
    }

    /// A bulk button: the value of `do` and its words. Ignored without [`Table::bulk`].
    #[must_use]
    pub fn bulk_button(mut self, value: impl Into<String>, words: impl Into<String>, danger: bool) -> Self {
        if let Some(bulk) = &mut self.bulk {
            bulk.buttons.push((value.into(), words.into(), danger));
        }
        self
    }

    /// What stands in place of rows when there are none; see [`crate::empty`].
    #[must_use]
    pub fn empty(mut self, state: Markup) -> Self {
        self.empty = Some(state);
        self
    }

    fn heading(&self, column: &Column) -> Markup {
        let sorted = self.sort.as_ref().filter(|s| s.key == column.key);
        let aria = sorted.map(|s| if s.descending { "descending" } else { "ascending" });
        let class = if column.number { "num" } else { "" };
        html! {
            th.(class) scope="col" aria-sort=[aria] {
                @if column.sortable {
                    // The first click on a number asks for the largest, on text for the first.
                    @let descending = sorted.map_or(column.number, |s| !s.descending);
                    @let value = if descending { format!("-{}", column.key) } else { column.key.to_owned() };
                    a href=(self.at.clone().without("cursor").with("sort", value)) {
                        (column.label)
                        span.arrow aria-hidden="true" { @match aria { Some("descending") => "↓", Some(_) => "↑", None => "" } }
                    }
                } @else { (column.label) }
            }
        }
    }

    fn body(&self) -> Markup {
        let checks = self.bulk.is_some();
        html! {
            table.cards {
                caption.sr { (self.caption) }
                thead {
                    tr {
                        @if checks { th.check scope="col" { span.sr { "Choose" } } }
                        @for column in &self.columns { (self.heading(column)) }
                    }
                }
                tbody {
                    @for row in &self.rows {
                        tr {
                            @if checks {
                                td.check data-label="Choose" { input type="checkbox" name="id" value=(row.id) aria-label={ "Choose " (row.name) }; }
                            }
                            @for (column, cell) in self.columns.iter().zip(&row.cells) {
                                @let class = if column.number { "num" } else if column.wide { "cut" } else { "" };
                                td.(class) data-label=(column.label) { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn foot(&self) -> Markup {
        let first = self.at.get("cursor").is_none();
        let shown = self.rows.len();
        html! {
            div.table-foot {
                @if let Some(bulk) = &self.bulk {
                    div.bulk {
                        span data-chosen="" { "With those chosen" }
                        @for (value, words, danger) in &bulk.buttons {
                            button.small.(if *danger { "danger" } else { "" }) type="submit" name="do" value=(value) { (words) }
                        }
                    }
                }
                div.pager {
                    span { (shown) " shown" @if let Some(total) = &self.total { ", " (total) } }
                    @if !first { a.button.small href=(self.at.clone().without("cursor")) { "First page" } }
                    @if let Some(next) = &self.next {
                        a.button.small rel="next" href=(self.at.clone().with("cursor", next)) { "Next page" }
                    }
                }
            }
        }
    }
}

impl Render for Table {
    fn render(&self) -> Markup {
        let filters = self.filters.as_ref().map_or(PreEscaped(String::new()), |f| f.render_at(&self.at));
        if self.rows.is_empty() {
            let filtered = self.filters.as_ref().is_some_and(|f| f.active(&self.at));
            return html! {
                div.table.wide {
                    (filters)
                    @if let Some(next) = &self.next {
                        // A page looks through so many rows and no more, however few of them match.
                        div.empty {
                            p.lead { "Nothing matches in this part of the list." }
                            div.buttons {
                                a.button.small rel="next" href=(self.at.clone().with("cursor", next)) { "Look further" }
                                a.button.small href=(Link::new(self.at.path())) { "Show everything" }
                            }
                        }
                    } @else if filtered || self.at.get("cursor").is_some() {
                        div.empty {
                            p.lead { "Nothing matches." }
                            p { a href=(Link::new(self.at.path())) { "Show everything" } }
                        }
                    } @else if let Some(empty) = &self.empty { (empty) }
                    @else { div.empty { p.lead { "Nothing here yet." } } }
                }
            };
        }
        html! {
            div.table.wide {
                (filters)
                @if let Some(bulk) = &self.bulk {
                    form method="post" action=(crate::safe_href(&bulk.action)) {
                        input type="hidden" name="csrf" value=(bulk.csrf);
                        (self.body())
                        (self.foot())
                    }
                } @else {
                    (self.body())
                    (self.foot())
                }
            }
        }
    }
}
