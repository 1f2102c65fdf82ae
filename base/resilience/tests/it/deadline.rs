use std::time::Duration;

use kernel::{Clock, Timestamp};
use proptest::prelude::*;
use resilience::{Deadline, DeadlinePassed};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn work_is_dropped_when_the_deadline_passes() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let deadline = Deadline::after(&clock, SECOND * 2);
    let held = std::sync::Arc::new(());
    let inside = held.clone();
    let work = async move {
        std::future::pending::<()>().await;
        drop(inside);
    };
    let (outcome, ()) = tokio::join!(deadline.run(work), async { sim.advance(SECOND * 2) });
    assert_eq!(outcome, Err(DeadlinePassed));
    assert_eq!(std::sync::Arc::strong_count(&held), 1, "nothing of it goes on");
    assert!(deadline.is_over());
    assert_eq!(deadline.check(), Err(DeadlinePassed));
    assert_eq!(deadline.run(async { 7 }).await, Ok(7), "what is ready needs no time");
}

#[tokio::test]
async fn without_a_deadline_nothing_ends() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let never = Deadline::never(&clock);
    sim.advance(Duration::from_hours(1_000_000));
    assert_eq!(never.remaining(), None);
    assert_eq!((never.mainstay_timeout(), never.grpc_timeout()), (None, None));
    assert_eq!(never.check(), Ok(()));
    assert_eq!(never.run(async { 7 }).await, Ok(7));
    assert_eq!(Deadline::after(&clock, Duration::MAX).remaining(), None, "past the end of the clock is never");
    assert_eq!(never.within(SECOND).remaining(), Some(SECOND));
}

#[test]
fn a_jump_of_the_wall_clock_changes_nothing() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let deadline = Deadline::after(&clock, SECOND);
    sim.jump_wall_to(Timestamp::from_millis(1_000_000_000));
    assert_eq!(deadline.remaining(), Some(SECOND));
}

proptest! {
    #[test]
    fn parts_never_outlive_the_whole(whole in 0_u64..10_000, part in 0_u64..10_000, spare in 0_u64..10_000, past in 0_u64..10_000) {
        let ms = Duration::from_millis;
        let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
        let deadline = Deadline::after(&clock, ms(whole));
        sim.advance(ms(past));
        let left = ms(whole.saturating_sub(past));
        prop_assert_eq!(deadline.remaining(), Some(left));
        prop_assert_eq!(deadline.within(ms(part)).remaining(), Some(left.min(ms(part))));
        prop_assert_eq!(deadline.reserve(ms(spare)).remaining(), Some(left.saturating_sub(ms(spare))));
        prop_assert_eq!(deadline.is_over(), whole <= past);
        // DEADLINE-1 over the wire, as each protocol writes it.
        let sent = kernel::limits::parse_duration(&deadline.mainstay_timeout().unwrap()).unwrap();
        prop_assert!(sent <= left && left.saturating_sub(sent) < ms(1));
        let sent = kernel::limits::parse_grpc_timeout(&deadline.grpc_timeout().unwrap()).unwrap();
        prop_assert!(sent <= left && left.saturating_sub(sent) < ms(1));
        // Over the wire and back: what remains becomes a new deadline.
        let there = Deadline::after(&clock, deadline.remaining().unwrap());
        prop_assert_eq!(there.remaining(), deadline.remaining());
    }
}
