use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use kernel::{Clock, SimClock, Timestamp};
use proptest::prelude::*;
use resilience::{Deadline, Hedge, HedgeConfig, HedgeFailed, Latency, Safe};

use crate::poll;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Hedges after exactly 10 ms.
fn config() -> HedgeConfig {
    HedgeConfig { min_delay: ms(10), max_delay: ms(10), ..HedgeConfig::default() }
}

/// What one copy does: how long it takes, and whether it succeeds.
type Script = (u64, bool);

/// What was seen of one call: its outcome, when it ended, when each copy began, and which were dropped unfinished.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    outcome: Option<Result<u32, Option<u32>>>,
    ended_ms: u64,
    began_ms: Vec<u64>,
    dropped: Vec<u32>,
}

struct Alive(u32, Cell<bool>, Rc<RefCell<Seen>>);

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.1.get() {
            self.2.borrow_mut().dropped.push(self.0);
        }
    }
}

/// Runs one call millisecond by millisecond.
fn call(hedge: &Hedge, (clock, sim): (&Clock, &SimClock), safe: Safe, deadline: &Deadline, scripts: &[Script]) -> Seen {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let start = clock.monotonic();
    let since = |clock: &Clock| u64::try_from(clock.monotonic().saturating_sub(start).as_millis()).unwrap();
    {
        let mut future = Box::pin(hedge.run(safe, deadline, |number, _| {
            seen.borrow_mut().began_ms.push(since(clock));
            let (takes, succeeds) = scripts[number as usize];
            let alive = Alive(number, Cell::new(false), seen.clone());
            async move {
                clock.sleep(ms(takes)).await;
                alive.1.set(true);
                if succeeds { Ok(number) } else { Err(number) }
            }
        }));
        for _ in 0..200 {
            if let Poll::Ready(outcome) = poll(&mut future) {
                let outcome = outcome.map_err(|e| match e {
                    HedgeFailed::Failed(number) => Some(number),
                    HedgeFailed::Late => None,
                });
                seen.borrow_mut().outcome = Some(outcome);
                seen.borrow_mut().ended_ms = since(clock);
                break;
            }
            sim.advance(ms(1));
        }
    }
    Rc::into_inner(seen).unwrap().into_inner()
}

#[test]
fn a_late_answer_is_asked_for_again_and_the_first_one_wins() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let never = Deadline::never(&clock);
    let hedge = Hedge::new(config());
    let seen = call(&hedge, (&clock, &sim), Safe::Always, &never, &[(9, true), (1, true)]);
    assert_eq!(seen, Seen { outcome: Some(Ok(0)), ended_ms: 9, began_ms: vec![0], dropped: vec![] });
    let seen = call(&hedge, (&clock, &sim), Safe::Always, &never, &[(100, true), (5, true)]);
    assert_eq!(seen, Seen { outcome: Some(Ok(1)), ended_ms: 15, began_ms: vec![0, 10], dropped: vec![0] });
    let seen = call(&hedge, (&clock, &sim), Safe::Always, &never, &[(12, true), (5, true)]);
    assert_eq!(seen, Seen { outcome: Some(Ok(0)), ended_ms: 12, began_ms: vec![0, 10], dropped: vec![1] });
    assert_eq!((hedge.stats().call_count, hedge.stats().extra_count, hedge.stats().won_count), (3, 2, 1));
}

#[test]
fn what_may_not_be_done_twice_is_not() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let hedge = Hedge::new(config());
    for safe in [Safe::Never, Safe::WhenNothingWasDone] {
        let seen = call(&hedge, (&clock, &sim), safe, &Deadline::never(&clock), &[(100, true), (1, true)]);
        assert_eq!(seen, Seen { outcome: Some(Ok(0)), ended_ms: 100, began_ms: vec![0], dropped: vec![] });
    }
}

#[test]
fn calls_pay_for_extra_copies() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let hedge = Hedge::new(HedgeConfig { burst: 1, percent: 50, ..config() });
    for _ in 0..10 {
        call(&hedge, (&clock, &sim), Safe::Always, &Deadline::never(&clock), &[(30, true), (30, true)]);
    }
    // The first, and then each second call has paid for one.
    assert_eq!(hedge.stats().extra_count, 5);
}

#[test]
fn the_delay_is_what_most_take() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let hedge = Hedge::new(HedgeConfig { max_delay: ms(100), burst: 0, percent: 0, ..HedgeConfig::default() });
    assert_eq!(hedge.stats().delay, ms(100), "nothing is known");
    for n in 0..100 {
        let takes = if n % 10 == 9 { 60 } else { 20 };
        call(&hedge, (&clock, &sim), Safe::Always, &Deadline::never(&clock), &[(takes, true)]);
    }
    let delay = hedge.stats().delay;
    assert!(delay >= ms(60) && delay <= ms(68), "{delay:?}");
    for _ in 0..200 {
        call(&hedge, (&clock, &sim), Safe::Always, &Deadline::never(&clock), &[(20, true)]);
    }
    let delay = hedge.stats().delay;
    assert!(delay >= ms(20) && delay <= ms(23), "{delay:?}");
}

/// A copy that lost took at least as long as it ran: left out, the usual latency would seem to be that of the lucky.
#[test]
fn copies_that_lost_count_as_slow() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let hedge = Hedge::new(HedgeConfig { burst: 1_000, min_samples: 1, max_delay: ms(50), ..HedgeConfig::default() });
    for _ in 0..20 {
        call(&hedge, (&clock, &sim), Safe::Always, &Deadline::never(&clock), &[(150, true), (1, true)]);
    }
    assert!(hedge.stats().delay >= ms(50), "{:?}", hedge.stats().delay);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Against what each invariant says, worked out from the script.
    #[test]
    fn a_call_is_what_its_script_says(
        scripts in prop::collection::vec((0_u64..60, any::<bool>()), 3),
        extra in 0_u32..3,
        budget in 0_u32..3,
        deadline_ms in 1_u64..80,
    ) {
        let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
        let hedge = Hedge::new(HedgeConfig { extra, burst: budget, percent: 0, ..config() });
        let deadline = Deadline::after(&clock, ms(deadline_ms));
        let seen = call(&hedge, (&clock, &sim), Safe::Always, &deadline, &scripts);

        // Copies begin every 10 ms until there is an outcome.
        let copies = 1 + extra.min(budget) as usize;
        let mut expected = Seen::default();
        for now in 0..=deadline_ms {
            let begun = expected.began_ms.len();
            let ends = |n: &usize| expected.began_ms[*n] + scripts[*n].0;
            let won = (0..begun).filter(|n| scripts[*n].1 && ends(n) == now).min();
            let is_all_failed = begun > 0 && (0..begun).all(|n| !scripts[n].1 && ends(&n) <= now);
            let outcome = if let Some(n) = won {
                Some(Ok(u32::try_from(n).unwrap()))
            } else if is_all_failed {
                let last = (0..begun).filter(|n| ends(n) == now).max().unwrap();
                Some(Err(Some(u32::try_from(last).unwrap())))
            } else {
                (now == deadline_ms).then_some(Err(None))
            };
            if outcome.is_some() {
                // Those after the winner are not looked at any more, even when they end in the same instant.
                let still = |n: &usize| ends(n) > now || (ends(n) == now && won.is_some_and(|w| w < *n));
                let dropped = (0..begun).filter(still).map(|n| u32::try_from(n).unwrap()).collect();
                expected.dropped = dropped;
                expected.outcome = outcome;
                expected.ended_ms = now;
                break;
            }
            if begun < copies && now == 10 * begun as u64 {
                expected.began_ms.push(now);
                // One that takes no time ends in the same instant.
                let (takes, succeeds) = scripts[begun];
                let others = (0..begun).all(|n| !scripts[n].1 && expected.began_ms[n] + scripts[n].0 <= now);
                if takes == 0 && (succeeds || others) {
                    let number = u32::try_from(begun).unwrap();
                    expected.outcome = Some(if succeeds { Ok(number) } else { Err(Some(number)) });
                    expected.ended_ms = now;
                    let running = |n: &u32| expected.began_ms[*n as usize] + scripts[*n as usize].0 > now;
                    expected.dropped = (0..number).filter(running).collect();
                    break;
                }
            }
        }
        let mut seen = seen;
        seen.dropped.sort_unstable();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn extra_copies_are_a_bounded_part_of_calls(burst in 0_u32..5, percent in 0_u32..50, calls in 1_u64..60) {
        let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
        let hedge = Hedge::new(HedgeConfig { burst, percent, extra: 2, ..config() });
        for n in 1..=calls {
            // Everything is late.
            call(&hedge, (&clock, &sim), Safe::Always, &Deadline::never(&clock), &[(35, true), (40, true), (40, true)]);
            let most = u64::from(burst) + n * u64::from(percent) / 100;
            prop_assert!(hedge.stats().extra_count <= most, "HEDGE-2: {} of {}", hedge.stats().extra_count, most);
        }
    }

    #[test]
    fn a_percentile_is_at_most_an_eighth_too_high(
        micros in prop::collection::vec(0_u64..50_000_000, 1..1_500),
        percent in 1_u32..=100,
    ) {
        let mut latency = Latency::default();
        for n in &micros {
            latency.record(Duration::from_micros(*n));
        }
        let mut sorted = micros;
        sorted.sort_unstable();
        let exact = sorted[(sorted.len() * percent as usize).div_ceil(100).max(1) - 1];
        let found = u64::try_from(latency.percentile(percent).unwrap().as_micros()).unwrap();
        prop_assert!(found >= exact && found <= exact + exact / 8 + 1, "{} for {}", found, exact);
    }
}

#[test]
fn a_histogram_forgets_and_takes_anything() {
    let mut latency = Latency::default();
    assert_eq!(latency.percentile(50), None);
    latency.record(Duration::MAX);
    assert!(latency.percentile(50).unwrap() > Duration::from_hours(24 * 12));
    for _ in 0..3_000 {
        latency.record(ms(100));
    }
    for _ in 0..3_000 {
        latency.record(ms(1));
    }
    assert!(latency.percentile(50).unwrap() < ms(2), "the last few thousand decide");
    assert!(latency.count() < 2_048);
}
