//! Three processes of the operating system on one Redis, by its clock: together they never get more than one would.
//!
//! The processes are this test binary again, with the variable below set.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kernel::{Clock, Lifecycle, Rng, Stage};
use memory::{Adjust, Charge, Memory, Rate, RedisOptions};
use testkit::Redis;

use super::{
    RATES,
    guarantees::{Admitted, at_most, bucket_holds, worst_aligned, worst_span},
    rate_key,
};

/// `url number`: whose node this process is.
const NODE: &str = "MAINSTAY_TEST_RATE_NODE";
const PROCESSES: usize = 3;
const WINDOW_US: u64 = 200_000;
const WINDOW: Duration = Duration::from_micros(WINDOW_US);
/// How long each algorithm is under load, in windows.
const WINDOWS: u64 = 6;
const LIMIT: u64 = 40;

fn rates() -> Vec<(&'static str, Rate)> {
    vec![
        ("bucket", Rate::TokenBucket { capacity: LIMIT, refill: LIMIT, period: WINDOW }),
        ("gcra", Rate::Gcra { limit: LIMIT, period: WINDOW, burst: 5 }),
        ("fixed", Rate::FixedWindow { limit: LIMIT, window: WINDOW }),
        ("log", Rate::SlidingLog { limit: LIMIT, window: WINDOW }),
        ("counter", Rate::SlidingCounter { limit: LIMIT, window: WINDOW }),
        ("places", Rate::Concurrency { limit: 5, lease: WINDOW }),
    ]
}

/// What a process does; returns at once where the variable is not set, as in a run of all tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    let Ok(text) = std::env::var(NODE) else { return };
    let (url, number) = text.split_once(' ').unwrap();
    let number: u128 = number.parse().unwrap();
    let (clock, rng) = (Clock::system(), Rng::system());
    let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
    let options = RedisOptions { operation_timeout: Duration::from_secs(20), ..RedisOptions::single(url) };
    let memory = Memory::redis(options, clock, rng, &lifecycle.tasks(Stage::Planes)).unwrap();
    let space = memory.with(RATES);
    memory.ping().await.unwrap();
    println!("READY");
    for (name, rate) in rates() {
        let key = rate_key(&["processes", name]);
        let worker = async |worker: u128| {
            let (mut start, mut step) = (None, 0_u128);
            loop {
                step += 1;
                let holder = (number * 100 + worker) << 64 | step;
                let answer = space.charge(&[Charge::new(&key, rate, 1).held_by(holder)]).await.unwrap()[0];
                let at = answer.at.as_micros();
                if at > *start.get_or_insert(at) + WINDOWS * WINDOW_US {
                    break;
                }
                if !answer.is_allowed {
                    continue;
                }
                let mut until = at + WINDOW_US;
                if let Rate::Concurrency { .. } = rate {
                    // Held at least until the server looks again. Every third is never given back: its lease ends.
                    let later = space.peek(&[Charge::new(&key, rate, 1).held_by(holder)]).await.unwrap()[0];
                    if step % 3 != 0 {
                        until = later.at.as_micros();
                        let give = Adjust { key: &key, rate, at: answer.at, delta: -1, holder: Some(holder) };
                        space.adjust(None, &[give]).await.unwrap();
                    }
                }
                println!("ADMITTED {name} {at} {until}");
            }
        };
        tokio::join!(worker(0), worker(1), worker(2));
    }
}

fn spawn(url: &str, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["rate::processes::node", "--exact", "--nocapture", "--test-threads=1"])
        .env(NODE, format!("{url} {number}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn three_processes_on_one_redis_get_no_more_than_one() {
    let server = Redis::start();
    let children: Vec<Child> = (0..PROCESSES).map(|n| spawn(&server.url(), n)).collect();
    let mut lines = Vec::new();
    for (n, mut child) in children.into_iter().enumerate() {
        let out = BufReader::new(child.stdout.take().unwrap());
        lines.extend(out.lines().map(|line| (n, line.unwrap())));
        assert!(child.wait().unwrap().success());
    }
    for (name, rate) in rates() {
        let mut from = [0; PROCESSES];
        let mut admitted = Vec::new();
        for (n, line) in &lines {
            // The harness writes its own words before the first one.
            let Some(rest) = line.split_once("ADMITTED ").map(|(_, rest)| rest) else { continue };
            let mut words = rest.split(' ');
            if words.next() != Some(name) {
                continue;
            }
            let mut number = || words.next().unwrap().parse::<u64>().unwrap();
            admitted.push(Admitted { at: number(), count: 1, holder: 0, until: number() });
            from[*n] += 1;
        }
        admitted.sort_by_key(|a| a.at);
        assert!(from.iter().all(|n| *n > 0), "{name}: each process got something: {from:?}");
        // Error found: what any window saw beyond what the algorithm states. Bound: none.
        let held = |at: u64| admitted.iter().filter(|a| (a.at..a.until).contains(&at)).count() as u64;
        let outcome = match rate {
            Rate::TokenBucket { .. } => bucket_holds(&admitted, LIMIT, LIMIT, WINDOW),
            Rate::Gcra { .. } => bucket_holds(&admitted, 5, LIMIT, WINDOW),
            Rate::SlidingLog { .. } => at_most("a span", worst_span(&admitted, WINDOW_US), LIMIT),
            Rate::FixedWindow { .. } | Rate::SlidingCounter { .. } => {
                let most = if let Rate::FixedWindow { .. } = rate { 2 * LIMIT } else { 2 * LIMIT - 1 };
                at_most("an aligned window", worst_aligned(&admitted, WINDOW_US), LIMIT)
                    .and_then(|()| at_most("a span", worst_span(&admitted, WINDOW_US), most))
            }
            _ => at_most("use at once", admitted.iter().map(|a| held(a.at)).max().unwrap(), 5),
        };
        outcome.unwrap_or_else(|e| panic!("{name}: {e}"));
        // And what there is can be had: a busy machine asks for less than all of it.
        let total = admitted.len() as u64;
        println!("{name}: {total} admitted, by process {from:?}; worst span {}", worst_span(&admitted, WINDOW_US));
        if !matches!(rate, Rate::Concurrency { .. }) {
            assert!(total >= LIMIT * 2, "{name}: only {total}");
        }
    }
}
