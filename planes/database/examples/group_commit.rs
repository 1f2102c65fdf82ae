//! How many small durable transactions a second 64 clients make, in groups and one by one.
//!
//! `cargo run --release -p database --example group_commit [postgres URL]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, not the product"
)]

use std::time::Duration;

use database::{Db, Durability, Migration, PostgresOptions, Result, SqliteOptions, Stats, params};
use kernel::{Clock, Lifecycle, Rng, Secret, Stage};

const CLIENTS: i64 = 64;
const TIME: Duration = Duration::from_secs(3);
const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "items", sql: "CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT NOT NULL)" }];
const INSERT: &str = "INSERT INTO items (id, name) VALUES ($1, $2)";

async fn measure(what: &str, db: &Db, clock: &Clock) {
    db.migrate("bench", MIGRATIONS).await.unwrap();
    let until = clock.monotonic() + TIME;
    let clients = (0..CLIENTS).map(|client| {
        let (db, clock) = (db.clone(), clock.clone());
        tokio::spawn(async move {
            let mut latencies_us = Vec::new();
            for n in 0.. {
                let began = clock.monotonic();
                if began > until {
                    break;
                }
                let id = client * 100_000_000 + n;
                let done: Result<u64> = db.tx(async move |tx| tx.exec(INSERT, params![id, "a short name"]).await).await;
                done.unwrap();
                latencies_us.push(clock.monotonic().saturating_sub(began).as_micros());
            }
            latencies_us
        })
    });
    let mut all = Vec::new();
    for outcome in futures_util::future::join_all(clients).await {
        all.extend(outcome.unwrap());
    }
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    let Stats { job_count, group_count, commit, .. } = db.stats();
    println!(
        "{what:<28} {:>8} tx/s  p50 {:>6} µs  p99 {:>6} µs  jobs/group {:>5}  mean commit {:>5} µs",
        all.len() as u64 / TIME.as_secs(),
        at(50),
        at(99),
        job_count.checked_div(group_count).unwrap_or(1),
        commit.sum.checked_div(commit.count()).unwrap_or(0),
    );
    db.close().await;
}

#[tokio::main]
async fn main() {
    let clock = Clock::system();
    let lifecycle = Lifecycle::new(clock.clone(), Rng::system());
    let tasks = lifecycle.tasks(Stage::Planes);
    for (what, durability, group) in [
        ("SQLite FULL, one by one", Durability::Full, false),
        ("SQLite FULL, grouped", Durability::Full, true),
        ("SQLite NORMAL, one by one", Durability::Normal, false),
        ("SQLite NORMAL, grouped", Durability::Normal, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { durability, group, ..SqliteOptions::default() };
        let db = Db::open_sqlite(&folder.path().join("bench.db"), options, clock.clone(), &tasks).unwrap();
        measure(what, &db, &clock).await;
    }
    if let Some(url) = std::env::args().nth(1) {
        let options = PostgresOptions { url: Secret::new(url), ..PostgresOptions::default() };
        let db = Db::connect_postgres(options, clock.clone(), Rng::system(), &tasks).await.unwrap();
        measure("PostgreSQL, pool 16", &db, &clock).await;
    }
}
