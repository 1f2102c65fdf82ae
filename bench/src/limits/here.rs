//! Decisions in this process, on one thread and on two.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use access::Access;
use kernel::{Clock, Lifecycle, ProjectId, Rng, Stage};
use limiter::{Check, Descriptor, Limiter, Matching};
use memory::{Charge, LocalOptions, Memory, OnDown, Rate, RateKey, Use};

use super::{BURST, DOMAIN, KEYS, VERSION, rule};
use crate::{
    Effort, machine,
    report::{Report, Row, median},
};

const CELLS: Use = Use { name: "bench.cells", on_down: OnDown::Closed };
/// Decisions between two looks at the clock.
const STRIDE: u64 = 1000;

/// One decision about the key of a number.
type Decide = Arc<dyn Fn(usize) -> bool + Send + Sync>;

#[derive(Debug, Clone, Copy)]
struct Round {
    per_second: f64,
    cpu_nanos: f64,
}

pub(crate) fn run(effort: Effort) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (clock, rng) = (Clock::system(), Rng::system());
    let project = ProjectId::default_project();
    let memory = Memory::local(LocalOptions::default(), clock.clone(), rng.clone());
    let limiter = runtime.block_on(open(folder.path(), &memory, &clock, &rng));

    let names: Vec<String> = (0..KEYS).map(|n| format!("user-{n}")).collect();
    let descriptors: Vec<[Descriptor; 1]> =
        names.iter().map(|name| [Descriptor::new([("user", name.as_str())])]).collect();
    let by_rule: Decide = {
        let project = project.clone();
        Arc::new(move |key| {
            let check = Check { domain: DOMAIN, descriptors: &descriptors[key], matching: Matching::Contains, cost: 1 };
            let decided = limiter.try_check(&project, &check).expect("it is in this process");
            decided.expect("the check is right").is_allowed
        })
    };
    let cells = memory.with(CELLS);
    let keys: Vec<RateKey> = names.iter().map(|name| RateKey::new(&project, ["bench", name])).collect();
    let rate =
        Rate::TokenBucket { capacity: u64::from(BURST), refill: u64::from(BURST), period: Duration::from_secs(1) };
    let by_cell: Decide = Arc::new(move |key| {
        let charged = cells.try_charge_one(&Charge::new(&keys[key], rate, 1)).expect("it is in this process");
        charged.expect("the charge is right").is_allowed
    });
    let crab = Mutex::new(throttlecrab::RateLimiter::new(throttlecrab::AdaptiveStore::new()));
    let by_crab: Decide = Arc::new(move |key| {
        let mut crab = crab.lock().expect("nobody panicked with it");
        let burst = i64::from(BURST);
        crab.rate_limit(&names[key], burst, burst, 1, 1, SystemTime::now()).expect("the request is right").0
    });

    let variants = [
        ("mainstay: a check by its rules", &by_rule, 1),
        ("mainstay: a cell", &by_cell, 1),
        ("throttlecrab: its library", &by_crab, 1),
        ("mainstay: a check by its rules, 2 threads", &by_rule, 2),
        ("mainstay: a cell, 2 threads", &by_cell, 2),
        ("throttlecrab: its library in a mutex, 2 threads", &by_crab, 2),
    ];
    let mut rounds: [Vec<Round>; 6] = Default::default();
    for number in 1..=effort.rounds {
        for ((name, decide, threads), rounds) in variants.iter().zip(&mut rounds) {
            let round = decisions(decide, *threads, effort.duration());
            println!("round {number}: {name}: {:.0}/s, {:.0} ns of CPU each", round.per_second, round.cpu_nanos);
            rounds.push(round);
        }
    }
    let rows = variants.iter().zip(rounds).map(|((name, ..), rounds)| {
        let middle = median(&rounds, |r| r.per_second);
        Row { name: (*name).to_owned(), figures: vec![middle.per_second, middle.cpu_nanos] }
    });
    Report {
        name: "limits-process",
        title: "Rate limit decisions in one process".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "one token bucket a key ({BURST} at once, {BURST} a second), {KEYS} keys drawn evenly; throttlecrab {VERSION} with \
                 its AdaptiveStore, which is for one thread, hence the mutex; the clock is read for every decision"
            ),
            format!("median (by rate) of {} rounds of {} s, alternating", effort.rounds, effort.seconds),
        ],
        columns: vec!["decisions/s", "CPU ns a decision"],
        rows: rows.collect(),
        charted: 0,
    }
}

/// A limiter in this process with the one rule.
async fn open(folder: &std::path::Path, memory: &Memory, clock: &Clock, rng: &Rng) -> Limiter {
    let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
    let planes = lifecycle.tasks(Stage::Planes);
    let config = database::DatabaseConfig::default();
    let db = database::Db::open(&config, folder, clock.clone(), rng.clone(), &planes);
    let db = db.await.expect("a database can be made");
    let options = access::Options { config: access::AccessConfig::default(), dev: true, tls: false };
    let tasks = lifecycle.tasks(Stage::Blocks);
    let started = Access::start(db.clone(), options, clock.clone(), rng.clone(), &tasks).await;
    let (access, _) = started.expect("access starts on an empty database");
    let deps = limiter::Deps {
        config: limiter::LimiterConfig::default(),
        db,
        memory: memory.clone(),
        access,
        clock: clock.clone(),
        rng: rng.clone(),
        metrics: telemetry::Metrics::new(),
        built_in: Vec::new(),
    };
    let limiter = Limiter::open(deps).await.expect("the limiter opens");
    let rules = vec![serde_json::from_value(rule()).expect("the rule is right")];
    let who = identity::Principal::dev();
    limiter.put_rules(&who, DOMAIN, rules, "", limiter::Expected::Any).await.expect("the rule is taken");
    limiter
}

fn decisions(decide: &Decide, threads: u64, time: Duration) -> Round {
    let start = Instant::now();
    let before = machine::usage(std::process::id()).cpu_seconds;
    let workers: Vec<_> = (0..threads)
        .map(|number| {
            let decide = decide.clone();
            std::thread::spawn(move || {
                let rng = Rng::seeded(number);
                let drawn: Vec<usize> =
                    (0..1 << 16).map(|_| usize::try_from(rng.below(KEYS)).unwrap_or_default()).collect();
                let (mut count, mut allowed) = (0_u64, 0_u64);
                while start.elapsed() < time {
                    for turn in count..count + STRIDE {
                        let at = usize::try_from(turn).unwrap_or_default() % drawn.len();
                        allowed += u64::from(decide(drawn[at]));
                    }
                    count += STRIDE;
                }
                assert!(allowed > 0, "something was allowed");
                count
            })
        })
        .collect();
    let count: u64 = workers.into_iter().map(|w| w.join().expect("no worker panics")).sum();
    let cpu = machine::usage(std::process::id()).cpu_seconds - before;
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    Round { per_second: count / start.elapsed().as_secs_f64(), cpu_nanos: cpu / count * 1e9 }
}
