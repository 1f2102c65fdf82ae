//! Watchers: a cursor each, on the latest changes in memory, and on the log behind them.
//!
//! WATCH-1: a watcher gives each change of its keys at or after `next` once, in the order of revisions, those of one revision together;
//! `next` never goes back, and passes a revision only when its changes were given or none was asked for.

use std::sync::Arc;

use kernel::ProjectId;
use tokio::sync::watch;

use super::{Shared, Space};
use crate::{
    Error, Result,
    model::{Event, KeyRange},
    store,
};

/// Revisions looked at in one go.
const STEP: usize = 1000;

/// What a watcher leaves out, and what it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Without what was put.
    pub no_puts: bool,
    /// Without what was deleted.
    pub no_deletes: bool,
    /// With what was there before.
    pub wants_previous: bool,
}

/// Changes of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which.
    pub revision: i64,
    /// At least one.
    pub events: Vec<Event>,
}

/// Changes of some keys, as they come. Holds no queue: one that is slow reads the log.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    project: ProjectId,
    space: Arc<Space>,
    newest: watch::Receiver<i64>,
    keys: KeyRange,
    filter: Filter,
    next: i64,
}

impl Watcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        project: ProjectId,
        space: Arc<Space>,
        keys: KeyRange,
        from: i64,
        filter: Filter,
    ) -> Self {
        let newest = space.subscribe();
        let next = if from > 0 { from } else { *newest.borrow() + 1 };
        Self { shared, project, space, newest, keys, filter, next }
    }

    /// Every change up to this revision was given; what comes is after it.
    pub fn progress(&self) -> i64 {
        self.next - 1
    }

    /// The next changes: of several revisions, if they are there. Waits for one. Dropped while it waits, nothing is lost.
    pub async fn next(&mut self) -> Result<Vec<Batch>> {
        loop {
            let newest = *self.newest.borrow_and_update();
            if self.next > newest {
                self.newest.changed().await.map_err(|_| Error::Stopped)?;
                continue;
            }
            let (batches, next) = match self.space.recent(self.next, STEP) {
                Some(revisions) => {
                    let next = revisions.last().map_or(self.next, |(revision, _)| revision + 1);
                    let batches = revisions.iter().filter_map(|(revision, events)| self.wanted(*revision, events));
                    (batches.collect(), next)
                }
                None => self.read_log(newest).await?,
            };
            self.next = next;
            if !batches.is_empty() {
                return Ok(batches);
            }
        }
    }

    fn wanted(&self, revision: i64, events: &[Event]) -> Option<Batch> {
        let wanted = |e: &&Event| {
            let is_out = if e.is_delete { self.filter.no_deletes } else { self.filter.no_puts };
            !is_out && self.keys.contains(&e.kv.key)
        };
        let events: Vec<Event> = events
            .iter()
            .filter(wanted)
            .map(|e| Event { previous: e.previous.clone().filter(|_| self.filter.wants_previous), ..e.clone() })
            .collect();
        (!events.is_empty()).then_some(Batch { revision, events })
    }

    /// Some revisions of the log, whole ones, and what comes after them.
    async fn read_log(&self, newest: i64) -> Result<(Vec<Batch>, i64)> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        let (mut at, mut seen) = ((self.next - 1, i64::MAX), 0);
        let mut next = newest + 1;
        loop {
            let page = store::log(&self.shared.db, &self.project, at, newest).await?;
            let is_end = page.is_empty();
            for entry in page {
                let revision = entry.kv.mod_revision;
                if revision != at.0 {
                    batches.extend(self.wanted(at.0, &std::mem::take(&mut events)));
                    if seen >= STEP {
                        next = revision;
                        break;
                    }
                }
                at = (revision, entry.sub);
                seen += 1;
                let previous = if self.filter.wants_previous && entry.previous > 0 && self.keys.contains(&entry.kv.key)
                {
                    store::at(&self.shared.db, &self.project, &entry.kv.key, entry.previous).await?
                } else {
                    None
                };
                events.push(Event { kv: entry.kv, is_delete: entry.is_delete, previous });
            }
            if is_end || next <= newest {
                break;
            }
        }
        batches.extend(self.wanted(at.0, &events));
        // Looked at afterwards: what was given up while this was read is told.
        let compacted = store::head(&self.shared.db, &self.project).await?.compacted;
        if self.next < compacted { Err(Error::Compacted(compacted)) } else { Ok((batches, next)) }
    }
}
