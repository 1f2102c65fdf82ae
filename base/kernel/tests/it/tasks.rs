use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kernel::{Backoff, Clock, Lifecycle, OnPanic, Rng, Shutdown, SimClock, Stage, Timestamp, tasks::TaskStats};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn lifecycle() -> (Lifecycle, Clock, SimClock) {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    (Lifecycle::new(clock.clone(), Rng::seeded(1)), clock, sim)
}

fn stats(lifecycle: &Lifecycle, name: &str) -> TaskStats {
    lifecycle.stats().get(name).copied().unwrap_or_default()
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_panic_restarts_after_its_back_off_and_never_before() {
    let (lifecycle, _, sim) = lifecycle();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let backoff = Backoff { base: SECOND, cap: SECOND * 4 };
    lifecycle.tasks(Stage::Systems).supervise("shaky", OnPanic::Restart(backoff), move |shutdown| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(run >= 3, "as planned");
            shutdown.wait().await;
        }
    });
    // The same seed gives the same jitter.
    let rng = Rng::seeded(1);
    for attempt in 0..3 {
        settle().await;
        assert_eq!(runs.load(Ordering::SeqCst), attempt + 1);
        let wait = backoff.delay(attempt, &rng);
        sim.advance(wait.saturating_sub(Duration::from_micros(1)));
        settle().await;
        assert_eq!(runs.load(Ordering::SeqCst), attempt + 1, "{attempt}: not before {wait:?}");
        sim.advance(Duration::from_micros(1));
    }
    settle().await;
    assert_eq!(stats(&lifecycle, "shaky"), TaskStats { running_count: 1, panic_count: 3, restart_count: 3 });
    assert!(!lifecycle.stopping().is_triggered());
}

#[tokio::test]
async fn a_panic_while_the_task_is_made_is_answered_too() {
    let (lifecycle, _, sim) = lifecycle();
    let mut runs = 0;
    lifecycle.tasks(Stage::Systems).supervise("maker", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
        runs += 1;
        assert!(runs > 1, "as planned");
        async move { shutdown.wait().await }
    });
    settle().await;
    sim.advance(SECOND);
    settle().await;
    assert_eq!(stats(&lifecycle, "maker"), TaskStats { running_count: 1, panic_count: 1, restart_count: 1 });
}

#[tokio::test]
async fn the_back_off_begins_anew_after_a_quiet_minute() {
    let (lifecycle, clock, sim) = lifecycle();
    let backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_hours(1) };
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (seen, at) = (starts.clone(), clock.clone());
    lifecycle.tasks(Stage::Systems).supervise("rare", OnPanic::Restart(backoff), move |_| {
        seen.lock().unwrap().push(at.monotonic());
        let clock = at.clone();
        async move {
            clock.sleep(Duration::from_secs(61)).await;
            panic!("as planned");
        }
    });
    for _ in 0..40 {
        settle().await;
        sim.advance(SECOND * 61);
        settle().await;
        sim.advance(Duration::from_millis(2));
    }
    settle().await;
    assert_eq!(starts.lock().unwrap().len(), 41, "every wait stayed at the first ceiling of 1 ms");
}

#[tokio::test]
async fn a_task_that_nothing_works_without_stops_the_process() {
    let (lifecycle, _, _sim) = lifecycle();
    lifecycle.tasks(Stage::Planes).supervise("writer", OnPanic::StopProcess, |_| async { panic!("disk on fire") });
    lifecycle.stopping().wait().await;
    assert_eq!(lifecycle.stop_reason().as_deref(), Some("task writer panicked: disk on fire"));
    lifecycle.stop("later");
    assert_eq!(
        lifecycle.stop_reason().as_deref(),
        Some("task writer panicked: disk on fire"),
        "the first reason stays"
    );
}

#[tokio::test]
async fn a_recorded_panic_ends_the_task_alone() {
    let (lifecycle, _, _sim) = lifecycle();
    lifecycle.tasks(Stage::Systems).supervise("once", OnPanic::Record, |_| async { panic!("as planned") });
    lifecycle.tasks(Stage::Systems).spawn("piece", async { panic!("as planned") });
    lifecycle.tasks(Stage::Systems).spawn("piece", async {});
    settle().await;
    assert_eq!(stats(&lifecycle, "once"), TaskStats { running_count: 0, panic_count: 1, restart_count: 0 });
    assert_eq!(stats(&lifecycle, "piece"), TaskStats { running_count: 0, panic_count: 1, restart_count: 0 });
    assert!(!lifecycle.stopping().is_triggered());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_back_off() {
    let (lifecycle, _, _sim) = lifecycle();
    let long = Backoff { base: Duration::from_hours(1), cap: Duration::from_hours(1) };
    lifecycle.tasks(Stage::Systems).supervise("broken", OnPanic::Restart(long), |_| async { panic!("as planned") });
    settle().await;
    assert_eq!(lifecycle.shutdown(SECOND).await.aborted, Vec::<&str>::new());
}

#[tokio::test]
async fn stages_stop_in_order_and_each_waits_for_the_one_before() {
    let (lifecycle, clock, sim) = lifecycle();
    let log = Arc::new(Mutex::new(Vec::new()));
    for stage in Stage::ALL.into_iter().rev() {
        let (log, clock) = (log.clone(), clock.clone());
        lifecycle.tasks(stage).supervise("task", OnPanic::Record, move |shutdown| {
            let (log, clock) = (log.clone(), clock.clone());
            async move {
                shutdown.wait().await;
                log.lock().unwrap().push((stage, "told"));
                clock.sleep(SECOND).await;
                log.lock().unwrap().push((stage, "ended"));
            }
        });
    }
    let time = async {
        loop {
            sim.advance(Duration::from_millis(100));
            settle().await;
        }
    };
    let report = tokio::select! { report = lifecycle.shutdown(SECOND * 30) => report, () = time => unreachable!() };
    assert_eq!(report.aborted, Vec::<&str>::new());
    assert!(report.took >= SECOND * 5 && report.took < SECOND * 7, "{:?}", report.took);
    let expected: Vec<_> = Stage::ALL.into_iter().flat_map(|s| [(s, "told"), (s, "ended")]).collect();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_stage_that_hangs_is_named_and_cannot_take_the_time_of_the_rest() {
    let (lifecycle, clock, sim) = lifecycle();
    let dropped = Arc::new(());
    let held = dropped.clone();
    lifecycle.tasks(Stage::Listeners).spawn("stuck connection", async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    let closed = Arc::new(AtomicU32::new(0));
    let (seen, at) = (closed.clone(), clock.clone());
    lifecycle.tasks(Stage::Planes).supervise("writer", OnPanic::Record, move |shutdown| {
        let (seen, at) = (seen.clone(), at.clone());
        async move {
            shutdown.wait().await;
            // The last commit takes a moment.
            at.sleep(SECOND / 2).await;
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let time = async {
        loop {
            sim.advance(Duration::from_millis(100));
            settle().await;
        }
    };
    let report = tokio::select! { report = lifecycle.shutdown(SECOND * 10) => report, () = time => unreachable!() };
    assert_eq!(report.aborted, ["stuck connection"]);
    assert_eq!(closed.load(Ordering::SeqCst), 1, "the plane closed in peace");
    assert!(report.took <= SECOND * 10, "{:?}", report.took);
    settle().await;
    assert_eq!(Arc::strong_count(&dropped), 1, "what was aborted lets go of what it held");
}

#[tokio::test]
async fn nobody_takes_longer_than_the_bound() {
    let (lifecycle, _, sim) = lifecycle();
    for stage in Stage::ALL {
        lifecycle.tasks(stage).spawn("deaf", std::future::pending());
    }
    let time = async {
        loop {
            sim.advance(Duration::from_millis(10));
            settle().await;
        }
    };
    let report = tokio::select! { report = lifecycle.shutdown(SECOND) => report, () = time => unreachable!() };
    assert_eq!(report.aborted, ["deaf"; 5]);
    assert!(report.took <= SECOND + Duration::from_millis(60), "{:?}", report.took);
    settle().await;
    assert_eq!(stats(&lifecycle, "deaf").running_count, 0);
}

#[tokio::test]
async fn a_task_spawned_into_a_stage_that_already_stopped_does_not_outlive_shutdown() {
    let (lifecycle, _, _sim) = lifecycle();
    let late = lifecycle.tasks(Stage::Listeners);
    lifecycle.tasks(Stage::Planes).supervise("parent", OnPanic::Record, move |shutdown| {
        let late = late.clone();
        async move {
            shutdown.wait().await;
            assert!(late.shutdown().is_triggered());
            late.spawn("late", std::future::pending());
        }
    });
    settle().await;
    assert_eq!(lifecycle.shutdown(SECOND).await.aborted, ["late"]);
    settle().await;
    assert_eq!(stats(&lifecycle, "late").running_count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_short_tasks_leave_nothing_behind() {
    let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
    let done = Arc::new(AtomicU32::new(0));
    for _ in 0..20_000 {
        let done = done.clone();
        lifecycle.tasks(Stage::Listeners).spawn("short", async move {
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    let report = lifecycle.shutdown(SECOND * 60).await;
    assert_eq!(report.aborted, Vec::<&str>::new());
    assert_eq!(done.load(Ordering::SeqCst), 20_000, "shutdown waits for pieces of work");
    assert_eq!(stats(&lifecycle, "short").running_count, 0);
}

struct SpawnsOnDrop(kernel::Tasks);

impl Drop for SpawnsOnDrop {
    fn drop(&mut self) {
        self.0.spawn("too late", std::future::pending());
    }
}

#[test]
fn a_runtime_that_closes_under_a_task_blocks_nobody() {
    let (lifecycle, _, _sim) = lifecycle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tasks = lifecycle.tasks(Stage::Systems);
    let inner = tasks.clone();
    runtime.block_on(async {
        tasks.spawn("last", async move {
            let _last = SpawnsOnDrop(inner);
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
    });
    drop(runtime);
    assert_eq!(stats(&lifecycle, "too late").running_count, 0);
    assert_eq!(stats(&lifecycle, "last").running_count, 0);
}

#[tokio::test]
async fn shutdown_cuts_a_wait_short() {
    let shutdown = Shutdown::new();
    assert_eq!(shutdown.or(async { 1 }).await, Some(1));
    shutdown.trigger();
    assert_eq!(shutdown.or(std::future::pending::<()>()).await, None);
    assert!(shutdown.is_triggered() && shutdown.clone().is_triggered());
}

proptest! {
    #[test]
    fn waits_stay_below_their_ceiling(base in 0_u64..10_000, cap in 0_u64..100_000, attempt in any::<u32>(), seed in any::<u64>()) {
        let backoff = Backoff { base: Duration::from_millis(base), cap: Duration::from_millis(cap) };
        let wait = backoff.delay(attempt, &Rng::seeded(seed));
        let ceiling = Duration::from_millis(base.saturating_mul(1_u64 << attempt.min(31)).min(cap));
        prop_assert!(wait <= ceiling, "{:?} > {:?}", wait, ceiling);
    }
}

#[test]
fn jitter_is_full() {
    let rng = Rng::seeded(1);
    let waits: Vec<_> = (0..1_000).map(|_| Backoff::STANDARD.delay(10, &rng)).collect();
    let below = |part: u32| waits.iter().filter(|w| **w < Backoff::STANDARD.cap / part).count();
    assert!((400..600).contains(&below(2)), "{}", below(2));
    assert!((60..140).contains(&below(10)), "{}", below(10));
}
