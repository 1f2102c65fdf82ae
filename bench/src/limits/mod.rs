//! Decisions of the rate limiter: in this process, over HTTP and gRPC, and shared over Redis; beside throttlecrab (library and
//! server) and a GCRA script as redis-cell has it.

mod grpc;
mod here;
mod shared;

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use testkit::{Process, Spec};

use crate::{
    Effort, machine, mainstay,
    report::{Report, Row, median},
    wrk,
};

pub(crate) use here::run as in_process;
pub(crate) use shared::run as shared;

/// Keys, drawn evenly.
const KEYS: u64 = 10_000;
/// Of each key: so many at once, and as many again each second.
const BURST: u32 = 100;
const VERSION: &str = "0.4.40";
const DOMAIN: &str = "bench";

/// The rule of every variant as the API takes it.
fn rule() -> serde_json::Value {
    json!({
        "name": "per-user",
        "keys": [{ "key": "user" }],
        "limit": { "algorithm": "token_bucket", "limit": BURST, "period": "1s", "burst": BURST },
    })
}

/// What one round of a variant gave.
#[derive(Debug, Clone, Copy)]
struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_micros: f64,
}

fn throttlecrab() -> PathBuf {
    let binary = machine::target().join("tools/bin/throttlecrab-server");
    assert!(
        binary.is_file(),
        "build it first: cargo install throttlecrab-server --version {VERSION} --locked --root {}",
        machine::target().join("tools").display()
    );
    binary
}

/// A variant of the benchmark over the network.
struct Variant {
    name: &'static str,
    pid: u32,
    port: u16,
    load: fn(&Self, &std::path::Path, u64) -> wrk::Load,
}

pub(crate) fn over_the_network(effort: Effort, settings: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = mainstay::Server::start(settings);
    let url = format!("http://127.0.0.1:{}/v1/limits/rules/{DOMAIN}", server.api_port);
    ureq::put(&url).send_json(json!({ "rules": [rule()] })).expect("rules can be set");
    let (http_port, grpc_port) = (testkit::free_port(), testkit::free_port());
    let (http, grpc) = (http_port.to_string(), grpc_port.to_string());
    let local = "127.0.0.1";
    let arguments = [
        ["--http", "--http-host", local, "--http-port", &http],
        ["--grpc", "--grpc-host", local, "--grpc-port", &grpc],
    ];
    let spec = Spec::new(throttlecrab(), arguments.concat(), folder.path().join("throttlecrab.log"));
    let mut crab = Process::start(&spec);
    crab.await_ready("throttlecrab", Duration::from_secs(30), || {
        [http_port, grpc_port].iter().all(|port| std::net::TcpStream::connect((local, *port)).is_ok())
    });
    let (pid, crab_pid) = (server.pid(), crab.pid());
    let variants = [
        Variant {
            name: "HTTP: mainstay",
            pid,
            port: server.api_port,
            load: |v, folder, seconds| wrk::check(v.port, folder, "mainstay", seconds),
        },
        Variant {
            name: "HTTP: throttlecrab",
            pid: crab_pid,
            port: http_port,
            load: |v, folder, seconds| wrk::check(v.port, folder, "throttlecrab", seconds),
        },
        Variant {
            name: "gRPC: mainstay (Envoy's protocol)",
            pid,
            port: server.api_port,
            load: |v, _, seconds| grpc::envoy(v.port, seconds),
        },
        Variant {
            name: "gRPC: throttlecrab",
            pid: crab_pid,
            port: grpc_port,
            load: |v, _, seconds| grpc::throttlecrab(v.port, seconds),
        },
    ];
    let mut rounds: [Vec<Round>; 4] = Default::default();
    for variant in &variants {
        // Not counted: connections, the first use of each key.
        (variant.load)(variant, folder.path(), 1);
    }
    for number in 1..=effort.rounds {
        for (variant, rounds) in variants.iter().zip(&mut rounds) {
            let before = machine::usage(variant.pid).cpu_seconds;
            let load = (variant.load)(variant, folder.path(), effort.seconds);
            let cpu_micros = (machine::usage(variant.pid).cpu_seconds - before) / load.requests * 1e6;
            println!("round {number}: {}: {:.0}/s, {cpu_micros:.1} µs of CPU each", variant.name, load.per_second);
            rounds.push(Round { per_second: load.per_second, p50_ms: load.p50_ms, p99_ms: load.p99_ms, cpu_micros });
        }
    }
    let middles = rounds.map(|r| median(&r, |round| round.per_second));
    let mut rows: Vec<Row> = variants.iter().zip(&middles).map(|(v, middle)| row(v.name, *middle)).collect();
    for (name, ours, theirs) in [("HTTP: ratio", 0, 1), ("gRPC: ratio", 2, 3)] {
        rows.push(ratio(name, middles[ours], middles[theirs]));
    }
    Report {
        name: "limits-network",
        title: "Rate limit decisions over HTTP and gRPC".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "one token bucket a key ({BURST} at once, {BURST} a second), {KEYS} keys drawn evenly, state in the server's memory; \
                 throttlecrab-server {VERSION} with its defaults"
            ),
            "HTTP/1.1 with JSON: wrk, 64 connections kept alive, 2 threads. gRPC: 64 calls at once over 4 connections from this \
             program. All on the same machine, so the client takes its part of the cores"
                .to_owned(),
            "CPU is the server's alone. mainstay finds the rule among those of the domain, writes golden signals and counts by \
             rule; throttlecrab is told the limit with each request"
                .to_owned(),
            format!("median (by rate) of {} rounds of {} s, alternating", effort.rounds, effort.seconds),
        ],
        columns: COLUMNS.to_vec(),
        rows,
        charted: 0,
    }
}

const COLUMNS: [&str; 4] = ["decisions/s", "p50 in ms", "p99 in ms", "CPU µs a decision"];

fn row(name: &str, round: Round) -> Row {
    Row { name: name.to_owned(), figures: vec![round.per_second, round.p50_ms, round.p99_ms, round.cpu_micros] }
}

fn ratio(name: &str, ours: Round, theirs: Round) -> Row {
    let figures = vec![
        ours.per_second / theirs.per_second,
        ours.p50_ms / theirs.p50_ms,
        ours.p99_ms / theirs.p99_ms,
        ours.cpu_micros / theirs.cpu_micros,
    ];
    Row { name: name.to_owned(), figures }
}
