//! One back end, as all workers see it.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::Timestamp;
use wire::Target;

use super::shared::Shared;
use crate::model::{ewma::PeakEwma, hash, hysteresis::Health};

/// Tells the back ends of an upstream apart: a hash of the address, the same on every node and after every restart. Shown as 16
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

impl EndpointId {
    /// That of an address.
    pub fn of(address: std::net::SocketAddr) -> Self {
        Self(hash::of_address(address))
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for EndpointId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        u64::from_str_radix(text, 16).ok().filter(|_| is_hex).map(Self).ok_or("expected 16 hexadecimal digits")
    }
}

impl serde::Serialize for EndpointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Counts that workers change with each request, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hot {
    in_flight: AtomicU32,
    latency: PeakEwma,
    picks: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) target: Arc<Target>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tally: Arc<Tally>,
    hot: Hot,
    health: AtomicU8,
    is_retired: AtomicBool,
    checked: Mutex<Checked>,
}

/// What is told to the outlier detection of one back end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Successes that it was not told yet.
    pub(crate) successes: AtomicU32,
    /// Whether the last report was a failure, so that a success must be told at once.
    pub(crate) is_failing: AtomicBool,
}

/// The last active check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    pub(crate) at: Option<Timestamp>,
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
}

impl Endpoint {
    pub(crate) fn new(id: EndpointId, target: Arc<Target>, shared: &Arc<Shared>) -> Self {
        Self {
            id,
            target,
            shared: shared.clone(),
            tally: Arc::default(),
            hot: Hot::default(),
            health: AtomicU8::new(0),
            is_retired: AtomicBool::new(false),
            checked: Mutex::default(),
        }
    }

    /// Another one in place of `self`, of which the health is known.
    pub(crate) fn with_target(&self, target: Arc<Target>) -> Self {
        let new = Self::new(self.id, target, &self.shared);
        new.set_health(self.health());
        *new.checked() = self.checked().clone();
        new
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.hot.in_flight.load(Ordering::Relaxed)
    }

    /// Takes one more request unless that would be more than `most`.
    pub(crate) fn enter(&self, most: u32) -> bool {
        if self.hot.in_flight.fetch_add(1, Ordering::Relaxed) >= most {
            self.leave();
            return false;
        }
        self.hot.picks.fetch_add(1, Ordering::Relaxed);
        true
    }

    pub(crate) fn leave(&self) {
        self.hot.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn latency(&self) -> &PeakEwma {
        &self.hot.latency
    }

    pub(crate) fn count(&self, is_success: bool) {
        let counter = if is_success { &self.hot.successes } else { &self.hot.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Picks, successes and failures so far.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let hot = &self.hot;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&hot.picks), load(&hot.successes), load(&hot.failures))
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Healthy,
            2 => Health::Unhealthy,
            _ => Health::Unknown,
        }
    }

    pub(crate) fn set_health(&self, health: Health) {
        let word = match health {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
        };
        self.health.store(word, Ordering::Relaxed);
    }

    pub(crate) fn checked(&self) -> MutexGuard<'_, Checked> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }
}
