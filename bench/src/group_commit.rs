//! What group commit is worth: 64 clients, each running one small insert transaction after the other.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use database::{Db, Durability, Migration, PostgresOptions, SqliteOptions, params};
use hdrhistogram::Histogram;
use kernel::{Clock, Lifecycle, Rng, Secret, Stage};

use crate::{
    Effort, machine,
    report::{Report, Row, median},
};

const CLIENT_COUNT: usize = 64;
const PAYLOAD_BYTES: usize = 100;
const INSERT: &str = "INSERT INTO bench_events (id, client, payload) VALUES ($1, $2, $3)";
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "events",
    sql: "CREATE TABLE bench_events (id BIGINT PRIMARY KEY, client BIGINT NOT NULL, payload TEXT NOT NULL);",
}];

/// How the clients write.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A transaction with a body.
    Tx,
    /// One statement that is its own transaction.
    Exec,
}

#[derive(Debug, Clone, Copy)]
enum Engine {
    Sqlite { durability: Durability, group: bool },
    Postgres,
}

const VARIANTS: &[(&str, Engine, Way)] = &[
    ("SQLite FULL, grouped, tx", Engine::Sqlite { durability: Durability::Full, group: true }, Way::Tx),
    ("SQLite FULL, grouped, exec", Engine::Sqlite { durability: Durability::Full, group: true }, Way::Exec),
    ("SQLite FULL, one commit each", Engine::Sqlite { durability: Durability::Full, group: false }, Way::Tx),
    ("SQLite NORMAL, grouped, tx", Engine::Sqlite { durability: Durability::Normal, group: true }, Way::Tx),
    ("SQLite NORMAL, one commit each", Engine::Sqlite { durability: Durability::Normal, group: false }, Way::Tx),
    ("PostgreSQL durable, tx", Engine::Postgres, Way::Tx),
    ("PostgreSQL durable, exec", Engine::Postgres, Way::Exec),
];

#[derive(Debug, Clone)]
struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) fn run(effort: Effort) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let fsync = machine::fsync_micros(folder.path());
    let postgres = testkit::Postgres::start(testkit::Options { durable: true, ..testkit::Options::default() });
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); VARIANTS.len()];
    for number in 1..=effort.rounds {
        for ((name, engine, way), rounds) in VARIANTS.iter().zip(&mut rounds) {
            let url = postgres.fresh_database();
            let round = runtime.block_on(measure(*engine, *way, folder.path(), url, effort));
            println!(
                "round {number}: {name}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
                round.per_second, round.p50_ms, round.p99_ms
            );
            rounds.push(round);
        }
    }
    let rows = VARIANTS.iter().zip(&rounds).map(|((name, ..), rounds)| {
        let middle = median(rounds, |r| r.per_second);
        Row { name: (*name).to_owned(), figures: vec![middle.per_second, middle.p50_ms, middle.p99_ms] }
    });
    Report {
        name: "group-commit",
        title: "Durable small transactions".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "{CLIENT_COUNT} clients, one insert of {PAYLOAD_BYTES} bytes of text per transaction, each waits for its commit"
            ),
            format!(
                "median of {} rounds of {} s; fsync of 4 KiB on this disk: median {fsync} µs",
                effort.rounds, effort.seconds
            ),
            "FULL: an acknowledged transaction survives a power cut; NORMAL: it survives the end of the process"
                .to_owned(),
            "after each round every acknowledged row was counted and found".to_owned(),
        ],
        columns: vec!["transactions/s", "p50 in ms", "p99 in ms"],
        rows: rows.collect(),
        charted: 0,
    }
}

async fn measure(engine: Engine, way: Way, folder: &Path, url: String, effort: Effort) -> Round {
    let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
    let tasks = lifecycle.tasks(Stage::Planes);
    let place = tempfile::tempdir_in(folder).expect("a temporary folder can be made");
    let db = match engine {
        Engine::Sqlite { durability, group } => {
            let options = SqliteOptions { durability, group, ..SqliteOptions::default() };
            Db::open_sqlite(&place.path().join("bench.db"), options, Clock::system(), &tasks).expect("SQLite opens")
        }
        Engine::Postgres => {
            let options = PostgresOptions { url: Secret::new(url), ..PostgresOptions::default() };
            Db::connect_postgres(options, Clock::system(), Rng::system(), &tasks).await.expect("PostgreSQL answers")
        }
    };
    db.migrate("bench", MIGRATIONS).await.expect("the table can be made");
    // A second that is not counted: caches, connections, prepared statements.
    load(&db, way, 0, 1.0).await;
    let before = count(&db).await;
    let (acknowledged, times, seconds) = load(&db, way, 1 << 40, effort.duration().as_secs_f64()).await;
    assert_eq!(
        count(&db).await - before,
        i64::try_from(acknowledged).expect("fits"),
        "every acknowledged row is there, once"
    );
    db.close().await;
    lifecycle.stop("done");
    let per_second = f64::from(u32::try_from(acknowledged).expect("fits")) / seconds;
    let millis = |quantile| f64::from(u32::try_from(times.value_at_quantile(quantile)).expect("fits")) / 1000.0;
    Round { per_second, p50_ms: millis(0.5), p99_ms: millis(0.99) }
}

async fn count(db: &Db) -> i64 {
    let row = db.get("SELECT COUNT(*) FROM bench_events", params![]).await.expect("it can be counted");
    row.expect("COUNT gives a row").get(0).expect("COUNT gives a number")
}

/// Acknowledged transactions, their times in microseconds, and the seconds it took.
async fn load(db: &Db, way: Way, first_id: i64, seconds: f64) -> (u64, Histogram<u64>, f64) {
    let is_over = Arc::new(AtomicBool::new(false));
    let ids = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..i64::try_from(CLIENT_COUNT).expect("fits") {
        let (db, is_over, ids) = (db.clone(), Arc::clone(&is_over), Arc::clone(&ids));
        clients.spawn(async move {
            let payload = "x".repeat(PAYLOAD_BYTES);
            let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
            while !is_over.load(Ordering::Relaxed) {
                let id = first_id + i64::try_from(ids.fetch_add(1, Ordering::Relaxed)).expect("fits");
                let begin = Instant::now();
                let payload = payload.clone();
                let outcome = match way {
                    Way::Exec => db.exec(INSERT, params![id, client, payload]).await,
                    Way::Tx => {
                        let body = async move |tx: &mut database::Tx<'_>| {
                            tx.exec(INSERT, params![id, client, payload.clone()]).await
                        };
                        db.tx(body).await
                    }
                };
                let outcome: database::Result<u64> = outcome;
                outcome.expect("an insert succeeds");
                times.record(u64::try_from(begin.elapsed().as_micros()).expect("fits")).expect("the histogram grows");
            }
            times
        });
    }
    let timer = Arc::clone(&is_over);
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
        timer.store(true, Ordering::Relaxed);
    });
    let mut all = Histogram::<u64>::new(3).expect("three digits are allowed");
    while let Some(times) = clients.join_next().await {
        all.add(times.expect("no client panics")).expect("the histogram grows");
    }
    (all.len(), all, start.elapsed().as_secs_f64())
}
