//! RATE-1 and RATE-2: what each algorithm states, checked on what was admitted; and the true worst cases, found.

use std::{collections::BTreeMap, time::Duration};

use kernel::Timestamp;
use memory::{Adjust, Charge, Charged, Error, Moment, Rate};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{World, rate_key, tag};

const WINDOW_MS: u64 = 500;
const WINDOW: Duration = Duration::from_millis(WINDOW_MS);

/// Something that was admitted: when, how much it was in the end, and of whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    pub(super) at: u64,
    pub(super) count: u64,
    pub(super) holder: u128,
    /// When its holder gave its places back, or lost them.
    pub(super) until: u64,
}

/// A request: wait, cost, and whether and when it is settled for less.
#[derive(Debug, Clone)]
struct Request {
    wait_ms: u64,
    cost: u64,
    settle: Option<(usize, u64)>,
    is_extra: bool,
}

fn request() -> impl Strategy<Value = Request> {
    let wait = prop_oneof![4 => Just(0_u64), 4 => 0_u64..40, 2 => 0_u64..600];
    let cost = prop_oneof![4 => Just(1_u64), 2 => 1_u64..4];
    (wait, cost, prop::option::weighted(0.4, (0_usize..6, 0_u64..3)), prop::bool::weighted(0.2))
        .prop_map(|(wait_ms, cost, settle, is_extra)| Request { wait_ms, cost, settle, is_extra })
}

/// Sends the requests to one cell and gives what was admitted. The real cost of some is lower than what was reserved, and is
/// settled some requests later; every request is repeated until it is refused when it is `is_extra`, to fill what there is.
async fn send(world: &World, rate: impl Fn(u64) -> Rate, requests: &[Request]) -> Vec<Admitted> {
    let key = rate_key(&[&tag(), "cell"]);
    let mut admitted: Vec<Admitted> = Vec::new();
    let mut to_settle: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
    for (i, request) in requests.iter().enumerate() {
        world.sim.advance(Duration::from_millis(request.wait_ms));
        for _ in 0..if request.is_extra { 30 } else { 1 } {
            let holder = admitted.len() as u128;
            let charge = Charge::new(&key, rate(world.now_us()), request.cost).held_by(holder);
            let answer = world.space.charge(&[charge]).await.unwrap()[0];
            if !answer.is_allowed {
                break;
            }
            let at = answer.at.as_micros();
            if let Some((later, actual)) = request.settle {
                to_settle.entry(i + later).or_default().push((admitted.len(), actual));
            }
            admitted.push(Admitted { at, count: request.cost, holder, until: at + WINDOW_MS * 1000 });
        }
        for (which, actual) in to_settle.remove(&i).unwrap_or_default() {
            let (now, one) = (world.now_us(), &mut admitted[which]);
            let delta = i64::try_from(actual.min(one.count)).unwrap() - i64::try_from(one.count).unwrap();
            let rate = rate(one.at);
            let adjust = Adjust { key: &key, rate, at: Moment::from_micros(one.at), delta, holder: Some(one.holder) };
            world.space.adjust(None, &[adjust]).await.unwrap();
            if let Rate::Concurrency { .. } = rate {
                // Places are given back now; before, they were held.
                let left = one.count - delta.unsigned_abs();
                let before = one.until;
                one.until = now.min(before);
                if left > 0 {
                    let kept = Admitted { at: now, count: left, until: before, ..*one };
                    admitted.push(kept);
                }
            } else {
                one.count -= delta.unsigned_abs();
            }
        }
    }
    admitted
}

/// The most that any span of this length saw.
pub(super) fn worst_span(admitted: &[Admitted], span: u64) -> u64 {
    let in_span = |start: u64| admitted.iter().filter(|a| (start..start + span).contains(&a.at)).map(|a| a.count).sum();
    admitted.iter().map(|a| in_span(a.at)).max().unwrap_or(0)
}

/// The most that any window between multiples of this length saw.
pub(super) fn worst_aligned(admitted: &[Admitted], window: u64) -> u64 {
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for a in admitted {
        *sums.entry(a.at / window).or_default() += a.count;
    }
    sums.into_values().max().unwrap_or(0)
}

fn check(
    engine: fn() -> World,
    cases: u32,
    rate: impl Fn(u64) -> Rate + Copy,
    holds: impl Fn(&[Admitted]) -> Result<(), String>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = runtime.block_on(async { engine() });
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(request(), 1..80), |requests| {
        let admitted = runtime.block_on(send(&world, rate, &requests));
        holds(&admitted).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|e| panic!("{:?}: {e}", rate(0)));
}

pub(super) fn at_most(what: &str, found: u64, limit: u64) -> Result<(), String> {
    if found <= limit { Ok(()) } else { Err(format!("{found} in {what}, at most {limit}")) }
}

/// `capacity + t × refill / period` in every span of length `t`.
pub(super) fn bucket_holds(admitted: &[Admitted], capacity: u64, refill: u64, period: Duration) -> Result<(), String> {
    for (i, first) in admitted.iter().enumerate() {
        let mut sum = 0;
        for last in &admitted[i..] {
            sum += u128::from(last.count);
            let refilled = u128::from(last.at - first.at) * u128::from(refill);
            if sum * period.as_micros() > u128::from(capacity) * period.as_micros() + refilled {
                return Err(format!("{sum} in {} µs", last.at - first.at));
            }
        }
    }
    Ok(())
}

fn every_rate(engine: fn() -> World, cases: u32) {
    let second = Duration::from_secs(1);
    check(
        engine,
        cases,
        |_| Rate::TokenBucket { capacity: 6, refill: 7, period: second },
        |admitted| bucket_holds(admitted, 6, 7, second),
    );
    check(
        engine,
        cases,
        |_| Rate::Gcra { limit: 11, period: second, burst: 3 },
        |admitted| bucket_holds(admitted, 3, 11, second),
    );
    let window = WINDOW_MS * 1000;
    check(
        engine,
        cases,
        |_| Rate::FixedWindow { limit: 6, window: WINDOW },
        |admitted| {
            at_most("an aligned window", worst_aligned(admitted, window), 6)?;
            at_most("a span", worst_span(admitted, window), 12)
        },
    );
    check(
        engine,
        cases,
        |_| Rate::SlidingLog { limit: 6, window: WINDOW },
        |admitted| at_most("a span", worst_span(admitted, window), 6),
    );
    check(
        engine,
        cases,
        |_| Rate::SlidingCounter { limit: 6, window: WINDOW },
        |admitted| {
            at_most("an aligned window", worst_aligned(admitted, window), 6)?;
            at_most("a span", worst_span(admitted, window), 11)
        },
    );
    let calendar = |now: u64| {
        let ms = i64::try_from(WINDOW_MS).unwrap();
        let start = i64::try_from(now / window).unwrap() * ms;
        Rate::Calendar { limit: 6, bounds: [0, 1, 2].map(|n| Timestamp::from_millis(start + n * ms)) }
    };
    check(engine, cases, calendar, |admitted| at_most("a window", worst_aligned(admitted, window), 6));
    check(
        engine,
        cases,
        |_| Rate::Concurrency { limit: 6, lease: WINDOW },
        |admitted| {
            let held_at = |at: u64| {
                let is_held = |a: &&Admitted| (a.at..a.until).contains(&at);
                admitted.iter().filter(is_held).map(|a| a.count).sum()
            };
            at_most("use at once", admitted.iter().map(|a| held_at(a.at)).max().unwrap_or(0), 6)
        },
    );
}

#[test]
fn every_rate_keeps_its_guarantee_in_process() {
    every_rate(World::local, 200);
}

#[test]
fn every_rate_keeps_its_guarantee_on_redis() {
    every_rate(World::redis, 20);
}

/// Sends one at each of these milliseconds after the start of a window; how many the worst span saw.
async fn worst(world: &World, rate: Rate, at_ms: impl IntoIterator<Item = u64>) -> u64 {
    let key = rate_key(&[&tag(), "worst"]);
    let into = u64::try_from(world.clock.now().as_millis()).unwrap() % WINDOW_MS;
    world.sim.advance(Duration::from_millis(WINDOW_MS - into));
    let (mut passed, mut admitted) = (0, Vec::new());
    for at in at_ms {
        world.sim.advance(Duration::from_millis(at - passed));
        passed = at;
        let answer = world.space.charge(&[Charge::new(&key, rate, 1)]).await.unwrap()[0];
        if answer.is_allowed {
            admitted.push(Admitted { at: answer.at.as_micros(), count: 1, holder: 0, until: 0 });
        }
    }
    worst_span(&admitted, WINDOW_MS * 1000)
}

#[tokio::test]
async fn the_worst_cases_are_as_stated_and_no_better() {
    let world = World::local();
    let limit = 10;
    // All of a window in its last millisecond, then as fast as it goes.
    let burst = || std::iter::repeat_n(WINDOW_MS - 1, 20).chain((WINDOW_MS..2 * WINDOW_MS).flat_map(|ms| [ms; 20]));
    let fixed = worst(&world, Rate::FixedWindow { limit, window: WINDOW }, burst()).await;
    let counter = worst(&world, Rate::SlidingCounter { limit, window: WINDOW }, burst()).await;
    let log = worst(&world, Rate::SlidingLog { limit, window: WINDOW }, burst()).await;
    let bucket = worst(&world, Rate::TokenBucket { capacity: limit, refill: limit, period: WINDOW }, burst()).await;
    assert_eq!((fixed, counter, log, bucket), (2 * limit, 2 * limit - 1, limit, 2 * limit - 1));
    // Even traffic, at twice the rate.
    let even = || (0..6 * WINDOW_MS).step_by(25);
    let counter = worst(&world, Rate::SlidingCounter { limit, window: WINDOW }, even()).await;
    let log = worst(&world, Rate::SlidingLog { limit, window: WINDOW }, even()).await;
    assert_eq!((counter, log), (limit, limit));
}

/// A call over two cells, from many tasks at once: each cell is charged exactly as often as calls were allowed.
async fn all_or_none(world: &World) {
    let tag = tag();
    let (wide, narrow, shadow) = (rate_key(&[&tag, "wide"]), rate_key(&[&tag, "narrow"]), rate_key(&[&tag, "shadow"]));
    let rate = |limit| Rate::SlidingLog { limit, window: Duration::from_hours(1) };
    let charges = [
        Charge::new(&wide, rate(1000), 2),
        Charge::new(&narrow, rate(100), 3),
        Charge::new(&shadow, rate(40), 4).shadow(),
    ];
    let call = async || {
        let mut allowed = 0;
        for _ in 0..20 {
            let answers = world.space.charge(&charges).await.unwrap();
            assert_eq!(answers.iter().map(|a| a.at).max(), answers.iter().map(|a| a.at).min(), "one instant");
            allowed += u64::from(Charged::all_allowed(&charges, &answers));
        }
        allowed
    };
    let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
    assert_eq!(a + b + c + d, 33);
    let left = world.space.peek(&charges).await.unwrap();
    // 33 calls of 2 and of 3; and of 4 as long as those fitted.
    assert_eq!(left.iter().map(|a| a.remaining).collect::<Vec<_>>(), [1000 - 66, 1, 0]);
    assert_eq!(left.iter().map(|a| a.is_allowed).collect::<Vec<_>>(), [true, false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_all_or_none() {
    for world in [World::local(), World::redis(), World::cluster()] {
        all_or_none(&world).await;
    }
}

/// Threads on one table, by the system's clock.
#[test]
fn threads_together_never_get_more() {
    let clock = kernel::Clock::system();
    let memory = memory::Memory::local(memory::LocalOptions::default(), clock, kernel::Rng::system());
    let space = memory.with(super::RATES);
    let (log, bucket) = (rate_key(&["log"]), rate_key(&["bucket"]));
    let window = Duration::from_millis(20);
    let (limit, period) = (50, Duration::from_millis(10));
    let log_rate = Rate::SlidingLog { limit, window };
    let bucket_rate = Rate::Gcra { limit: 100, period, burst: 20 };
    let work = || {
        let mut admitted = [Vec::new(), Vec::new()];
        for _ in 0..20_000 {
            for (i, (key, rate)) in [(&log, log_rate), (&bucket, bucket_rate)].into_iter().enumerate() {
                let answer = space.try_charge_one(&Charge::new(key, rate, 1)).unwrap().unwrap();
                if answer.is_allowed {
                    admitted[i].push(Admitted { at: answer.at.as_micros(), count: 1, holder: 0, until: 0 });
                }
            }
        }
        admitted
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let [mut from_log, mut from_bucket] = [Vec::new(), Vec::new()];
    for [log, bucket] in all {
        from_log.extend(log);
        from_bucket.extend(bucket);
    }
    from_log.sort_by_key(|a| a.at);
    from_bucket.sort_by_key(|a| a.at);
    // Quadratic checks: of the first few thousand.
    from_log.truncate(3000);
    from_bucket.truncate(3000);
    assert!(from_log.len() > 50 && from_bucket.len() > 20);
    at_most("a span", worst_span(&from_log, 20_000), limit).unwrap();
    bucket_holds(&from_bucket, 20, 100, period).unwrap();
}

#[tokio::test]
async fn what_no_engine_takes_is_refused() {
    let (second, ms) = (Duration::from_secs(1), Timestamp::from_millis);
    for world in [World::local(), World::redis()] {
        let key = rate_key(&[&tag(), "invalid"]);
        for rate in [
            Rate::FixedWindow { limit: 0, window: second },
            Rate::FixedWindow { limit: memory::MAX_LIMIT + 1, window: second },
            Rate::FixedWindow { limit: 1, window: Duration::from_nanos(999) },
            Rate::FixedWindow { limit: 1, window: memory::MAX_TTL + second },
            Rate::SlidingLog { limit: memory::MAX_LEDGER + 1, window: second },
            Rate::Concurrency { limit: memory::MAX_LEDGER + 1, lease: second },
            Rate::TokenBucket { capacity: 1, refill: 0, period: second },
            Rate::TokenBucket { capacity: 1000, refill: 1, period: memory::MAX_TTL },
            Rate::TokenBucket { capacity: 1_999_999_973, refill: 1_999_999_943, period: memory::MAX_TTL },
            Rate::Calendar { limit: 1, bounds: [ms(0), ms(0), ms(1)] },
            Rate::Calendar { limit: 1, bounds: [ms(-1), ms(0), ms(1)] },
        ] {
            assert!(matches!(rate.check(), Err(Error::Invalid(_))), "{rate:?}");
            let refused = world.space.charge(&[Charge::new(&key, rate, 1).held_by(1)]).await;
            assert!(matches!(refused, Err(Error::Invalid(_))), "{rate:?}");
        }
        let rate = Rate::FixedWindow { limit: 5, window: second };
        let one = Charge::new(&key, rate, 1);
        let places = Charge::new(&key, Rate::Concurrency { limit: 1, lease: second }, 1);
        assert!(matches!(world.space.charge(&[places]).await, Err(Error::Invalid(_))), "nobody holds");
        assert!(matches!(world.space.charge(&[one, one]).await, Err(Error::Invalid(_))), "twice");
        let keys: Vec<_> = (0..33).map(|n| rate_key(&[&tag(), &n.to_string()])).collect();
        let many: Vec<_> = keys.iter().map(|key| Charge::new(key, rate, 1)).collect();
        assert!(matches!(world.space.charge(&many).await, Err(Error::TooLarge { .. })));
        assert_eq!(world.space.charge(&many[..32]).await.unwrap().len(), 32);
        let other = memory::RateKey::new(&kernel::ProjectId::parse("other").unwrap(), ["k"]);
        let both = [one, Charge::new(&other, rate, 1)];
        assert!(matches!(world.space.charge(&both).await, Err(Error::Invalid(_))), "two projects");
        let long = rate_key(&[&"x".repeat(1100)]);
        assert!(matches!(world.space.charge(&[Charge::new(&long, rate, 1)]).await, Err(Error::TooLarge { .. })));
        // A cost above the limit never fits, however large.
        let answer = world.space.charge(&[Charge::new(&key, rate, u64::MAX)]).await.unwrap()[0];
        assert_eq!((answer.is_allowed, answer.retry_after, answer.remaining), (false, None, 5));
        assert_eq!(world.space.charge(&[]).await, Ok(Vec::new()));
    }
    assert!(World::local().space.try_charge(&[]).is_some());
    assert!(World::redis().space.try_charge(&[]).is_none());
}

/// The numbers that are hardest for doubles: large limits, long windows.
#[tokio::test]
async fn large_numbers_agree() {
    let worlds = [World::local(), World::redis()];
    let tag = tag();
    let (day, month) = (Duration::from_hours(24), Duration::from_hours(24 * 30));
    let rates = [
        Rate::TokenBucket { capacity: 1_000_000_000, refill: 1_000_000_000, period: day },
        Rate::TokenBucket { capacity: 65_537, refill: 65_521, period: month },
        Rate::Gcra { limit: 2_000_000_000, period: Duration::from_secs(1), burst: 999_999_937 },
        Rate::SlidingCounter { limit: 1_999_999_973, window: month },
        Rate::SlidingCounter { limit: 99_999_989, window: Duration::from_micros(86_399_999_981) },
        Rate::FixedWindow { limit: 2_000_000_000, window: memory::MAX_TTL },
    ];
    for step in 0..400_u64 {
        for (i, rate) in rates.iter().enumerate() {
            let key = rate_key(&[&tag, &i.to_string()]);
            let cost = if step % 7 == 0 { rate.limit() / 3 } else { step * 1_234_567 % rate.limit() };
            let charge = Charge::new(&key, *rate, cost);
            let delta = i64::try_from(cost / 5 + step).unwrap() * if step % 2 == 0 { 1 } else { -1 };
            let mut answers = Vec::new();
            for world in &worlds {
                let answer = world.space.charge(&[charge]).await.unwrap()[0];
                if step % 5 == 0 {
                    let adjust = Adjust { key: &key, rate: *rate, at: answer.at, delta, holder: None };
                    world.space.adjust(None, &[adjust]).await.unwrap();
                }
                answers.push(answer);
            }
            assert_eq!(answers[0], answers[1], "{rate:?} step {step}");
        }
        let wait = Duration::from_millis(step * step * 2741 % 90_000_000);
        for world in &worlds {
            world.sim.advance(wait);
        }
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_locks_nobody_out_and_gives_no_second_budget() {
    for world in [World::local(), World::redis()] {
        let tag = tag();
        let rates = [
            Rate::FixedWindow { limit: 5, window: WINDOW },
            Rate::SlidingCounter { limit: 5, window: WINDOW },
            Rate::TokenBucket { capacity: 5, refill: 5, period: WINDOW },
            Rate::SlidingLog { limit: 5, window: WINDOW },
        ];
        let keys: Vec<_> = (0..rates.len()).map(|i| rate_key(&[&tag, &i.to_string()])).collect();
        for (key, rate) in keys.iter().zip(rates) {
            assert!(world.space.charge(&[Charge::new(key, rate, 5)]).await.unwrap()[0].is_allowed);
        }
        // By less than a window: nothing more is to be had.
        let step_back = |ms: i64| {
            // The engine in process looks at the wall clock once a second.
            world.sim.jump_wall_to(Timestamp::from_millis(world.clock.now().as_millis() - ms - 1000));
            world.sim.advance(Duration::from_secs(1));
        };
        step_back(400);
        for (key, rate) in keys.iter().zip(rates) {
            let answer = world.space.charge(&[Charge::new(key, rate, 1)]).await.unwrap()[0];
            assert!(!answer.is_allowed, "{rate:?}");
        }
        // By an hour: whoever comes waits at most two windows.
        step_back(3_600_000);
        for (key, rate) in keys.iter().zip(rates) {
            let answer = world.space.charge(&[Charge::new(key, rate, 1)]).await.unwrap()[0];
            assert!(answer.retry_after.unwrap() <= 2 * WINDOW, "{rate:?} {answer:?}");
        }
    }
}
