//! Every metric that the gatekeeper emits; each shows as `mainstay_gatekeeper_…`.

use ::telemetry::RoomRegistry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use crate::model::ask::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    policy: String,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    outcome: &'static str,
}

/// The room's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    asked: Family<Asked, Counter>,
    /// `key_reads{outcome="read"|"failed"}`: keys of issuers.
    pub(crate) key_reads: KeyReads,
    /// `forward_calls{outcome="answered"|"failed"|"cached"}`
    pub(crate) forward: Forward,
    /// `password_checks{outcome="hashed"|"cached"|"busy"}`
    pub(crate) passwords: Passwords,
    /// `logins{outcome="started"|"finished"|"failed"|"refreshed"|"ended"}`
    pub(crate) logins: Logins,
}

/// Of [`Telemetry::key_reads`].
#[derive(Debug, Clone)]
pub(crate) struct KeyReads {
    pub(crate) read: Counter,
    pub(crate) failed: Counter,
}

/// Of [`Telemetry::forward`].
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub(crate) answered: Counter,
    pub(crate) failed: Counter,
    pub(crate) cached: Counter,
}

/// Of [`Telemetry::passwords`].
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    pub(crate) hashed: Counter,
    pub(crate) cached: Counter,
    pub(crate) busy: Counter,
}

/// Of [`Telemetry::logins`].
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    pub(crate) started: Counter,
    pub(crate) finished: Counter,
    pub(crate) failed: Counter,
    pub(crate) refreshed: Counter,
    pub(crate) ended: Counter,
}

/// The counters of one policy, by outcome; resolved once.
#[derive(Debug, Clone)]
pub(crate) struct Counts([Counter; 5]);

impl Counts {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].inc();
    }
}

impl Telemetry {
    pub(crate) fn new(registry: &RoomRegistry) -> Self {
        let family = |name: &str, help: &str| registry.add(name, help, Family::<Read, Counter>::default());
        let keys = family("key_reads", "Reads of the keys of issuers, by how they ended");
        let forward = family("forward_calls", "Questions to services of forward auth, by what answered them");
        let passwords = family("password_checks", "Passwords looked at, by what that took");
        let logins = family("logins", "Sign-ins at OpenID providers, by how far they came");
        let of = |family: &Family<Read, Counter>, outcome| family.get_or_create(&Read { outcome }).clone();
        Self {
            asked: registry.add("verdicts", "What policies said to requests", Family::default()),
            key_reads: KeyReads { read: of(&keys, "read"), failed: of(&keys, "failed") },
            forward: Forward {
                answered: of(&forward, "answered"),
                failed: of(&forward, "failed"),
                cached: of(&forward, "cached"),
            },
            passwords: Passwords {
                hashed: of(&passwords, "hashed"),
                cached: of(&passwords, "cached"),
                busy: of(&passwords, "busy"),
            },
            logins: Logins {
                started: of(&logins, "started"),
                finished: of(&logins, "finished"),
                failed: of(&logins, "failed"),
                refreshed: of(&logins, "refreshed"),
                ended: of(&logins, "ended"),
            },
        }
    }

    /// The counters of a policy. Policies are an operator's, at most a thousand a document.
    pub(crate) fn counts(&self, policy: &str, kind: &'static str) -> Counts {
        let outcomes = [Outcome::Passed, Outcome::Anonymous, Outcome::Refused, Outcome::Answered, Outcome::Unavailable];
        Counts(outcomes.map(|outcome| {
            let labels = Asked { policy: policy.to_owned(), kind, outcome: outcome.as_str() };
            self.asked.get_or_create(&labels).clone()
        }))
    }
}
