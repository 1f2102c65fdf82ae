//! A project's keys in memory, and its latest changes for those who watch.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use kernel::ProjectId;
use tokio::sync::watch;

use crate::model::{Event, Keyspace};

/// The most changes kept for watchers, and the most bytes of them; who is further back reads the log.
const RECENT_COUNT: usize = 10_000;
const RECENT_BYTES: usize = 16 << 20;

/// The changes of one revision.
pub(crate) type Revision = (i64, Arc<[Event]>);

/// All keys of one project, as this node knows them.
#[derive(Debug)]
pub(crate) struct Space {
    keys: RwLock<Keyspace>,
    compacted: AtomicI64,
    recent: Mutex<Recent>,
    /// The newest revision; moves after keys and changes have.
    newest: watch::Sender<i64>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Without gaps, up to the newest.
    changes: VecDeque<Revision>,
    bytes: usize,
}

fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(|e| 64 + e.kv.key.len() + e.kv.value.len()).sum()
}

impl Space {
    pub(crate) fn new(keys: Keyspace, compacted: i64) -> Self {
        let newest = watch::Sender::new(keys.revision);
        Self { keys: RwLock::new(keys), compacted: compacted.into(), recent: Mutex::default(), newest }
    }

    pub(crate) fn read<T>(&self, f: impl FnOnce(&Keyspace) -> T) -> T {
        f(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn revision(&self) -> i64 {
        *self.newest.borrow()
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    pub(crate) fn note_compacted(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    pub(crate) fn watcher_count(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Makes committed changes seen: keys first, then who watches.
    pub(crate) fn commit(&self, changes: Vec<(i64, Vec<Event>)>) {
        let Some(newest) = changes.last().map(|(revision, _)| *revision) else { return };
        {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            for (revision, events) in &changes {
                keys.commit(events, *revision);
            }
        }
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            for (revision, events) in changes {
                recent.bytes += bytes_of(&events);
                recent.changes.push_back((revision, events.into()));
            }
            while recent.changes.len() > RECENT_COUNT || recent.bytes > RECENT_BYTES {
                let Some((_, gone)) = recent.changes.pop_front() else { break };
                recent.bytes -= bytes_of(&gone);
            }
        }
        self.newest.send_replace(newest);
    }

    /// Begins anew with keys that were read as a whole, since the changes up to them were given up.
    pub(crate) fn replace(&self, keys: Keyspace) {
        let newest = keys.revision;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Recent::default();
        self.newest.send_replace(newest);
    }

    /// The changes from a revision on, at most `limit` revisions; `None` when they are not all here.
    pub(crate) fn recent(&self, from: i64, limit: usize) -> Option<Vec<Revision>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = recent.changes.front()?.0;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        Some(recent.changes.iter().skip(skip).take(limit).cloned().collect())
    }
}

/// The projects whose keys are in memory.
#[derive(Debug, Default)]
pub(crate) struct Spaces(RwLock<HashMap<ProjectId, Arc<Space>>>);

impl Spaces {
    pub(crate) fn get(&self, project: &ProjectId) -> Option<Arc<Space>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(project).cloned()
    }

    pub(crate) fn insert(&self, project: ProjectId, space: Arc<Space>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(project, space);
    }

    pub(crate) fn all(&self) -> Vec<(ProjectId, Arc<Space>)> {
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        spaces.iter().map(|(project, space)| (project.clone(), space.clone())).collect()
    }
}
