//! `mainstay tour`: starts a throw-away server, drives it as a client over the network and prints what it sent and saw.
//!
//! It is a product tour for a reader and an end-to-end test for a machine: anything off ends it with a non-zero exit code.

mod gateway;
mod limits;
mod links;
mod real;
mod server;
mod survival;

use std::{path::Path, time::Duration};

use kernel::Clock;
use serde_json::json;

use self::server::Server;
use crate::{
    cli::TourArgs,
    commands::client::Answer,
    output::{line, note},
};

/// Collects what the tour saw.
pub(crate) struct Tour {
    json: bool,
    clock: Clock,
    passed: usize,
    failures: Vec<String>,
}

impl Tour {
    fn chapter(&self, title: &str) {
        if !self.json {
            line(format!("\n{title}"));
        }
    }

    /// One thing that was sent, what was seen, and whether that is right.
    fn saw(&mut self, sent: &str, seen: &str, ok: bool) {
        if self.json {
            line(json!({ "sent": sent, "seen": seen, "ok": ok }));
        } else {
            line(format!("  {} {sent:<58} {seen}", if ok { "✓" } else { "✗" }));
        }
        if ok {
            self.passed += 1;
        } else {
            self.failures.push(format!("{sent}: {seen}"));
        }
    }

    /// An answer that should have this status.
    fn expect(&mut self, sent: &str, answer: &Answer, status: u16, note: &str) {
        let code = answer.json()["code"].as_str().map(|c| format!(" {c}")).unwrap_or_default();
        let wanted = if answer.status == status { String::new() } else { format!(" (wanted {status})") };
        self.saw(sent, &format!("{}{code}{wanted} {note}", answer.status), answer.status == status);
    }

    /// Looks again until `look` gives something or the time is over.
    fn wait<T>(&self, at_most: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let started = self.clock.monotonic();
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            if self.clock.monotonic().saturating_sub(started) > at_most {
                return None;
            }
            server::pause(Duration::from_millis(20));
        }
    }
}

/// Runs the whole tour.
pub(crate) fn run(args: &TourArgs) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut tour = Tour { json: args.json, clock: Clock::system(), passed: 0, failures: Vec::new() };
    let started = tour.clock.monotonic();
    drive(&mut tour, folder.path(), args)?;
    let took = tour.clock.monotonic().saturating_sub(started);
    if tour.failures.is_empty() {
        note(format!("\n{} of {0} checks hold, in {:.1} s", tour.passed, took.as_secs_f64()));
        Ok(())
    } else {
        let off = tour.failures.join("\n  ");
        Err(format!("{} of {} checks are off:\n  {off}", tour.failures.len(), tour.passed + tour.failures.len()))
    }
}

fn drive(tour: &mut Tour, folder: &Path, args: &TourArgs) -> Result<(), String> {
    tour.chapter("The house");
    let server = Server::start(&folder.join("data"), &tour.clock)?;
    let ready = format!("ready after {} ms", server.ready_after.as_millis());
    tour.saw("mainstay serve --dev", &ready, true);
    if let Some(bytes) = server.resident_bytes() {
        tour.saw("memory at rest", &format!("{} KiB", bytes >> 10), true);
    }
    house(tour, &server)?;

    tour.chapter("Short links");
    links::basics(tour, &server)?;
    links::refusals(tour, &server)?;
    links::clicks(tour, &server)?;
    links::pages(tour, &server)?;

    tour.chapter("Rate limits");
    limits::run(tour, &server)?;

    tour.chapter("Gateway");
    gateway::run(tour, &server)?;

    tour.chapter("Real URLs");
    real::run(tour, &server, folder, args.urls.as_ref())?;

    tour.chapter("Nothing acknowledged is lost");
    survival::run(tour, server, folder)
}

fn house(tour: &mut Tour, server: &Server) -> Result<(), String> {
    for (path, status, wanted) in [
        ("/health/live", 200, "\"status\""),
        ("/health/ready", 200, "\"serving\""),
        ("/metrics", 200, "mainstay_"),
        ("/openapi.json", 200, "\"3.1"),
        ("/docs", 200, "<html"),
        ("/console", 200, "<html"),
        ("/v1/nothing", 404, "NOT_FOUND"),
    ] {
        let answer = server.api.send("GET", path, &[], None)?;
        let text = String::from_utf8_lossy(&answer.body);
        let seen = format!("{} {} {} bytes", answer.status, answer.header("content-type"), answer.body.len());
        tour.saw(&format!("GET {path}"), &seen, answer.status == status && text.contains(wanted));
    }
    Ok(())
}
