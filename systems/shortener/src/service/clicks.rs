//! The way of a click from the redirect to the rollups.
//!
//! ```text
//! redirect ──push──▶ queue (one part a worker) ──gather──▶ pending (link, minute) ──batch──▶ one transaction
//! ```
//!
//! - CLICKS-1: a redirect never waits for a click and never fails because of one: `push` takes no lock that is held, and a
//!   full queue drops the click and counts it.
//! - CLICKS-2: `recorded = written + pending + in the queue`, and what was offered is `recorded + dropped`.
//! - CLICKS-3: a batch is counted once, even when its COMMIT was in doubt: it carries a number that the same transaction
//!   stores, and is tried again under the same number until it is known to be there.
//! - CLICKS-4: memory is bounded by `click_queue` × parts and by `click_pending`.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, PoisonError, RwLock, TryLockError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use database::Db;
use kernel::{Clock, ProjectId, Timestamp};

use crate::{
    model::{ClickCounts, LinkId, Step},
    store::{self, MinuteClicks},
    telemetry::Telemetry,
};

/// The most (link, minute) pairs written in one transaction.
const BATCH_ROWS: usize = 2000;

/// A project by a small number, so that a click is a few words without a shared reference count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ProjectIndex(u32);

/// One visit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Click {
    pub(crate) link: LinkId,
    pub(crate) at: Timestamp,
    pub(crate) project: ProjectIndex,
    pub(crate) is_bot: bool,
}

/// One part of the queue, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part(Mutex<Vec<Click>>);

/// Projects by number. They are as many as the installation has with links that were visited.
#[derive(Debug, Default)]
struct Projects {
    by_id: HashMap<ProjectId, ProjectIndex>,
    by_index: Vec<ProjectId>,
}

#[derive(Debug)]
pub(crate) struct Clicks {
    parts: Box<[Part]>,
    part_capacity: usize,
    projects: RwLock<Projects>,
    writer: tokio::sync::Mutex<Writer>,
    pending_limit: usize,
    /// Clicks in `Writer`, for the console and the gauge.
    pending_count: AtomicI64,
    telemetry: Telemetry,
}

/// What was gathered and is not yet written.
#[derive(Debug)]
struct Writer {
    name: String,
    next_batch: i64,
    pending: HashMap<(LinkId, Timestamp), (ProjectIndex, ClickCounts)>,
    /// The batch under way; stays until it is known to be committed.
    batch: Arc<Vec<MinuteClicks>>,
    scratch: Vec<Click>,
}

impl Clicks {
    /// `name` is unique to this process: batches are numbered by it.
    pub(crate) fn new(
        name: String,
        part_count: usize,
        part_capacity: usize,
        pending_limit: usize,
        telemetry: Telemetry,
    ) -> Self {
        Self {
            parts: (0..part_count.max(1)).map(|_| Part::default()).collect(),
            part_capacity,
            projects: RwLock::default(),
            writer: tokio::sync::Mutex::new(Writer {
                name,
                next_batch: 1,
                pending: HashMap::new(),
                batch: Arc::default(),
                scratch: Vec::new(),
            }),
            pending_limit,
            pending_count: AtomicI64::new(0),
            telemetry,
        }
    }

    /// The small number of a project.
    pub(crate) fn project_index(&self, project: &ProjectId) -> ProjectIndex {
        if let Some(index) = self.projects.read().unwrap_or_else(PoisonError::into_inner).by_id.get(project) {
            return *index;
        }
        let mut projects = self.projects.write().unwrap_or_else(PoisonError::into_inner);
        let Projects { by_id, by_index } = &mut *projects;
        *by_id.entry(project.clone()).or_insert_with(|| {
            by_index.push(project.clone());
            ProjectIndex(u32::try_from(by_index.len() - 1).unwrap_or(u32::MAX))
        })
    }

    fn project(&self, index: ProjectIndex) -> Option<ProjectId> {
        let projects = self.projects.read().unwrap_or_else(PoisonError::into_inner);
        projects.by_index.get(usize::try_from(index.0).ok()?).cloned()
    }

    /// Records a click if there is room: in the worker's own part, else in another. Never waits.
    pub(crate) fn push(&self, worker: usize, click: Click) {
        let count = self.parts.len();
        for i in 0..count {
            let mut part = match self.parts[(worker + i) % count].0.try_lock() {
                Ok(part) => part,
                Err(TryLockError::Poisoned(e)) => e.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if part.len() < self.part_capacity {
                part.push(click);
                drop(part);
                self.telemetry.clicks_recorded.inc();
                return;
            }
        }
        self.telemetry.clicks_dropped.inc();
    }

    /// Takes what is in the queue into the pending counts. Cheap; done several times a second so that the queue stays short.
    pub(crate) async fn gather(&self) {
        let mut writer = self.writer.lock().await;
        self.gather_into(&mut writer);
    }

    fn gather_into(&self, writer: &mut Writer) {
        for part in &self.parts {
            // The buffers change places, so the lock is held for three words and neither side allocates.
            std::mem::swap(&mut writer.scratch, &mut *part.0.lock().unwrap_or_else(PoisonError::into_inner));
            let mut gathered = 0_i64;
            for click in writer.scratch.drain(..) {
                let len = writer.pending.len();
                let slot = match writer.pending.entry((click.link, click.at.floor(Step::Minute.width()))) {
                    Entry::Occupied(slot) => slot.into_mut(),
                    Entry::Vacant(slot) if len < self.pending_limit => {
                        slot.insert((click.project, ClickCounts::default()))
                    }
                    Entry::Vacant(_) => {
                        self.telemetry.clicks_dropped.inc();
                        continue;
                    }
                };
                if click.is_bot {
                    slot.1.bots += 1;
                } else {
                    slot.1.people += 1;
                }
                gathered += 1;
            }
            self.add_pending(gathered);
        }
    }

    fn add_pending(&self, change: i64) {
        let now = self.pending_count.fetch_add(change, Ordering::Relaxed) + change;
        self.telemetry.clicks_pending.set(now);
    }

    /// Writes everything that was recorded before the call. On an error, nothing is lost: the next call goes on from there.
    pub(crate) async fn flush(&self, db: &Db, clock: &Clock) -> database::Result<()> {
        let mut writer = self.writer.lock().await;
        self.gather_into(&mut writer);
        loop {
            if writer.batch.is_empty() {
                let keys: Vec<_> = writer.pending.keys().take(BATCH_ROWS).copied().collect();
                let batch: Vec<MinuteClicks> = keys
                    .into_iter()
                    .filter_map(|key| writer.pending.remove(&key).map(|(project, counts)| (key, project, counts)))
                    .filter_map(|((link, minute), project, counts)| {
                        Some(MinuteClicks { link, project: self.project(project)?, minute, counts })
                    })
                    .collect();
                if batch.is_empty() {
                    return Ok(());
                }
                writer.batch = Arc::new(batch);
            }
            self.write_batch(&mut writer, db, clock).await?;
        }
    }

    async fn write_batch(&self, writer: &mut Writer, db: &Db, clock: &Clock) -> database::Result<()> {
        let (name, number, batch, now) =
            (Arc::<str>::from(writer.name.as_str()), writer.next_batch, writer.batch.clone(), clock.now());
        let started = clock.monotonic();
        let outcome: database::Result<()> = db
            .tx({
                let batch = batch.clone();
                async move |tx: &mut database::Tx<'_>| store::add_clicks(tx, &name, number, now, &batch).await
            })
            .await;
        let took: Duration = clock.monotonic().saturating_sub(started);
        self.telemetry.flush_seconds.observe(took.as_secs_f64());
        if let Err(e) = outcome {
            self.telemetry.flush_failures.inc();
            return Err(e);
        }
        let written: u64 = batch.iter().map(|c| c.counts.people + c.counts.bots).sum();
        self.telemetry.clicks_written.inc_by(written);
        self.add_pending(-i64::try_from(written).unwrap_or(i64::MAX));
        writer.next_batch += 1;
        writer.batch = Arc::default();
        Ok(())
    }

    /// Clicks counted in memory that are not yet written.
    pub(crate) fn pending_count(&self) -> u64 {
        u64::try_from(self.pending_count.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
