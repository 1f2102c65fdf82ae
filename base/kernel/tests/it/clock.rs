use std::{
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use kernel::{Clock, Timestamp};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn is_ready(future: &mut std::pin::Pin<&mut impl Future>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn simulated_time_moves_only_when_told() {
    let (clock, sim) = Clock::simulated(Timestamp::from_millis(5_000));
    let mut sleep = pin!(clock.sleep(SECOND));
    assert!(!is_ready(&mut sleep));
    sim.advance(Duration::from_millis(999));
    assert!(!is_ready(&mut sleep));
    sim.advance(Duration::from_millis(1));
    assert!(is_ready(&mut sleep));
    assert_eq!(clock.now(), Timestamp::from_millis(6_000));
    assert_eq!(clock.monotonic(), SECOND);
}

#[test]
fn a_step_of_the_wall_clock_neither_wakes_nor_delays() {
    let (clock, sim) = Clock::simulated(Timestamp::from_millis(5_000));
    let mut sleep = pin!(clock.sleep(SECOND));
    assert!(!is_ready(&mut sleep));
    sim.jump_wall_to(Timestamp::from_millis(1_000_000));
    assert!(!is_ready(&mut sleep));
    sim.jump_wall_to(Timestamp::EPOCH);
    sim.advance(SECOND);
    assert!(is_ready(&mut sleep));
    assert_eq!(clock.now(), Timestamp::from_millis(1_000));
}

#[tokio::test]
async fn a_timeout_prefers_the_answer() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    assert_eq!(clock.timeout(Duration::ZERO, async { 7 }).await, Some(7));
    let (outcome, ()) =
        tokio::join!(clock.timeout(SECOND, std::future::pending::<()>()), async { sim.advance(SECOND) });
    assert_eq!(outcome, None);
}

#[tokio::test]
async fn many_wait_at_once_and_each_wakes_at_its_time() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let sleeper = async |seconds: u32| {
        clock.sleep(SECOND * seconds).await;
        clock.monotonic()
    };
    let (a, b, c, ()) = tokio::join!(sleeper(1), sleeper(3), sleeper(2), async {
        for _ in 0..3 {
            sim.advance(SECOND);
            // Twice, since `join!` polls its branches in a turning order.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
    });
    assert_eq!([a, b, c], [SECOND, SECOND * 3, SECOND * 2]);
}

#[test]
fn the_system_clock_tells_time_since_2024_and_never_goes_back() {
    let clock = Clock::system();
    assert!(clock.now() > Timestamp::parse("2024-01-01T00:00:00Z").unwrap());
    let mut last = clock.monotonic();
    for _ in 0..1_000 {
        let now = clock.monotonic();
        assert!(now >= last);
        last = now;
    }
}

#[test]
fn timestamps_are_rfc_3339() {
    for (text, ms, shown) in [
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ("2026-11-24T06:00:00.123Z", 1_795_500_000_123, "2026-11-24T06:00:00.123Z"),
        ("2026-11-24T07:00:00+01:00", 1_795_500_000_000, "2026-11-24T06:00:00Z"),
        ("1969-12-31T23:59:59.999Z", -1, "1969-12-31T23:59:59.999Z"),
    ] {
        let t = Timestamp::parse(text).unwrap();
        assert_eq!(t.as_millis(), ms, "{text}");
        assert_eq!(t.to_string(), shown);
    }
    for bad in ["", "2026-11-24", "2026-11-24T06:00:00", "yesterday", "2026-13-01T00:00:00Z", "1795500000000"] {
        assert_eq!(Timestamp::parse(bad), None, "{bad}");
    }
    assert_eq!(format!("{:.3}", Timestamp::EPOCH), "1970-01-01T00:00:00.000Z");
    let json = serde_json::to_string(&Timestamp::EPOCH).unwrap();
    assert_eq!(json, r#""1970-01-01T00:00:00Z""#);
    assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp::EPOCH);
    let wrong = serde_json::from_str::<Timestamp>(r#""soon""#).unwrap_err().to_string();
    assert!(wrong.contains("RFC 3339"), "{wrong}");
}

#[test]
fn arithmetic_saturates() {
    let (first, last) = (Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX));
    assert_eq!(last.plus(Duration::MAX), last);
    assert_eq!(first.minus(Duration::MAX), first);
    assert_eq!(first.since(last), Duration::ZERO);
    assert_eq!(Timestamp::EPOCH.since(first), Duration::from_millis(i64::MAX.unsigned_abs()));
    for t in [first, last] {
        for width in [Duration::ZERO, Duration::from_millis(7), Duration::MAX] {
            assert!(t.floor(width) <= t || t == first);
        }
        assert!(!t.to_string().is_empty());
    }
}

proptest! {
    /// Years 0 to 9999, which RFC 3339 can write.
    #[test]
    fn text_round_trips(ms in -62_167_219_200_000_i64..253_402_207_200_000) {
        let t = Timestamp::from_millis(ms);
        prop_assert_eq!(Timestamp::parse(&t.to_string()), Some(t));
        prop_assert_eq!(Timestamp::parse(&format!("{t:.3}")), Some(t));
    }

    #[test]
    fn floor_is_the_start_of_the_bucket(ms in -10_000_000_i64..10_000_000, width in 1_i64..100_000) {
        let d = Duration::from_millis(width.unsigned_abs());
        let floor = Timestamp::from_millis(ms).floor(d).as_millis();
        prop_assert!(floor <= ms && ms < floor + width);
        prop_assert_eq!(floor.rem_euclid(width), 0);
    }

    #[test]
    fn plus_and_since_agree(ms in -1_000_000_i64..1_000_000, d in 0_u64..1_000_000) {
        let (t, d) = (Timestamp::from_millis(ms), Duration::from_millis(d));
        prop_assert_eq!(t.plus(d).since(t), d);
        prop_assert_eq!(t.plus(d).minus(d), t);
    }
}
