//! What stands between a redirect and a database that fails or hangs.
//!
//! - QUESTION-1: a visit waits for the database no longer than `question_timeout`.
//! - QUESTION-2: when the database fails or hangs, visits of links that are not in memory are told so at once instead of each
//!   waiting for it, and a few of them a second find out when it is well again.

use std::time::Duration;

use kernel::{Clock, Problem};
use resilience::{Breaker, BreakerConfig, BreakerStats, Broken, Deadline, Outcome, Window};

use crate::config::ShortenerConfig;

/// Half of at least ten questions of ten seconds failed, or took as long as half of what they may.
const MINIMUM: u32 = 10;
const PERCENT: u32 = 50;
/// A visitor notices this, not a database that is well again.
const OPEN_FOR: Duration = Duration::from_millis(500);
const OPEN_AT_MOST: Duration = Duration::from_secs(5);

/// The guard of the redirect path's reads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Questions {
    breaker: Breaker,
    clock: Clock,
    timeout: Duration,
}

impl Questions {
    pub(crate) fn new(config: &ShortenerConfig, clock: &Clock) -> Self {
        let timeout = config.question_timeout;
        let config = BreakerConfig {
            window: Window::Time(Duration::from_secs(10)),
            minimum_calls: MINIMUM,
            failure_percent: PERCENT,
            slow_call: timeout / 2,
            slow_percent: PERCENT,
            open_for: OPEN_FOR,
            open_at_most: OPEN_AT_MOST,
            probes: 3,
            probe_patience: timeout * 2,
        };
        Self { breaker: Breaker::new(clock, config), clock: clock.clone(), timeout }
    }

    /// Asks, unless there is no point in it.
    pub(crate) async fn ask<T>(&self, question: impl Future<Output = database::Result<T>>) -> Result<T, Problem> {
        let deadline = Deadline::after(&self.clock, self.timeout);
        let bounded = async {
            match deadline.run(question).await {
                Ok(answer) => answer.map_err(Problem::from),
                Err(late) => Err(away().with_internal(format_args!("the database did not answer: {late}"))),
            }
        };
        self.breaker.run(|_| Outcome::Failure, bounded).await.map_err(|broken| match broken {
            Broken::Open(open) => away().retry_after(open.retry_after).with_internal(open),
            Broken::Failed(problem) => problem,
        })
    }

    pub(crate) fn stats(&self) -> BreakerStats {
        self.breaker.stats()
    }
}

fn away() -> Problem {
    Problem::new(&kernel::error::UNAVAILABLE, "Try again in a moment.")
}
