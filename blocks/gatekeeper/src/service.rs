//! The handle: policies compiled, chains that are asked.

mod addresses;
mod api_key;
mod basic;
mod certificate;
mod chain;
mod claims;
mod compile;
mod condition;
mod cors;
mod discovery;
mod forward;
mod going;
mod jwt;
mod keys;
mod oidc;
mod places;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use access::Access;
use kernel::{Clock, Rng, Tasks};
use telemetry::Metrics;
use tokio::sync::Semaphore;

use crate::{Fetch, telemetry::Telemetry};

use discovery::Discovery;
use keys::{Ages, Keys, Source};

pub use chain::{Chain, Described};
pub use compile::Policies;
pub use cors::Cors;

/// What the gatekeeper stands on.
pub struct Deps {
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub rng: Rng,
    /// Keys, and the secret that cookies are sealed with.
    pub access: Access,
    /// The way to other servers.
    pub fetch: Arc<dyn Fetch>,
    /// Where its numbers go.
    pub metrics: Metrics,
    /// Where it works in the background.
    pub tasks: Tasks,
}

/// Compiles policies. Cheap to clone; what it has learnt (keys of issuers, tokens that held) outlives a change of the document.
#[derive(Clone)]
pub struct Gatekeeper(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) deps: Deps,
    pub(crate) telemetry: Telemetry,
    /// Keys that policies of now use, so that those of the next document find them warm.
    keys: Mutex<HashMap<(Source, Ages), Weak<Keys>>>,
    issuers: Mutex<HashMap<String, Weak<Discovery>>>,
    /// Of passwords, of all policies.
    pub(crate) hashers: Arc<Semaphore>,
}

impl std::fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gatekeeper").finish_non_exhaustive()
    }
}

impl Gatekeeper {
    /// One, with nothing learnt.
    pub fn new(deps: Deps) -> Self {
        let telemetry = Telemetry::new(&deps.metrics.registry("gatekeeper"));
        let hashers = basic::Basic::hashers();
        Self(Arc::new(Inner { deps, telemetry, keys: Mutex::default(), issuers: Mutex::default(), hashers }))
    }

    /// The keys from a source; the same as those of another policy with the same source.
    fn keys(&self, source: Source, ages: Ages) -> Arc<Keys> {
        let discovery = match &source {
            Source::Issuer(issuer) => Some(self.discovery(issuer)),
            Source::Url(_) | Source::File(_) => None,
        };
        shared(&self.0.keys, (source.clone(), ages), || Keys::new(source, ages, discovery, &self.0))
    }

    fn discovery(&self, issuer: &str) -> Arc<Discovery> {
        let new = || Arc::new(Discovery::new(issuer, &self.0.deps.clock, &self.0.deps.fetch));
        shared(&self.0.issuers, issuer.to_owned(), new)
    }
}

/// What somebody still holds, else a new one. What nobody holds any more is forgotten.
fn shared<K: std::hash::Hash + Eq, V>(
    all: &Mutex<HashMap<K, Weak<V>>>,
    key: K,
    new: impl FnOnce() -> Arc<V>,
) -> Arc<V> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
        return found;
    }
    all.retain(|_, held| held.strong_count() > 0);
    let made = new();
    all.insert(key, Arc::downgrade(&made));
    made
}
