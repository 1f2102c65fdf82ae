//! Ids by blocks.
//!
//! - BLOCKS-1: no two nodes, and no two calls, get the same id: a block is taken from the database in a transaction of its
//!   own before any of it is used, and is never given back.
//! - BLOCKS-2: a crash wastes what is left in memory: less than two blocks.
//! - BLOCKS-3: while the prefetcher runs, a creation waits for a block only when a whole half block is used up faster than
//!   the database answers.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use database::Db;
use kernel::Shutdown;
use tokio::sync::Notify;

use crate::{store, telemetry::Telemetry};

#[derive(Debug)]
pub(crate) struct Blocks {
    db: Db,
    size: u32,
    ranges: Mutex<VecDeque<Range<u64>>>,
    /// Whoever fetches: one at a time, so that a burst takes one block and not one each.
    fetching: tokio::sync::Mutex<()>,
    low: Notify,
    telemetry: Telemetry,
}

impl Blocks {
    pub(crate) fn new(db: Db, size: u32, telemetry: Telemetry) -> Self {
        Self {
            db,
            size: size.max(1),
            ranges: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            low: Notify::new(),
            telemetry,
        }
    }

    /// The next id.
    pub(crate) async fn take(&self) -> database::Result<u64> {
        loop {
            if let Some(id) = self.pop() {
                return Ok(id);
            }
            let _turn = self.fetching.lock().await;
            if self.left() == 0 {
                self.fetch().await?;
            }
        }
    }

    /// Keeps half a block in reserve until shutdown. A failure is left to the creation that finds no id.
    pub(crate) async fn keep_filled(&self, shutdown: &Shutdown) {
        while shutdown.or(self.low.notified()).await.is_some() {
            let _turn = self.fetching.lock().await;
            if self.is_low()
                && let Err(e) = self.fetch().await
            {
                tracing::warn!(error = %e, "no block of ids could be fetched ahead");
            }
        }
    }

    async fn fetch(&self) -> database::Result<()> {
        let first = store::allocate_block(&self.db, self.size).await?;
        self.telemetry.id_blocks.inc();
        self.lock().push_back(first..first + u64::from(self.size));
        Ok(())
    }

    fn pop(&self) -> Option<u64> {
        let id = {
            let mut ranges = self.lock();
            let id = ranges.front_mut()?.next();
            while ranges.front().is_some_and(Range::is_empty) {
                ranges.pop_front();
            }
            id
        };
        if self.is_low() {
            self.low.notify_one();
        }
        id
    }

    fn left(&self) -> u64 {
        self.lock().iter().map(|r| r.end - r.start).sum()
    }

    fn is_low(&self) -> bool {
        self.left() <= u64::from(self.size / 2)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Range<u64>>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
