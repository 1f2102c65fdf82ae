//! What runs in the background, on every node.

mod imports;

use std::time::Duration;

use kernel::{Backoff, OnPanic, Problem, Shutdown, Tasks};

use crate::service::Shortener;

/// How often the queue of clicks is emptied into memory, so that it stays short.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);
/// How long rolling pauses: as many times longer than it took as makes it a twentieth of a thread's time, but clicks are never more
/// than about a quarter of a minute behind.
const ROLL_PAUSE_FACTOR: u32 = 20;
const ROLL_PAUSE_MIN: Duration = Duration::from_secs(1);
const ROLL_PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often the file of countries is looked at.
const COUNTRIES_INTERVAL: Duration = Duration::from_secs(10);
/// How often what is too old is looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(1);
/// The most steps of expiry in a row, so that a backlog does not hold the database.
const EXPIRY_STEPS: u32 = 20;

impl Shortener {
    /// Starts the background work on `tasks` (of the stage of systems, so that clicks are written before planes close).
    pub fn start(&self, tasks: &Tasks) {
        let restart = OnPanic::Restart(Backoff::STANDARD);
        let this = self.clone();
        tasks.supervise("shortener clicks", restart, move |shutdown| gather(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("shortener click log", restart, move |shutdown| log(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("shortener rollups", restart, move |shutdown| roll(this.clone(), shutdown));
        if self.countries().is_on() {
            let this = self.clone();
            tasks.supervise("shortener countries", restart, move |shutdown| countries(this.clone(), shutdown));
        }
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
        tasks.supervise("shortener imports", restart, move |shutdown| imports::run(this.clone(), shutdown));
        let this = self.clone();
        tasks.supervise("shortener block lists", restart, move |shutdown| {
            let this = this.clone();
            async move { this.keep_block_lists(&shutdown).await }
        });
        let this = self.clone();
        tasks.supervise("shortener expiry", restart, move |shutdown| expire(this.clone(), shutdown));
    }
}

/// Empties the queue of clicks several times a second.
async fn gather(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    while shutdown.or(clock.sleep(GATHER_INTERVAL)).await.is_some() {
        shortener.gather_clicks();
    }
}

/// Appends clicks to their log about every `click_flush_interval`. At shutdown, what is left, and brings it into the rollups.
async fn log(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    let mut failing = Failing::new("clicks cannot be written; they are kept in memory and tried again");
    while shutdown.or(clock.sleep(shortener.config().click_flush_interval)).await.is_some() {
        failing.note(shortener.log_clicks().await);
    }
    if let Err(problem) = shortener.log_clicks().await {
        let lost = shortener.pending_clicks();
        tracing::error!(%problem, lost, "clicks could not be written at shutdown");
    } else if let Err(problem) = shortener.flush_clicks().await {
        tracing::warn!(%problem, "clicks are in their log and will be counted by the next node that starts");
    }
}

/// Brings the click log into the rollups: about a second behind it, and slower when that is much work.
async fn roll(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    let mut failing = Failing::new("clicks cannot be counted; they stay in their log until they can");
    let mut pause = ROLL_PAUSE_MIN;
    let mut looked_at = clock.monotonic();
    while shutdown.or(clock.sleep(pause)).await.is_some() {
        pause = ROLL_PAUSE_MIN;
        // What other nodes left over can wait; this node's own is known without asking.
        if !shortener.has_appended_clicks() && clock.monotonic().saturating_sub(looked_at) < ROLL_PAUSE_MAX {
            continue;
        }
        looked_at = clock.monotonic();
        let outcome = loop {
            match shortener.roll_clicks().await {
                Ok(true) if !shutdown.is_triggered() => {}
                outcome => break outcome.map(drop),
            }
        };
        failing.note(outcome);
        let took = clock.monotonic().saturating_sub(looked_at);
        pause = (took * ROLL_PAUSE_FACTOR).clamp(ROLL_PAUSE_MIN, ROLL_PAUSE_MAX);
    }
}

/// Says once that something began to fail, and once that it works again.
struct Failing {
    words: &'static str,
    is_failing: bool,
}

impl Failing {
    fn new(words: &'static str) -> Self {
        Self { words, is_failing: false }
    }

    fn note(&mut self, outcome: Result<(), Problem>) {
        match outcome {
            Ok(()) if self.is_failing => {
                tracing::info!(after = self.words, "it works again");
                self.is_failing = false;
            }
            Ok(()) => {}
            Err(problem) => {
                if !self.is_failing {
                    tracing::warn!(%problem, "{}", self.words);
                }
                self.is_failing = true;
            }
        }
    }
}

/// Takes what is too old away in bounded steps, and has the salt of the next day in time.
async fn expire(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    while shutdown.or(clock.sleep(EXPIRY_INTERVAL)).await.is_some() {
        if let Err(problem) = shortener.refresh_salts().await {
            tracing::warn!(%problem, "the next day's salt could not be had; its visitors are not counted until it can");
        }
        if let Err(problem) = shortener.expire_reports().await {
            tracing::warn!(%problem, "old reports could not be taken away");
        }
        for _ in 0..EXPIRY_STEPS {
            match shortener.expire_clicks().await {
                Ok(true) if !shutdown.is_triggered() => {}
                Ok(_) => break,
                Err(problem) => {
                    tracing::warn!(%problem, "old clicks could not be taken away");
                    break;
                }
            }
        }
    }
}

/// Reads the database of countries, and again when its file changes.
async fn countries(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    loop {
        let countries = shortener.countries();
        // A thread that may wait for the disk.
        if let Err(e) = tokio::task::spawn_blocking(move || countries.refresh()).await {
            tracing::error!(error = %e, "reading the database of countries ended early");
        }
        if shutdown.or(clock.sleep(COUNTRIES_INTERVAL)).await.is_none() {
            return;
        }
    }
}
