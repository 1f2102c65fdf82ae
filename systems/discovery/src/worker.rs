//! What runs in the background, on every node.

use std::time::Duration;

use database::Change;
use kernel::{Backoff, OnPanic, Shutdown, Tasks};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    service::{BEAT_INTERVAL, Discovery, probes},
    store,
};

/// How often the database is asked for changes when nothing wakes this node.
const POLL: Duration = Duration::from_millis(500);
/// How often it is looked whether somebody died.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Discovery {
    /// Starts the background work on `tasks` (of the stage of systems).
    pub fn start(&self, tasks: &Tasks) {
        let restart = OnPanic::Restart(Backoff::STANDARD);
        let this = self.clone();
        tasks.supervise("discovery changes", restart, move |shutdown| follow(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("discovery members", restart, move |shutdown| live(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("discovery sweep", restart, move |shutdown| sweep(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("discovery probes", restart, move |shutdown| probes::run(this.clone(), shutdown));
    }
}

/// Takes what other nodes change: at once when woken, else within [`POLL`].
async fn follow(discovery: Discovery, shutdown: Shutdown) {
    let clock = discovery.shared().clock.clone();
    let mut changes = discovery.db().watch(store::TOPIC);
    let mut is_failing = false;
    loop {
        // First of all once: what changed before this node listened woke nobody.
        match discovery.refresh().await {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                tracing::warn!(%error, "changes cannot be read; what is known stays");
                is_failing = true;
            }
            Err(_) => {}
        }
        discovery.show_state();
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

/// Says every two seconds that this node is alive, and when it stops that it is not.
async fn live(discovery: Discovery, shutdown: Shutdown) {
    let clock = discovery.shared().clock.clone();
    loop {
        if let Err(error) = discovery.beat_node().await {
            tracing::debug!(%error, "the table of nodes cannot be reached");
        }
        if shutdown.or(clock.sleep(BEAT_INTERVAL)).await.is_none() {
            return discovery.leave().await;
        }
    }
}

async fn sweep(discovery: Discovery, shutdown: Shutdown) {
    let clock = discovery.shared().clock.clone();
    while shutdown.or(clock.sleep(SWEEP_INTERVAL)).await.is_some() {
        if let Err(error) = discovery.sweep().await {
            tracing::debug!(%error, "what time brought is carried out in a moment");
        }
    }
}
