//! A route as it is carried out.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use kernel::ProjectId;
use regex::Regex;

use super::{
    Chain, Cors, Upstream,
    action::CompareSpec,
    json::JsonRules,
    matching::{Captures, Matcher},
    route::{RetryOn, RouteSpec},
    stats::RouteStats,
    template::Template,
};

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// As it is written.
    pub spec: RouteSpec,
    /// Higher first.
    pub priority: i32,
    pub(crate) matcher: Matcher,
    /// What is done.
    pub action: Action,
    /// What the back end is asked instead.
    pub rewrite: Option<Rewrite>,
    /// Changes to the request.
    pub request: MessageRules,
    /// Changes to the answer.
    pub response: MessageRules,
    /// Policies.
    pub chain: Option<Arc<Chain>>,
    /// Cross-origin requests: asked before the policies.
    pub cors: Option<Arc<Cors>>,
    /// How often.
    pub rate_limit: Option<RateLimit>,
    /// At most so many at once on this node.
    pub max_concurrency: Option<u32>,
    /// How long.
    pub timeouts: Timeouts,
    /// Trying again.
    pub retry: Option<RetryRules>,
    /// The largest body of a request, in bytes.
    pub max_body: Option<u64>,
    /// The most bytes of names and values of all request headers.
    pub max_request_headers: u64,
    /// Whether answers are compressed.
    pub compress: bool,
    /// What it has done; the same for a route of the same name after a reload.
    pub stats: Arc<RouteStats>,
}

impl Route {
    /// What the route's path finds in that of a request.
    pub fn captures<'a>(&'a self, path: &'a str) -> Captures<'a> {
        self.matcher.path.captures(path)
    }

    /// The prefix that `rewrite.path.prefix` replaces: the literal one of the route, without a slash at its end; empty for `/`.
    pub fn matched_prefix(&self) -> &str {
        match &self.matcher.path {
            super::matching::PathRule::Prefix(prefix) => prefix,
            _ => "",
        }
    }
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// To back ends.
    Forward(Box<Forward>),
    /// Another address.
    Redirect(Redirect),
    /// An answer that is ready.
    Respond(Respond),
    /// Files.
    Files(Files),
    /// One of Mainstay's own systems.
    Service(Arc<str>),
    /// Several calls.
    Aggregate(Box<[Call]>),
}

/// To back ends.
#[derive(Debug)]
pub struct Forward {
    /// Where to; never empty, and not all weights are 0.
    pub to: Box<[Split]>,
    /// All weights.
    pub total_weight: u32,
    /// Somewhere else for some.
    pub canary: Option<Canary>,
    /// A client stays with an endpoint.
    pub sticky: Option<Sticky>,
    /// The same request elsewhere too.
    pub mirror: Option<Mirror>,
    /// What is done when nobody can be asked.
    pub fallback: Option<Fallback>,
}

impl Forward {
    /// The split that `at`, from 0 to below `total_weight`, falls into.
    pub fn split(&self, at: u32) -> &Split {
        let mut left = at;
        let found = self.to.iter().find(|split| {
            let is_here = left < split.weight;
            left = left.saturating_sub(split.weight);
            is_here
        });
        found.unwrap_or(&self.to[0])
    }
}

/// One place.
#[derive(Debug)]
pub struct Split {
    /// The upstream's name.
    pub name: Arc<str>,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Its share.
    pub weight: u32,
}

/// Requests that go elsewhere.
#[derive(Debug)]
pub struct Canary {
    /// The upstream's name.
    pub name: Arc<str>,
    /// Where to.
    pub upstream: Arc<Upstream>,
    /// With this header, whatever it is or with this value.
    pub header: Option<(HeaderName, Option<HeaderValue>)>,
    /// With this cookie.
    pub cookie: Option<(Box<str>, Option<Box<str>>)>,
}

/// A client stays with an endpoint.
#[derive(Debug)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: Box<str>,
    /// How long.
    pub ttl: Option<Duration>,
}

/// The same request elsewhere too.
#[derive(Debug)]
pub struct Mirror {
    /// The upstream's name.
    pub name: Arc<str>,
    /// Where to.
    pub upstream: Arc<Upstream>,
    /// So many in a million.
    pub per_million: u32,
    /// What is compared.
    pub compare: Option<CompareSpec>,
}

/// What is done when nobody can be asked.
#[derive(Debug)]
pub enum Fallback {
    /// Somebody else is.
    Upstream(Arc<str>, Arc<Upstream>),
    /// An answer that is ready.
    Respond(Respond),
}

/// An answer that is ready.
#[derive(Debug, Clone)]
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Another address.
#[derive(Debug)]
pub struct Redirect {
    /// Where.
    pub to: Template,
    /// How.
    pub status: StatusCode,
}

/// Files of a folder.
#[derive(Debug)]
pub struct Files {
    /// The folder.
    pub root: PathBuf,
    /// The file of a folder.
    pub index: Box<str>,
    /// The file where there is none, in the root.
    pub fallback: Option<Box<str>>,
    /// `Cache-Control`.
    pub cache_control: Option<HeaderValue>,
}

/// One call of several.
#[derive(Debug)]
pub struct Call {
    /// Its name in the answer.
    pub name: Box<str>,
    /// The upstream's name.
    pub upstream_name: Arc<str>,
    /// Who is asked.
    pub upstream: Arc<Upstream>,
    /// What.
    pub path: Template,
    /// Whether all fail without it.
    pub required: bool,
    /// How long.
    pub timeout: Option<Duration>,
}

/// What the back end is asked instead.
#[derive(Debug)]
pub struct Rewrite {
    /// Another path.
    pub path: Option<RewritePath>,
    /// Another host.
    pub host: Option<HeaderValue>,
    /// Parameters that are set.
    pub set_query: Vec<(Box<str>, Template)>,
    /// Parameters that go.
    pub remove_query: Vec<Box<str>>,
}

/// Another path.
#[derive(Debug)]
pub enum RewritePath {
    /// In the place of [`Route::matched_prefix`]; without a slash at its end.
    Prefix(Box<str>),
    /// What matches is replaced, everywhere.
    Regex(Regex, Box<str>),
    /// Altogether.
    Template(Template),
}

/// Changes to a message. Empty for most.
#[derive(Debug, Default)]
pub struct MessageRules {
    /// Headers that go.
    pub remove: Vec<HeaderName>,
    /// Headers in the place of others.
    pub set: Vec<(HeaderName, Template)>,
    /// Headers beside others.
    pub add: Vec<(HeaderName, Template)>,
    /// Changes to a JSON body.
    pub json: Option<JsonRules>,
}

impl MessageRules {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty() && self.json.is_none()
    }
}

/// Rules of the limiter.
#[derive(Debug)]
pub struct RateLimit {
    /// Whose.
    pub project: ProjectId,
    /// Their domain.
    pub domain: Box<str>,
    /// What is counted.
    pub descriptors: Vec<Vec<(Box<str>, Template)>>,
}

/// How long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Over all tries.
    pub total: Duration,
    /// One try.
    pub one_try: Duration,
    /// Between pieces.
    pub idle: Duration,
}

/// Trying again.
#[derive(Debug)]
pub struct RetryRules {
    /// Tries after the first.
    pub attempts: u32,
    /// Why.
    pub on: Vec<RetryOn>,
    /// Shared by all requests of the route; kept while the percentage stays.
    pub budget: resilience::RetryBudget,
    /// Waits.
    pub backoff: kernel::Backoff,
}
