//! The way of a click from the redirect to the rollups.
//!
//! ```text
//! redirect ─push─▶ queue (a part for each worker) ─gather─▶ open segment ─append, each second─▶ click log ─roll─▶ rollups
//!                  └──────────────── in memory ─────────────────────────┘ └─────────────── in the database ───────────────┘
//! ```
//!
//! - CLICKS-1: a redirect never waits for a click and never fails because of one: `push` takes no lock that is held, and when there
//!   is no room it drops the click and counts it.
//! - CLICKS-2: `recorded = logged + in memory + lost`, and what was offered is `recorded + dropped`. Lost is only what rule CLICKS-3
//!   gives up.
//! - CLICKS-3: a click is in the rollups at most once, and once when its segment is in the log: a segment is appended under a number of
//!   its writer, which a repeated append finds taken; each part of rolling (some links, at last the projects) notes how far the
//!   segment is in the transaction that adds it, and does nothing when it is not as far as was read. So a COMMIT in doubt, two nodes with the same segments, and a node that comes back after others took its segments
//!   over all count once. A segment whose append stays in doubt for `raw_clicks_kept` is given up, since it may have been
//!   rolled and deleted meanwhile.
//! - CLICKS-4: memory is bounded by `click_queue` × parts, by `click_memory` for what waits for the log, and by
//!   [`ROLL_CLICKS`] for what is rolled at once.

mod countries;
mod queue;
mod visitors;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use database::Db;
use kernel::{Clock, Problem, ProjectId};

pub(crate) use self::countries::Countries;
pub(crate) use self::queue::Click;
use self::queue::{Queue, Taken};
pub(crate) use self::visitors::{Remembered, SALT_GRACE, Salts};
use crate::{
    config::ShortenerConfig,
    model::{Record, Rollup, Segment, Writer},
    store::{self, NewSegment, RollError, SegmentRef},
    telemetry::Telemetry,
};

/// A segment is closed before its second is over when it has so many bytes.
const SEGMENT_BYTES: usize = 1 << 20;
/// The most clicks that are rolled together, unless a single segment has more.
const ROLL_CLICKS: u64 = 100_000;
/// The most segments that are rolled together.
const ROLL_SEGMENTS: u32 = 64;
/// The most links that one transaction rolls: a few milliseconds, so that on SQLite, where there is one writer, whoever makes a link
/// meanwhile waits no longer.
const ROLL_LINKS: usize = 24;
/// From this age on, segments of any writer are rolled by whoever finds them.
const ADOPT_AFTER: Duration = Duration::from_mins(1);
/// How often rolling starts over when other nodes took some of the segments first.
const ROLL_ATTEMPTS: u32 = 10;

/// A project by a small number, so that a click is a few words without a shared reference count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ProjectIndex(u32);

/// Projects by number. They are as many as the installation has with links that were visited.
#[derive(Debug, Default)]
struct Projects {
    by_id: HashMap<ProjectId, ProjectIndex>,
    by_index: Vec<ProjectId>,
}

/// What was gathered and is not in the log.
#[derive(Debug, Default)]
struct Gathered {
    open: Writer,
    closed: VecDeque<Arc<NewSegment>>,
    closed_bytes: usize,
    next_seq: u64,
    scratch: Taken,
}

#[derive(Debug)]
pub(crate) struct Clicks {
    /// Unique to this process: segments are numbered by it.
    writer: String,
    queue: Queue,
    projects: RwLock<Projects>,
    gathered: Mutex<Gathered>,
    /// Who holds it appends; whether the first segment's last append may have happened.
    appending: tokio::sync::Mutex<bool>,
    /// Who holds it rolls.
    rolling: tokio::sync::Mutex<()>,
    memory_limit: usize,
    is_full: AtomicBool,
    raw_clicks_kept: Duration,
    /// Clicks in memory, for the console and the gauge.
    pending_count: AtomicI64,
    /// Segments appended since rolling last found none.
    appended: AtomicUsize,
    telemetry: Telemetry,
}

impl Clicks {
    pub(crate) fn new(writer: String, part_count: usize, config: &ShortenerConfig, telemetry: Telemetry) -> Self {
        Self {
            writer,
            queue: Queue::new(part_count, config.click_queue),
            projects: RwLock::default(),
            gathered: Mutex::default(),
            appending: tokio::sync::Mutex::default(),
            rolling: tokio::sync::Mutex::default(),
            memory_limit: usize::try_from(config.click_memory.0).unwrap_or(usize::MAX),
            is_full: AtomicBool::new(false),
            raw_clicks_kept: config.raw_clicks_kept,
            pending_count: AtomicI64::new(0),
            appended: AtomicUsize::new(0),
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

    /// Records a click if there is room. Never waits.
    pub(crate) fn push(&self, worker: usize, click: Click, referrer: Option<&Arc<str>>) {
        if !self.is_full.load(Ordering::Relaxed) && self.queue.push(worker, click, referrer) {
            self.telemetry.clicks_recorded.inc();
        } else {
            self.telemetry.clicks_dropped.inc();
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is in the queue into the open segment. Cheap; done several times a second so that the queue stays short.
    pub(crate) fn gather(&self, clock: &Clock) {
        let gathered = &mut *self.gathered();
        let projects = self.projects.read().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = std::mem::take(&mut gathered.scratch);
        let mut taken_count = 0;
        self.queue.drain(&mut scratch, |taken| {
            for click in &taken.clicks {
                let index = usize::try_from(click.project.0).unwrap_or(usize::MAX);
                gathered.open.push(&Record {
                    at: click.at,
                    link: click.link,
                    project: projects.by_index.get(index).map_or("", |p| p.as_str()),
                    traits: click.traits,
                    referrer: taken.referrer(click),
                    visitor: click.visitor,
                });
            }
            taken_count += taken.clicks.len();
        });
        drop(projects);
        gathered.scratch = scratch;
        self.add_pending(i64::try_from(taken_count).unwrap_or(i64::MAX));
        if gathered.open.byte_count() >= SEGMENT_BYTES {
            gathered.close(clock);
        }
        self.note_room(gathered);
    }

    fn note_room(&self, gathered: &Gathered) {
        let bytes = gathered.closed_bytes + gathered.open.byte_count();
        self.is_full.store(bytes >= self.memory_limit, Ordering::Relaxed);
    }

    fn add_pending(&self, change: i64) {
        let now = self.pending_count.fetch_add(change, Ordering::Relaxed) + change;
        self.telemetry.clicks_pending.set(now);
    }

    /// Appends everything that was recorded before the call to the log. On an error nothing is lost: the next call goes on from there.
    pub(crate) async fn append(&self, db: &Db, clock: &Clock) -> database::Result<()> {
        let mut is_in_doubt = self.appending.lock().await;
        self.gather(clock);
        self.gathered().close(clock);
        loop {
            let Some(segment) = self.gathered().closed.front().cloned() else { return Ok(()) };
            if *is_in_doubt && clock.now().since(segment.at) >= self.raw_clicks_kept {
                tracing::error!(
                    clicks = segment.clicks,
                    "clicks are given up: whether they were written stayed in doubt"
                );
                self.telemetry.clicks_lost.inc_by(segment.clicks);
            } else {
                let started = clock.monotonic();
                let outcome = store::append_segment(db, &self.writer, &segment).await;
                self.telemetry.append_seconds.observe(clock.monotonic().saturating_sub(started).as_secs_f64());
                if let Err(e) = outcome {
                    *is_in_doubt |= e == database::Error::Unknown;
                    self.telemetry.append_failures.inc();
                    return Err(e);
                }
                self.telemetry.clicks_logged.inc_by(segment.clicks);
                self.telemetry.log_bytes.inc_by(segment.data.len() as u64);
                self.appended.fetch_add(1, Ordering::Relaxed);
            }
            *is_in_doubt = false;
            self.add_pending(-i64::try_from(segment.clicks).unwrap_or(i64::MAX));
            let mut gathered = self.gathered();
            gathered.closed.pop_front();
            gathered.closed_bytes -= segment.data.len();
            self.note_room(&gathered);
        }
    }

    /// Whether rolling would find something of this node.
    pub(crate) fn has_appended(&self) -> bool {
        self.appended.load(Ordering::Relaxed) > 0
    }

    /// Brings some segments into the rollups: this node's, and those that nobody took for a minute. Gives whether there were any.
    /// On an error nothing is lost.
    pub(crate) async fn roll(&self, db: &Db, clock: &Clock) -> Result<bool, Problem> {
        let _turn = self.rolling.lock().await;
        for _ in 0..ROLL_ATTEMPTS {
            let seen = self.appended.load(Ordering::Relaxed);
            let adopted = clock.now().minus(ADOPT_AFTER);
            let mut segments = store::waiting_segments(db, &self.writer, adopted, ROLL_SEGMENTS).await?;
            if segments.is_empty() {
                // What is appended meanwhile is seen the next time.
                self.appended.fetch_sub(seen, Ordering::Relaxed);
                return Ok(false);
            }
            let mut clicks = 0;
            segments.retain(|segment| {
                let fits = clicks == 0 || clicks + segment.clicks <= ROLL_CLICKS;
                clicks += segment.clicks;
                fits
            });
            let started = clock.monotonic();
            let outcome = self.roll_segments(db, clock, segments).await;
            self.telemetry.roll_seconds.observe(clock.monotonic().saturating_sub(started).as_secs_f64());
            match outcome {
                Ok(()) => return Ok(true),
                // Another node was faster with some of them: those that are left are read again.
                Err(RollError::Taken) => {
                    self.telemetry.rolls_taken.inc();
                }
                Err(RollError::Database(e)) => {
                    self.telemetry.roll_failures.inc();
                    return Err(e.into());
                }
            }
        }
        Err(Problem::new(&kernel::error::UNAVAILABLE, "Other nodes bring the same clicks into the rollups; try again."))
    }

    async fn roll_segments(&self, db: &Db, clock: &Clock, refs: Vec<SegmentRef>) -> Result<(), RollError> {
        let mut rollup = Rollup::default();
        let mut segments = Vec::with_capacity(refs.len());
        let mut damaged = 0;
        for segment in refs {
            // Without its data it is in the rollups by now.
            let Some(data) = store::segment_data(db, &segment).await? else { continue };
            if let Some(parsed) = Segment::parse(&data) {
                rollup.add(&parsed, segment.rolled_to);
            } else {
                let SegmentRef { writer, seq, clicks, .. } = &segment;
                tracing::error!(writer, seq, clicks, "a segment of clicks is damaged and left out");
                damaged += 1;
            }
            segments.push(segment);
        }
        let now = clock.now();
        let mut links = rollup.links.into_iter();
        loop {
            let part: Arc<Vec<_>> = Arc::new(links.by_ref().take(ROLL_LINKS).collect());
            let Some((last, _)) = part.last() else { break };
            let as_far = Arc::new(segments);
            db.tx({
                let (part, as_far) = (part.clone(), as_far.clone());
                async move |tx: &mut database::Tx<'_>| store::roll_links(tx, now, &as_far, &part).await
            })
            .await?;
            self.telemetry.roll_parts.inc();
            segments = Arc::unwrap_or_clone(as_far);
            for segment in &mut segments {
                segment.rolled_to = segment.rolled_to.max(Some(*last));
            }
        }
        let (segments, projects) = (Arc::new(segments), Arc::new(rollup.projects.into_iter().collect::<Vec<_>>()));
        db.tx({
            let segments = segments.clone();
            async move |tx: &mut database::Tx<'_>| store::roll_projects(tx, now, &segments, &projects).await
        })
        .await?;
        self.telemetry.clicks_rolled.inc_by(rollup.click_count);
        self.telemetry.segments_damaged.inc_by(damaged);
        let adopted = segments.iter().filter(|s| s.writer != self.writer).count();
        self.telemetry.segments_adopted.inc_by(adopted as u64);
        Ok(())
    }

    /// Brings everything that was recorded before the call into the rollups. On an error nothing is lost.
    pub(crate) async fn flush(&self, db: &Db, clock: &Clock) -> Result<(), Problem> {
        self.append(db, clock).await?;
        while self.roll(db, clock).await? {}
        Ok(())
    }

    /// Clicks in memory that are not in the log.
    pub(crate) fn pending_count(&self) -> u64 {
        u64::try_from(self.pending_count.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Gathered {
    /// Closes the open segment, if it has clicks.
    fn close(&mut self, clock: &Clock) {
        if self.open.count() == 0 {
            return;
        }
        let open = std::mem::take(&mut self.open);
        let clicks = open.count();
        let segment = NewSegment { seq: self.next_seq, at: clock.now(), clicks, data: open.finish() };
        self.next_seq += 1;
        self.closed_bytes += segment.data.len();
        self.closed.push_back(Arc::new(segment));
    }
}
