use std::{
    cell::RefCell,
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use proptest::prelude::*;
use resilience::{FlightLimits, FlightLost, SingleFlight};
use tokio::sync::oneshot;

use crate::poll;

fn group() -> Arc<SingleFlight<&'static str, u32>> {
    Arc::new(SingleFlight::new(FlightLimits::default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[allow(clippy::disallowed_methods, reason = "the test's own tasks")]
async fn a_hundred_callers_load_once() {
    let group = group();
    let loads = Arc::new(AtomicU32::new(0));
    let (go, gate) = tokio::sync::watch::channel(false);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (group, loads, mut gate) = (group.clone(), loads.clone(), gate.clone());
            tokio::spawn(async move {
                group
                    .load("home", || async move {
                        gate.wait_for(|open| *open).await.unwrap();
                        loads.fetch_add(1, Ordering::SeqCst) + 1
                    })
                    .await
            })
        })
        .collect();
    while group.waiter_count() < 99 {
        tokio::task::yield_now().await;
    }
    go.send(true).unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(1));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!((group.in_flight_count(), group.waiter_count()), (0, 0));
    assert_eq!(group.load("home", async || 7).await, Ok(7), "nothing is kept: this is no cache");
}

#[tokio::test]
async fn a_cancelled_leader_hands_over() {
    let group = group();
    let mut leader = Box::pin(group.load("k", std::future::pending));
    assert!(poll(&mut leader).is_pending());
    let mut second = Box::pin(group.load("k", async || 2));
    let mut third = Box::pin(group.load("k", async || 3));
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    drop(leader);
    assert_eq!(poll(&mut third), Poll::Ready(Ok(3)), "whoever comes first loads");
    assert_eq!(second.await, Ok(2), "and the other with its own: that flight was over before it looked");
    assert_eq!(group.in_flight_count(), 0);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the panic is the point")]
async fn a_panic_fails_those_who_wait_and_nobody_later() {
    let group = group();
    let (go, gate) = oneshot::channel::<()>();
    let inside = group.clone();
    let leader = tokio::spawn(async move {
        inside
            .load("k", || async move {
                gate.await.unwrap();
                panic!("as planned")
            })
            .await
    });
    while group.in_flight_count() == 0 {
        tokio::task::yield_now().await;
    }
    let mut follower = Box::pin(group.load("k", async || 2));
    assert!(poll(&mut follower).is_pending());
    go.send(()).unwrap();
    assert_eq!(follower.await, Err(FlightLost::Panicked));
    assert!(leader.await.unwrap_err().is_panic(), "the leader's own panic goes its way");
    assert_eq!(group.load("k", async || 3).await, Ok(3));
}

#[tokio::test]
async fn after_forget_nobody_joins_the_old_load() {
    let group = group();
    let (old_go, old_gate) = oneshot::channel();
    let mut old = Box::pin(group.load("k", || async move { old_gate.await.unwrap() }));
    assert!(poll(&mut old).is_pending());
    let mut old_follower = Box::pin(group.load("k", async || 99));
    assert!(poll(&mut old_follower).is_pending());
    group.forget(&"k");
    let (new_go, new_gate) = oneshot::channel();
    let mut new = Box::pin(group.load("k", || async move { new_gate.await.unwrap() }));
    assert!(poll(&mut new).is_pending());
    old_go.send(1).unwrap();
    assert_eq!(old.await, Ok(1));
    assert_eq!(old_follower.await, Ok(1));
    let mut new_follower = Box::pin(group.load("k", async || 99));
    assert!(poll(&mut new_follower).is_pending(), "the end of the old load leaves the new one in place");
    new_go.send(2).unwrap();
    assert_eq!(new.await, Ok(2));
    assert_eq!(new_follower.await, Ok(2));
}

#[tokio::test]
async fn keys_and_waiters_are_bounded() {
    let group = SingleFlight::new(FlightLimits { max_keys: 1, max_waiters: 1 });
    let mut leader = Box::pin(group.load("a", std::future::pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    assert_eq!(group.load("b", async || 1).await, Err(FlightLost::Full), "one key too many");
    let mut waits = Box::pin(group.load("a", async || 1));
    assert!(poll(&mut waits).is_pending());
    assert_eq!(group.load("a", async || 1).await, Err(FlightLost::Full), "one waiter too many");
    drop(waits);
    assert_eq!(group.waiter_count(), 0);
    drop(leader);
    assert_eq!(group.load("b", async || 1).await, Ok(1));
}

#[test]
fn loads_can_cross_threads() {
    fn is_send<T: Send>(_: T) {}
    let group: SingleFlight<String, Result<u32, Arc<std::io::Error>>> = SingleFlight::new(FlightLimits::default());
    is_send(group.load("k".to_owned(), async || Ok(1)));
}

#[derive(Debug, Clone)]
enum Step {
    Come(u8),
    Poll(usize),
    Cancel(usize),
    Finish(usize),
    Forget(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..2).prop_map(Step::Come),
        4 => (0_usize..8).prop_map(Step::Poll),
        1 => (0_usize..8).prop_map(Step::Cancel),
        2 => (0_usize..8).prop_map(Step::Finish),
        1 => (0_u8..2).prop_map(Step::Forget),
    ]
}

type Caller = Pin<Box<dyn Future<Output = Result<u32, FlightLost>>>>;

/// Loads under way: what each needs to end, and whether `forget` came after it began.
#[derive(Default)]
struct Loads {
    running: HashMap<u32, (u8, bool, Option<oneshot::Sender<()>>)>,
    next: u32,
    most_current: usize,
}

struct Running(Rc<RefCell<Loads>>, u32);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.borrow_mut().running.remove(&self.1);
    }
}

proptest! {
    /// Any interleaving of coming, waking, cancelling, finishing and forgetting: one current load a key (FLIGHT-1), and
    /// everybody who is still there at the end gets a value (FLIGHT-2, FLIGHT-3).
    #[test]
    fn whoever_stays_is_served_by_one_load_at_a_time(steps in prop::collection::vec(step(), 1..80)) {
        let group: Rc<SingleFlight<u8, u32>> = Rc::new(SingleFlight::new(FlightLimits::default()));
        let loads = Rc::new(RefCell::new(Loads::default()));
        let come = |key: u8| -> Caller {
            let (group, loads) = (group.clone(), loads.clone());
            Box::pin(async move {
                group.load(key, || async move {
                    let (done, is_done) = oneshot::channel();
                    let id = {
                        let mut l = loads.borrow_mut();
                        l.next += 1;
                        let id = l.next;
                        l.running.insert(id, (key, true, Some(done)));
                        let current = l.running.values().filter(|(k, current, _)| *k == key && *current).count();
                        l.most_current = l.most_current.max(current);
                        id
                    };
                    let _running = Running(loads, id);
                    is_done.await.ok();
                    id
                }).await
            })
        };
        let mut callers: Vec<Caller> = Vec::new();
        for step in steps {
            match step {
                Step::Come(key) => {
                    let mut caller = come(key);
                    if poll(&mut caller).is_pending() {
                        callers.push(caller);
                    }
                }
                Step::Poll(n) if n < callers.len() => {
                    if let Poll::Ready(value) = poll(&mut callers[n]) {
                        prop_assert!(value.is_ok());
                        drop(callers.remove(n));
                    }
                }
                Step::Cancel(n) if n < callers.len() => drop(callers.remove(n)),
                Step::Finish(n) => {
                    let mut l = loads.borrow_mut();
                    let mut ids: Vec<_> = l.running.keys().copied().collect();
                    ids.sort_unstable();
                    if let Some(done) = ids.get(n).and_then(|id| l.running.get_mut(id)).and_then(|r| r.2.take()) {
                        done.send(()).ok();
                    }
                }
                Step::Forget(key) => {
                    group.forget(&key);
                    for (_, current, _) in loads.borrow_mut().running.values_mut().filter(|(k, ..)| *k == key) {
                        *current = false;
                    }
                }
                Step::Poll(_) | Step::Cancel(_) => {}
            }
        }
        prop_assert!(loads.borrow().most_current <= 1, "FLIGHT-1");
        // From now on every load ends at once.
        for _ in 0..=callers.len() {
            for load in loads.borrow_mut().running.values_mut() {
                if let Some(done) = load.2.take() {
                    done.send(()).ok();
                }
            }
            let mut still = Vec::new();
            for mut caller in callers {
                match poll(&mut caller) {
                    Poll::Pending => still.push(caller),
                    Poll::Ready(value) => prop_assert!(value.is_ok()),
                }
            }
            callers = still;
        }
        prop_assert!(callers.is_empty(), "{} hang", callers.len());
        prop_assert!(loads.borrow().most_current <= 1, "FLIGHT-1");
        prop_assert_eq!((group.in_flight_count(), group.waiter_count()), (0, 0));
    }
}
