//! Supervised tasks and ordered, bounded shutdown.
//!
//! Invariants:
//! - TASKS-1: a panic in a task is logged, counted and answered as declared: restarted with back-off, recorded, or the process stops.
//! - TASKS-2: [`Lifecycle::shutdown`] stops stages in the order of [`Stage`] and waits for one before it stops the next, so a
//!   task may use everything of later stages until it ends.
//! - TASKS-3: shutdown takes no longer than its bound; what did not end is named and aborted, tasks that were spawned while
//!   everything stopped included. (Work that never yields cannot be aborted, only left behind.)
//! - TASKS-4: a stage that hangs cannot take the time of later ones: each of those keeps at least a tenth of the bound.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle};
use tokio_util::sync::CancellationToken;

use crate::{Clock, Rng};

/// Told to a task when it should finish what it has and return.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that its owner triggers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until shutdown is asked for.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Whether shutdown was asked for.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Asks for shutdown.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Runs `future` until it is done or shutdown is asked for (then `None`).
    pub async fn or<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled(future).await
    }
}

/// The order of shutdown: what takes work first, what keeps state last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Listeners: stop accepting, drain requests.
    Listeners,
    /// Background work of systems.
    Systems,
    /// Background work of blocks.
    Blocks,
    /// The planes: state is closed last.
    Planes,
    /// Telemetry: the last spans leave.
    Telemetry,
}

impl Stage {
    /// Every stage, in the order of shutdown.
    pub const ALL: [Self; 5] = [Self::Listeners, Self::Systems, Self::Blocks, Self::Planes, Self::Telemetry];
}

/// Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015).
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Ceiling of the first wait.
    pub base: Duration,
    /// Ceiling of every wait.
    pub cap: Duration,
}

impl Backoff {
    /// 100 ms doubling to 10 s.
    pub const STANDARD: Self = Self { base: Duration::from_millis(100), cap: Duration::from_secs(10) };

    /// A wait before attempt `attempt` (0 is the first retry): uniform in `0..=min(cap, base × 2^attempt)`.
    pub fn delay(&self, attempt: u32, rng: &Rng) -> Duration {
        let ceiling = self.base.saturating_mul(2_u32.saturating_pow(attempt.min(31))).min(self.cap);
        let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(rng.below(micros.saturating_add(1)))
    }
}

/// What a panic of a task leads to.
#[derive(Debug, Clone, Copy)]
pub enum OnPanic {
    /// Run it again after a back-off; the count starts anew after a minute without panic.
    Restart(Backoff),
    /// Bring the whole process down in order: the task is one that nothing works without.
    StopProcess,
    /// Log and count it; the task stays ended.
    Record,
}

/// What happened to tasks so far, by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskStats {
    /// Running now.
    pub running_count: u64,
    /// Panics so far.
    pub panic_count: u64,
    /// Restarts after a panic so far.
    pub restart_count: u64,
}

#[derive(Default)]
struct Counters {
    running: AtomicU64,
    panics: AtomicU64,
    restarts: AtomicU64,
}

/// Owns every task of the process.
#[derive(Clone)]
pub struct Lifecycle(Arc<Shared>);

struct Shared {
    clock: Clock,
    rng: Rng,
    stages: [StageState; 5],
    names: Mutex<BTreeMap<&'static str, Arc<Counters>>>,
    next_task: AtomicU64,
    stop: Shutdown,
    stop_reason: Mutex<Option<String>>,
}

struct StageState {
    shutdown: Shutdown,
    running: watch::Sender<usize>,
    /// The tasks that run, by a number of their own; a handle comes as soon as the task is spawned.
    aborts: Mutex<HashMap<u64, (&'static str, Option<AbortHandle>)>>,
}

impl StageState {
    /// Aborts what still runs; its names. A task is named once, however often this is called.
    fn abort_all(&self, stage: Stage) -> Vec<&'static str> {
        let running: Vec<_> = {
            let mut aborts = lock(&self.aborts);
            let (running, being_spawned) =
                std::mem::take(&mut *aborts).into_iter().partition(|(_, (_, h))| h.is_some());
            *aborts = being_spawned;
            HashMap::into_values(running).collect()
        };
        running
            .into_iter()
            .filter_map(|(name, handle)| Some((name, handle?)))
            .filter(|(_, handle)| !handle.is_finished())
            .map(|(name, handle)| {
                tracing::warn!(task = name, ?stage, "did not end in time and was aborted");
                handle.abort();
                name
            })
            .collect()
    }
}

/// What [`Lifecycle::shutdown`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Tasks that had not ended when their time was over, and were aborted; sorted.
    pub aborted: Vec<&'static str>,
    /// How long it took.
    pub took: Duration,
}

impl Lifecycle {
    /// An empty one.
    pub fn new(clock: Clock, rng: Rng) -> Self {
        let stage =
            || StageState { shutdown: Shutdown::new(), running: watch::Sender::new(0), aborts: Mutex::default() };
        Self(Arc::new(Shared {
            clock,
            rng,
            stages: [stage(), stage(), stage(), stage(), stage()],
            names: Mutex::default(),
            next_task: AtomicU64::new(0),
            stop: Shutdown::new(),
            stop_reason: Mutex::default(),
        }))
    }

    /// The handle that tasks of `stage` are spawned on.
    pub fn tasks(&self, stage: Stage) -> Tasks {
        Tasks { shared: self.0.clone(), stage }
    }

    /// Triggered when the process should stop: by [`Lifecycle::stop`] or by a task declared [`OnPanic::StopProcess`].
    pub fn stopping(&self) -> Shutdown {
        self.0.stop.clone()
    }

    /// Asks the process to stop; the first reason is kept.
    pub fn stop(&self, reason: impl Into<String>) {
        self.0.stop(reason.into());
    }

    /// Why it stops.
    pub fn stop_reason(&self) -> Option<String> {
        lock(&self.0.stop_reason).clone()
    }

    /// Counts by task name.
    pub fn stats(&self) -> BTreeMap<&'static str, TaskStats> {
        lock(&self.0.names)
            .iter()
            .map(|(name, c)| {
                let stats = TaskStats {
                    running_count: c.running.load(Ordering::Relaxed),
                    panic_count: c.panics.load(Ordering::Relaxed),
                    restart_count: c.restarts.load(Ordering::Relaxed),
                };
                (*name, stats)
            })
            .collect()
    }

    /// Stops everything, stage by stage, within `bound`. Call it once.
    pub async fn shutdown(&self, bound: Duration) -> ShutdownReport {
        let clock = &self.0.clock;
        let started = clock.monotonic();
        let mut aborted = Vec::new();
        for (stage, later) in Stage::ALL.into_iter().zip((0_u32..5).rev()) {
            let state = &self.0.stages[stage as usize];
            state.shutdown.trigger();
            let left = bound.saturating_sub(clock.monotonic().saturating_sub(started));
            let mine = left.saturating_sub(bound / 10 * later);
            let mut running = state.running.subscribe();
            let drained = clock.timeout(mine, running.wait_for(|n| *n == 0)).await;
            if drained.is_none() {
                aborted.extend(state.abort_all(stage));
            }
        }
        for stage in Stage::ALL {
            aborted.extend(self.0.stages[stage as usize].abort_all(stage));
        }
        aborted.sort_unstable();
        ShutdownReport { aborted, took: clock.monotonic().saturating_sub(started) }
    }
}

impl Shared {
    fn stop(&self, reason: String) {
        lock(&self.stop_reason).get_or_insert(reason);
        self.stop.trigger();
    }
}

/// Spawns supervised tasks of one stage. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
    stage: Stage,
}

impl Tasks {
    /// The shutdown signal of this stage.
    pub fn shutdown(&self) -> Shutdown {
        self.shared.stages[self.stage as usize].shutdown.clone()
    }

    /// Runs a background loop under supervision. `make` is called again for every restart.
    pub fn supervise<F, Fut>(&self, name: &'static str, on_panic: OnPanic, mut make: F)
    where
        F: FnMut(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (shared, shutdown) = (self.shared.clone(), self.shutdown());
        self.track(name, async move {
            let counters = shared.counters(name);
            let mut attempt = 0;
            loop {
                let began = shared.clock.monotonic();
                // `make` may panic too: inside, it is answered the same way.
                let outcome = catch(async { make(shutdown.clone()).await }).await;
                let Err(message) = outcome else { return };
                counters.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, panic = message, "task panicked");
                match on_panic {
                    OnPanic::Record => return,
                    OnPanic::StopProcess => {
                        shared.stop(format!("task {name} panicked: {message}"));
                        return;
                    }
                    OnPanic::Restart(backoff) => {
                        if shared.clock.monotonic().saturating_sub(began) > Duration::from_mins(1) {
                            attempt = 0;
                        }
                        let delay = backoff.delay(attempt, &shared.rng);
                        attempt = attempt.saturating_add(1);
                        if shutdown.or(shared.clock.sleep(delay)).await.is_none() {
                            return;
                        }
                        counters.restarts.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }

    /// Runs one piece of work to its end; shutdown waits for it, a panic is logged and counted.
    pub fn spawn<Fut>(&self, name: &'static str, future: Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let shared = self.shared.clone();
        self.track(name, async move {
            if let Err(message) = catch(future).await {
                shared.counters(name).panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, panic = message, "task panicked");
            }
        });
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn track(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let counters = self.shared.counters(name);
        let state = &self.shared.stages[self.stage as usize];
        state.running.send_modify(|n| *n += 1);
        counters.running.fetch_add(1, Ordering::Relaxed);
        let id = self.shared.next_task.fetch_add(1, Ordering::Relaxed);
        let guard = Running { shared: self.shared.clone(), stage: self.stage, id, counters };
        // Listed before it runs, and not locked while it is spawned: it may end at once, on another thread or (when the
        // runtime is closing) on this one, and takes itself off the list.
        lock(&state.aborts).insert(id, (name, None));
        let handle = tokio::spawn(async move {
            let _guard = guard;
            future.await;
        });
        if let Some((_, slot)) = lock(&state.aborts).get_mut(&id) {
            *slot = Some(handle.abort_handle());
        }
    }
}

struct Running {
    shared: Arc<Shared>,
    stage: Stage,
    id: u64,
    counters: Arc<Counters>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let state = &self.shared.stages[self.stage as usize];
        lock(&state.aborts).remove(&self.id);
        self.counters.running.fetch_sub(1, Ordering::Relaxed);
        state.running.send_modify(|n| *n -= 1);
    }
}

impl Shared {
    fn counters(&self, name: &'static str) -> Arc<Counters> {
        lock(&self.names).entry(name).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls `future`, turning a panic into its message.
async fn catch<F: Future<Output = ()>>(future: F) -> Result<(), String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic_message(panic.as_ref()))),
    })
    .await
}

/// The text of a panic's payload.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
