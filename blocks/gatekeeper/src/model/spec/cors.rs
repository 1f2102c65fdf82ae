//! Which pages of other origins may read answers.

use kernel::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::is_default;

/// Cross-origin resource sharing (the Fetch standard, "CORS protocol"). It stands on a route, and goes before its policies: a preflight carries
/// no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsSpec {
    /// `https://app.example.com`, `https://*.example.com` (any subdomain), or `*` (every page, without credentials).
    #[schema(example = json!(["https://app.example.com"]), min_items = 1, max_items = 100)]
    pub origins: Vec<String>,
    /// Methods that pages may use. Left out: GET, HEAD and POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = json!(["GET", "PUT"]), max_items = 32)]
    pub methods: Option<Vec<String>>,
    /// Headers that pages may send, besides those that need no leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["content-type", "authorization"]), max_items = 64)]
    pub headers: Vec<String>,
    /// Headers of answers that pages may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub expose: Vec<String>,
    /// Whether pages may send cookies and passwords. Not with `*`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub credentials: bool,
    /// How long browsers may keep the answer to a preflight, at most `1d`.
    #[serde(default = "ten_minutes", skip_serializing_if = "is_ten_minutes")]
    #[schema(value_type = String, default = "10m")]
    pub max_age: Span,
}

fn ten_minutes() -> Span {
    Span::secs(600)
}

fn is_ten_minutes(span: &Span) -> bool {
    *span == ten_minutes()
}
