//! What runs in the background, on every node.

use std::time::Duration;

use database::Change;
use kernel::{Backoff, OnPanic, Shutdown, Tasks};
use tokio::sync::broadcast::error::RecvError;

use crate::{service::Gateway, store};

/// How often the database is asked for another version when nothing wakes this node.
const POLL: Duration = Duration::from_millis(500);
/// How often the file is looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

impl Gateway {
    /// Starts the background work on `tasks` (of the stage of systems).
    pub fn start(&self, tasks: &Tasks) {
        let restart = OnPanic::Restart(Backoff::STANDARD);
        let this = self.clone();
        tasks.supervise("gateway document", restart, move |shutdown| follow(this.clone(), shutdown));
        if self.is_in_file() {
            let this = self.clone();
            tasks.supervise("gateway file", restart, move |shutdown| watch_file(this.clone(), shutdown));
        }
    }
}

/// Takes the document that other nodes write, and what is drained: at once when woken, else within [`POLL`].
async fn follow(gateway: Gateway, shutdown: Shutdown) {
    let clock = gateway.0.clock.clone();
    let mut changes = gateway.0.db.watch(store::TOPIC);
    let mut is_failing = false;
    loop {
        // First of all once: what changed before this node listened woke nobody.
        let read = match gateway.refresh().await {
            Ok(()) => gateway.refresh_drains().await,
            failed => failed,
        };
        match read {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                tracing::warn!(%error, "the gateway's document cannot be read; the one that holds stays");
                is_failing = true;
            }
            Err(_) => {}
        }
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

async fn watch_file(gateway: Gateway, shutdown: Shutdown) {
    let clock = gateway.0.clock.clone();
    while shutdown.or(clock.sleep(FILE_INTERVAL)).await.is_some() {
        gateway.refresh_file().await;
    }
}
