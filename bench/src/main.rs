//! Side-by-side benchmarks: `cargo run --release --package bench -- NAME`.
#![allow(clippy::print_stdout, reason = "a command line tool answers on standard output")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on says why and ends")]

mod client;
mod create;
mod gateway;
mod group_commit;
mod h2load;
mod limits;
mod machine;
mod mainstay;
mod redirect;
mod report;
mod start;
mod steady;
mod wrk;
mod year;
mod zipf;

use std::{process::ExitCode, time::Duration};

const USAGE: &str = "\
cargo run --release --package bench -- NAME [--seconds N] [--rounds N] [--set SECTION.KEY=VALUE]...

  group-commit   64 clients, one small insert per transaction: SQLite FULL and NORMAL, grouped and not; PostgreSQL durable
  redirect       the public listener (with the settings of --set) against nginx `return 302` from a map, over the same 100,000 links drawn by a Zipf law
  steady         1,000 redirects and 100 creations a second at a constant rate (open loop) with SQLite: latencies, and the server's CPU
  gateway        proxying beside nginx and haproxy: 200 B and 10 KiB, 64 and 512 at a time, HTTP/1.1 and HTTP/2, plain and TLS, with and without
                 key and rate limit (--only TEXT: the cells whose names hold it)
  create         POST /v1/links over HTTP with SQLite and with PostgreSQL, both fully durable
  limits-process decisions of the rate limiter in this process, beside throttlecrab's library
  limits-network decisions over HTTP and gRPC, beside throttlecrab-server
  limits-shared  decisions over Redis, beside a plain GCRA script as redis-cell has it
  start          the release binary from nothing to ready, and the memory it holds then, as `mainstay tour` sees them
  year           charts over a year with 50 million clicks on one link (--clicks N), made by visits on a simulated clock

Each variant runs for N seconds a round, rounds alternate between variants, and the median round is shown.
Results go to target/bench/: a table (.md), the figures (.json) and a chart (.svg).
";

/// How long and how often.
#[derive(Debug, Clone, Copy)]
struct Effort {
    seconds: u64,
    rounds: usize,
}

impl Effort {
    fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let words =
        |name: &str| -> Vec<&str> { arguments.windows(2).filter(|w| w[0] == name).map(|w| w[1].as_str()).collect() };
    let settings = words("--set");
    let rounds = usize::try_from(option("--rounds").unwrap_or(3).max(1)).unwrap_or(1);
    let effort = |seconds| Effort { seconds: option("--seconds").unwrap_or(seconds).max(1), rounds };
    let report = match arguments.first().map(String::as_str) {
        Some("group-commit") => group_commit::run(effort(3)),
        Some("redirect") => redirect::run(effort(8), &settings),
        Some("steady") => steady::run(effort(30), &settings),
        Some("gateway") => gateway::run(effort(3), &settings, &words("--only")),
        Some("create") => create::run(effort(5)),
        Some("limits-process") => limits::in_process(effort(3)),
        Some("limits-network") => limits::over_the_network(effort(5), &settings),
        Some("limits-shared") => limits::shared(effort(5)),
        Some("start") => start::run(rounds),
        Some("year") => year::run(option("--clicks").unwrap_or(50_000_000).max(1)),
        _ => {
            println!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n{}", report.markdown());
    match report.write(&machine::target().join("bench")) {
        Ok(files) => {
            println!("{}", files.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("the report could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}
