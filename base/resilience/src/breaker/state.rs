//! The pure core of the breaker.

use std::time::Duration;

use super::window::{Counts, Sliding, Window};

/// When a breaker opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Which calls count.
    pub window: Window,
    /// Nothing is concluded from fewer calls than this; at most the length of a window of calls.
    pub minimum_calls: u32,
    /// It opens when so many of a hundred calls failed; above 100: never for failures.
    pub failure_percent: u32,
    /// A call that takes this long is slow, whatever it answered.
    pub slow_call: Duration,
    /// It opens when so many of a hundred calls were slow; above 100: never for slowness.
    pub slow_percent: u32,
    /// How long it stays open the first time; twice as long each time that the probes fail.
    pub open_for: Duration,
    /// The longest that it stays open.
    pub open_at_most: Duration,
    /// Calls that are let in to see whether it is well again, at least one.
    pub probes: u32,
    /// When none of the probes under way has ended after this long, it opens again.
    pub probe_patience: Duration,
}

impl Default for BreakerConfig {
    /// Half of the calls of ten seconds, at least 20 of them, failed or took a second; open for 1 s up to 30 s; three probes.
    fn default() -> Self {
        Self {
            window: Window::Time(Duration::from_secs(10)),
            minimum_calls: 20,
            failure_percent: 50,
            slow_call: Duration::from_secs(1),
            slow_percent: 50,
            open_for: Duration::from_secs(1),
            open_at_most: Duration::from_secs(30),
            probes: 3,
            probe_patience: Duration::from_secs(30),
        }
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The dependency did its part: an answer, also one that refuses what was asked wrongly.
    Success,
    /// It did not.
    Failure,
    /// It tells nothing about the dependency: abandoned by its caller. Counts as slow when it had taken that long.
    Unknown,
}

/// What state it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through and are watched.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls go through, to see.
    HalfOpen,
}

/// The right to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    began: Duration,
}

/// The call is refused without a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open")]
pub struct BreakerOpen {
    /// When to come back.
    pub retry_after: Duration,
}

/// The state machine: time comes in, nothing waits.
#[derive(Debug, Clone)]
pub struct BreakerCore {
    config: BreakerConfig,
    state: State,
    /// Moves with every change of state; a call counts only in the one that let it in.
    generation: u64,
    /// Times it opened since it was closed last.
    opened_in_row: u32,
    opened: u64,
}

#[derive(Debug, Clone)]
enum State {
    Closed(Sliding),
    Open { until: Duration },
    HalfOpen { running: u32, done: Counts, last_moved: Duration },
}

impl BreakerCore {
    /// Closed, with nothing seen.
    pub fn new(config: BreakerConfig) -> Self {
        let minimum = match config.window {
            Window::Calls(most) => config.minimum_calls.min(most),
            Window::Time(_) => config.minimum_calls,
        };
        let config = BreakerConfig { minimum_calls: minimum.max(1), probes: config.probes.max(1), ..config };
        Self { config, state: State::Closed(Sliding::new(config.window)), generation: 0, opened_in_row: 0, opened: 0 }
    }

    /// Asks to make a call at `now`.
    pub fn ask(&mut self, now: Duration) -> Result<Ticket, BreakerOpen> {
        if let State::HalfOpen { running, last_moved, .. } = self.state
            && running > 0
            && now.saturating_sub(last_moved) >= self.config.probe_patience
        {
            self.open(now);
        }
        if let State::Open { until } = self.state {
            if now < until {
                return Err(BreakerOpen { retry_after: until.saturating_sub(now) });
            }
            self.enter(State::HalfOpen { running: 0, done: Counts::default(), last_moved: now });
        }
        if let State::HalfOpen { running, done, last_moved } = &mut self.state {
            if *running + done.calls >= self.config.probes {
                return Err(BreakerOpen { retry_after: self.config.slow_call });
            }
            *running += 1;
            *last_moved = now;
        }
        Ok(Ticket { generation: self.generation, began: now })
    }

    /// Says at `now` what became of a call. Each ticket is reported once.
    pub fn report(&mut self, ticket: Ticket, now: Duration, outcome: Outcome) {
        if ticket.generation != self.generation {
            return;
        }
        let is_slow = now.saturating_sub(ticket.began) >= self.config.slow_call;
        let is_failure = outcome == Outcome::Failure;
        let counts = outcome != Outcome::Unknown || is_slow;
        let (config, is_sick) = (self.config, |seen: Counts, of: u32| {
            is_share(seen.failures, self.config.failure_percent, of)
                || is_share(seen.slow, self.config.slow_percent, of)
        });
        match &mut self.state {
            State::Closed(window) if counts => {
                window.record(now, is_failure, is_slow);
                let seen = window.counts(now);
                if seen.calls >= config.minimum_calls && is_sick(seen, seen.calls) {
                    self.open(now);
                }
            }
            State::HalfOpen { running, done, last_moved } => {
                *running = running.saturating_sub(1);
                *last_moved = now;
                if counts {
                    done.add(is_failure, is_slow);
                }
                // As soon as it is certain: that one probe succeeds cannot mend the others.
                if is_sick(*done, config.probes) {
                    self.open(now);
                } else if done.calls >= config.probes {
                    self.opened_in_row = 0;
                    self.enter(State::Closed(Sliding::new(config.window)));
                }
            }
            State::Closed(_) | State::Open { .. } => {}
        }
    }

    /// Its state at `now`: an open one that is due shows as half-open.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            State::Closed(_) => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// What its window holds at `now`; nothing while it is not closed.
    pub fn counts(&mut self, now: Duration) -> Counts {
        match &mut self.state {
            State::Closed(window) => window.counts(now),
            State::HalfOpen { done, .. } => *done,
            State::Open { .. } => Counts::default(),
        }
    }

    /// Times it opened so far.
    pub fn opened_count(&self) -> u64 {
        self.opened
    }

    fn open(&mut self, now: Duration) {
        let times = 2_u32.saturating_pow(self.opened_in_row.min(31));
        let wait = self.config.open_for.saturating_mul(times).min(self.config.open_at_most.max(self.config.open_for));
        self.opened_in_row = self.opened_in_row.saturating_add(1);
        self.opened += 1;
        self.enter(State::Open { until: now.saturating_add(wait) });
    }

    fn enter(&mut self, state: State) {
        self.generation += 1;
        self.state = state;
    }
}

/// Whether `part` is at least `percent` of `whole`.
fn is_share(part: u32, percent: u32, whole: u32) -> bool {
    percent <= 100 && part > 0 && u64::from(part) * 100 >= u64::from(percent) * u64::from(whole)
}
