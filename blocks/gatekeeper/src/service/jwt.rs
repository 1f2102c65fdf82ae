//! A signed token of an issuer.
//!
//! - TOKEN-1: a token passes only if a key that its issuer has now made its signature, with an algorithm that the policy names, and its claims
//!   hold now.
//! - TOKEN-2: a token that was found right is believed again for at most `cache`, never past its end, and not once its key is gone.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use kernel::{Clock, FieldError, Timestamp};
use quick_cache::sync::Cache;
use ring::digest;
use serde_json::{Map, Value};

use super::{
    claims::Forwarded,
    condition::Condition,
    going::{Checked, Going, Said, Seen, Stop},
    keys::{Ages, Keys, Known, Source},
    places::{self, Place},
};
use crate::{
    Error, Identity, JwtSpec, Method,
    model::{
        algorithm::{Algorithm, Verified},
        token::{Fault, Rules, Unverified},
    },
};

/// The most tokens of a policy that are remembered (about 2 KiB each).
const CACHE_ENTRIES: usize = 10_000;
const MAX_CACHE: Duration = Duration::from_mins(5);
/// By how much clocks may differ at most.
pub(super) const MAX_SKEW: Duration = Duration::from_mins(5);

/// Verifies tokens of one issuer for one audience.
pub(super) struct Verifier {
    pub(super) keys: Arc<Keys>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) rules: Rules,
    /// What `typ` must be.
    pub(super) kind: Option<String>,
    pub(super) clock: Clock,
}

/// Claims that were verified.
pub(super) struct Good {
    pub(super) claims: Map<String, Value>,
    pub(super) until: Timestamp,
    pub(super) key: [u8; 32],
    pub(super) algorithm: Algorithm,
}

impl Verifier {
    pub(super) async fn verify(&self, text: &str) -> Result<Good, Error> {
        let token = Unverified::parse(text, &self.algorithms).map_err(Error::Token)?;
        if let Some(kind) = &self.kind
            && !token.kind.as_deref().is_some_and(|given| is_same_type(given, kind))
        {
            return Err(Error::Token(format!("The token's typ is not {kind}").into()));
        }
        let known = self.keys.current().await?;
        let look = |known: &Known| {
            known.set.verify(token.key_id.as_deref(), token.algorithm, token.message.as_bytes(), &token.signature)
        };
        let mut verified = look(&known);
        // An issuer that changes its keys signs with one that was not seen yet.
        if !matches!(verified, Verified::By(_))
            && (verified == Verified::UnknownKey || token.key_id.is_none())
            && let Some(newer) = self.keys.newer_than(&known).await
        {
            verified = look(&newer);
        }
        let fault = |text: &'static str| Err(Error::Token(Fault::from(text)));
        let key = match verified {
            Verified::By(key) => key,
            Verified::Not => return fault("The token's signature does not hold"),
            Verified::UnknownKey => return fault("The token is signed with a key that its issuer does not have"),
            Verified::WrongAlgorithm => return fault("The token's key is not for the way that it is signed"),
        };
        let claims = token.claims().map_err(Error::Token)?;
        let until = self.rules.check(&claims, self.clock.now()).map_err(Error::Token)?;
        Ok(Good { claims, until, key, algorithm: token.algorithm })
    }
}

/// Media types without regard to case, and with or without `application/` (RFC 7515 §4.1.9).
fn is_same_type(given: &str, expected: &str) -> bool {
    let short = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.strip_prefix("application/").map_or(lower.clone(), str::to_owned)
    };
    short(given) == short(expected)
}

/// The policy.
pub(super) struct Jwt {
    policy: Arc<str>,
    verifier: Verifier,
    from: Vec<Place>,
    pass_on: bool,
    is_optional: bool,
    forwarded: Forwarded,
    require: Option<Condition>,
    cache_for: Duration,
    seen: Cache<[u8; 32], Remembered>,
}

#[derive(Clone)]
struct Remembered {
    identity: Identity,
    until: Timestamp,
    verified_at: Duration,
    key: [u8; 32],
}

impl Jwt {
    pub(super) fn compile(
        spec: &JwtSpec,
        policy: &Arc<str>,
        gatekeeper: &super::Gatekeeper,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Option<Self> {
        let clock = &gatekeeper.0.deps.clock;
        let mut wrong =
            |field: &str, detail: String| errors.push(FieldError { field: format!("{at}/{field}"), detail });
        if spec.issuer.is_empty() {
            wrong("issuer", "which issuer?".to_owned());
        }
        match (spec.audience.is_empty(), spec.any_audience) {
            (true, false) => wrong("audience", "who tokens are made for; any_audience = true takes all".to_owned()),
            (false, true) => wrong("any_audience", "either this or audience".to_owned()),
            _ => {}
        }
        if spec.skew.0 > MAX_SKEW {
            wrong("skew", "at most 5m".to_owned());
        }
        if spec.cache.0 > MAX_CACHE {
            wrong("cache", "at most 5m".to_owned());
        }
        let algorithms = algorithms(&spec.algorithms, &format!("{at}/algorithms"), errors);
        let (source, ages) = source(spec, at, errors)?;
        if let Err(detail) = source.check() {
            let field = match source {
                Source::Url(_) => "jwks/url",
                Source::File(_) => "jwks/file",
                Source::Issuer(_) => "issuer",
            };
            errors.push(FieldError { field: format!("{at}/{field}"), detail });
        }
        let from = places::compile(&spec.from, &format!("{at}/from"), errors);
        let forwarded = Forwarded::compile(&spec.forward_claims, &format!("{at}/forward_claims"), errors);
        let require = Condition::required(spec.require.as_deref(), clock, at, errors);
        Some(Self {
            policy: policy.clone(),
            verifier: Verifier {
                keys: gatekeeper.keys(source, ages),
                algorithms,
                rules: Rules {
                    issuer: spec.issuer.clone(),
                    audience: spec.audience.clone(),
                    skew: spec.skew.0,
                    max_age: spec.max_age.map(|span| span.0),
                },
                kind: spec.token_type.clone(),
                clock: clock.clone(),
            },
            from,
            pass_on: spec.pass_on,
            is_optional: spec.optional,
            forwarded,
            require,
            cache_for: spec.cache.0,
            seen: Cache::new(CACHE_ENTRIES),
        })
    }

    pub(super) fn protected(&self) -> impl Iterator<Item = &HeaderName> {
        self.forwarded.names()
    }

    pub(super) async fn check(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        let Some((text, strip)) = places::find(&self.from, seen.parts)? else {
            if self.is_optional {
                return Ok(Said::anonymous());
            }
            let detail =
                "The route takes a token of its issuer. Send it as `Authorization: Bearer …`, or where its owner says.";
            return Err(challenged(Error::Unauthenticated(detail)));
        };
        let identity = self.identity(&text).await.map_err(challenged)?;
        if let Some(require) = &self.require {
            require.must_hold(seen, Some(&identity))?;
        }
        self.forwarded.put(&identity, &mut going.set);
        going.identity = Some(identity);
        if !self.pass_on {
            going.strip.push(strip);
        }
        Ok(Said::passed("a token that holds"))
    }

    async fn identity(&self, text: &str) -> Result<Identity, Error> {
        let clock = &self.verifier.clock;
        let name = sha256(text.as_bytes());
        if let Some(known) = self.seen.get(&name) {
            let is_recent = clock.monotonic().saturating_sub(known.verified_at) < self.cache_for;
            if is_recent
                && clock.now() < known.until
                && self.verifier.keys.current().await.is_ok_and(|keys| keys.set.has(&known.key))
            {
                return Ok(known.identity);
            }
            self.seen.remove(&name);
        }
        let verified_at = clock.monotonic();
        let good = self.verifier.verify(text).await?;
        let subject = good.claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let identity = Identity {
            policy: self.policy.clone(),
            method: Method::Jwt,
            subject: subject.into(),
            project: None,
            claims: good.claims.into(),
        };
        if !self.cache_for.is_zero() {
            let known = Remembered { identity: identity.clone(), until: good.until, verified_at, key: good.key };
            self.seen.insert(name, known);
        }
        Ok(identity)
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The algorithms of a policy, RS256, ES256 and EdDSA where it names none.
pub(super) fn algorithms(names: &[String], at: &str, errors: &mut Vec<FieldError>) -> Vec<Algorithm> {
    if names.is_empty() {
        return vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
    }
    let mut algorithms = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(algorithm) = Algorithm::parse(name) {
            algorithms.push(algorithm);
        } else {
            let all = Algorithm::ALL.map(Algorithm::as_str).join(", ");
            errors.push(FieldError { field: format!("{at}/{index}"), detail: format!("one of {all}") });
        }
    }
    algorithms
}

fn source(spec: &JwtSpec, at: &str, errors: &mut Vec<FieldError>) -> Option<(Source, Ages)> {
    let Some(jwks) = &spec.jwks else {
        return Some((Source::Issuer(spec.issuer.clone()), Ages::DEFAULT));
    };
    let mut wrong = |field: &str, detail: &str| {
        errors.push(FieldError { field: format!("{at}/jwks{field}"), detail: detail.to_owned() });
    };
    let ages = Ages { refresh: jwks.refresh.0, keep: jwks.keep.0 };
    if !(Duration::from_mins(1)..=Duration::from_hours(24)).contains(&ages.refresh) {
        wrong("/refresh", "1m to 1d");
    }
    if !(ages.refresh..=Duration::from_hours(7 * 24)).contains(&ages.keep) {
        wrong("/keep", "refresh to 7d");
    }
    match (&jwks.url, &jwks.file) {
        (Some(url), None) => Some((Source::Url(url.clone()), ages)),
        (None, Some(file)) => Some((Source::File(file.into()), ages)),
        _ => {
            wrong("", "exactly one of url and file");
            None
        }
    }
}

/// RFC 6750 §3.
fn challenged(error: Error) -> Stop {
    let challenge = match &error {
        Error::Token(_) => HeaderValue::from_static("Bearer error=\"invalid_token\""),
        _ => HeaderValue::from_static("Bearer"),
    };
    match error {
        Error::Unauthenticated(_) | Error::Token(_) => Stop::Refused(error, Some(challenge)),
        other => other.into(),
    }
}
