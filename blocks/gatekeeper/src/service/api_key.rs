//! A key of this installation.

use access::Access;
use http::{HeaderName, HeaderValue, Method as HttpMethod};
use identity::{Principal, Scope, Verb};
use kernel::{FieldError, ProjectId};
use serde_json::{Map, Value, json};

use super::{
    claims::Forwarded,
    going::{Checked, Going, Said, Seen, Stop},
    places::{self, Place},
};
use crate::{ApiKeySpec, Error, Identity, Method};

pub(super) struct ApiKey {
    access: Access,
    policy: std::sync::Arc<str>,
    project: ProjectId,
    scope: Option<Needed>,
    from: Vec<Place>,
    pass_on: bool,
    is_optional: bool,
    forwarded: Forwarded,
}

/// What the key must allow.
enum Needed {
    Fixed(Scope),
    ByMethod(Scope, Scope),
}

impl ApiKey {
    pub(super) fn compile(
        spec: &ApiKeySpec,
        policy: &std::sync::Arc<str>,
        access: &Access,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let project = ProjectId::parse(&spec.project).unwrap_or_else(|| {
            let detail = "the id of a project: 1 to 40 of a-z, 0-9 and -, starting with a letter".to_owned();
            errors.push(FieldError { field: format!("{at}/project"), detail });
            ProjectId::default_project()
        });
        let scope = spec.scope.as_deref().and_then(|text| {
            Needed::parse(text).or_else(|| {
                let detail = "a scope such as orders:write, or a system such as orders".to_owned();
                errors.push(FieldError { field: format!("{at}/scope"), detail });
                None
            })
        });
        Self {
            access: access.clone(),
            policy: policy.clone(),
            project,
            scope,
            from: places::compile(&spec.from, &format!("{at}/from"), errors),
            pass_on: spec.pass_on,
            is_optional: spec.optional,
            forwarded: Forwarded::compile(&spec.forward_claims, &format!("{at}/forward_claims"), errors),
        }
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
                "The route takes an API key. Send one as `Authorization: Bearer msk_…`, or where its owner says.";
            return Err(challenged(Error::Unauthenticated(detail)));
        };
        if !text.starts_with("msk_") {
            // Such as a token that another policy of an `any_of` takes: no guess, which would be counted against the address.
            return Err(challenged(Error::Unauthenticated("This is no API key. Keys start with msk_.")));
        }
        let principal = match self.access.try_authenticate(&text) {
            Some(principal) => principal,
            None => self.access.authenticate(&text, Some(seen.peer)).await.map_err(|e| challenged(Error::from(e)))?,
        };
        let Some(principal) = principal.in_project(&self.project) else {
            return Err(
                Error::forbidden("The key is of another project than this route asks for.", "another project").into()
            );
        };
        if let Some(needed) = self.scope.as_ref().map(|scope| scope.of(&seen.parts.method))
            && !principal.scopes.iter().any(|mine| mine.covers(needed))
        {
            let message = format!("The key does not have the scope {needed}, which this needs.");
            return Err(Error::forbidden(message, "scope").into());
        }
        let identity = self.identity(&principal);
        self.forwarded.put(&identity, &mut going.set);
        going.identity = Some(identity);
        if !self.pass_on {
            going.strip.push(strip);
        }
        Ok(Said::passed("a key that holds"))
    }

    fn identity(&self, principal: &Principal) -> Identity {
        let subject = principal.actor();
        let scopes: Vec<String> = principal.scopes.iter().map(ToString::to_string).collect();
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), json!(subject));
        claims.insert("project".to_owned(), json!(principal.project.as_str()));
        claims.insert("name".to_owned(), Value::from(&*principal.name));
        claims.insert("scopes".to_owned(), json!(scopes));
        Identity {
            policy: self.policy.clone(),
            method: Method::ApiKey,
            subject: subject.into(),
            project: Some(principal.project.clone()),
            claims: claims.into(),
        }
    }
}

impl Needed {
    fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            let scope: Scope = text.parse().ok()?;
            return matches!(scope, Scope::System(..)).then_some(Self::Fixed(scope));
        }
        let of = |verb: &str| format!("{text}:{verb}").parse::<Scope>().ok();
        Some(Self::ByMethod(of(Verb::Read.as_str())?, of(Verb::Write.as_str())?))
    }

    fn of(&self, method: &HttpMethod) -> &Scope {
        match self {
            Self::Fixed(scope) => scope,
            Self::ByMethod(read, write) => {
                if matches!(*method, HttpMethod::GET | HttpMethod::HEAD | HttpMethod::OPTIONS) { read } else { write }
            }
        }
    }
}

fn challenged(error: Error) -> Stop {
    Stop::Refused(error, Some(HeaderValue::from_static("Bearer")))
}
