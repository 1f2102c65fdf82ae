//! Why there is no back end.

use std::time::Duration;

/// Why a request can be sent nowhere now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The upstream has no back end that takes new requests: none is known yet, or all are drained.
    #[error("the upstream has no back end that takes requests")]
    Empty,
    /// As many requests are under way as may be, to the upstream or to each of its back ends.
    #[error("the upstream has as many requests under way as it may")]
    Full,
    /// Its circuit breaker is open.
    #[error("the circuit breaker of the upstream is open")]
    BreakerOpen {
        /// When to come back.
        retry_after: Duration,
    },
}
