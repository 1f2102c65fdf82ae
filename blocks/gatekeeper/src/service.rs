//! The handle: policies compiled, chains that are asked.

mod addresses;
mod api_key;
mod chain;
mod claims;
mod compile;
mod going;
mod places;

use std::sync::Arc;

use access::Access;
use kernel::{Clock, Rng, Tasks};
use telemetry::Metrics;

use crate::Fetch;

pub use chain::{Chain, Described};
pub use compile::Policies;

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
}

impl std::fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gatekeeper").finish_non_exhaustive()
    }
}

impl Gatekeeper {
    /// One, with nothing learnt.
    pub fn new(deps: Deps) -> Self {
        Self(Arc::new(Inner { deps }))
    }
}
