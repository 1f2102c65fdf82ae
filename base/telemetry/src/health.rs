//! Health: what each part says of itself, and the two documents made of it.
//!
//! - `/health/live` answers 200 as long as the process can answer at all: an orchestrator restarts it otherwise, which a lost
//!   database would not mend.
//! - `/health/ready` answers 503 while a *required* part is stopped or the node drains: a load balancer sends elsewhere.
//!
//! Invariants:
//! - HEALTH-1: an optional part, whatever its state, never makes the node unready; it makes it `degraded`.
//! - HEALTH-2: a part that has not reported yet counts as stopped (`starting`).
//! - HEALTH-3: once draining, never ready again.
//!
//! The documents are public: a reason names the part and its state, never an address, a query or a credential.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kernel::{Backoff, Clock, OnPanic, Tasks, Timestamp};
use serde_json::json;

use crate::reply::{JSON, Reply};

/// How a part fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It does all it promises.
    Serving,
    /// It serves, but less than it promises; why.
    Degraded(String),
    /// It does not serve; why.
    Stopped(String),
}

impl Condition {
    fn parts(&self) -> (State, Option<&str>) {
        match self {
            Self::Serving => (State::Serving, None),
            Self::Degraded(reason) => (State::Degraded, Some(reason)),
            Self::Stopped(reason) => (State::Stopped, Some(reason)),
        }
    }
}

/// A condition without its reason; the worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// All is well.
    Serving,
    /// Something optional is missing.
    Degraded,
    /// Does not serve.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
        })
    }
}

/// One part as the console shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Whether the node cannot do without it.
    pub required: bool,
    /// How it fares.
    pub state: State,
    /// Why it is not serving.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// The registry of parts. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    clock: Clock,
    version: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    draining: bool,
    parts: BTreeMap<&'static str, Entry>,
}

struct Entry {
    required: bool,
    condition: Condition,
    since: Timestamp,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

impl Health {
    /// Without parts: live and ready.
    pub fn new(clock: Clock, version: &'static str) -> Self {
        Self(Arc::new(Shared { clock, version, inner: Mutex::default() }))
    }

    /// Adds a part that reports through the returned handle. Until it does it is stopped: `starting`.
    pub fn register(&self, name: &'static str, required: bool) -> Check {
        let since = self.0.clock.now();
        let entry = Entry { required, condition: Condition::Stopped("starting".to_owned()), since };
        self.lock().parts.insert(name, entry);
        Check { health: self.clone(), name }
    }

    /// Adds a part that is asked every `interval`. An answer that takes longer than `timeout` means stopped.
    pub fn probe<F, Fut>(
        &self,
        tasks: &Tasks,
        name: &'static str,
        required: bool,
        (interval, timeout): (Duration, Duration),
        ask: F,
    ) where
        F: Fn() -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Condition> + Send + 'static,
    {
        let check = self.register(name, required);
        tasks.supervise("health-probe", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
            let (check, ask) = (check.clone(), ask.clone());
            async move {
                let clock = check.health.0.clock.clone();
                loop {
                    let answer = clock.timeout(timeout, ask());
                    let Some(answer) = shutdown.or(answer).await else { return };
                    check.set(answer.unwrap_or_else(|| Condition::Stopped("does not answer".to_owned())));
                    if shutdown.or(clock.sleep(interval)).await.is_none() {
                        return;
                    }
                }
            }
        });
    }

    /// From now on never ready: what a node does first when it stops, so that load balancers turn away before
    /// connections close.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Whether [`Health::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        let inner = self.lock();
        !inner.draining && inner.state() != State::Stopped
    }

    /// The node as a whole.
    pub fn state(&self) -> State {
        self.lock().state()
    }

    /// Every part, by name.
    pub fn parts(&self) -> Vec<Part> {
        self.lock()
            .parts
            .iter()
            .map(|(name, entry)| {
                let (state, reason) = entry.condition.parts();
                Part { name, required: entry.required, state, reason: reason.map(str::to_owned), since: entry.since }
            })
            .collect()
    }

    /// `/health/live`: 200 whenever it can be asked.
    pub fn live(&self) -> Reply {
        let uptime_seconds = self.0.clock.monotonic().as_secs();
        let body = json!({ "status": "live", "version": self.0.version, "uptime_seconds": uptime_seconds });
        Reply { status: 200, content_type: JSON, body: body.to_string() }
    }

    /// `/health/ready`: 200 or 503, with every part.
    pub fn ready(&self) -> Reply {
        let (draining, state) = {
            let inner = self.lock();
            (inner.draining, inner.state())
        };
        let parts: serde_json::Map<_, _> = self
            .parts()
            .into_iter()
            .map(|part| {
                let mut shown = json!({
                    "status": part.state.to_string(),
                    "required": part.required,
                    "since": part.since.to_string(),
                });
                if let Some(reason) = part.reason {
                    shown["reason"] = reason.into();
                }
                (part.name.to_owned(), shown)
            })
            .collect();
        let ready = !draining && state != State::Stopped;
        let status = if draining { "draining".to_owned() } else { state.to_string() };
        let body = json!({ "status": status, "ready": ready, "systems": parts });
        Reply { status: if ready { 200 } else { 503 }, content_type: JSON, body: body.to_string() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn state(&self) -> State {
        self.parts
            .values()
            .map(|entry| match entry.condition.parts().0 {
                State::Stopped if !entry.required => State::Degraded,
                state => state,
            })
            .max()
            .unwrap_or(State::Serving)
    }
}

/// How one part reports. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    name: &'static str,
}

impl Check {
    /// It does all it promises.
    pub fn serving(&self) {
        self.set(Condition::Serving);
    }

    /// It serves less than it promises.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(Condition::Degraded(reason.into()));
    }

    /// It does not serve.
    pub fn stopped(&self, reason: impl Into<String>) {
        self.set(Condition::Stopped(reason.into()));
    }

    /// Reports `condition`. A change of state is logged once, not every report.
    pub fn set(&self, condition: Condition) {
        let now = self.health.0.clock.now();
        let changed = {
            let mut inner = self.health.lock();
            let Some(entry) = inner.parts.get_mut(self.name) else { return };
            let before = entry.condition.parts().0;
            let after = condition.parts().0;
            if before != after {
                entry.since = now;
            }
            let reason = condition.parts().1.unwrap_or_default().to_owned();
            entry.condition = condition;
            (before != after).then_some((before, after, reason))
        };
        if let Some((before, after, reason)) = changed {
            if after > State::Serving {
                tracing::warn!(part = self.name, %before, %after, reason, "health changed");
            } else {
                tracing::info!(part = self.name, %before, %after, "health changed");
            }
        }
    }
}
