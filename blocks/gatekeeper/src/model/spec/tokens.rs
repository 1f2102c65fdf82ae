//! Signed tokens.

use std::collections::BTreeMap;

use kernel::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ForwardClaims, PlaceSpec, is_default};

/// A signed token. The claims of the token are the claims for `forward_claims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// `iss` must be exactly this.
    #[schema(example = "https://login.example.com")]
    pub issuer: String,
    /// `aud` must hold one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["https://api.example.com"]), max_items = 32)]
    pub audience: Vec<String>,
    /// Takes tokens that were made for anybody, where `audience` is left out. An issuer with several services lets each be
    /// impersonated at the others then (RFC 8725 §3.9).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub any_audience: bool,
    /// Where the keys are. Left out: where `/.well-known/openid-configuration` of the issuer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub jwks: Option<JwksSpec>,
    /// What signatures are taken: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA. Left out: RS256, ES256 and EdDSA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["RS256"]), max_items = 9)]
    pub algorithms: Vec<String>,
    /// By how much clocks may differ, at most `5m`.
    #[serde(default = "one_minute", skip_serializing_if = "is_one_minute")]
    #[schema(value_type = String, default = "1m")]
    pub skew: Span,
    /// `iat` must be there and not be older than this, whatever `exp` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub max_age: Option<Span>,
    /// `typ` of the header must be this, such as `at+jwt` (RFC 8725 §3.11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "at+jwt")]
    pub token_type: Option<String>,
    /// Where it stands. Left out: `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 4)]
    pub from: Vec<PlaceSpec>,
    /// Whether the token goes on to the back end, which does well to verify it again.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schema(default = true)]
    pub pass_on: bool,
    /// Headers for back ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward_claims: ForwardClaims,
    /// A condition in CEL over `claims` (and what `expression` sees).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "'orders' in claims.scope.split(' ')", max_length = 4096)]
    pub require: Option<String>,
    /// How long a token that was right is not verified again, at most `5m`; `0s`: it always is. Its expiry always holds.
    #[serde(default = "half_a_minute", skip_serializing_if = "is_half_a_minute")]
    #[schema(value_type = String, default = "30s")]
    pub cache: Span,
    /// Whether a request without any token passes as nobody. One with a wrong token never does.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub optional: bool,
}

/// Where the keys of an issuer are (JWK Set, RFC 7517): exactly one of `url` and `file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JwksSpec {
    /// `https://…`; plain `http` only to this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub url: Option<String>,
    /// A file on every node, read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub file: Option<String>,
    /// How old keys may be before they are read again, `1m` to `1d`.
    #[serde(default = "ten_minutes", skip_serializing_if = "is_ten_minutes")]
    #[schema(value_type = String, default = "10m")]
    pub refresh: Span,
    /// How long keys hold while they cannot be read again, `refresh` to `7d`.
    #[serde(default = "one_day", skip_serializing_if = "is_one_day")]
    #[schema(value_type = String, default = "1d")]
    pub keep: Span,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn one_minute() -> Span {
    Span::secs(60)
}

fn is_one_minute(span: &Span) -> bool {
    *span == one_minute()
}

fn half_a_minute() -> Span {
    Span::secs(30)
}

fn is_half_a_minute(span: &Span) -> bool {
    *span == half_a_minute()
}

fn ten_minutes() -> Span {
    Span::secs(600)
}

fn is_ten_minutes(span: &Span) -> bool {
    *span == ten_minutes()
}

fn one_day() -> Span {
    Span::secs(86_400)
}

fn is_one_day(span: &Span) -> bool {
    *span == one_day()
}
