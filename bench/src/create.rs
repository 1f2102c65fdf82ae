//! Creations over HTTP: the whole way through authentication, the API and a durable commit.

use crate::{
    Effort, machine, mainstay,
    report::{Report, Row, median},
    wrk,
};

#[derive(Debug, Clone)]
struct Round {
    load: wrk::Load,
    cpu_per_100k: f64,
}

pub(crate) fn run(effort: Effort) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let fsync = machine::fsync_micros(folder.path());
    let postgres = testkit::Postgres::start(testkit::Options { durable: true, ..testkit::Options::default() });
    let names = ["SQLite FULL", "PostgreSQL"];
    let mut rounds = [Vec::new(), Vec::new()];
    for number in 1..=effort.rounds {
        let database = format!("database.url={}", postgres.fresh_database());
        for ((name, settings), rounds) in names.iter().zip([vec![], vec![database.as_str()]]).zip(&mut rounds) {
            let server = mainstay::Server::start(&settings);
            // Not counted: connections, prepared statements, caches.
            wrk::create(server.api_port, folder.path(), 1);
            let before = machine::usage(server.pid());
            let load = wrk::create(server.api_port, folder.path(), effort.seconds);
            let after = machine::usage(server.pid());
            let cpu_per_100k = (after.cpu_seconds - before.cpu_seconds) / load.requests * 100_000.0;
            println!("round {number}: {name}: {:.0}/s, p99 {:.2} ms", load.per_second, load.p99_ms);
            rounds.push(Round { load, cpu_per_100k });
        }
    }
    let rows = names.iter().zip(&rounds).map(|(name, rounds)| {
        let Round { load, cpu_per_100k } = median(rounds, |r| r.load.per_second);
        Row { name: (*name).to_owned(), figures: vec![load.per_second, load.p50_ms, load.p99_ms, cpu_per_100k] }
    });
    Report {
        name: "create",
        title: "Creating links over HTTP".to_owned(),
        conditions: vec![
            machine::describe(),
            "POST /v1/links with a destination of about 55 characters, HTTP/1.1, 64 connections kept alive, wrk with 2 \
             threads on the same machine"
                .to_owned(),
            "201 comes after a durable commit; the CPU time is the server's alone, without PostgreSQL's".to_owned(),
            format!(
                "median of {} rounds of {} s, each on an empty database; fsync of 4 KiB on this disk: median {fsync} µs",
                effort.rounds, effort.seconds
            ),
        ],
        columns: vec!["creations/s", "p50 in ms", "p99 in ms", "CPU s per 100k creations"],
        rows: rows.collect(),
        charted: 0,
    }
}
