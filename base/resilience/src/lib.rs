//! What keeps one slow or failing part from taking the rest with it.
//!
//! | what | protects against |
//! |---|---|
//! | [`Deadline`] | work that nobody waits for any more |
//! | [`Retry`], [`RetryBudget`] | failures that pass; and retries that make an outage worse |
//! | [`Bulkhead`] | one slow part holding every worker |
//! | [`AdaptiveLimit`] | more work at once than this process can do in time; the important is done first |
//! | [`Breaker`] | calls to what fails or crawls: they only hold callers up and keep it down |
//! | [`Hedge`] | the one slow answer in a hundred |
//! | [`Outliers`] | the one sick host among many |
//! | [`SingleFlight`] | a hundred requests loading the same thing at once |
//!
//! Time and randomness come from the kernel's `Clock` and `Rng`, so every one of these runs in simulated time.

mod adaptive;
mod breaker;
mod bulkhead;
mod deadline;
mod flight;
mod hedge;
mod http;
mod latency;
mod outlier;
mod retry;

pub use adaptive::{
    AdaptiveConfig, AdaptiveCore, AdaptiveLimit, AdaptiveStats, Admitted, Ending, Place, Priority, Shed,
};
pub use breaker::{
    Breaker, BreakerConfig, BreakerCore, BreakerOpen, BreakerPermit, BreakerState, BreakerStats, Broken, Counts,
    Outcome, Ticket, Window,
};
pub use bulkhead::{Bulkhead, BulkheadStats, Permit, Refused};
pub use deadline::{Deadline, DeadlinePassed};
pub use flight::{FlightLimits, FlightLost, SingleFlight};
pub use hedge::{Hedge, HedgeConfig, HedgeFailed, HedgeStats};
pub use http::parse_retry_after;
pub use latency::Latency;
pub use outlier::{OutlierConfig, OutlierCore, OutlierStats, Outliers, Usable};
pub use retry::{Attempts, Decision, GaveUp, Retry, RetryBudget, RetryFailed, Safe, Verdict};
