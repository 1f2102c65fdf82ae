use std::{collections::HashMap, time::Duration};

use kernel::{Clock, Timestamp};
use proptest::prelude::*;
use resilience::{
    Breaker, BreakerConfig, BreakerCore, BreakerOpen, BreakerState, Broken, Counts, Outcome, Ticket, Window,
};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn config() -> BreakerConfig {
    BreakerConfig { window: Window::Calls(10), minimum_calls: 4, ..BreakerConfig::default() }
}

async fn call(breaker: &Breaker, result: Result<u32, &'static str>) -> Result<u32, Broken<&'static str>> {
    breaker.run(|_| Outcome::Failure, async { result }).await
}

#[tokio::test]
async fn it_opens_refuses_probes_and_closes() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, config());
    for _ in 0..3 {
        assert_eq!(call(&breaker, Err("down")).await, Err(Broken::Failed("down")));
    }
    assert_eq!(breaker.stats().state, BreakerState::Closed, "three calls are too few to say");
    assert_eq!(breaker.stats().counts, Counts { calls: 3, failures: 3, slow: 0 });
    call(&breaker, Err("down")).await.unwrap_err();
    assert_eq!(call(&breaker, Ok(1)).await, Err(Broken::Open(BreakerOpen { retry_after: SECOND })));
    sim.advance(ms(999));
    assert!(matches!(call(&breaker, Ok(1)).await, Err(Broken::Open(_))));
    sim.advance(ms(1));
    let probes: Vec<_> = (0..3).map(|_| breaker.try_enter().unwrap()).collect();
    assert!(breaker.try_enter().is_err(), "three probes, not one more");
    assert_eq!(breaker.stats().state, BreakerState::HalfOpen);
    for probe in probes {
        probe.report(Outcome::Success);
    }
    assert_eq!(breaker.stats().state, BreakerState::Closed);
    assert_eq!(breaker.stats().counts, Counts::default(), "what was before is forgotten");
    let stats = breaker.stats();
    assert_eq!((stats.opened_count, stats.let_in_count, stats.refused_count), (1, 7, 3));
}

#[tokio::test]
async fn what_hangs_opens_it_though_nothing_fails() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, config());
    let hung: Vec<_> = (0..4).map(|_| breaker.try_enter().unwrap()).collect();
    sim.advance(SECOND);
    // Their callers gave up: whether it would have answered is not known, that it crawls is.
    drop(hung);
    assert_eq!(breaker.stats().state, BreakerState::Open);
}

#[tokio::test]
async fn a_caller_that_leaves_early_says_nothing() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, config());
    for _ in 0..100 {
        drop(breaker.try_enter().unwrap());
    }
    assert_eq!(breaker.stats().counts, Counts::default());
    (0..4).for_each(|_| breaker.try_enter().unwrap().report(Outcome::Failure));
    sim.advance(SECOND);
    for _ in 0..100 {
        drop(breaker.try_enter().unwrap());
    }
    assert_eq!(breaker.stats().state, BreakerState::HalfOpen, "each gave its place back");
}

#[tokio::test]
async fn it_waits_twice_as_long_each_time_and_starts_anew_when_it_closed() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, BreakerConfig { open_at_most: SECOND * 5, ..config() });
    (0..4).for_each(|_| breaker.try_enter().unwrap().report(Outcome::Failure));
    for wait in [1, 2, 4, 5, 5] {
        let wait = SECOND * wait;
        assert_eq!(breaker.try_enter().unwrap_err().retry_after, wait);
        sim.advance(wait);
        // Two of three are more than half: the third is not needed.
        breaker.try_enter().unwrap().report(Outcome::Success);
        breaker.try_enter().unwrap().report(Outcome::Failure);
        breaker.try_enter().unwrap().report(Outcome::Failure);
    }
    sim.advance(SECOND * 5);
    (0..3).for_each(|_| breaker.try_enter().unwrap().report(Outcome::Success));
    (0..4).for_each(|_| breaker.try_enter().unwrap().report(Outcome::Failure));
    assert_eq!(breaker.try_enter().unwrap_err().retry_after, SECOND);
}

#[tokio::test]
async fn probes_that_never_end_do_not_keep_it_half_open() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, config());
    (0..4).for_each(|_| breaker.try_enter().unwrap().report(Outcome::Failure));
    sim.advance(SECOND);
    let hung: Vec<_> = (0..3).map(|_| breaker.try_enter().unwrap()).collect();
    sim.advance(SECOND * 30);
    assert_eq!(breaker.try_enter().unwrap_err().retry_after, SECOND * 2, "open again, for longer");
    sim.advance(SECOND * 2);
    (0..3).for_each(|_| breaker.try_enter().unwrap().report(Outcome::Success));
    drop(hung);
    assert_eq!(breaker.stats().state, BreakerState::Closed);
}

#[tokio::test]
async fn a_fallback_stands_in_for_both_refusal_and_failure() {
    let (clock, _sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, config());
    let with_fallback = async |result: Result<u32, &'static str>| {
        breaker
            .run_or(
                |_| Outcome::Failure,
                async { result },
                async |broken| match broken {
                    Broken::Open(_) => 100,
                    Broken::Failed(_) => 200,
                },
            )
            .await
    };
    assert_eq!(with_fallback(Ok(7)).await, 7);
    for _ in 0..3 {
        assert_eq!(with_fallback(Err("down")).await, 200);
    }
    assert_eq!(with_fallback(Ok(7)).await, 100);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the panic is the point")]
async fn a_panic_is_a_failure() {
    let (clock, _sim) = Clock::simulated(Timestamp::EPOCH);
    let breaker = Breaker::new(&clock, BreakerConfig { minimum_calls: 1, ..config() });
    let inside = breaker.clone();
    let work = async move { inside.run(|(): &()| Outcome::Failure, async { panic!("as planned") }).await };
    assert!(tokio::spawn(work).await.map(|r: Result<(), _>| r).unwrap_err().is_panic());
    assert_eq!(breaker.stats().state, BreakerState::Open);
}

/// The definition, written with a list of everything that happened.
struct Model {
    config: BreakerConfig,
    state: Naive,
    row: u32,
}

enum Naive {
    Closed { log: Vec<(Duration, bool, bool)> },
    Open { at: Duration, wait: Duration },
    Half { started: u32, given_back: u32, log: Vec<(bool, bool)>, moved_at: Duration },
}

impl Model {
    fn open(&mut self, now: Duration) {
        let wait = (self.config.open_for * 2_u32.pow(self.row)).min(self.config.open_at_most);
        self.row += 1;
        self.state = Naive::Open { at: now, wait };
    }

    /// Whether a call is let in, and how it entered.
    fn ask(&mut self, now: Duration) -> bool {
        if let Naive::Half { started, given_back, log, moved_at } = &self.state {
            let running = *started as usize - *given_back as usize - log.len();
            if running > 0 && now >= *moved_at + self.config.probe_patience {
                self.open(now);
            }
        }
        if let Naive::Open { at, wait } = self.state {
            if now < at + wait {
                return false;
            }
            self.state = Naive::Half { started: 0, given_back: 0, log: vec![], moved_at: now };
        }
        match &mut self.state {
            Naive::Half { started, given_back, moved_at, .. } => {
                let has_room = *started - *given_back < self.config.probes;
                if has_room {
                    *started += 1;
                    *moved_at = now;
                }
                has_room
            }
            Naive::Closed { .. } | Naive::Open { .. } => true,
        }
    }

    fn seen(&self, now: Duration) -> Vec<(bool, bool)> {
        match &self.state {
            Naive::Closed { log } => match self.config.window {
                Window::Calls(most) => log.iter().rev().take(most as usize).map(|(_, f, s)| (*f, *s)).collect(),
                Window::Time(length) => {
                    let slice = |at: Duration| at.as_nanos() / (length / 10).as_nanos();
                    log.iter().filter(|(at, ..)| slice(*at) + 10 > slice(now)).map(|(_, f, s)| (*f, *s)).collect()
                }
            },
            Naive::Half { log, .. } => log.clone(),
            Naive::Open { .. } => vec![],
        }
    }

    fn is_sick(&self, seen: &[(bool, bool)], of: usize) -> bool {
        let reaches = |n: usize, percent: u32| n > 0 && n * 100 >= percent as usize * of;
        reaches(seen.iter().filter(|(f, _)| *f).count(), self.config.failure_percent)
            || reaches(seen.iter().filter(|(_, s)| *s).count(), self.config.slow_percent)
    }

    fn end(&mut self, now: Duration, is_failure: bool, is_slow: bool, counts: bool) {
        match &mut self.state {
            Naive::Closed { log } => {
                if counts {
                    log.push((now, is_failure, is_slow));
                    let seen = self.seen(now);
                    if seen.len() >= self.config.minimum_calls as usize && self.is_sick(&seen, seen.len()) {
                        self.open(now);
                    }
                }
            }
            Naive::Half { given_back, log, moved_at, .. } => {
                *moved_at = now;
                if counts {
                    log.push((is_failure, is_slow));
                } else {
                    *given_back += 1;
                }
                let log = log.clone();
                if self.is_sick(&log, self.config.probes as usize) {
                    self.open(now);
                } else if log.len() >= self.config.probes as usize {
                    self.row = 0;
                    self.state = Naive::Closed { log: vec![] };
                }
            }
            Naive::Open { .. } => {}
        }
    }

    fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            Naive::Closed { .. } => BreakerState::Closed,
            Naive::Open { at, wait } if now < at + wait => BreakerState::Open,
            Naive::Open { .. } | Naive::Half { .. } => BreakerState::HalfOpen,
        }
    }

    /// Changes with every change of state.
    fn era(&self) -> (u32, u8) {
        match self.state {
            Naive::Closed { .. } => (self.row, 0),
            Naive::Open { .. } => (self.row, 1),
            Naive::Half { .. } => (self.row, 2),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask,
    End(usize, Outcome),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Unknown)];
    prop_oneof![
        4 => Just(Step::Ask),
        4 => (0_usize..6, outcome).prop_map(|(n, outcome)| Step::End(n, outcome)),
        2 => prop_oneof![0_u64..30, 0_u64..400].prop_map(Step::Pass),
    ]
}

fn any_config() -> impl Strategy<Value = BreakerConfig> {
    let window = prop_oneof![(1_u32..8).prop_map(Window::Calls), (100_u64..600).prop_map(|n| Window::Time(ms(n)))];
    (window, 1_u32..6, 1_u32..=101, 1_u32..=101, 1_u32..4, 1_u64..80).prop_map(
        |(window, minimum_calls, failure_percent, slow_percent, probes, open_ms)| BreakerConfig {
            window,
            minimum_calls: match window {
                Window::Calls(most) => minimum_calls.min(most),
                Window::Time(_) => minimum_calls,
            },
            failure_percent,
            slow_call: ms(20),
            slow_percent,
            open_for: ms(open_ms),
            open_at_most: ms(open_ms * 5),
            probes,
            probe_patience: ms(150),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any history: the same answers as the definition (BREAKER-1 to 5), and what each invariant says by itself.
    #[test]
    fn it_is_what_its_definition_says(config in any_config(), steps in prop::collection::vec(step(), 1..120)) {
        let mut core = BreakerCore::new(config);
        let mut model = Model { config, state: Naive::Closed { log: vec![] }, row: 0 };
        let mut now = Duration::ZERO;
        // Under way, with the state that let each in; and how many times that state was entered, to tell them apart.
        let mut running: Vec<(Ticket, Duration, u64)> = vec![];
        let (mut eras, mut era) = (0_u64, model.era());
        let mut probes: HashMap<u64, u32> = HashMap::new();
        for step in steps {
            match step {
                Step::Ask => {
                    let was_open = core.state(now) == BreakerState::Open;
                    let (asked, expected) = (core.ask(now), model.ask(now));
                    if model.era() != era { eras += 1; era = model.era(); }
                    prop_assert_eq!(asked.is_ok(), expected, "{:?}", asked);
                    prop_assert!(!was_open || asked.is_err(), "BREAKER-2");
                    if let Ok(ticket) = asked {
                        running.push((ticket, now, eras));
                        if core.state(now) == BreakerState::HalfOpen {
                            let out = running.iter().filter(|(.., e)| *e == eras).count();
                            let counted = *probes.entry(eras).or_default();
                            prop_assert!(out + counted as usize <= config.probes as usize, "BREAKER-3");
                        }
                    }
                }
                Step::End(n, outcome) if n < running.len() => {
                    let (ticket, began, of) = running.remove(n);
                    let before = (core.state(now), core.counts(now));
                    core.report(ticket, now, outcome);
                    if of == eras {
                        let is_slow = now.saturating_sub(began) >= config.slow_call;
                        let counts = outcome != Outcome::Unknown || is_slow;
                        *probes.entry(eras).or_default() += u32::from(counts);
                        model.end(now, outcome == Outcome::Failure, is_slow, counts);
                        if model.era() != era { eras += 1; era = model.era(); }
                    } else {
                        prop_assert_eq!((core.state(now), core.counts(now)), before, "BREAKER-4");
                    }
                }
                Step::End(..) => {}
                Step::Pass(n) => now += ms(n),
            }
            prop_assert_eq!(core.state(now), model.state(now));
            let seen = model.seen(now);
            let counts = core.counts(now);
            prop_assert_eq!(counts.calls as usize, seen.len());
            prop_assert_eq!(counts.failures as usize, seen.iter().filter(|(f, _)| *f).count());
            prop_assert_eq!(counts.slow as usize, seen.iter().filter(|(_, s)| *s).count());
        }
        // BREAKER-5: with callers that come and get well answers, it closes.
        for _ in 0..10 * (config.probes + 1) {
            now += config.probe_patience + config.open_at_most;
            if let Ok(ticket) = core.ask(now) {
                core.report(ticket, now, Outcome::Success);
            }
        }
        prop_assert_eq!(core.state(now), BreakerState::Closed, "BREAKER-5");
    }
}
