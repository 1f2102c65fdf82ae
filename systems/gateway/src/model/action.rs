//! What a route does, as it is written.

use std::{collections::BTreeMap, path::PathBuf};

use kernel::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::route::is_default;

/// To back ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteForward)]
pub struct ForwardSpec {
    /// Where to, by weight; at most 16.
    pub to: Vec<SplitSpec>,
    /// Somewhere else for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub canary: Option<CanarySpec>,
    /// A client stays with an endpoint while that is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sticky: Option<StickySpec>,
    /// The same request to another upstream too, whose answer the client does not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mirror: Option<MirrorSpec>,
    /// What is done when no back end can be asked: nobody is well, or the breaker is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fallback: Option<FallbackSpec>,
}

/// One place a route leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteSplit)]
pub struct SplitSpec {
    /// The name of an upstream.
    pub upstream: String,
    /// Its share: weight of all weights; 0 to 1,000,000.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// Requests that go elsewhere: those that have the header or the cookie. At least one of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteCanary)]
pub struct CanarySpec {
    /// The name of an upstream.
    pub upstream: String,
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub header: Option<NameValueSpec>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cookie: Option<NameValueSpec>,
}

/// A name, and the value that it has to have; left out: any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteNameValue)]
pub struct NameValueSpec {
    /// The name.
    pub name: String,
    /// The value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
}

/// A client stays with an endpoint, by a signed cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteSticky)]
pub struct StickySpec {
    /// The name of the cookie.
    #[serde(default = "cookie_name")]
    pub cookie: String,
    /// How long it holds; left out: until the browser ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub ttl: Option<Span>,
}

fn cookie_name() -> String {
    "ms_route".to_owned()
}

/// The same request to another upstream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteMirror)]
pub struct MirrorSpec {
    /// The name of an upstream.
    pub upstream: String,
    /// So many of a hundred requests, fractions too; left out: all.
    #[serde(default = "hundred")]
    pub percent: f64,
    /// What of both answers is compared; left out: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub compare: Option<CompareSpec>,
}

fn hundred() -> f64 {
    100.0
}

/// What of two answers is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteCompare)]
pub struct CompareSpec {
    /// The status.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: bool,
    /// These headers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Vec<String>,
    /// The body, as JSON where both are, else by its bytes; up to 256 KiB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: bool,
    /// Places of a JSON body (RFC 6901; `*` is every element) that may differ.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ignore_json: Vec<String>,
}

/// What is done when no back end can be asked: an upstream, or an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteFallback)]
pub struct FallbackSpec {
    /// The name of an upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub upstream: Option<String>,
    /// The status of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status: Option<u16>,
    /// Its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body: Option<String>,
    /// Its `Content-Type`; left out: `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub content_type: Option<String>,
}

/// Another address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteRedirect)]
pub struct RedirectSpec {
    /// A template: `https://{host}{path}{query}`.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

/// An answer that stands in the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteRespond)]
pub struct RespondSpec {
    /// 200 to 599.
    #[serde(default = "ok")]
    pub status: u16,
    /// Up to 64 KiB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: String,
    /// Its headers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, String>,
}

fn ok() -> u16 {
    200
}

/// Files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteFiles)]
pub struct FilesSpec {
    /// The folder; nothing outside of it and nothing whose name starts with a dot is served.
    #[schema(value_type = String)]
    pub root: PathBuf,
    /// What is served for a folder; left out: `index.html`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub index: Option<String>,
    /// What is served where there is no such file, with 200, for applications that route in the browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fallback: Option<String>,
    /// `Cache-Control` of what is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cache_control: Option<String>,
}

/// Several calls at once, one JSON answer with the body of each by its name. What did not come is `null`, and named in `_errors`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteAggregate)]
pub struct AggregateSpec {
    /// At most 16.
    pub calls: Vec<CallSpec>,
}

/// One call of several: a GET that takes JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteCall)]
pub struct CallSpec {
    /// Its name in the answer.
    pub name: String,
    /// The name of an upstream.
    pub upstream: String,
    /// A template: `/users/{id}`.
    pub path: String,
    /// Whether the whole answer fails (502) without it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required: bool,
    /// How long it may take; left out: as the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub timeout: Option<Span>,
}
