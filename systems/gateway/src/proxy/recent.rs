//! What an operator wants to see of the last minutes: the slowest requests, and what mirrors answered otherwise.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use kernel::{Clock, Timestamp};
use serde::Serialize;

/// How many of the slowest are kept of each window.
const KEPT: usize = 32;
/// How long a window is; the one before is shown too.
const WINDOW: Duration = Duration::from_mins(5);
/// How many differences are kept.
const DIFFERENCES: usize = 64;

/// A request that took long.
#[derive(Debug, Clone)]
pub struct SlowRequest {
    /// When it ended.
    pub at: Timestamp,
    /// From its head to the last byte of its answer.
    pub took: Duration,
    /// Until the head of the back end's answer.
    pub upstream_took: Option<Duration>,
    /// Its method.
    pub method: Method,
    /// Its path, without the query, which may hold what does not belong here.
    pub path: String,
    /// Of its answer; 499 when the client went away.
    pub status: u16,
    /// Its route; empty when none took it.
    pub route: String,
    /// Who answered; empty when nobody was asked.
    pub upstream: String,
    /// Which of them.
    pub endpoint: Option<SocketAddr>,
    /// How often a back end was asked.
    pub tries: u32,
    /// What went wrong, in a word.
    pub error: &'static str,
    /// Its id.
    pub request_id: String,
}

/// The slowest requests of the last minutes. What is not slow costs one comparison.
#[derive(Debug)]
pub(crate) struct Slow {
    clock: Clock,
    /// What is faster is not kept, in microseconds.
    floor: AtomicU64,
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    began: Duration,
    now: Vec<SlowRequest>,
    before: Vec<SlowRequest>,
}

impl Slow {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), floor: AtomicU64::new(0), windows: Mutex::default() }
    }

    /// Whether a request that took so long is one of the slowest.
    pub(crate) fn wants(&self, took: Duration) -> bool {
        took.as_micros() > u128::from(self.floor.load(Ordering::Relaxed))
    }

    /// Keeps it.
    pub(crate) fn note(&self, request: SlowRequest) {
        let now = self.clock.monotonic();
        let mut windows = self.lock();
        windows.turn(now);
        let list = &mut windows.now;
        let at = list.partition_point(|other| other.took >= request.took);
        list.insert(at, request);
        list.truncate(KEPT);
        let floor = if list.len() == KEPT { list[KEPT - 1].took } else { Duration::ZERO };
        self.floor.store(u64::try_from(floor.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Begins a new window when it is time; called now and then, since nothing else would lower the floor.
    pub(crate) fn tick(&self) {
        let now = self.clock.monotonic();
        if self.lock().turn(now) {
            self.floor.store(0, Ordering::Relaxed);
        }
    }

    /// The slowest first.
    pub(crate) fn list(&self) -> Vec<SlowRequest> {
        let windows = self.lock();
        let mut all: Vec<_> = windows.now.iter().chain(&windows.before).cloned().collect();
        all.sort_by_key(|request| std::cmp::Reverse(request.took));
        all.truncate(KEPT);
        all
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Windows {
    fn turn(&mut self, now: Duration) -> bool {
        let is_over = now.saturating_sub(self.began) >= WINDOW;
        if is_over {
            self.before = std::mem::take(&mut self.now);
            self.began = now;
        }
        is_over
    }
}

/// Two answers to the same request that should be alike and are not.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// When it was seen.
    pub at: Timestamp,
    /// The route.
    pub route: String,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What differs, such as `status: 200, 404` or `body: /items/0/price: 5, 6`; at most 16.
    pub differences: Vec<String>,
}

/// What mirrors of one node found.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    compared: AtomicU64,
    different: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    recent: Mutex<VecDeque<Difference>>,
}

/// How many of what mirrors did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MirrorNumbers {
    /// Pairs of answers that were compared.
    pub compared_count: u64,
    /// Of these, those that differ.
    pub different_count: u64,
    /// Requests that the mirror did not answer.
    pub failed_count: u64,
    /// Requests that were not mirrored, or not compared: as many as may are under way, or a body was too large.
    pub skipped_count: u64,
}

impl Differences {
    pub(crate) fn same(&self) {
        self.compared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note(&self, difference: Difference) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        self.different.fetch_add(1, Ordering::Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(difference);
        recent.truncate(DIFFERENCES);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn numbers(&self) -> MirrorNumbers {
        MirrorNumbers {
            compared_count: self.compared.load(Ordering::Relaxed),
            different_count: self.different.load(Ordering::Relaxed),
            failed_count: self.failed.load(Ordering::Relaxed),
            skipped_count: self.skipped.load(Ordering::Relaxed),
        }
    }

    /// The last first.
    pub(crate) fn list(&self) -> Vec<Difference> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ms: u64) -> SlowRequest {
        SlowRequest {
            at: Timestamp::default(),
            took: Duration::from_millis(ms),
            upstream_took: None,
            method: Method::GET,
            path: String::new(),
            status: 200,
            route: String::new(),
            upstream: String::new(),
            endpoint: None,
            tries: 1,
            error: "",
            request_id: String::new(),
        }
    }

    #[test]
    fn the_slowest_of_two_windows_are_kept() {
        let (clock, sim) = Clock::simulated(Timestamp::default());
        let slow = Slow::new(&clock);
        for ms in 1..=100 {
            if slow.wants(Duration::from_millis(ms)) {
                slow.note(request(ms));
            }
        }
        let took = |slow: &Slow| slow.list().iter().map(|r| r.took.as_millis()).collect::<Vec<_>>();
        assert_eq!(took(&slow), (69..=100).rev().collect::<Vec<_>>());
        assert!(!slow.wants(Duration::from_millis(69)) && slow.wants(Duration::from_millis(70)));
        sim.advance(WINDOW);
        slow.tick();
        assert!(slow.wants(Duration::from_millis(1)));
        slow.note(request(5));
        assert_eq!(took(&slow).len(), KEPT);
        sim.advance(WINDOW);
        slow.tick();
        assert_eq!(took(&slow), [5]);
    }
}
