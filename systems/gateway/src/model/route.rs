//! A route as it is written.

use std::collections::BTreeMap;

use kernel::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    action::{AggregateSpec, FilesSpec, ForwardSpec, RedirectSpec, RespondSpec},
    units::Size,
};

/// A route: which requests, what is done before, and one action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Route)]
pub struct RouteSpec {
    /// Unique in the document: 1 to 64 of A-Z, a-z, 0-9, `_`, `-` and `.`.
    pub name: String,
    /// What it is for; up to 500 characters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: String,
    /// Routes of higher priority are looked at first, however general they are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Which requests; left out: every one.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub matching: MatchSpec,

    /// Action: to back ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub forward: Option<ForwardSpec>,
    /// Action: another address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub redirect: Option<RedirectSpec>,
    /// Action: an answer that stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub respond: Option<RespondSpec>,
    /// Action: files of a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub files: Option<FilesSpec>,
    /// Action: one of Mainstay's own systems, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub service: Option<String>,
    /// Action: several calls into one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub aggregate: Option<AggregateSpec>,

    /// What the back end is asked instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub rewrite: Option<RewriteSpec>,
    /// Changes to the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request: MessageSpec,
    /// Changes to the answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub response: MessageSpec,
    /// Names of policies, in the order in which they are asked; at most 16.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policies: Vec<String>,
    /// Cross-origin requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cors: Option<super::CorsSpec>,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub rate_limit: Option<RateLimitSpec>,
    /// How many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub concurrency: Option<ConcurrencySpec>,
    /// How long.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: TimeoutsSpec,
    /// Trying again what is safe to repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry: Option<RetrySpec>,
    /// How much.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: LimitsSpec,
    /// Whether answers are compressed for clients that take it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compress: bool,
}

/// Which requests; everything given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteMatch)]
pub struct MatchSpec {
    /// One of these: `api.example.com`, or `*.example.com` for every name below. At most 64.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub path: Option<PathSpec>,
    /// One of these.
    #[serde(default, skip_serializing_if = "is_default")]
    pub methods: Vec<String>,
    /// All of these headers; at most 16.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Vec<ValueSpec>,
    /// All of these parameters of the query; at most 16.
    #[serde(default, skip_serializing_if = "is_default")]
    pub query: Vec<ValueSpec>,
}

/// A path: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoutePath)]
pub struct PathSpec {
    /// This path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub exact: Option<String>,
    /// This path and all below it, by whole segments: `/v1` has `/v1/a` and not `/v10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub prefix: Option<String>,
    /// Segments with names: `/users/{id}/orders`; a last `{*rest}` takes all that follows. The names can be used in templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pattern: Option<String>,
    /// The whole path; named groups can be used in templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub regex: Option<String>,
}

/// A header or a parameter of the query: exactly one of `value`, `regex` and `present`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteValue)]
pub struct ValueSpec {
    /// Its name.
    pub name: String,
    /// One of its values is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
    /// One of its values is like this, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub regex: Option<String>,
    /// Whether it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub present: Option<bool>,
}

/// What the back end is asked instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteRewrite)]
pub struct RewriteSpec {
    /// Another path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub path: Option<RewritePathSpec>,
    /// Another `Host`; left out: the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host: Option<String>,
    /// Another query.
    #[serde(default, skip_serializing_if = "is_default")]
    pub query: QueryRulesSpec,
}

/// Another path: exactly one of `prefix`, `to` (a template), and `regex` with `to`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteRewritePath)]
pub struct RewritePathSpec {
    /// In the place of the prefix that matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub prefix: Option<String>,
    /// What of the path is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub regex: Option<String>,
    /// By what: with `regex` its replacement (`$1`, `$name`), without it a template such as `/u/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub to: Option<String>,
}

/// Changes to a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteQueryRules)]
pub struct QueryRulesSpec {
    /// Parameters with these values, whatever they were. Values are templates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: BTreeMap<String, String>,
    /// Parameters that go.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}

/// Changes to a request or an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteMessage)]
pub struct MessageSpec {
    /// Its headers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: HeaderRulesSpec,
    /// Its JSON body.
    #[serde(default, skip_serializing_if = "is_default")]
    pub json: JsonRulesSpec,
}

/// Changes to headers: first `remove`, then `set`, then `add`. Values are templates; one with a variable that has no value is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteHeaderRules)]
pub struct HeaderRulesSpec {
    /// In the place of all of that name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: BTreeMap<String, String>,
    /// Beside those of that name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub add: BTreeMap<String, String>,
    /// Those that go.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}

/// Changes to a JSON body (`application/json` and `+json`): first `rename`, then `remove`, then `set`. Places are JSON pointers (RFC 6901);
/// a `*` in the place of an index is every element. A body that is larger than `max_body` is refused, one that is no JSON left alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteJsonRules)]
pub struct JsonRulesSpec {
    /// From place to place, in the order of the places.
    #[serde(default, alias = "move", skip_serializing_if = "is_default")]
    pub rename: BTreeMap<String, String>,
    /// What goes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
    /// What is there afterwards.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: BTreeMap<String, Value>,
    /// The largest body that is changed; left out: 1 MiB, at most 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub max_body: Option<Size>,
}

/// Rules of `blocks/limiter`, asked for each request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteRateLimit)]
pub struct RateLimitSpec {
    /// The domain of the rules.
    pub domain: String,
    /// What is counted: keys and templates of their values. A descriptor with a variable that has no value is left out.
    pub descriptors: Vec<BTreeMap<String, String>>,
    /// Whose rules; left out: the default project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project: Option<String>,
}

/// How many requests of this route are worked on at once by this node; more are refused with 503.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteConcurrency)]
pub struct ConcurrencySpec {
    /// At most so many.
    pub max: u32,
}

/// How long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteTimeouts)]
pub struct TimeoutsSpec {
    /// From the head of the request to that of the answer, over all tries; left out: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub total: Option<Span>,
    /// The same for one try; left out: as `total`.
    #[serde(default, rename = "try", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub one_try: Option<Span>,
    /// Between two pieces of a body, or of what is upgraded; left out: 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub idle: Option<Span>,
}

/// Why a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum RetryOn {
    /// No connection came about.
    #[serde(rename = "connect")]
    Connect,
    /// The connection ended before the answer began.
    #[serde(rename = "reset")]
    Reset,
    /// A try took too long.
    #[serde(rename = "timeout")]
    Timeout,
    /// The back end answered 500.
    #[serde(rename = "500")]
    S500,
    /// 502.
    #[serde(rename = "502")]
    S502,
    /// 503.
    #[serde(rename = "503")]
    S503,
    /// 504.
    #[serde(rename = "504")]
    S504,
    /// 429.
    #[serde(rename = "429")]
    S429,
}

/// Trying again: only requests that are safe to repeat, whose body fits into 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteRetry)]
pub struct RetrySpec {
    /// Tries after the first: 1 to 10.
    #[serde(default = "two")]
    pub attempts: u32,
    /// Why; left out: `connect`, `reset`, `502`, `503` and `504`.
    #[serde(default = "usual")]
    pub on: Vec<RetryOn>,
    /// At most so many tries more in a hundred requests, over the route; left out: 20.
    #[serde(default = "twenty")]
    pub budget_percent: u32,
    /// Ceiling of the first wait (full jitter), which doubles; left out: 25 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub backoff: Option<Span>,
    /// Ceiling of every wait; left out: 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub max_backoff: Option<Span>,
}

fn two() -> u32 {
    2
}

fn twenty() -> u32 {
    20
}

fn usual() -> Vec<RetryOn> {
    vec![RetryOn::Connect, RetryOn::Reset, RetryOn::S502, RetryOn::S503, RetryOn::S504]
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { attempts: two(), on: usual(), budget_percent: twenty(), backoff: None, max_backoff: None }
    }
}

/// How much.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteLimits)]
pub struct LimitsSpec {
    /// The largest body of a request; left out: no limit, since bodies are streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub max_body: Option<Size>,
    /// Names and values of all headers of a request; left out: 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub max_request_headers: Option<Size>,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
