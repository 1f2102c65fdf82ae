//! Deadlines of a worker's connections without a timer for each request.
//!
//! Each connection has a [`Seat`] for as long as it lives. Arming it stores an instant and a waker; one task sleeps until the earliest
//! instant it knows of and looks at all seats then. Most deadlines are moved on long before they come, so that task wakes about as
//! often as the shortest timeout, not as often as requests come.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use kernel::Clock;
use tokio::sync::Notify;

/// Never.
const NEVER: Duration = Duration::MAX;
/// The shortest and the longest wait between two looks.
pub(crate) const LEAST_WAIT: Duration = Duration::from_millis(1);
const MOST_WAIT: Duration = Duration::from_secs(1);

/// The deadlines of one worker.
pub(crate) struct Watch {
    clock: Clock,
    seats: RefCell<HashMap<u64, Rc<Seat>>>,
    next_seat: Cell<u64>,
    /// When the watching task looks again.
    looks_at: Cell<Duration>,
    /// Told when it has to look sooner, or when nothing is left to watch.
    pub(crate) sooner: Rc<Notify>,
}

/// One connection's deadline.
struct Seat {
    deadline: Cell<Duration>,
    is_expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The place of a connection among those watched.
pub(crate) struct Place {
    watch: Rc<Watch>,
    number: u64,
    seat: Rc<Seat>,
}

impl Watch {
    pub(crate) fn new(clock: &Clock) -> Rc<Self> {
        Rc::new(Self {
            clock: clock.clone(),
            seats: RefCell::default(),
            next_seat: Cell::new(0),
            looks_at: Cell::new(Duration::ZERO),
            sooner: Rc::default(),
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Place {
        let number = self.next_seat.get();
        self.next_seat.set(number + 1);
        let seat =
            Rc::new(Seat { deadline: Cell::new(NEVER), is_expired: Cell::new(false), waker: RefCell::default() });
        self.seats.borrow_mut().insert(number, seat.clone());
        Place { watch: self.clone(), number, seat }
    }

    /// Wakes those whose deadline has come; gives when to look again, at the latest at `latest`.
    pub(crate) fn look(&self, now: Duration, latest: Duration) -> Duration {
        let mut next = latest;
        for seat in self.seats.borrow().values() {
            let deadline = seat.deadline.get();
            if deadline <= now {
                seat.deadline.set(NEVER);
                seat.is_expired.set(true);
                if let Some(waker) = seat.waker.take() {
                    waker.wake();
                }
            } else {
                next = next.min(deadline);
            }
        }
        self.looks_at.set(next);
        next
    }

    /// Wakes whoever waits for a deadline, to look at something else.
    pub(crate) fn wake_all(&self) {
        for seat in self.seats.borrow().values() {
            if let Some(waker) = &*seat.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    /// Looks at deadlines for as long as it runs.
    pub(crate) async fn run(&self) {
        loop {
            let now = self.now();
            let next = self.look(now, now + MOST_WAIT);
            tokio::select! {
                () = self.clock.sleep(next.saturating_sub(now).max(LEAST_WAIT)) => {}
                () = self.sooner.notified() => {}
            }
        }
    }
}

impl Place {
    /// Wakes `waker` at `deadline`, unless moved or disarmed before.
    pub(crate) fn arm(&self, deadline: Duration, waker: &Waker) {
        self.seat.deadline.set(deadline);
        let mut kept = self.seat.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
        if deadline < self.watch.looks_at.get() {
            self.watch.looks_at.set(deadline);
            self.watch.sooner.notify_one();
        }
    }

    pub(crate) fn disarm(&self) {
        self.seat.deadline.set(NEVER);
        self.seat.is_expired.set(false);
        drop(self.seat.waker.take());
    }

    /// Whether the deadline came; told once.
    pub(crate) fn has_expired(&self) -> bool {
        self.seat.is_expired.replace(false)
    }

    pub(crate) fn now(&self) -> Duration {
        self.watch.now()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watch.seats.borrow_mut().remove(&self.number);
    }
}
