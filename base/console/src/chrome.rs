//! The frame around every page.

use std::sync::Arc;

use kernel::{Problem, ProjectId};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{Flash, Link, RequestBox, Status, TimeRange, assets, error_state, paths, safe_href};

/// A group of the left rail: Traffic, State, Work, People, Seeing.
#[derive(Debug, Clone)]
pub struct NavGroup {
    /// Its heading.
    pub name: String,
    /// Its pages.
    pub items: Vec<NavItem>,
}

/// A page in the left rail.
#[derive(Debug, Clone)]
pub struct NavItem {
    /// Its words.
    pub name: String,
    /// Its path, such as `/console/links`; every path below it counts as this page.
    pub path: String,
    /// The system's health; `None` for pages that have none.
    pub status: Option<Status>,
}

/// Light, dark, or what the reader's system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// As the system says (`prefers-color-scheme`).
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// Reads the cookie or the form; anything unknown is [`Theme::Auto`].
    pub fn parse(text: &str) -> Self {
        match text {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    /// Its name in the cookie and the form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// What every page of one request shares: the app's middleware makes it, handlers receive it as an extension. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Chrome {
    /// The groups of the left rail.
    pub nav: Arc<[NavGroup]>,
    /// The address of this request.
    pub at: Link,
    /// The project that is shown.
    pub project: ProjectId,
    /// The projects that may be chosen.
    pub projects: Arc<[ProjectId]>,
    /// Who is signed in; empty when nobody is.
    pub user: String,
    /// The token that every form sends back as `csrf`.
    pub csrf: String,
    /// The chosen theme.
    pub theme: Theme,
    /// `--dev`: no key is asked for, which a banner says.
    pub dev: bool,
    /// The time range of charts.
    pub range: TimeRange,
    /// Where this server listens, for the request boxes: `http://127.0.0.1:7070`.
    pub base_url: String,
    /// A message from the request before.
    pub flash: Option<Flash>,
}

/// What stands above a page's body.
#[derive(Debug, Clone, Default)]
pub struct Head {
    title: String,
    sentence: String,
    crumbs: Vec<(String, Link)>,
    actions: Option<Markup>,
    live: Option<Link>,
    range: bool,
}

impl Head {
    /// A title and one sentence of what the page is.
    pub fn new(title: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { title: title.into(), sentence: sentence.into(), ..Self::default() }
    }

    /// A page above this one, outermost first.
    #[must_use]
    pub fn crumb(mut self, words: impl Into<String>, to: Link) -> Self {
        self.crumbs.push((words.into(), to));
        self
    }

    /// Buttons at the right of the title.
    #[must_use]
    pub fn actions(mut self, actions: Markup) -> Self {
        self.actions = Some(actions);
        self
    }

    /// The address of this page's event stream; see [`crate::live`].
    #[must_use]
    pub fn live(mut self, stream: Link) -> Self {
        self.live = Some(stream);
        self
    }

    /// The page has charts over time: shows the choice of the time range.
    #[must_use]
    pub fn ranged(mut self) -> Self {
        self.range = true;
        self
    }
}

impl Chrome {
    /// A frame for a project at an address; the rest by its public fields.
    pub fn new(nav: impl Into<Arc<[NavGroup]>>, at: Link, project: ProjectId) -> Self {
        let range = TimeRange::from_link(&at);
        Self {
            nav: nav.into(),
            at,
            projects: Arc::new([project.clone()]),
            project,
            user: String::new(),
            csrf: String::new(),
            theme: Theme::Auto,
            dev: false,
            range,
            base_url: "http://127.0.0.1:7070".to_owned(),
            flash: None,
        }
    }

    /// The address of this request.
    pub fn at(&self) -> &Link {
        &self.at
    }

    /// The hidden field that every POST form needs.
    pub fn csrf_field(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.csrf); }
    }

    /// A request box with this server's address, and the key's header unless in `--dev`.
    pub fn request(&self, request: &RequestBox) -> Markup {
        request.draw(&self.base_url, !self.dev)
    }

    /// A page: a title, one sentence of what it is, and the body.
    pub fn page(&self, title: &str, sentence: &str, body: Markup) -> Markup {
        self.page_with(Head::new(title, sentence), body)
    }

    /// A page that shows why it cannot be shown.
    pub fn error_page(&self, problem: &Problem) -> Markup {
        self.page_with(Head::new(problem.code.title, ""), error_state(problem))
    }

    /// A page with crumbs, actions, a live stream or the time range.
    pub fn page_with(&self, head: Head, body: Markup) -> Markup {
        let theme = Some(self.theme.name()).filter(|_| self.theme != Theme::Auto);
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[theme] {
                (html_head(&head.title))
                body {
                    a.skip href="#content" { "Skip to content" }
                    @if self.dev {
                        div.dev role="note" { strong { "Development mode." } " No key is asked for; it listens on this machine only." }
                    }
                    div.app {
                        input.menu-toggle.sr id="menu" type="checkbox" aria-label="Show the list of systems";
                        (self.rail())
                        div.side {
                            (self.top(head.range))
                            main id="content" tabindex="-1" data-live=[head.live.as_ref().map(ToString::to_string)] {
                                (page_head(&head))
                                @if let Some(flash) = &self.flash { (flash) }
                                (body)
                            }
                        }
                    }
                }
            }
        }
    }

    /// A page for somebody who has not signed in: no rail, one narrow column.
    pub fn bare(&self, title: &str, sentence: &str, body: Markup) -> Markup {
        let theme = Some(self.theme.name()).filter(|_| self.theme != Theme::Auto);
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[theme] {
                (html_head(title))
                body.bare {
                    main id="content" {
                        div.brand { (assets::logo()) "Mainstay" }
                        (page_head(&Head::new(title, sentence)))
                        @if let Some(flash) = &self.flash { (flash) }
                        (body)
                    }
                }
            }
        }
    }

    fn is_current(&self, path: &str) -> bool {
        // The home page is above every other, so only its own path counts.
        let at = self.at.path().trim_end_matches('/');
        let path = path.trim_end_matches('/');
        at == path || (path != paths::HOME && at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn rail(&self) -> Markup {
        html! {
            nav.rail aria-label="Systems" {
                a.brand href=(paths::HOME) aria-current=[self.is_current(paths::HOME).then_some("page")] { (assets::logo()) "Mainstay" }
                @for group in self.nav.iter() {
                    h2 { (group.name) }
                    ul {
                        @for item in &group.items {
                            li {
                                a href=(safe_href(&item.path)) aria-current=[self.is_current(&item.path).then_some("page")] {
                                    span { (item.name) }
                                    @if let Some(status) = item.status { (status.dot()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn top(&self, range: bool) -> Markup {
        html! {
            header.top {
                label.button.menu-button for="menu" aria-hidden="true" { "Menu" }
                (self.project_menu())
                form.search role="search" method="get" action=(paths::SEARCH) {
                    input type="search" name="q" aria-label="Search everything" placeholder="Search"
                        aria-keyshortcuts="/" maxlength="200" autocomplete="off" value=[self.at.get("q").filter(|_| self.at.path() == paths::SEARCH)];
                    kbd aria-hidden="true" { "/" }
                }
                @if range { (self.range.menu(&self.at)) }
                (self.account_menu())
            }
        }
    }

    fn project_menu(&self) -> Markup {
        html! {
            details.menu {
                summary { span.quiet { "Project" } strong { (self.project) } }
                form.panel method="post" action=(paths::PROJECT) {
                    (self.csrf_field())
                    input type="hidden" name="next" value=(self.at.path());
                    @for project in self.projects.iter() {
                        button.item name="project" value=(project) aria-current=[(*project == self.project).then_some("true")] { (project) }
                    }
                }
            }
        }
    }

    fn account_menu(&self) -> Markup {
        html! {
            details.menu.right {
                summary { @if self.user.is_empty() { "Settings" } @else { span.name { (self.user) } } }
                div.panel {
                    form method="post" action=(paths::THEME) data-theme-form="" {
                        (self.csrf_field())
                        input type="hidden" name="next" value=(self.at);
                        p.label id="theme-label" { "Theme" }
                        div.segments role="group" aria-labelledby="theme-label" {
                            @for theme in Theme::ALL {
                                button name="theme" value=(theme.name()) aria-pressed=(theme == self.theme) {
                                    @match theme { Theme::Auto => "Auto", Theme::Light => "Light", Theme::Dark => "Dark" }
                                }
                            }
                        }
                    }
                    a.item href=(paths::KEYS) { "API keys" }
                    a.item href="/docs" { "API reference" }
                    @if !self.user.is_empty() && !self.dev {
                        form method="post" action=(paths::SIGN_OUT) { (self.csrf_field()) button.item { "Sign out" } }
                    }
                }
            }
        }
    }
}

fn page_head(head: &Head) -> Markup {
    html! {
        div.page-head {
            div {
                @if !head.crumbs.is_empty() {
                    nav.crumbs aria-label="Above this page" {
                        @for (words, to) in &head.crumbs { a href=(to) { (words) } span aria-hidden="true" { "/" } }
                    }
                }
                h1 { (head.title) }
                @if !head.sentence.is_empty() { p.sentence { (head.sentence) } }
            }
            div.actions {
                @if head.live.is_some() {
                    button.small.live-state type="button" data-live-toggle="" aria-live="polite" hidden { "Live" }
                }
                (head.actions.as_ref().map_or(PreEscaped(""), |a| PreEscaped(a.0.as_str())))
            }
        }
    }
}

fn html_head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Mainstay" }
            (assets::head_links())
        }
    }
}

/// A part of a page with its heading.
pub fn section(title: &str, body: Markup) -> Markup {
    html! { section { h2 { (title) } (body) } }
}

/// A part of a page with its heading and, at the right of it, actions.
pub fn section_with(title: &str, actions: Markup, body: Markup) -> Markup {
    html! { section { div.section-head { h2 { (title) } div.actions { (actions) } } (body) } }
}

/// Two parts beside each other where there is room, one below the other where there is not.
pub fn columns(left: Markup, right: Markup) -> Markup {
    html! { div.columns { div { (left) } div { (right) } } }
}
