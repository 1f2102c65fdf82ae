//! Three processes of the operating system, each a node of its own, over one PostgreSQL and one Redis, by real clocks. For each
//! algorithm, exact and in slices: what any window saw beyond what the algorithm states, beside the bound that is stated.
//!
//! The processes are this test binary again, with the variable below set.

use std::{
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use access::Access;
use database::{Db, PostgresOptions};
use kernel::{Clock, Lifecycle, Rng, Secret, Stage};
use limiter::{Deps, Expected, Limiter, LimiterConfig, Source};
use memory::{Memory, RedisOptions};
use serde_json::{Value, json};
use telemetry::Metrics;
use testkit::Redis;

use crate::world::{check, descriptor, principal, project, rules};

/// `database redis`: where this process finds the others.
const NODE: &str = "MAINSTAY_TEST_LIMITER_NODE";
const PROCESSES: u64 = 3;
const LIMIT: u64 = 200;
const SHARE: u64 = 10;
const WINDOW_US: u64 = 500_000;
/// How long each rule is under load, and until the next one's turn, so that all processes ask for the same.
const ROUND: Duration = Duration::from_millis(1300);
const TURN: Duration = Duration::from_millis(1500);
/// Of the calendar: enough for one round.
const DAY: u64 = 800;
/// Places are fewer, and held for a moment.
const PLACES: u64 = 4;

/// What a process knows of the wall clock is late by less than this.
const ROUNDING_US: u64 = 1000;

/// Rules, and how much each may be exceeded by.
fn cases() -> Vec<(String, Value, u64)> {
    let mut cases = Vec::new();
    for sharing in [json!("exact"), json!({ "leased": SHARE })] {
        let is_leased = sharing != json!("exact");
        for algorithm in ["token_bucket", "gcra", "fixed_window", "sliding_counter", "sliding_log", "calendar"] {
            let mut limit = json!({ "algorithm": algorithm, "limit": LIMIT });
            match algorithm {
                "token_bucket" => limit["period"] = "500ms".into(),
                "gcra" => {
                    limit["period"] = "500ms".into();
                    limit["burst"] = LIMIT.into();
                }
                "calendar" => {
                    limit["limit"] = DAY.into();
                    limit["calendar"] = json!({ "unit": "day", "zone": "UTC" });
                }
                _ => limit["window"] = "500ms".into(),
            }
            if is_leased && algorithm == "sliding_log" {
                continue;
            }
            let name = format!("{algorithm}-{}", if is_leased { "leased" } else { "exact" });
            let bound = match algorithm {
                "token_bucket" | "gcra" if is_leased => PROCESSES * LIMIT * SHARE / 100,
                _ => 0,
            };
            cases.push((
                name.clone(),
                json!({ "name": name, "keys": [{ "key": name }], "limit": limit, "sharing": sharing }),
                bound,
            ));
        }
    }
    let places = json!({ "algorithm": "concurrency", "limit": PLACES, "lease": "5s" });
    cases.push(("places".into(), json!({ "name": "places", "keys": [{ "key": "places" }], "limit": places }), 0));
    cases
}

async fn open(url: &str, redis: &str, lifecycle: &Lifecycle) -> Limiter {
    let (clock, rng) = (Clock::system(), Rng::system());
    let planes = lifecycle.tasks(Stage::Planes);
    let options = PostgresOptions { url: Secret::new(url), ..PostgresOptions::default() };
    let db = Db::connect_postgres(options, clock.clone(), rng.clone(), &planes).await.unwrap();
    let options = access::Options { dev: true, ..access::Options::default() };
    let tasks = lifecycle.tasks(Stage::Blocks);
    let (access, _) = Access::start(db.clone(), options, clock.clone(), rng.clone(), &tasks).await.unwrap();
    let options = RedisOptions { operation_timeout: Duration::from_secs(20), ..RedisOptions::single(redis) };
    let memory = Memory::redis(options, clock.clone(), rng.clone(), &planes).unwrap();
    memory.ping().await.unwrap();
    let (config, metrics) = (LimiterConfig::default(), Metrics::new());
    let deps = Deps { config, db, memory, access, clock, rng, metrics, built_in: Vec::new() };
    Limiter::open(deps).await.unwrap()
}

/// What a process does; returns at once where the variable is not set, as in a run of all tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    let Ok(text) = std::env::var(NODE) else { return };
    let (url, redis) = text.split_once(' ').unwrap();
    let clock = Clock::system();
    let lifecycle = Lifecycle::new(clock.clone(), Rng::system());
    let limiter = open(url, redis, &lifecycle).await;
    // The wall clock of this machine in microseconds, as Redis has it, but for the rounding of where it begins.
    let wall = u64::try_from(clock.now().as_millis()).unwrap() * 1000;
    let offset = wall - u64::try_from(clock.monotonic().as_micros()).unwrap();
    let now = || offset + u64::try_from(clock.monotonic().as_micros()).unwrap();
    // All begin at the instant that the parent names when all are ready.
    println!("READY");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let mut turn = Duration::from_micros(line.trim().parse::<u64>().unwrap() - offset);
    for (name, ..) in cases() {
        clock.sleep(turn.saturating_sub(clock.monotonic())).await;
        let until = turn + ROUND;
        turn += TURN;
        let descriptors = [descriptor(&[(&name, "x")])];
        let asked = check(&descriptors, 1);
        let worker = async || {
            while clock.monotonic() < until {
                let before = now();
                if name == "places" {
                    let (_, token) = limiter.reserve(&project(), &asked, Duration::from_secs(5)).await.unwrap();
                    let Some(token) = token else { continue };
                    let after = now();
                    clock.sleep(Duration::from_millis(3)).await;
                    let released = now();
                    limiter.settle(&project(), token.as_str(), 1).await.unwrap();
                    println!("SERVED {name} {} {released} exact", after + ROUNDING_US);
                    continue;
                }
                let outcome = limiter.check(&project(), &asked).await.unwrap();
                let source = if outcome.decisions[0].source == Source::Leased { "leased" } else { "exact" };
                if outcome.is_allowed {
                    println!("SERVED {name} {before} {} {source}", now() + ROUNDING_US);
                }
                // What is decided here never waits: others have to come to their turn.
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(worker(), worker(), worker());
    }
}

/// Something that was served at some instant of an interval; or a place that was held for all of it.
#[derive(Debug, Clone, Copy)]
struct Served {
    from: u64,
    to: u64,
}

/// How many were served within a span for certain.
fn within(served: &[Served], from: u64, to: u64) -> u64 {
    served.iter().filter(|s| s.from >= from && s.to < to).count() as u64
}

/// Beyond what the algorithm states, in the worst window.
fn excess(name: &str, served: &[Served]) -> u64 {
    match name.split('-').next().unwrap() {
        "token_bucket" | "gcra" => {
            let mut worst = 0;
            // `served` is in order of `from`; a span is from one's start to another's end.
            for (i, first) in served.iter().enumerate() {
                let mut ends: Vec<u64> = served[i..].iter().map(|s| s.to).collect();
                ends.sort_unstable();
                for (n, end) in ends.into_iter().enumerate() {
                    let refilled = (end - first.from) * LIMIT / WINDOW_US;
                    worst = worst.max((n as u64 + 1).saturating_sub(LIMIT + refilled + 1));
                }
            }
            worst
        }
        "fixed_window" | "sliding_counter" => {
            let starts = served.iter().map(|s| s.from - s.from % WINDOW_US);
            starts.map(|start| within(served, start, start + WINDOW_US)).max().unwrap_or(0).saturating_sub(LIMIT)
        }
        "sliding_log" => {
            let spans = served.iter().map(|s| within(served, s.from, s.from + WINDOW_US));
            spans.max().unwrap_or(0).saturating_sub(LIMIT)
        }
        "calendar" => (served.len() as u64).saturating_sub(DAY),
        _ => {
            let held = |at: u64| served.iter().filter(|s| (s.from..s.to).contains(&at)).count() as u64;
            served.iter().map(|s| held(s.from)).max().unwrap_or(0).saturating_sub(PLACES)
        }
    }
}

fn spawn(url: &str, redis: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["processes::node", "--exact", "--nocapture", "--test-threads=1"])
        .env(NODE, format!("{url} {redis}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_exceed_no_limit_by_more_than_stated() {
    let redis = Redis::start();
    let url = testkit::shared_postgres().fresh_database();
    let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
    let limiter = open(&url, &redis.url(), &lifecycle).await;
    let written = Value::Array(cases().into_iter().map(|(_, rule, _)| rule).collect());
    limiter.put_rules(&principal("default"), "api", rules(written), "", Expected::Any).await.unwrap();

    let mut nodes: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut child = spawn(&url, &redis.url());
            let out = BufReader::new(child.stdout.take().unwrap());
            (child, out.lines())
        })
        .collect();
    for (_, out) in &mut nodes {
        assert!(out.any(|line| line.unwrap().ends_with("READY")));
    }
    let start = (Clock::system().now().as_millis() + 100) * 1000;
    let readers = nodes.into_iter().map(|(mut child, out)| {
        writeln!(child.stdin.take().unwrap(), "{start}").unwrap();
        tokio::task::spawn_blocking(move || {
            let lines: Vec<String> = out.map(|line| line.unwrap()).collect();
            assert!(child.wait().unwrap().success());
            lines
        })
    });
    let mut lines = Vec::new();
    for reader in readers.collect::<Vec<_>>() {
        lines.push(reader.await.unwrap());
    }
    for (name, _, bound) in cases() {
        let (mut served, mut leased, mut from) = (Vec::new(), 0, Vec::new());
        for process in &lines {
            let before = served.len();
            // The harness writes its own words before the first one.
            for rest in process.iter().filter_map(|line| line.split_once("SERVED ").map(|(_, rest)| rest)) {
                let words: Vec<&str> = rest.split(' ').collect();
                let [rule, from, to, source] = words[..] else { panic!("{rest}") };
                if rule == name {
                    served.push(Served { from: from.parse().unwrap(), to: to.parse().unwrap() });
                    leased += u64::from(source == "leased");
                }
            }
            from.push(served.len() - before);
        }
        served.sort_by_key(|s| s.from);
        let found = excess(&name, &served);
        println!("{name}: {} served {from:?}, {leased} from slices; error found {found}, stated {bound}", served.len());
        assert!(found <= bound, "{name}: {found} beyond the limit, stated {bound}");
        assert!(from.iter().filter(|n| **n > 0).count() >= 2, "{name}: {from:?}");
        assert_eq!(leased > 0, name.ends_with("leased"), "{name}");
        // And what there is can be had: a busy machine asks for less than all of it.
        let least = match name.split('-').next().unwrap() {
            "places" => PLACES,
            _ => LIMIT,
        };
        assert!(served.len() as u64 >= least, "{name}: only {}", served.len());
    }
}
