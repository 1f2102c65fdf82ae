//! A place at a back end.

use std::{fmt, sync::Arc, time::Duration};

use resilience::{BreakerPermit, Outcome as BreakerOutcome};
use wire::Target;

use super::endpoint::{Endpoint, EndpointId};

/// What a failure counts as having taken at least: a back end that fails at once must not look quick.
const FAILURE_TOOK: Duration = Duration::from_secs(1);

/// How a request to a back end ended, as far as it tells something about the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the back end did its part: an answer that refuses what was asked wrongly is one.
    pub is_success: bool,
    /// How long until the head of the answer came: what `p2c` goes by. Bodies are as long as they are.
    pub took: Duration,
}

/// A request that is under way to a back end. Holds its place until it is dropped, so keep it until the body of the answer has ended.
/// Dropped without a report, it tells neither well nor ill of the back end.
#[must_use = "it holds a place at the back end"]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    permit: Option<BreakerPermit>,
    is_reported: bool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.endpoint.target.address).finish()
    }
}

impl Lease {
    /// For an endpoint and its upstream, both of which were entered.
    pub(crate) fn new(endpoint: Arc<Endpoint>, permit: Option<BreakerPermit>) -> Self {
        Self { endpoint, permit, is_reported: false }
    }

    /// Where to send it.
    pub fn target(&self) -> &Arc<Target> {
        &self.endpoint.target
    }

    /// Which back end it is: to exclude it from the next try, to stick to it.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Whether the back end was removed or replaced since: a connection that lives long may be told to go.
    pub fn is_retired(&self) -> bool {
        self.endpoint.is_retired()
    }

    /// Says how it ended and gives the place back.
    pub fn report(mut self, outcome: Outcome) {
        self.note(outcome);
    }

    /// Says how it ended and keeps the place, as long as the body of the answer goes on. Only the first word counts.
    pub fn note(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_reported, true) {
            return;
        }
        let Outcome { is_success, took } = outcome;
        let (endpoint, shared) = (&self.endpoint, &self.endpoint.shared);
        let now = shared.clock.monotonic();
        endpoint.latency().observe(now, if is_success { took } else { took.max(FAILURE_TOOK) });
        endpoint.count(is_success);
        shared.report(now, endpoint.id, &endpoint.tally, is_success);
        if let Some(permit) = self.permit.take() {
            permit.report(if is_success { BreakerOutcome::Success } else { BreakerOutcome::Failure });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.leave();
        self.endpoint.shared.leave();
    }
}
