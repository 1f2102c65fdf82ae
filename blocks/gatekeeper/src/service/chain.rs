//! The policies of a route, asked one after the other.

use std::sync::Arc;

use http::HeaderName;

use super::{
    addresses::Addresses,
    api_key::ApiKey,
    claims,
    going::{Checked, Going, Seen, Stop},
};
use crate::{Ask, Passed, Verdict, model::ask::Step};

/// One policy, ready to be asked.
pub(super) struct Policy {
    pub(super) name: Arc<str>,
    pub(super) kind: &'static str,
    /// In words for people, for [`Chain::describe`].
    pub(super) about: String,
    pub(super) guard: Guard,
}

pub(super) enum Guard {
    Addresses(Addresses),
    ApiKey(Box<ApiKey>),
    /// Only in documents; see [`Entry::AnyOf`].
    AnyOf(Vec<Arc<Policy>>),
}

impl Policy {
    /// Asks one that stands for itself.
    async fn ask(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        match &self.guard {
            Guard::Addresses(guard) => guard.check(seen),
            Guard::ApiKey(guard) => guard.check(seen, going).await,
            Guard::AnyOf(_) => unreachable!("an `any_of` holds none of its kind"),
        }
    }

    fn protected(&self) -> Vec<HeaderName> {
        match &self.guard {
            Guard::Addresses(_) => Vec::new(),
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
        Self { policies, protected }
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

    /// Asks the policies. When it passes, `ask.parts` is what goes on.
    pub async fn admit(&self, ask: Ask<'_>) -> Verdict {
        let Ask { parts, peer, client_certificate, scheme, host, request_id } = ask;
        claims::remove_protected(&mut parts.headers, &self.protected);
        let mut going = Going::default();
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
    going.steps.push(Step { policy: policy.name.clone(), kind: policy.kind, outcome, detail });
    said.map(drop)
}
