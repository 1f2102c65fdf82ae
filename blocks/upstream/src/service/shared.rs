//! What the back ends of one upstream have in common.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::{Clock, Rng};
use resilience::{OutlierConfig, OutlierCore};

use super::endpoint::{EndpointId, Tally};

/// See the module. Knows no back end, so that those may know it.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    in_flight: AlignedCount,
    /// Since [`Clock::monotonic`] began, in microseconds: when the snapshot is to be made anew; 0 is at once.
    renew_at: AtomicU64,
    has_detector: AtomicBool,
    detector: Mutex<Option<Detector>>,
    /// Requests that were refused: no back end, full, breaker open.
    pub(crate) refused: [AtomicU64; 3],
}

#[derive(Default)]
#[repr(align(128))]
struct AlignedCount(AtomicU32);

/// Outlier detection, and where the successes wait that it was not told yet.
struct Detector {
    core: OutlierCore<EndpointId>,
    tallies: Vec<(EndpointId, Arc<Tally>)>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn new(clock: &Clock, rng: &Rng) -> Self {
        Self {
            clock: clock.clone(),
            rng: rng.clone(),
            in_flight: AlignedCount::default(),
            renew_at: AtomicU64::new(0),
            has_detector: AtomicBool::new(false),
            detector: Mutex::default(),
            refused: Default::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Ordering::Relaxed)
    }

    /// Takes one more request unless that would be more than `most`; how many there were.
    pub(crate) fn enter(&self, most: u32) -> Option<u32> {
        let before = self.in_flight.0.fetch_add(1, Ordering::Relaxed);
        if before >= most {
            self.leave();
            return None;
        }
        Some(before)
    }

    pub(crate) fn leave(&self) {
        self.in_flight.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the snapshot is to be made anew at `now`.
    pub(crate) fn is_stale(&self, now: Duration) -> bool {
        micros(now) >= self.renew_at.load(Ordering::Acquire)
    }

    /// Something changed: the next pick makes the snapshot anew.
    pub(crate) fn set_stale(&self) {
        self.renew_at.store(0, Ordering::Release);
    }

    /// Whoever makes a snapshot says so before it looks at anything, so that what changes meanwhile is not lost.
    pub(crate) fn begin_renewal(&self) {
        self.renew_at.store(u64::MAX, Ordering::Release);
    }

    /// The snapshot holds until `at`, unless something changed since the renewal began.
    pub(crate) fn end_renewal(&self, at: Duration) {
        self.renew_at.fetch_min(micros(at), Ordering::AcqRel);
    }

    /// Turns outlier detection on or off; what it knew is forgotten.
    pub(crate) fn set_detection(&self, config: Option<OutlierConfig>) {
        let detector = config.map(|config| Detector { core: OutlierCore::new(config), tallies: Vec::new() });
        self.has_detector.store(detector.is_some(), Ordering::Relaxed);
        *self.lock() = detector;
    }

    /// Says which back ends there are.
    pub(crate) fn set_hosts(&self, tallies: Vec<(EndpointId, Arc<Tally>)>) {
        if let Some(detector) = self.lock().as_mut() {
            detector.core.set_hosts(tallies.iter().map(|(id, _)| *id));
            detector.tallies = tallies;
        }
    }

    /// Says how a request to a back end ended.
    ///
    /// A success after a success only adds to a count; what changes a decision goes through the lock.
    pub(crate) fn report(&self, now: Duration, id: EndpointId, tally: &Tally, is_success: bool) {
        if !self.has_detector.load(Ordering::Relaxed) {
            return;
        }
        if is_success && !tally.is_failing.load(Ordering::Relaxed) {
            tally.successes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut guard = self.lock();
        let Some(detector) = guard.as_mut() else { return };
        detector.flush(now);
        detector.core.add_successes(&id, tally.successes.swap(0, Ordering::Relaxed));
        let ejections = detector.core.ejection_count();
        detector.core.report(now, &id, is_success);
        tally.is_failing.store(!is_success, Ordering::Relaxed);
        if detector.core.ejection_count() != ejections {
            self.set_stale();
        }
    }

    /// The back ends that are ejected, until when, and when that may change by itself.
    pub(crate) fn ejected(&self, now: Duration) -> (Vec<(EndpointId, Duration)>, Duration) {
        let mut guard = self.lock();
        let Some(detector) = guard.as_mut() else { return (Vec::new(), Duration::MAX) };
        detector.flush(now);
        let ejected = detector.core.ejected(now).map(|(id, until)| (*id, until)).collect();
        (ejected, detector.core.next_turn())
    }

    /// How often a back end was ejected so far.
    pub(crate) fn ejection_count(&self) -> u64 {
        self.lock().as_ref().map_or(0, |detector| detector.core.ejection_count())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Detector>> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Detector {
    /// Tells all successes before rates are compared.
    fn flush(&mut self, now: Duration) {
        if now >= self.core.next_turn() {
            for (id, tally) in &self.tallies {
                self.core.add_successes(id, tally.successes.swap(0, Ordering::Relaxed));
            }
        }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
