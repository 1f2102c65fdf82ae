//! Policies as people write them, in JSON and TOML alike.

mod cors;
mod login;
mod tokens;

use std::collections::BTreeMap;

use kernel::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use cors::CorsSpec;
pub use login::{OidcSpec, SessionSpec};
pub use tokens::{JwksSpec, JwtSpec};

/// Headers that back ends get about who asks: the header's name, and the claim that it is made of (`sub`), or a JSON pointer into the
/// claims (`/realm_access/roles`). The client's own headers of these names are always removed, also where they are written with `_`.
pub type ForwardClaims = BTreeMap<String, String>;

/// One policy: a name, and exactly one of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// What routes call it: 1 to 64 of `a-z A-Z 0-9 _ - .`, unique.
    #[schema(example = "office", max_length = 64)]
    pub name: String,
    /// From which addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub addresses: Option<AddressesSpec>,
    /// A key of this installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub api_key: Option<ApiKeySpec>,
    /// A signed token (JWT, RFC 7519) of an issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub jwt: Option<JwtSpec>,
    /// Sign-in with a browser at an OpenID provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub oidc: Option<OidcSpec>,
    /// Name and password (RFC 7617).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub basic: Option<BasicSpec>,
    /// Another service decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub forward: Option<ForwardSpec>,
    /// The certificate that the client showed to the TLS listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_certificate: Option<ClientCertificateSpec>,
    /// A condition in CEL over the request and who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expression: Option<ExpressionSpec>,
    /// The names of other policies; the first that lets the request in does so, and the refusal of the last is answered if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 8)]
    pub any_of: Option<Vec<String>>,
}

/// Where a credential stands in a request: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceSpec {
    /// The name of a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "authorization")]
    pub header: Option<String>,
    /// What stands before it in the header, such as `Bearer`; compared without regard to case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "Bearer")]
    pub scheme: Option<String>,
    /// The name of a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cookie: Option<String>,
    /// The name of a parameter of the query. It is removed before the request goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub query: Option<String>,
}

/// Which addresses may; networks in CIDR form, or single addresses. What is denied is denied, whatever `allow` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressesSpec {
    /// Only these. Empty: all that are not denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["10.0.0.0/8", "2001:db8::/32"]), max_items = 10_000)]
    pub allow: Vec<String>,
    /// Never these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10_000)]
    pub deny: Vec<String>,
}

/// A key of this installation. Claims for `forward_claims`: `sub` (the id of the key), `project`, `name`, `scopes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySpec {
    /// The project that the key must be of. An administrator's key may be of any.
    #[schema(example = "default")]
    pub project: String,
    /// What the key must allow: `orders:write`, or `orders`, which asks for `read` on GET, HEAD and OPTIONS and for `write` on
    /// everything else. Left out: any key of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "orders")]
    pub scope: Option<String>,
    /// Where it stands. Left out: `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 4)]
    pub from: Vec<PlaceSpec>,
    /// Whether the key goes on to the back end.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub pass_on: bool,
    /// Headers for back ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward_claims: ForwardClaims,
    /// Whether a request without any key passes as nobody. One with a wrong key never does.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub optional: bool,
}

/// Name and password. Claims for `forward_claims`: `sub` (the name).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicSpec {
    /// What the browser shows.
    #[serde(default = "default_realm", skip_serializing_if = "is_default_realm")]
    #[schema(default = "restricted", max_length = 100)]
    pub realm: String,
    /// Who may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1_000)]
    pub users: Vec<UserSpec>,
    /// A file with a line `name:hash` each, read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub file: Option<String>,
    /// How long a password that was right is not hashed again, at most `10m`; `0s`: it always is.
    #[serde(default = "one_minute", skip_serializing_if = "is_one_minute")]
    #[schema(value_type = String, default = "1m")]
    pub cache: Span,
    /// Whether the password goes on to the back end.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub pass_on: bool,
    /// Headers for back ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward_claims: ForwardClaims,
    /// Whether a request without any password passes as nobody.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub optional: bool,
}

/// A user of `basic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Without `:`.
    pub name: String,
    /// bcrypt (`$2y$`, as `htpasswd -B` writes it), or Argon2id in PHC form.
    pub hash: String,
}

/// Another service decides: it is asked with the headers of the request, and 2xx lets it in. What else it answers, the client gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardSpec {
    /// Who is asked, with GET.
    #[schema(example = "http://auth.internal:9000/check")]
    pub url: String,
    /// The headers of the request that it gets, besides `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For`. Left out: `authorization` and
    /// `cookie`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 32)]
    pub request_headers: Option<Vec<String>>,
    /// Headers of its answer that the back end gets; the client's own headers of these names are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["x-user"]), max_items = 32)]
    pub to_backend: Vec<String>,
    /// Headers of its answer that the client gets when the request is let in, such as `set-cookie`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub to_client: Vec<String>,
    /// Which of `to_backend` names who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "x-user")]
    pub subject: Option<String>,
    /// How long it is waited for, at most `30s`. Past it the request is refused with 503.
    #[serde(default = "two_seconds", skip_serializing_if = "is_two_seconds")]
    #[schema(value_type = String, default = "2s")]
    pub timeout: Span,
    /// How long a 2xx holds for requests with the same method, host, path, query, client address and headers that go to the service; at most
    /// `1m`. `0s`: every request is asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = String, default = "0s")]
    pub cache: Span,
}

/// The certificate that the client showed; the listener has verified that it comes from a trusted authority. Without names and
/// fingerprints any such certificate will do. Claims for `forward_claims`: `sub` (the subject), `fingerprint`, `dns_names`, `uris`, `emails`,
/// `issuer`, `serial`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificateSpec {
    /// One of its alternative names must be one of these: `billing.internal`, `*.internal` (one label), `spiffe://example.org/billing`, or
    /// `spiffe://example.org/*` (whatever follows).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1_000)]
    pub names: Vec<String>,
    /// Or its SHA-256 must be one of these (64 hexadecimal digits, `:` allowed).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1_000)]
    pub fingerprints: Vec<String>,
    /// Headers for back ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward_claims: ForwardClaims,
    /// Whether a request without any certificate passes as nobody.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub optional: bool,
}

/// A condition in CEL. What it can see: `request` (`method`, `scheme`, `host`, `path`, `query`, `headers`, `address`), `identity`
/// (`policy`, `method`, `subject`, `project`; an empty subject for nobody), `claims`, `now`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpressionSpec {
    /// Must be true. An expression that fails, as on a claim that is not there, refuses.
    #[schema(example = "request.method == 'GET' || 'editor' in claims.roles", max_length = 4096)]
    pub allow: String,
    /// What the refusal says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 500)]
    pub message: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_realm() -> String {
    "restricted".to_owned()
}

fn is_default_realm(realm: &str) -> bool {
    realm == "restricted"
}

fn one_minute() -> Span {
    Span::secs(60)
}

fn is_one_minute(span: &Span) -> bool {
    *span == one_minute()
}

fn two_seconds() -> Span {
    Span::secs(2)
}

fn is_two_seconds(span: &Span) -> bool {
    *span == two_seconds()
}
