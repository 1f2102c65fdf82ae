//! What runs in the background, on every node.

use std::time::Duration;

use kernel::{Backoff, OnPanic, Shutdown, Tasks};

use crate::service::Shortener;

/// How often the queue of clicks is emptied into memory, so that it stays short.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);
/// How often old minutes are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(1);
/// The most steps of expiry in a row, so that a backlog does not hold the database.
const EXPIRY_STEPS: u32 = 20;

impl Shortener {
    /// Starts the background work on `tasks` (of the stage of systems, so that clicks are written before planes close).
    pub fn start(&self, tasks: &Tasks) {
        let restart = OnPanic::Restart(Backoff::STANDARD);
        let this = self.clone();
        tasks.supervise("shortener clicks", restart, move |shutdown| write_clicks(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("shortener ids", restart, move |shutdown| {
            let this = this.clone();
            async move { this.keep_ids(&shutdown).await }
        });
        let this = self.clone();
        tasks.supervise("shortener invalidations", restart, move |shutdown| {
            let this = this.clone();
            async move { this.hear_invalidations(&shutdown).await }
        });
        let this = self.clone();
        tasks.supervise("shortener domains", restart, move |shutdown| {
            let this = this.clone();
            async move { this.keep_domains(&shutdown).await }
        });
        let this = self.clone();
        tasks.supervise("shortener expiry", restart, move |shutdown| expire(this.clone(), shutdown));
    }
}

/// Writes clicks about every `click_flush_interval`, and what is left at shutdown.
async fn write_clicks(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    let interval = shortener.config().click_flush_interval;
    let mut flushed_at = clock.monotonic();
    let mut is_failing = false;
    while shutdown.or(clock.sleep(GATHER_INTERVAL.min(interval))).await.is_some() {
        if clock.monotonic().saturating_sub(flushed_at) < interval {
            shortener.gather_clicks().await;
            continue;
        }
        flushed_at = clock.monotonic();
        match shortener.flush_clicks().await {
            Ok(()) if is_failing => {
                tracing::info!("clicks are written again");
                is_failing = false;
            }
            Ok(()) => {}
            Err(problem) => {
                if !is_failing {
                    tracing::warn!(%problem, "clicks cannot be written; they are kept in memory and tried again");
                }
                is_failing = true;
            }
        }
    }
    if let Err(problem) = shortener.flush_clicks().await {
        let lost = shortener.pending_clicks();
        tracing::error!(%problem, lost, "clicks could not be written at shutdown");
    }
}

/// Takes old minutes away in bounded steps.
async fn expire(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    while shutdown.or(clock.sleep(EXPIRY_INTERVAL)).await.is_some() {
        for _ in 0..EXPIRY_STEPS {
            match shortener.expire_minutes().await {
                Ok(true) if !shutdown.is_triggered() => {}
                Ok(_) => break,
                Err(problem) => {
                    tracing::warn!(%problem, "old minutes could not be taken away");
                    break;
                }
            }
        }
    }
}
