//! What runs in the background, on every node.

use std::time::Duration;

use database::Change;
use kernel::{Backoff, OnPanic, Shutdown, Tasks};
use tokio::sync::broadcast::error::RecvError;

use crate::{service::Limiter, store};

/// How often the database is asked for changed rules when nothing wakes this node.
const POLL: Duration = Duration::from_millis(500);
/// How often the file of rules is looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

impl Limiter {
    /// Starts the background work on `tasks` (of the stage of blocks).
    pub fn start(&self, tasks: &Tasks) {
        let restart = OnPanic::Restart(Backoff::STANDARD);
        let this = self.clone();
        tasks.supervise("limiter rules", restart, move |shutdown| follow(this.clone(), shutdown));
        if self.has_file() {
            let this = self.clone();
            tasks.supervise("limiter rules file", restart, move |shutdown| watch_file(this.clone(), shutdown));
        }
    }
}

/// Takes the rules that other nodes change: at once when woken, else within [`POLL`].
async fn follow(limiter: Limiter, shutdown: Shutdown) {
    let clock = limiter.clock().clone();
    let mut changes = limiter.db().watch(store::TOPIC);
    let mut is_failing = false;
    loop {
        // First of all once: what changed before this node listened woke nobody.
        match limiter.refresh().await {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                tracing::warn!(%error, "changed rules cannot be read; those known stay");
                is_failing = true;
            }
            Err(_) => {}
        }
        limiter.show_state();
        tokio::select! {
            change = changes.recv() => match change {
                Ok(Change::Key(_) | Change::Resync) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = clock.sleep(POLL) => {}
            () = shutdown.wait() => return,
        }
    }
}

async fn watch_file(limiter: Limiter, shutdown: Shutdown) {
    let clock = limiter.clock().clone();
    while shutdown.or(clock.sleep(FILE_INTERVAL)).await.is_some() {
        limiter.refresh_file().await;
    }
}
