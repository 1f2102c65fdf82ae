use std::{pin::Pin, task::Poll, time::Duration};

use kernel::{Clock, Timestamp};
use proptest::prelude::*;
use resilience::{Bulkhead, Deadline, Permit, Refused};

use crate::poll;

#[tokio::test]
async fn the_queue_is_bounded_and_first_come_first_served() {
    let (clock, _sim) = Clock::simulated(Timestamp::EPOCH);
    let never = Deadline::never(&clock);
    let bulkhead = Bulkhead::new(1, 2);
    let first = bulkhead.acquire(&never).await.unwrap();
    let mut second = Box::pin(bulkhead.acquire(&never));
    let mut third = Box::pin(bulkhead.acquire(&never));
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    assert_eq!(bulkhead.acquire(&never).await.unwrap_err(), Refused::QueueFull);
    assert_eq!(bulkhead.stats().queued_count, 2);
    drop(first);
    assert!(poll(&mut third).is_pending(), "the second came before");
    let Poll::Ready(Ok(second)) = poll(&mut second) else { panic!("its turn") };
    drop(second);
    assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
    assert_eq!(bulkhead.stats().refused_full_count, 1);
}

#[tokio::test]
async fn nobody_waits_past_its_deadline() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let bulkhead = Bulkhead::new(1, 8);
    let held = bulkhead.acquire(&Deadline::never(&clock)).await.unwrap();
    let deadline = Deadline::after(&clock, Duration::from_secs(1));
    let mut waits = Box::pin(bulkhead.acquire(&deadline));
    assert!(poll(&mut waits).is_pending());
    sim.advance(Duration::from_secs(1));
    // Time and the permit come together: a permit after the deadline would be work for nobody.
    drop(held);
    let Poll::Ready(outcome) = poll(&mut waits) else { panic!("it must not wait") };
    assert_eq!(outcome.unwrap_err(), Refused::Deadline);
    assert_eq!(bulkhead.stats().running_count, 0);
    assert_eq!(bulkhead.acquire(&deadline).await.unwrap_err(), Refused::Deadline, "late already when it comes");
    assert_eq!(bulkhead.stats().refused_late_count, 2);
}

#[tokio::test]
async fn a_panic_and_a_slow_run_give_their_place_back() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let bulkhead = Bulkhead::new(1, 0);
    let never = Deadline::never(&clock);
    let (inner, at) = (bulkhead.clone(), never.clone());
    #[allow(clippy::disallowed_methods, reason = "the panic is the point")]
    let task = tokio::spawn(async move { inner.run(&at, async { panic!("as planned") }).await });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(bulkhead.run(&never, async { 7 }).await, Ok(7));
    let deadline = Deadline::after(&clock, Duration::from_secs(1));
    let (outcome, ()) = tokio::join!(bulkhead.run(&deadline, std::future::pending::<()>()), async {
        sim.advance(Duration::from_secs(1));
    });
    assert_eq!(outcome, Err(Refused::Deadline));
    assert_eq!(bulkhead.stats().running_count, 0);
}

#[test]
fn a_refused_caller_learns_when_the_queue_is_done() {
    let second = Duration::from_secs(1);
    assert_eq!(Bulkhead::new(4, 16).retry_after(second), second * 4);
    assert_eq!(Bulkhead::new(4, 0).retry_after(second), second);
}

#[derive(Debug, Clone)]
enum Step {
    Come { patience_ms: u64 },
    Finish(usize),
    Cancel(usize),
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u64..50).prop_map(|patience_ms| Step::Come { patience_ms }),
        (0_usize..8).prop_map(Step::Finish),
        (0_usize..8).prop_map(Step::Cancel),
        (0_u64..30).prop_map(|ms| Step::Pass { ms }),
    ]
}

type Waiting = Pin<Box<dyn Future<Output = Result<Permit, Refused>>>>;

proptest! {
    #[test]
    fn limits_hold_over_any_history(
        limit in 1_usize..4,
        queue_limit in 0_usize..4,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
        let bulkhead = Bulkhead::new(limit, queue_limit);
        let (mut running, mut waiting): (Vec<Permit>, Vec<(Deadline, Waiting)>) = (vec![], vec![]);
        for step in steps {
            match step {
                Step::Come { patience_ms } => {
                    let deadline = Deadline::after(&clock, Duration::from_millis(patience_ms));
                    let (b, d) = (bulkhead.clone(), deadline.clone());
                    waiting.push((deadline, Box::pin(async move { b.acquire(&d).await })));
                }
                Step::Finish(n) if n < running.len() => drop(running.remove(n)),
                Step::Cancel(n) if n < waiting.len() => drop(waiting.remove(n)),
                Step::Pass { ms } => sim.advance(Duration::from_millis(ms)),
                Step::Finish(_) | Step::Cancel(_) => {}
            }
            // Whoever can go on does, until nothing changes.
            let mut still = Vec::new();
            for (deadline, mut future) in waiting {
                match poll(&mut future) {
                    Poll::Pending => still.push((deadline, future)),
                    Poll::Ready(Ok(permit)) => {
                        prop_assert!(!deadline.is_over(), "BULKHEAD-3");
                        running.push(permit);
                    }
                    Poll::Ready(Err(Refused::Deadline)) => prop_assert!(deadline.is_over()),
                    Poll::Ready(Err(Refused::QueueFull)) => prop_assert!(running.len() + still.len() >= limit),
                }
            }
            waiting = still;
            let stats = bulkhead.stats();
            prop_assert!(running.len() <= limit, "BULKHEAD-1");
            prop_assert_eq!(stats.queued_count, waiting.len(), "BULKHEAD-2");
            prop_assert!(waiting.len() <= queue_limit, "BULKHEAD-2");
            prop_assert!(waiting.is_empty() || stats.running_count == limit, "nobody waits beside a free place");
        }
        drop((running, waiting));
        prop_assert_eq!(bulkhead.stats().running_count, 0, "BULKHEAD-4");
        prop_assert_eq!(bulkhead.stats().queued_count, 0, "BULKHEAD-4");
    }
}
