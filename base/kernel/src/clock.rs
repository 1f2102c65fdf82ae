//! Time as a parameter.
//!
//! Everything that asks for the time or waits for it takes a [`Clock`]. In production it is the system's; in tests it is a
//! [`SimClock`] that moves only when the test says so, therefore no test sleeps to be right.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// An instant in milliseconds since 1970-01-01T00:00:00Z; what tables store and what the wire shows as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This instant moved later; saturates at the largest representable one.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This instant moved earlier; saturates.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The start of the bucket of `width` that holds this instant (for rollups); widths below 1 ms count as 1 ms.
    #[must_use]
    pub fn floor(self, width: Duration) -> Self {
        let width = i64::try_from(width.as_millis()).unwrap_or(i64::MAX).max(1);
        Self(self.0.div_euclid(width).saturating_mul(width))
    }

    /// Reads RFC 3339 text such as `2026-11-24T06:00:00Z`.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            // Keeps the asked precision: `{at:.3}` always shows milliseconds.
            Ok(t) => t.fmt(f),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("expected an RFC 3339 time such as 2026-11-24T06:00:00Z"))
    }
}

/// The only source of time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Inner);

#[derive(Clone)]
enum Inner {
    System { started: Instant },
    Sim(Arc<watch::Sender<SimNow>>),
}

#[derive(Clone, Copy)]
struct SimNow {
    wall_ms: i64,
    mono: Duration,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::System { .. } => "Clock::System",
            Inner::Sim(_) => "Clock::Sim",
        })
    }
}

impl Clock {
    /// The system's clock.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn system() -> Self {
        Self(Inner::System { started: Instant::now() })
    }

    /// A simulated clock that starts at `now` and moves only through the returned [`SimClock`].
    pub fn simulated(now: Timestamp) -> (Self, SimClock) {
        let tx = Arc::new(watch::Sender::new(SimNow { wall_ms: now.0, mono: Duration::ZERO }));
        (Self(Inner::Sim(tx.clone())), SimClock(tx))
    }

    /// The wall clock. May jump; use [`Clock::monotonic`] to measure.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Inner::System { .. } => {
                let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
                Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
            }
            Inner::Sim(tx) => Timestamp(tx.borrow().wall_ms),
        }
    }

    /// Time since this clock was made; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Inner::System { started } => started.elapsed(),
            Inner::Sim(tx) => tx.borrow().mono,
        }
    }

    /// Waits for `d` to pass on this clock.
    pub async fn sleep(&self, d: Duration) {
        match &self.0 {
            Inner::System { .. } => tokio::time::sleep(d).await,
            Inner::Sim(tx) => {
                let mut rx = tx.subscribe();
                let until = rx.borrow().mono.saturating_add(d);
                // The sender lives in `self`, so this cannot fail while we wait.
                drop(rx.wait_for(|now| now.mono >= until).await);
            }
        }
    }

    /// Runs `future`, giving up with `None` after `d`.
    pub async fn timeout<F: Future>(&self, d: Duration, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            out = future => Some(out),
            () = self.sleep(d) => None,
        }
    }
}

/// Moves a simulated [`Clock`].
#[derive(Clone)]
pub struct SimClock(Arc<watch::Sender<SimNow>>);

impl SimClock {
    /// Moves wall and monotonic time forward together and wakes whoever waited for it.
    pub fn advance(&self, d: Duration) {
        self.0.send_modify(|now| {
            now.mono = now.mono.saturating_add(d);
            now.wall_ms = Timestamp(now.wall_ms).plus(d).0;
        });
    }

    /// Sets the wall clock alone, as an NTP step or an operator would; monotonic time stays.
    pub fn jump_wall_to(&self, now: Timestamp) {
        self.0.send_modify(|n| n.wall_ms = now.0);
    }
}
