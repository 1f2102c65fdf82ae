//! `kill -9` under write load: what was acknowledged is there, and nothing is there twice.
//!
//! The child is this test binary, started again with an environment variable. It writes with sixteen clients and says each
//! acknowledgement on its standard output; the parent reads along, kills it by its id at a random point, reads the rest of the
//! pipe, and looks.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use database::{Db, Migration, Result, SqliteOptions, params};
use kernel::{Clock, Rng, Stage};

use crate::support::{connect, lifecycle, postgres_options};

const CHILD: &str = "DATABASE_TEST_CRASH";
const ROUND: &str = "DATABASE_TEST_CRASH_ROUND";
const ROUNDS: i64 = 20;

/// Without a key, so that a row that is written twice shows.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "log",
    sql: "CREATE TABLE log (id BIGINT NOT NULL); CREATE TABLE pair (id BIGINT NOT NULL)",
}];

async fn open(place: &str) -> Db {
    let lifecycle = lifecycle();
    let db = if place.starts_with("postgres://") {
        connect(postgres_options(place), &lifecycle).await
    } else {
        let path = std::path::Path::new(place);
        Db::open_sqlite(path, SqliteOptions::default(), Clock::system(), &lifecycle.tasks(Stage::Planes)).unwrap()
    };
    db.migrate("crash", MIGRATIONS).await.unwrap();
    db
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(place), Ok(round)) = (std::env::var(CHILD), std::env::var(ROUND)) else { return };
    let round: i64 = round.parse().unwrap();
    let db = open(&place).await;
    let clients = (0..16_i64).map(|client| {
        let db = db.clone();
        tokio::spawn(async move {
            for n in 0..1_000_000_i64 {
                let id = (round * 16 + client) * 1_000_000 + n;
                let written: Result<()> = db
                    .tx(async move |tx| {
                        tx.exec("INSERT INTO log (id) VALUES ($1)", params![id]).await?;
                        tx.exec("INSERT INTO pair (id) VALUES ($1)", params![id]).await?;
                        Ok(())
                    })
                    .await;
                match written {
                    // One write of a short line is whole or not there.
                    Ok(()) => std::io::stdout().write_all(format!("ack {id}\n").as_bytes()).unwrap(),
                    Err(e) => std::io::stdout().write_all(format!("error {e}\n").as_bytes()).unwrap(),
                }
            }
        })
    });
    futures_util::future::join_all(clients).await;
}

fn start(place: &str, round: i64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, place)
        .env(ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Reads until `enough` acknowledgements came.
fn read_until(out: &mut BufReader<ChildStdout>, enough: usize, acknowledged: &mut BTreeSet<i64>) {
    let mut line = String::new();
    let mut got = 0;
    while got < enough {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the child ended by itself");
        got += usize::from(note(&line, acknowledged));
    }
}

fn note(line: &str, acknowledged: &mut BTreeSet<i64>) -> bool {
    let Some(id) = line.strip_prefix("ack ").and_then(|id| id.strip_suffix('\n')) else { return false };
    acknowledged.insert(id.parse().unwrap());
    true
}

/// Kills the child with SIGKILL, by its id, and reads what it still said.
fn kill(mut child: Child, mut out: BufReader<ChildStdout>, acknowledged: &mut BTreeSet<i64>) {
    child.kill().unwrap();
    child.wait().unwrap();
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        note(&line, acknowledged);
        line.clear();
    }
}

async fn look(place: &str, acknowledged: &BTreeSet<i64>) {
    let db = open(place).await;
    let read = async |sql: &'static str| {
        let rows = db.query(sql, params![]).await.unwrap();
        rows.iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>()
    };
    let (log, pair) = (read("SELECT id FROM log ORDER BY id").await, read("SELECT id FROM pair ORDER BY id").await);
    db.close().await;
    assert!(log.windows(2).all(|w| w[0] < w[1]), "a row is there twice");
    assert_eq!(log, pair, "a transaction is there in half");
    let there: BTreeSet<i64> = log.into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

async fn survives_twenty_kills(place: &str, rng: &Rng) {
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let (child, mut out) = start(place, round);
        let enough = usize::try_from(rng.below(400)).unwrap() + 1;
        read_until(&mut out, enough, &mut acknowledged);
        kill(child, out, &mut acknowledged);
        look(place, &acknowledged).await;
    }
    assert!(acknowledged.len() > usize::try_from(ROUNDS).unwrap());
}

#[tokio::test]
async fn sqlite_survives_twenty_kills() {
    let folder = tempfile::tempdir().unwrap();
    survives_twenty_kills(folder.path().join("crash.db").to_str().unwrap(), &Rng::seeded(1)).await;
}

#[tokio::test]
async fn postgres_survives_twenty_kills_of_its_client() {
    let url = testkit::shared_postgres().fresh_database();
    survives_twenty_kills(&url, &Rng::seeded(2)).await;
}

#[tokio::test]
async fn postgres_survives_kills_of_its_server() {
    let mut server = testkit::Postgres::start(testkit::Options { durable: true, settings: Vec::new() });
    let url = server.fresh_database();
    let mut acknowledged = BTreeSet::new();
    for (round, is_kill) in [(0, true), (1, false)] {
        let (child, mut out) = start(&url, round);
        read_until(&mut out, 300, &mut acknowledged);
        if is_kill {
            server.kill();
        } else {
            server.stop_immediate();
        }
        server.restart();
        // The same client goes on by itself.
        read_until(&mut out, 300, &mut acknowledged);
        kill(child, out, &mut acknowledged);
        look(&url, &acknowledged).await;
    }
}
