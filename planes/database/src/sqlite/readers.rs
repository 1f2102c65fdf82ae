//! The read connections: they see what is committed, beside the writer and without waiting for it.
//!
//! A short read runs on the thread of its caller, which is five times as fast as handing it to another thread. A read that
//! turns out long (about a millisecond of SQLite's work) is stopped and run again on a thread that may block.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use kernel::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Conn, conn::Stopped};
use crate::{Error, Result, Row, Value, config::SqliteOptions, stats::Counters, value};

pub(super) struct Readers(Arc<Shared>);

struct Shared {
    idle: Mutex<Vec<Conn>>,
    permits: Arc<Semaphore>,
    options: SqliteOptions,
    clock: Clock,
    counters: Arc<Counters>,
}

/// A connection that goes back when dropped, together with its place.
struct Lent {
    shared: Arc<Shared>,
    conn: Option<Conn>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.shared.counters.reads_in_use.fetch_sub(1, Ordering::Relaxed);
        if let Some(conn) = self.conn.take()
            && !self.shared.permits.is_closed()
        {
            self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
    }
}

impl Readers {
    pub(super) fn open(path: &Path, options: &SqliteOptions, clock: &Clock, counters: &Arc<Counters>) -> Result<Self> {
        let count = options.read_connection_count.max(1);
        let idle = (0..count).map(|_| Conn::open_reader(path, options, clock, counters)).collect::<Result<Vec<_>>>()?;
        Ok(Self(Arc::new(Shared {
            idle: Mutex::new(idle),
            permits: Arc::new(Semaphore::new(count)),
            options: options.clone(),
            clock: clock.clone(),
            counters: counters.clone(),
        })))
    }

    pub(super) fn close(&self) {
        self.0.permits.close();
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn lend(&self) -> Result<Lent> {
        let shared = &self.0;
        let permit = match shared.permits.clone().try_acquire_owned() {
            // Spends this task's share of the thread, so that a loop of reads lets others run.
            Ok(permit) => {
                tokio::task::coop::consume_budget().await;
                permit
            }
            Err(_) => shared
                .clock
                .timeout(shared.options.queue_wait, shared.permits.clone().acquire_owned())
                .await
                .ok_or(Error::Overloaded)?
                .map_err(|_| Error::Closed)?,
        };
        let conn = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(Error::Closed)?;
        shared.counters.reads_in_use.fetch_add(1, Ordering::Relaxed);
        Ok(Lent { shared: shared.clone(), conn: Some(conn), _permit: permit })
    }

    pub(super) async fn query(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        value::check(&params)?;
        let mut lent = self.lend().await?;
        let Some(conn) = lent.conn.as_mut() else { return Err(Error::Closed) };
        match conn.query_inline(sql, &params) {
            Ok(rows) => return Ok(rows),
            Err(Stopped::Failed(e)) => return Err(e),
            Err(Stopped::TooLong) => {}
        }
        let long = tokio::task::spawn_blocking(move || match lent.conn.as_mut() {
            Some(conn) => conn.query(sql, &params),
            None => Err(Error::Closed),
        });
        long.await.map_err(|_| Error::Closed)?
    }
}
