//! One load for many who want the same thing at the same time.
//!
//! Invariants:
//! - FLIGHT-1: at any instant at most one load runs for a key (loads started before [`SingleFlight::forget`] aside).
//! - FLIGHT-2: whoever waits gets the value of a load that was running while it waited, or an error; it never hangs.
//! - FLIGHT-3: when the caller that loads is cancelled, one of those who wait loads in its place; when it panics, those who
//!   wait fail and the next caller loads afresh.
//! - FLIGHT-4: there are never more keys than `max_keys` nor more waiters than `max_waiters`.
//!
//! The load runs inside the task of the first caller, so there is nothing to shut down. After Go's `x/sync/singleflight`,
//! without its two traps: a cancelled leader there fails everybody, and a panic there ends the process.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

/// How much may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightLimits {
    /// Keys that load at once.
    pub max_keys: usize,
    /// Callers that wait for another's load, over all keys.
    pub max_waiters: usize,
}

impl Default for FlightLimits {
    fn default() -> Self {
        Self { max_keys: 10_000, max_waiters: 100_000 }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlightLost {
    /// The caller that was loading panicked. Trying again loads afresh.
    #[error("the load panicked")]
    Panicked,
    /// Too much is under way; nothing was loaded.
    #[error("too many loads are under way")]
    Full,
}

/// Coalesces loads of one key. Share it by reference or in an `Arc`.
pub struct SingleFlight<K, V> {
    limits: FlightLimits,
    flights: Mutex<HashMap<K, Arc<Flight<V>>>>,
    waiters: AtomicUsize,
}

type Flight<V> = watch::Sender<State<V>>;

#[derive(Clone)]
enum State<V> {
    Loading,
    Landed(V),
    Cancelled,
    Panicked,
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleFlight")
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    /// With nothing under way.
    pub fn new(limits: FlightLimits) -> Self {
        Self { limits, flights: Mutex::default(), waiters: AtomicUsize::new(0) }
    }

    /// The value of `key`: from a load that is under way, or else from `load`. `load` runs at most once. For a load that can fail,
    /// let `V` be a `Result` with an error that can be cloned: all who wait share it, and nothing of it is kept.
    pub async fn load<F, Fut>(&self, key: K, load: F) -> Result<V, FlightLost>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        loop {
            let flight = match self.board(&key)? {
                Role::Leader(flight) => {
                    let leader = Leader { group: self, key: &key, flight, landed: false };
                    let value = load().await;
                    leader.land(value.clone());
                    return Ok(value);
                }
                Role::Follower(flight) => flight,
            };
            let _waiter = self.wait()?;
            match flight.await {
                State::Landed(value) => return Ok(value),
                State::Panicked => return Err(FlightLost::Panicked),
                // The next to come by loads with its own `load`: perhaps this one.
                State::Cancelled | State::Loading => {}
            }
        }
    }

    /// Lets whoever comes from now on load afresh, because the thing changed: a load under way may have read what was before.
    /// Those who wait for it already still get it.
    pub fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    /// Keys that load right now.
    pub fn in_flight_count(&self) -> usize {
        self.lock().len()
    }

    /// Callers that wait for another's load right now.
    pub fn waiter_count(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    fn board(&self, key: &K) -> Result<Role<V, impl Future<Output = State<V>> + use<K, V>>, FlightLost> {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(key) {
            let mut changes = flight.subscribe();
            return Ok(Role::Follower(async move {
                match changes.wait_for(|state| !matches!(state, State::Loading)).await {
                    Ok(state) => state.clone(),
                    // The leader always says how it ended; a lost one is as good as cancelled.
                    Err(_) => State::Cancelled,
                }
            }));
        }
        if flights.len() >= self.limits.max_keys {
            return Err(FlightLost::Full);
        }
        let flight = Arc::new(watch::Sender::new(State::Loading));
        flights.insert(key.clone(), flight.clone());
        Ok(Role::Leader(flight))
    }

    fn wait(&self) -> Result<Waiter<'_>, FlightLost> {
        let waiter = Waiter(&self.waiters);
        if self.waiters.fetch_add(1, Ordering::Relaxed) >= self.limits.max_waiters {
            return Err(FlightLost::Full);
        }
        Ok(waiter)
    }
}

impl<K: Hash + Eq, V> SingleFlight<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Flight<V>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Role<V, F> {
    Leader(Arc<Flight<V>>),
    Follower(F),
}

/// Whatever ends the leader, its followers learn how.
struct Leader<'a, K: Hash + Eq, V> {
    group: &'a SingleFlight<K, V>,
    key: &'a K,
    flight: Arc<Flight<V>>,
    landed: bool,
}

impl<K: Hash + Eq, V> Leader<'_, K, V> {
    fn land(mut self, value: V) {
        self.landed = true;
        self.end(State::Landed(value));
    }

    fn end(&self, state: State<V>) {
        let mut flights = self.group.lock();
        // After `forget`, another's flight may stand in this place.
        if flights.get(self.key).is_some_and(|f| Arc::ptr_eq(f, &self.flight)) {
            flights.remove(self.key);
        }
        drop(flights);
        // Out of the map first: who is woken and comes back must not find this flight again.
        self.flight.send_replace(state);
    }
}

impl<K: Hash + Eq, V> Drop for Leader<'_, K, V> {
    fn drop(&mut self) {
        if !self.landed {
            self.end(if std::thread::panicking() { State::Panicked } else { State::Cancelled });
        }
    }
}

struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
