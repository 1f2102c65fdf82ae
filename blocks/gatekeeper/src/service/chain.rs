//! The policies of a route, asked one after the other.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Response, header};

use super::{
    addresses::Addresses,
    api_key::ApiKey,
    basic::Basic,
    certificate::Certificate,
    claims,
    condition::Condition,
    cors::Cors,
    forward::Forward,
    going::{Checked, Going, Seen, Stop},
    jwt::Jwt,
    oidc::Oidc,
};
use crate::{
    Ask, Passed, Verdict,
    model::ask::{Outcome, Step},
    telemetry::Counts,
};

/// One policy, ready to be asked.
pub(super) struct Policy {
    pub(super) name: Arc<str>,
    pub(super) kind: &'static str,
    /// In words for people, for [`Chain::describe`].
    pub(super) about: String,
    pub(super) guard: Guard,
    pub(super) counts: Counts,
}

pub(super) enum Guard {
    Addresses(Addresses),
    ApiKey(Box<ApiKey>),
    Jwt(Box<Jwt>),
    Oidc(Box<Oidc>),
    Basic(Box<Basic>),
    Forward(Box<Forward>),
    Certificate(Box<Certificate>),
    Expression(Box<Condition>),
    /// Only in documents; see [`Entry::AnyOf`].
    AnyOf(Vec<Arc<Policy>>),
}

impl Policy {
    /// Asks one that stands for itself.
    async fn ask(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        match &self.guard {
            Guard::Addresses(guard) => guard.check(seen),
            Guard::ApiKey(guard) => guard.check(seen, going).await,
            Guard::Jwt(guard) => guard.check(seen, going).await,
            // The largest of them, and the one that waits longest.
            Guard::Oidc(guard) => Box::pin(guard.check(seen, going)).await,
            Guard::Basic(guard) => guard.check(seen, going).await,
            Guard::Forward(guard) => guard.check(seen, going).await,
            Guard::Certificate(guard) => guard.check(seen, going),
            Guard::Expression(guard) => guard.check(seen, going),
            Guard::AnyOf(_) => unreachable!("an `any_of` holds none of its kind"),
        }
    }

    fn protected(&self) -> Vec<HeaderName> {
        match &self.guard {
            Guard::Addresses(_) | Guard::Expression(_) => Vec::new(),
            Guard::Jwt(guard) => guard.protected().cloned().collect(),
            Guard::Oidc(guard) => guard.protected().cloned().collect(),
            Guard::Basic(guard) => guard.protected().cloned().collect(),
            Guard::Forward(guard) => guard.protected().cloned().collect(),
            Guard::Certificate(guard) => guard.protected().cloned().collect(),
            Guard::ApiKey(guard) => guard.protected().cloned().collect(),
            Guard::AnyOf(policies) => policies.iter().flat_map(|policy| policy.protected()).collect(),
        }
    }
}

/// The policies of a route, in order. All have to let a request through.
pub struct Chain {
    policies: Vec<Arc<Policy>>,
    /// Headers that only policies set.
    protected: Vec<HeaderName>,
    cors: Option<Cors>,
    cors_name: Arc<str>,
}

/// A policy, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: Arc<str>,
    /// Its sort, as it stands in the document.
    pub kind: &'static str,
    /// What it asks for.
    pub about: String,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.policies.iter().map(|policy| &policy.name)).finish()
    }
}

impl Chain {
    pub(super) fn new(policies: Vec<Arc<Policy>>) -> Self {
        let mut protected: Vec<HeaderName> = policies.iter().flat_map(|policy| policy.protected()).collect();
        protected.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        protected.dedup();
        Self { policies, protected, cors: None, cors_name: "cors".into() }
    }

    /// Its policies, in order.
    pub fn describe(&self) -> Vec<Described> {
        let describe = |policy: &Arc<Policy>| Described {
            name: policy.name.clone(),
            kind: policy.kind,
            about: policy.about.clone(),
        };
        self.policies.iter().map(describe).collect()
    }

    /// Paths that sign-ins of its policies live on. On the hosts of a route with this chain, requests for them have to come to that route,
    /// whatever its own path is.
    pub fn own_paths(&self) -> Vec<&str> {
        fn of(policy: &Policy) -> Vec<&str> {
            match &policy.guard {
                Guard::Oidc(guard) => guard.own_paths().to_vec(),
                Guard::AnyOf(policies) => policies.iter().flat_map(|policy| of(policy)).collect(),
                _ => Vec::new(),
            }
        }
        self.policies.iter().flat_map(|policy| of(policy)).collect()
    }

    /// The same, and before it what pages of other origins may do: preflights are answered, and every answer that goes through the chain
    /// gets its headers.
    pub fn with_cors(&self, cors: Cors) -> Arc<Self> {
        let (policies, protected, cors_name) = (self.policies.clone(), self.protected.clone(), self.cors_name.clone());
        Arc::new(Self { policies, protected, cors: Some(cors), cors_name })
    }

    /// Asks the policies. When it passes, `ask.parts` is what goes on.
    pub async fn admit(&self, ask: Ask<'_>) -> Verdict {
        let Ask { parts, peer, client_certificate, scheme, host, request_id } = ask;
        let mut going = Going::default();
        if let Some(cors) = &self.cors {
            if let Some(response) = cors.preflight(parts) {
                going.steps.push(self.preflight_step(&response));
                return Verdict::Answer(response, going.steps);
            }
            cors.decorate(&parts.headers, &mut going.response);
        }
        claims::remove_protected(&mut parts.headers, &self.protected);
        let seen = Seen { parts, peer, client_certificate, scheme, host };
        for policy in &self.policies {
            if let Err(stop) = ask_one(policy, &seen, &mut going).await {
                let mut response = stop.into_response(request_id);
                crate::model::ask::put_all(&going.response, response.headers_mut());
                return Verdict::Answer(response, going.steps);
            }
        }
        going.apply(parts);
        let Going { identity, response, steps, .. } = going;
        Verdict::Pass(Passed { identity, set_on_response: response, steps })
    }

    fn preflight_step(&self, response: &Response<Bytes>) -> Step {
        let is_allowed = response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        let detail = if is_allowed { "a preflight that is allowed" } else { "a preflight that is not allowed" };
        let policy = self.cors_name.clone();
        Step { policy, kind: "cors", outcome: Outcome::Answered, detail: detail.into() }
    }
}

async fn ask_one(policy: &Policy, seen: &Seen<'_>, going: &mut Going) -> Result<(), Stop> {
    let Guard::AnyOf(choices) = &policy.guard else {
        return ask_and_note(policy, seen, going).await;
    };
    let mut last = Ok(());
    for choice in choices {
        // What a policy that refuses has collected is nobody's.
        let before = (going.identity.clone(), going.set.len(), going.strip.len());
        last = ask_and_note(choice, seen, going).await;
        if last.is_ok() {
            break;
        }
        going.identity = before.0;
        going.set.truncate(before.1);
        going.strip.truncate(before.2);
    }
    last
}

async fn ask_and_note(policy: &Policy, seen: &Seen<'_>, going: &mut Going) -> Result<(), Stop> {
    let said = policy.ask(seen, going).await;
    let (outcome, detail) = match &said {
        Ok(said) => (said.outcome, said.detail.clone()),
        Err(stop) => (stop.outcome(), stop.detail()),
    };
    policy.counts.count(outcome);
    going.steps.push(Step { policy: policy.name.clone(), kind: policy.kind, outcome, detail });
    said.map(drop)
}
