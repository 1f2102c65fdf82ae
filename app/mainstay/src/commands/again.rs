//! When a command asks its server again: within a time, a budget and what is safe to repeat (`resilience::Retry`).

use std::time::Duration;

use kernel::{Backoff, Clock, Rng};
use resilience::{Attempts, Deadline, Decision, Retry, RetryBudget, Safe, Verdict, parse_retry_after};

use super::client::Answer;
use crate::output;

/// How long a person waits for a command, tries and pauses together.
const TOTAL: Duration = Duration::from_secs(30);
/// A pause that is worth a line.
const NOTED: Duration = Duration::from_secs(1);

/// Tries again where that may help. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Again {
    retry: Retry,
    clock: Clock,
    rng: Rng,
}

impl Again {
    pub(crate) fn new(clock: Clock, rng: Rng) -> Self {
        let retry = Retry {
            backoff: Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) },
            max_tries: 4,
            per_try: TOTAL,
            total: TOTAL,
            budget: RetryBudget::default(),
        };
        Self { retry, clock, rng }
    }

    /// A key that makes a POST safe to send again.
    pub(crate) fn idempotency_key(&self) -> String {
        kernel::id::uuid_v7(&self.clock, &self.rng).to_string()
    }

    /// Sends until there is an answer to keep. `send` gets the deadline of its try; the last failure is given back as it is.
    pub(crate) fn run(
        &self,
        safe: Safe,
        mut send: impl FnMut(&Deadline) -> Result<Answer, ureq::Error>,
    ) -> Result<Answer, ureq::Error> {
        let whole = Deadline::after(&self.clock, self.retry.total);
        let mut attempts = Attempts::new(&self.retry, safe);
        loop {
            attempts.begin();
            let outcome = send(&whole.within(self.retry.per_try));
            let Some((verdict, why)) = self.judge(&outcome) else { return outcome };
            let left = whole.remaining().unwrap_or_default();
            let Decision::Wait(wait) = attempts.after_failure(verdict, left, &self.rng) else { return outcome };
            if wait >= NOTED {
                output::note(format_args!("{why}; trying again in {:.1} s", wait.as_secs_f64()));
            }
            self.pause(wait);
        }
    }

    /// What a failure tells, in words too; `None` for what is none.
    fn judge(&self, outcome: &Result<Answer, ureq::Error>) -> Option<(Verdict, String)> {
        match outcome {
            Ok(answer) if answer.status < 400 => None,
            Ok(answer) => {
                let problem = answer.json();
                let code = problem["code"].as_str();
                let after = parse_retry_after(answer.header("retry-after"), self.clock.now());
                let why = format!("{} ({})", code.unwrap_or("the server refused"), answer.status);
                Some((Verdict::of_status(answer.status, code, after), why))
            }
            Err(error) => Some((judge_error(error), error.to_string())),
        }
    }

    /// Commands have no runtime to wait on.
    fn pause(&self, wait: Duration) {
        let until = Deadline::after(&self.clock, wait);
        while let Some(left) = until.remaining().filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }
}

/// Whether the server can have done something.
fn judge_error(error: &ureq::Error) -> Verdict {
    use std::io::ErrorKind;

    use ureq::Timeout;
    match error {
        ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => Verdict::NothingDone { after: None },
        ureq::Error::ConnectionFailed | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Verdict::NothingDone { after: None }
        }
        ureq::Error::Io(_) | ureq::Error::Timeout(_) => Verdict::Unknown { after: None },
        _ => Verdict::Final,
    }
}
