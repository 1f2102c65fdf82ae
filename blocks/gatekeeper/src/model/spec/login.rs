//! Sign-in with a browser.

use std::collections::BTreeMap;

use kernel::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ForwardClaims, is_default};

/// Sign-in with a browser at an OpenID provider (authorization code with PKCE). Browsers without a session are sent there; programs are
/// refused with 401. The claims of the ID token are the claims for `forward_claims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcSpec {
    /// `https://…`; plain `http` only to this machine. What it is and where it has what, it says at `/.well-known/openid-configuration`.
    #[schema(example = "https://login.example.com")]
    pub issuer: String,
    /// What the provider calls this application.
    pub client_id: String,
    /// A file on every node, whose first line is the client's secret. Left out: a public client, with PKCE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_secret_file: Option<String>,
    /// What is asked for. `openid` is always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["profile", "email"]), max_items = 32)]
    pub scopes: Vec<String>,
    /// What signatures of ID tokens are taken. Left out: RS256, ES256 and EdDSA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 9)]
    pub algorithms: Vec<String>,
    /// More parameters of the authorization request, such as `prompt` or `audience`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorize: BTreeMap<String, String>,
    /// Where the provider sends the browser back to, on the host that was asked. A request for it must come to a route with this policy.
    /// Left out: `/.mainstay/NAME/callback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub callback_path: Option<String>,
    /// Ends the session, here and at the provider. Left out: `/.mainstay/NAME/logout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub logout_path: Option<String>,
    /// Where the browser goes after that, on the host that was asked.
    #[serde(default = "root", skip_serializing_if = "is_root")]
    #[schema(default = "/")]
    pub after_logout: String,
    /// Scheme and host that browsers use, where it is not what arrives here, such as `https://app.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub external_url: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session: SessionSpec,
    /// Headers for back ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward_claims: ForwardClaims,
    /// The header in which the back end gets the access token, as `Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "authorization")]
    pub forward_token: Option<String>,
    /// A condition in CEL over `claims` (and what `expression` sees).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 4096)]
    pub require: Option<String>,
}

/// The session of a browser: a cookie that only this installation can read, write or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// The name of its cookie; over TLS it gets the prefix `__Host-`. Left out: `ms_NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cookie: Option<String>,
    /// How long it is at most, `1m` to `30d`.
    #[serde(default = "twelve_hours", skip_serializing_if = "is_twelve_hours")]
    #[schema(value_type = String, default = "12h")]
    pub lifetime: Span,
    /// After how long without a request it ends.
    #[serde(default = "one_hour", skip_serializing_if = "is_one_hour")]
    #[schema(value_type = String, default = "1h")]
    pub idle: Span,
    /// Whether it asks the provider for new tokens (with the refresh token) when the access token ends, and ends itself when the provider
    /// refuses.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub refresh: bool,
}

impl Default for SessionSpec {
    fn default() -> Self {
        Self { cookie: None, lifetime: twelve_hours(), idle: one_hour(), refresh: false }
    }
}

fn root() -> String {
    "/".to_owned()
}

fn is_root(path: &str) -> bool {
    path == "/"
}

fn twelve_hours() -> Span {
    Span::secs(43_200)
}

fn is_twelve_hours(span: &Span) -> bool {
    *span == twelve_hours()
}

fn one_hour() -> Span {
    Span::secs(3_600)
}

fn is_one_hour(span: &Span) -> bool {
    *span == one_hour()
}
