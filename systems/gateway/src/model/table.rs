//! All routes, compiled: which one a request takes.
//!
//! Order: higher priority first; then the more specific host (this name, the longest wildcard, none), then the more specific path (exact,
//! pattern by its literal segments, longer prefix, regular expression, none), then more conditions, then the order of the document.
//! The first one whose conditions all hold is taken.
//!
//! - TABLE-1: [`Table::find`] gives what going through all routes in that order would give.

use std::{borrow::Cow, cmp::Reverse, collections::HashMap, sync::Arc};

use http::{HeaderMap, Method};

use super::{
    compiled::Route,
    index::Paths,
    matching::{HostRule, Matcher, PathRule, Segment},
    spec::Document,
};

/// What a route is chosen by. Host and path are as [`super::path`] makes them.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// In lower case, without a port and without a dot at its end; empty where none was sent.
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// Normalised.
    pub path: &'a str,
    /// Without its `?`.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// The parameters of the query, in order, without escapes.
    pub fn parameters(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        url::form_urlencoded::parse(self.query.unwrap_or_default().as_bytes())
    }
}

/// Where a document comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// There is none: the public listener serves short links.
    Default,
    /// The file that `gateway.config_file` names.
    File,
    /// The API.
    Database,
    /// The copy on this machine of what held last, while the database cannot be read.
    LastGood,
}

impl Origin {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Database => "database",
            Self::LastGood => "last_good",
        }
    }
}

/// All routes. Immutable; a change is another table.
#[derive(Debug)]
pub struct Table {
    /// What it was made from.
    pub document: Arc<Document>,
    /// Where that comes from.
    pub origin: Origin,
    /// Its version in the database; 0 elsewhere.
    pub version: i64,
    routes: Vec<Arc<Route>>,
    /// By rank: which route, its place in `routes`.
    ranked: Vec<u32>,
    by_host: HashMap<Box<str>, Paths>,
    by_suffix: HashMap<Box<str>, Paths>,
    any_host: Paths,
}

/// One host of one route in the order of all.
struct Entry<'a> {
    route: u32,
    host: Option<&'a HostRule>,
}

impl Table {
    /// Puts compiled routes in order.
    pub(crate) fn new(document: Arc<Document>, origin: Origin, version: i64, routes: Vec<Arc<Route>>) -> Self {
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (number, route) in (0..).zip(&routes) {
            let hosts = &route.matcher.hosts;
            if hosts.is_empty() {
                entries.push(Entry { route: number, host: None });
            }
            entries.extend(hosts.iter().map(|host| Entry { route: number, host: Some(host) }));
        }
        entries.sort_by_key(|entry| {
            let route = &routes[entry.route as usize];
            (
                Reverse(route.priority),
                host_order(entry.host),
                path_order(&route.matcher),
                Reverse(route.matcher.condition_count()),
                entry.route,
            )
        });
        let (mut by_host, mut by_suffix) = (HashMap::<Box<str>, Paths>::new(), HashMap::<Box<str>, Paths>::new());
        let mut any_host = Paths::default();
        for (rank, entry) in (0..).zip(&entries) {
            let paths = match entry.host {
                None => &mut any_host,
                Some(HostRule::Exact(name)) => by_host.entry(name.clone()).or_default(),
                Some(HostRule::Below(suffix)) => by_suffix.entry(suffix.clone()).or_default(),
            };
            paths.insert(&routes[entry.route as usize].matcher.path, rank);
        }
        let ranked = entries.iter().map(|entry| entry.route).collect();
        Self { document, origin, version, routes, ranked, by_host, by_suffix, any_host }
    }

    /// The route that a request takes.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<&Arc<Route>> {
        let mut best = u32::MAX;
        let mut search = |paths: &Paths| {
            best = paths.first(head.path, best, |rank, is_decided| {
                let matcher = &self.at(rank).matcher;
                (is_decided || matcher.path.holds(head.path)) && matcher.conditions_hold(head)
            });
        };
        if let Some(paths) = self.by_host.get(head.host) {
            search(paths);
        }
        if !self.by_suffix.is_empty() {
            for (at, _) in head.host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(paths) = self.by_suffix.get(&head.host[at..]) {
                    search(paths);
                }
            }
        }
        search(&self.any_host);
        (best != u32::MAX).then(|| self.at(best))
    }

    /// Every route, in the order of the document.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// A route by its name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| *route.name == *name)
    }

    /// Every route once, in the order in which they are tried for a host.
    pub(crate) fn in_order_for(&self, host: &str) -> Vec<&Arc<Route>> {
        let mut seen = vec![false; self.routes.len()];
        let (mut fitting, mut others) = (Vec::new(), Vec::new());
        for number in &self.ranked {
            let route = &self.routes[*number as usize];
            if !std::mem::replace(&mut seen[*number as usize], true) {
                let hosts = &route.matcher.hosts;
                let fits = hosts.is_empty() || hosts.iter().any(|rule| rule.holds(host));
                if fits { &mut fitting } else { &mut others }.push(route);
            }
        }
        fitting.append(&mut others);
        fitting
    }

    fn at(&self, rank: u32) -> &Arc<Route> {
        &self.routes[self.ranked[rank as usize] as usize]
    }
}

fn host_order(host: Option<&HostRule>) -> (u8, Reverse<usize>) {
    match host {
        Some(HostRule::Exact(_)) => (0, Reverse(0)),
        Some(HostRule::Below(suffix)) => (1, Reverse(suffix.len())),
        None => (2, Reverse(0)),
    }
}

fn path_order(matcher: &Matcher) -> (u8, Reverse<usize>, bool, Reverse<usize>) {
    match &matcher.path {
        PathRule::Exact(_) => (0, Reverse(0), false, Reverse(0)),
        PathRule::Pattern(pattern) => {
            let literal_count = pattern.segments.iter().filter(|s| matches!(s, Segment::Literal(_))).count();
            (1, Reverse(literal_count), pattern.rest.is_some(), Reverse(pattern.segments.len()))
        }
        PathRule::Prefix(prefix) => (2, Reverse(prefix.len()), false, Reverse(0)),
        PathRule::Regex(_) => (3, Reverse(0), false, Reverse(0)),
        PathRule::Any => (4, Reverse(0), false, Reverse(0)),
    }
}
