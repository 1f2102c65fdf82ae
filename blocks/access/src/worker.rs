//! Background loops: forgetting what other nodes changed, writing noted times, deleting what has ended.

use std::{sync::atomic::Ordering, time::Duration};

use database::Change;
use kernel::{Backoff, OnPanic, Shutdown, Tasks, Timestamp};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    Access,
    service::{KEYS_TOPIC, SESSIONS_TOPIC},
};

/// How often noted times are written and ended rows deleted.
const ROUND: Duration = Duration::from_secs(30);
/// How many rows one statement deletes, and how many such statements a round has: the rest waits for the next.
const BATCH: i64 = 1_000;
const MAX_BATCHES: usize = 20;

/// Starts them.
pub(crate) fn spawn(access: &Access, tasks: &Tasks) {
    // Watch before the first request, so that nothing is missed between.
    let watching = (access.0.db.watch(KEYS_TOPIC), access.0.db.watch(SESSIONS_TOPIC));
    let (one, mut first) = (access.clone(), Some(watching));
    tasks.supervise("access invalidation", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
        let access = one.clone();
        let watching = first.take();
        async move {
            let (keys, sessions) =
                watching.unwrap_or_else(|| (access.0.db.watch(KEYS_TOPIC), access.0.db.watch(SESSIONS_TOPIC)));
            shutdown.or(invalidate(access, keys, sessions)).await.unwrap_or_default();
        }
    });
    let two = access.clone();
    tasks
        .supervise("access upkeep", OnPanic::Restart(Backoff::STANDARD), move |shutdown| upkeep(two.clone(), shutdown));
}

async fn invalidate(access: Access, mut keys: Receiver<Change>, mut sessions: Receiver<Change>) {
    loop {
        let ended = tokio::select! {
            change = keys.recv() => heard(&change, |key| access.forget_key_of(key), || access.forget_all_keys()),
            change = sessions.recv() => {
                heard(&change, |key| access.forget_session_of(key), || access.forget_all_sessions())
            }
        };
        access.0.heard_count.fetch_add(1, Ordering::Relaxed);
        if ended {
            return;
        }
    }
}

/// `true` when there is nothing more to hear.
fn heard(change: &Result<Change, RecvError>, one: impl FnOnce(i64), all: impl FnOnce()) -> bool {
    match change {
        Ok(Change::Key(key)) => one(*key),
        Ok(Change::Resync) | Err(RecvError::Lagged(_)) => all(),
        Err(RecvError::Closed) => return true,
    }
    false
}

async fn upkeep(access: Access, shutdown: Shutdown) {
    loop {
        let stopping = shutdown.or(access.clock().sleep(ROUND)).await.is_none();
        // Read before: what was seen until now is written before anything of then is deleted.
        let now = access.clock().now();
        if let Err(e) = access.write_noted().await {
            tracing::warn!(error = %e, "times of last use were not written");
        }
        if stopping {
            return;
        }
        delete_ended(&access, now).await;
    }
}

async fn delete_ended(access: &Access, now: Timestamp) {
    for _ in 0..MAX_BATCHES {
        match access.delete_ended(now, BATCH).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) => {
                tracing::warn!(error = %e, "ended sessions and idempotency records were not deleted");
                return;
            }
        }
    }
}
