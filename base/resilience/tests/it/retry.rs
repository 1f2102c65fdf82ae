use std::{cell::Cell, time::Duration};

use kernel::{Backoff, Clock, Rng, Timestamp};
use proptest::prelude::*;
use resilience::{Attempts, Deadline, Decision, GaveUp, Retry, RetryBudget, Safe, Verdict};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn retry() -> Retry {
    Retry {
        backoff: Backoff { base: ms(10), cap: ms(100) },
        max_tries: 4,
        per_try: ms(200),
        total: Duration::from_secs(1),
        budget: RetryBudget::new(100, 10),
    }
}

#[derive(Debug, PartialEq)]
enum Failure {
    Refused,
    Busy(u64),
    Lost,
    Bad,
}

fn judge(failure: &Failure) -> Verdict {
    match failure {
        Failure::Refused => Verdict::NothingDone { after: None },
        Failure::Busy(n) => Verdict::NothingDone { after: Some(ms(*n)) },
        Failure::Lost => Verdict::Unknown { after: None },
        Failure::Bad => Verdict::Final,
    }
}

type Script = Vec<Option<Result<u32, Failure>>>;
type Outcome = Result<u32, (Option<Failure>, u32, GaveUp)>;

/// Runs against a script of outcomes (`None`: no answer ever), moving the clock whenever everybody waits.
async fn run(retry: &Retry, safe: Safe, patience: Duration, script: Script) -> (Outcome, Duration) {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let deadline = Deadline::after(&clock, patience);
    let rng = Rng::seeded(7);
    let mut script = script.into_iter();
    let work = retry.run(safe, &deadline, &rng, judge, |_| {
        let outcome = script.next().expect("no more tries than planned");
        async move {
            match outcome {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        }
    });
    let time = async {
        loop {
            sim.advance(ms(1));
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::select! { out = work => out, () = time => unreachable!() };
    (outcome.map_err(|f| (f.error, f.try_count, f.gave_up)), clock.monotonic())
}

#[tokio::test]
async fn each_outcome_ends_as_the_caller_declared() {
    use Failure::{Bad, Busy, Lost, Refused};
    let long = Duration::from_mins(1);
    let retry = retry();
    let rows: Vec<(Safe, Script, Outcome)> = vec![
        (Safe::Always, vec![Some(Ok(1))], Ok(1)),
        (Safe::Always, vec![Some(Err(Refused)), Some(Err(Lost)), None, Some(Ok(4))], Ok(4)),
        (Safe::Always, vec![Some(Err(Bad))], Err((Some(Bad), 1, GaveUp::Final))),
        (
            Safe::Always,
            vec![Some(Err(Refused)), Some(Err(Refused)), Some(Err(Refused)), Some(Err(Lost))],
            Err((Some(Lost), 4, GaveUp::Tries)),
        ),
        (Safe::WhenNothingWasDone, vec![Some(Err(Refused)), Some(Err(Busy(5))), Some(Ok(3))], Ok(3)),
        (Safe::WhenNothingWasDone, vec![Some(Err(Lost))], Err((Some(Lost), 1, GaveUp::Unsafe))),
        (Safe::WhenNothingWasDone, vec![None], Err((None, 1, GaveUp::Unsafe))),
        (Safe::Never, vec![Some(Err(Refused))], Err((Some(Refused), 1, GaveUp::Unsafe))),
        (Safe::Always, vec![Some(Err(Busy(5_000)))], Err((Some(Busy(5_000)), 1, GaveUp::Time))),
    ];
    for (safe, script, expected) in rows {
        let name = format!("{safe:?} {script:?}");
        assert_eq!(run(&retry, safe, long, script).await.0, expected, "{name}");
    }
}

#[tokio::test]
async fn a_hint_is_waited_for() {
    let (out, took) =
        run(&retry(), Safe::Always, Duration::from_mins(1), vec![Some(Err(Failure::Busy(300))), Some(Ok(1))]).await;
    assert_eq!(out, Ok(1));
    assert!(took >= ms(300), "{took:?}");
}

#[tokio::test]
async fn time_is_bounded_by_try_by_total_and_by_the_caller() {
    let hangs = || vec![None, None, None, None];
    let (out, took) = run(&retry(), Safe::Always, Duration::from_mins(1), hangs()).await;
    assert_eq!(out.unwrap_err().0, None);
    assert!(took >= ms(800) && took <= ms(1_002), "four tries of 200 ms within 1 s: {took:?}");
    let (out, took) = run(&retry(), Safe::Always, ms(250), hangs()).await;
    assert_eq!(out.unwrap_err().2, GaveUp::Time);
    assert!(took <= ms(252), "the caller's deadline rules: {took:?}");
}

#[tokio::test]
async fn a_used_up_budget_stops_retries_until_calls_pay_it_back() {
    let retry = Retry { budget: RetryBudget::new(2, 50), ..retry() };
    let long = Duration::from_mins(1);
    let fails = || (0..4).map(|_| Some(Err(Failure::Refused))).collect::<Vec<_>>();
    let (out, _) = run(&retry, Safe::Always, long, fails()).await;
    assert_eq!(out.unwrap_err(), (Some(Failure::Refused), 3, GaveUp::Budget));
    for _ in 0..2 {
        assert_eq!(run(&retry, Safe::Always, long, vec![Some(Ok(1))]).await.0, Ok(1));
    }
    assert_eq!(retry.budget.left(), 1);
    assert_eq!(retry.clone().budget.left(), 1, "clones share it");
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let after = prop::option::of((0_u64..2_000).prop_map(ms));
    prop_oneof![
        Just(Verdict::Final),
        after.clone().prop_map(|after| Verdict::NothingDone { after }),
        after.prop_map(|after| Verdict::Unknown { after }),
    ]
}

fn safe() -> impl Strategy<Value = Safe> {
    prop_oneof![Just(Safe::Always), Just(Safe::WhenNothingWasDone), Just(Safe::Never)]
}

proptest! {
    #[test]
    fn the_core_keeps_every_invariant(
        calls in prop::collection::vec((safe(), prop::collection::vec((verdict(), 0_u64..3_000), 1..8)), 1..40),
        burst in 0_u32..5,
        percent in 0_u32..100,
        seed in any::<u64>(),
    ) {
        let retry = Retry { budget: RetryBudget::new(burst, percent), ..retry() };
        let rng = Rng::seeded(seed);
        let (mut retries, mut call_count) = (0_u64, 0_u64);
        for (safe, failures) in calls {
            call_count += 1;
            let mut attempts = Attempts::new(&retry, safe);
            for (verdict, left) in failures {
                attempts.begin();
                prop_assert!(attempts.try_count() <= retry.max_tries, "RETRY-1");
                let hint = match verdict {
                    Verdict::Final => None,
                    Verdict::NothingDone { after } | Verdict::Unknown { after } => after,
                };
                match attempts.after_failure(verdict, ms(left), &rng) {
                    Decision::Stop(_) => break,
                    Decision::Wait(wait) => {
                        prop_assert!(wait < ms(left), "RETRY-1");
                        prop_assert!(wait >= hint.unwrap_or_default(), "RETRY-4");
                        prop_assert!(wait <= retry.backoff.cap + hint.unwrap_or_default());
                        let unknown = matches!(verdict, Verdict::Unknown { .. });
                        prop_assert!(safe == Safe::Always || (safe == Safe::WhenNothingWasDone && !unknown), "RETRY-2");
                        prop_assert!(verdict != Verdict::Final);
                        retries += 1;
                    }
                }
            }
        }
        prop_assert!(retries * 100 <= u64::from(burst) * 100 + u64::from(percent) * call_count, "RETRY-3");
    }
}

/// Full jitter spreads: a hundred clients that failed together do not come back together.
#[test]
fn waits_are_spread() {
    let retry = Retry { budget: RetryBudget::new(1_000, 0), ..retry() };
    let rng = Rng::seeded(3);
    let slots = Cell::new([0_u32; 10]);
    for _ in 0..1_000 {
        let mut attempts = Attempts::new(&retry, Safe::Always);
        attempts.begin();
        let Decision::Wait(wait) =
            attempts.after_failure(Verdict::NothingDone { after: None }, Duration::from_secs(1), &rng)
        else {
            panic!("a wait")
        };
        let mut counts = slots.get();
        counts[usize::try_from(wait.as_millis()).unwrap().min(9)] += 1;
        slots.set(counts);
    }
    assert!(slots.get().iter().all(|n| *n > 50), "{:?}", slots.get());
}
