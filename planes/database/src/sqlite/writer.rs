//! The writer: one thread that owns the only connection that writes, and commits in groups.
//!
//! ```text
//! BEGIN IMMEDIATE ─ SAVEPOINT job1 RELEASE ─ SAVEPOINT job2 ROLLBACK TO ─ … queue empty ─ COMMIT ─ answer job1, job2, …
//! ```
//!
//! It never waits for more work: on every disk measured, waiting lowered the throughput, because while one group is being
//! synced the next one gathers in the queue by itself.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use kernel::Clock;
use tokio::sync::mpsc;

use super::{Conn, Job, Ran, WAL_LIMIT_BYTES};
use crate::{Change, Error, Result, config::SqliteOptions, stats::Counters, topics::Topics};

/// Groups between two looks at the size of the write-ahead log.
const GROUPS_PER_LOOK: u32 = 256;
/// Longest that the writer waits for readers so that the write-ahead log can start over.
const RESTART_WAIT: Duration = Duration::from_millis(100);

pub(super) struct Writer {
    pub(super) conn: Conn,
    pub(super) queue: mpsc::Receiver<Box<dyn Job>>,
    pub(super) options: SqliteOptions,
    pub(super) wal_path: PathBuf,
    pub(super) clock: Clock,
    pub(super) topics: Arc<Topics>,
    pub(super) counters: Arc<Counters>,
    /// After a failed fsync nobody knows what the kernel still holds: nothing is written until the file is opened anew.
    pub(super) lost: Option<String>,
}

impl Writer {
    /// Runs until every sender is gone or the queue is closed, and everything in it is answered.
    pub(super) fn run(mut self) {
        let mut group_count = 0_u32;
        while let Some(first) = self.queue.blocking_recv() {
            self.took(1);
            if let Some(reason) = &self.lost {
                self.counters.jobs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                first.answer(Err(Error::Conn(reason.clone())));
                continue;
            }
            // Jobs that lost their group to another job's failure run once more, without that job.
            let innocent = self.group(vec![first], true);
            if !innocent.is_empty() {
                for job in self.group(innocent, false) {
                    job.answer(Err(Error::Retry));
                }
            }
            group_count = group_count.wrapping_add(1);
            if group_count.is_multiple_of(GROUPS_PER_LOOK) {
                self.bound_wal();
            }
        }
        if self.lost.is_none()
            && let Err(e) = self.conn.raw().pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))
        {
            tracing::debug!(error = %e, "the write-ahead log stays for the next start");
        }
    }

    fn took(&self, count: u64) {
        self.counters.queue_length.fetch_sub(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// Runs one group; gives back the jobs that have to run again because another one broke the group.
    fn group(&mut self, first: Vec<Box<dyn Job>>, may_draw: bool) -> Vec<Box<dyn Job>> {
        let may_draw = may_draw && self.options.group;
        if let Err(e) = self.conn.control("BEGIN IMMEDIATE") {
            self.refuse(first, may_draw, &e);
            return Vec::new();
        }
        // Not before BEGIN, which may have waited for a foreign lock.
        let started = self.clock.monotonic();
        let mut waiting = first.into_iter();
        let mut ran: Vec<Box<dyn Job>> = Vec::new();
        loop {
            let Some(mut job) = waiting.next().or_else(|| {
                let full = ran.len() >= self.options.group_job_count
                    || self.clock.monotonic().saturating_sub(started) >= self.options.group_time;
                if may_draw && !full { self.draw() } else { None }
            }) else {
                break;
            };
            if job.is_abandoned() {
                continue;
            }
            if let Err(blame) = self.run_job(job.as_mut()) {
                // SQLite has left the transaction: nothing of this group is committed.
                self.leave();
                tracing::warn!(jobs = ran.len(), "a group of transactions was rolled back");
                self.done(1);
                job.answer(blame.map_or(Ok(()), Err));
                ran.extend(waiting);
                self.counters.reruns.fetch_add(ran.len() as u64, std::sync::atomic::Ordering::Relaxed);
                return ran;
            }
            ran.push(job);
        }
        self.commit(ran);
        Vec::new()
    }

    fn draw(&mut self) -> Option<Box<dyn Job>> {
        let job = self.queue.try_recv().ok()?;
        self.took(1);
        Some(job)
    }

    /// Runs one job; `Err` when the group is lost, with what the job is to be told unless its own error says it.
    fn run_job(&mut self, job: &mut dyn Job) -> Result<(), Option<Error>> {
        let has_savepoint = job.needs_savepoint();
        if has_savepoint {
            self.conn.control("SAVEPOINT job").map_err(Some)?;
        }
        let ran = job.run(&mut self.conn);
        if self.conn.is_autocommit() {
            return Err(match ran {
                Ran::Undo => None,
                Ran::Keep => Some(Error::Other("a statement ended the transaction that it was part of".to_owned())),
            });
        }
        if has_savepoint {
            if ran == Ran::Undo {
                self.conn.control("ROLLBACK TO job").map_err(Some)?;
            }
            self.conn.control("RELEASE job").map_err(Some)?;
        }
        Ok(())
    }

    fn commit(&mut self, ran: Vec<Box<dyn Job>>) {
        let size = ran.len();
        let before = self.clock.monotonic();
        let committed = self.conn.control("COMMIT");
        self.counters.commit(self.clock.monotonic().saturating_sub(before));
        self.done(size as u64);
        match committed {
            Ok(()) => {
                self.counters.group(size);
                let mut changes = Vec::new();
                for mut job in ran {
                    changes.extend(job.changes());
                    job.answer(Ok(()));
                }
                for (topic, key) in changes {
                    self.topics.wake(topic, Change::Key(key));
                }
            }
            Err(e) => {
                self.leave();
                // Only a refused write is certain not to have left a whole commit record behind.
                let certain = matches!(e, Error::DiskFull | Error::Busy | Error::ForeignKey);
                tracing::error!(error = %e, jobs = size, certain, "COMMIT failed");
                if !certain {
                    self.lost.get_or_insert_with(|| format!("an earlier COMMIT failed: {e}; restart to recover"));
                }
                for job in ran {
                    let told = if certain { e.clone() } else { Error::Unknown };
                    self.counters.error(&told);
                    job.answer(Err(told));
                }
            }
        }
    }

    /// Makes sure that no transaction is open.
    fn leave(&mut self) {
        if !self.conn.is_autocommit()
            && let Err(e) = self.conn.control("ROLLBACK")
            && !self.conn.is_autocommit()
        {
            self.lost.get_or_insert_with(|| format!("ROLLBACK failed: {e}; restart to recover"));
        }
    }

    /// BEGIN failed: whoever waits by now would fail alike, each after the same wait.
    fn refuse(&mut self, first: Vec<Box<dyn Job>>, may_draw: bool, e: &Error) {
        let mut refused = first;
        while may_draw
            && refused.len() < self.options.group_job_count
            && let Some(job) = self.draw()
        {
            refused.push(job);
        }
        self.done(refused.len() as u64);
        for job in refused {
            job.answer(Err(e.clone()));
        }
    }

    fn done(&self, count: u64) {
        self.counters.jobs.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// Under constant readers the automatic checkpoints copy pages but can never start the log over, and it would grow for
    /// ever: past its limit, wait a moment for the readers that still look at it.
    fn bound_wal(&self) {
        let size = fs::metadata(&self.wal_path).map_or(0, |m| m.len());
        if size <= WAL_LIMIT_BYTES {
            return;
        }
        let conn = self.conn.raw();
        let restart = || -> rusqlite::Result<()> {
            conn.busy_timeout(RESTART_WAIT)?;
            let outcome = conn.pragma_update_and_check(None, "wal_checkpoint", "RESTART", |_| Ok(()));
            conn.busy_timeout(self.options.busy_timeout)?;
            outcome
        };
        if let Err(e) = restart() {
            tracing::warn!(error = %e, wal_bytes = size, "the write-ahead log could not start over yet");
        }
    }
}
