//! Decisions that all nodes share, over Redis: one round trip each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kernel::{Clock, Lifecycle, ProjectId, Rng, Stage};
use memory::{Charge, Memory, OnDown, Rate, RateKey, RedisOptions, Use};

use super::{BURST, COLUMNS, KEYS, Round, grpc, ratio, row};
use crate::{
    Effort, machine,
    report::{Report, median},
};

const CELLS: Use = Use { name: "bench.cells", on_down: OnDown::Closed };
const CALLS_AT_ONCE: usize = 64;

/// The generic cell rate algorithm on one key, as redis-cell decides it: the least that a shared limiter can send and do.
const GCRA: &str = "\
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local next_tat = tat + interval
if next_tat - now > interval * burst then
  return {0, 0, next_tat - interval * burst - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', next_tat), 'PX', math.ceil((next_tat - now) / 1000))
return {1, math.floor((interval * burst - (next_tat - now)) / interval), 0}";

pub(crate) fn run(effort: Effort) -> Report {
    let redis = testkit::Redis::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let (clock, rng) = (Clock::system(), Rng::system());
    let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let (cells, mut plain) = runtime.block_on(async {
        let options = RedisOptions::single(&url);
        let memory = Memory::redis(options, clock, rng, &lifecycle.tasks(Stage::Planes)).expect("the address is right");
        memory.ping().await.expect("Redis answers");
        let client = redis::Client::open(url.as_str()).expect("the address is right");
        (memory.with(CELLS), client.get_multiplexed_async_connection().await.expect("Redis answers"))
    });
    let hash: String = runtime
        .block_on(redis::cmd("SCRIPT").arg("LOAD").arg(GCRA).query_async(&mut plain))
        .expect("the script is right");
    let hash: Arc<str> = hash.into();

    let project = ProjectId::default_project();
    let keys: Arc<Vec<RateKey>> =
        Arc::new((0..KEYS).map(|n| RateKey::new(&project, ["bench", &format!("user-{n}")])).collect());
    let rate =
        Rate::TokenBucket { capacity: u64::from(BURST), refill: u64::from(BURST), period: Duration::from_secs(1) };
    let names = ["mainstay: a cell on Redis", "plain GCRA script on Redis"];
    let mut rounds: [Vec<Round>; 2] = Default::default();
    let usage = || machine::usage(std::process::id()).cpu_seconds;
    let redis_pid = redis.pid().expect("Redis runs");
    let redis_usage = || machine::usage(redis_pid).cpu_seconds;
    for number in 0..=effort.rounds {
        for (variant, (name, rounds)) in names.iter().zip(&mut rounds).enumerate() {
            // The first round warms up and is not counted.
            let time = if number == 0 { Duration::from_secs(1) } else { effort.duration() };
            let before = usage() + redis_usage();
            let load = if variant == 0 {
                let (cells, keys) = (cells.clone(), keys.clone());
                runtime.block_on(drive(time, move |key| {
                    let (cells, keys) = (cells.clone(), keys.clone());
                    async move {
                        let charges = [Charge::new(&keys[key], rate, 1)];
                        cells.charge(&charges).await.expect("Redis answers").len() == 1
                    }
                }))
            } else {
                let (plain, hash) = (plain.clone(), hash.clone());
                runtime.block_on(drive(time, move |key| {
                    let (mut plain, hash) = (plain.clone(), hash.clone());
                    async move {
                        let mut command = redis::cmd("EVALSHA");
                        command.arg(&*hash).arg(1).arg(format!("bench:user-{key}")).arg(1_000_000 / BURST).arg(BURST);
                        let answer: Vec<i64> = command.query_async(&mut plain).await.expect("Redis answers");
                        answer.len() == 3
                    }
                }))
            };
            let cpu_micros = (usage() + redis_usage() - before) / load.requests * 1e6;
            if number > 0 {
                println!("round {number}: {name}: {:.0}/s, {cpu_micros:.1} µs of CPU each", load.per_second);
                let (p50_ms, p99_ms) = (load.p50_ms, load.p99_ms);
                rounds.push(Round { per_second: load.per_second, p50_ms, p99_ms, cpu_micros });
            }
        }
    }
    let middles = rounds.map(|r| median(&r, |round| round.per_second));
    let mut rows: Vec<_> = names.iter().zip(&middles).map(|(name, middle)| row(name, *middle)).collect();
    rows.push(ratio("ratio", middles[0], middles[1]));
    Report {
        name: "limits-shared",
        title: "Rate limit decisions shared over Redis".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "one token bucket a key ({BURST} at once, {BURST} a second), {KEYS} keys drawn evenly; every decision is one round trip \
                 to Debian's Redis on this machine; {CALLS_AT_ONCE} at once over one connection"
            ),
            "the plain script decides one key and knows one algorithm; mainstay's decides up to 32 cells of seven algorithms, all or \
             none. CPU is that of this process and of Redis together"
                .to_owned(),
            format!("median (by rate) of {} rounds of {} s, alternating", effort.rounds, effort.seconds),
        ],
        columns: COLUMNS.to_vec(),
        rows,
        charted: 0,
    }
}

async fn drive<F>(time: Duration, decide: impl Fn(usize) -> F + Clone + Send + 'static) -> crate::wrk::Load
where
    F: Future<Output = bool> + Send,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..CALLS_AT_ONCE)
        .map(|number| {
            let (decide, rng) = (decide.clone(), Rng::seeded(number as u64));
            tokio::spawn(async move {
                let mut times = Histogram::<u64>::new(3).expect("a histogram of three digits");
                loop {
                    let sent = Instant::now();
                    if sent.duration_since(start) >= time {
                        return times;
                    }
                    assert!(decide(usize::try_from(rng.below(KEYS)).unwrap_or_default()).await, "it was decided");
                    let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                    times.record(micros).expect("a histogram that grows");
                }
            })
        })
        .collect();
    let mut times = Histogram::<u64>::new(3).expect("a histogram of three digits");
    for task in tasks {
        times.add(task.await.expect("no call panics")).expect("histograms that grow");
    }
    grpc::load(&times, start.elapsed())
}
