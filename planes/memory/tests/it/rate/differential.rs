//! Every engine against the model, over random calls and passing time: the same answers, to the microsecond.

use std::{collections::BTreeSet, time::Duration};

use kernel::Timestamp;
use memory::{Adjust, Charge, Error, Moment, Once, Rate, RateKey};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{World, model::Cell, rate_key, tag};

const CELLS: usize = 10;
const CALENDAR: usize = 6;
const CALENDAR_MS: i64 = 3000;

/// The rates that the cells have; numbers with and without remainders.
fn rate(cell: usize, now_us: u64, is_stale: bool) -> Rate {
    let ms = Duration::from_millis;
    match cell {
        0 => Rate::TokenBucket { capacity: 5, refill: 3, period: ms(1000) },
        1 => Rate::TokenBucket { capacity: 7, refill: 7_000_000, period: ms(1009) },
        2 => Rate::Gcra { limit: 7, period: ms(1000), burst: 2 },
        3 => Rate::FixedWindow { limit: 4, window: ms(700) },
        4 => Rate::SlidingLog { limit: 5, window: ms(900) },
        5 => Rate::SlidingCounter { limit: 5, window: ms(800) },
        CALENDAR => {
            let now = i64::try_from(now_us / 1000).unwrap();
            let start = (now / CALENDAR_MS - if is_stale { 2 } else { 0 }) * CALENDAR_MS;
            Rate::Calendar { limit: 6, bounds: [0, 1, 2].map(|n| Timestamp::from_millis(start + n * CALENDAR_MS)) }
        }
        7 => Rate::Concurrency { limit: 4, lease: ms(600) },
        8 => Rate::SlidingCounter { limit: 1000, window: ms(1300) },
        _ => Rate::SlidingLog { limit: 200, window: ms(2000) },
    }
}

#[derive(Debug, Clone)]
enum Op {
    Charge { cells: Vec<(usize, u64, bool)>, holder: u128, is_peek: bool, is_stale: bool },
    Adjust { which: usize, delta: i64, once: Option<u128> },
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let cost = prop_oneof![6 => Just(1_u64), 3 => 0_u64..4, 1 => 1_u64..9, 1 => 100_u64..700];
    let cell = (0..CELLS, cost, prop::bool::weighted(0.15));
    let cells = prop::collection::vec(cell, 1..4);
    prop_oneof![
        8 => (cells, 0_u128..4, prop::bool::weighted(0.1), prop::bool::weighted(0.05)).prop_map(
            |(cells, holder, is_peek, is_stale)| Op::Charge { cells, holder, is_peek, is_stale }
        ),
        2 => (any::<prop::sample::Index>(), prop_oneof![4 => -6_i64..5, 1 => -40_i64..40], prop::option::weighted(0.5, 0_u128..3))
            .prop_map(|(which, delta, once)| Op::Adjust { which: which.index(1000), delta, once }),
        4 => prop_oneof![3 => 0_u64..200, 1 => 0_u64..1500, 1 => Just(1)].prop_map(Op::Advance),
    ]
}

/// Something that was charged.
#[derive(Clone, Copy)]
struct Past {
    cell: usize,
    rate: Rate,
    at: u64,
    holder: u128,
}

async fn run(world: &World, ops: &[Op]) -> Result<(), TestCaseError> {
    let tag = tag();
    let keys: Vec<RateKey> = (0..CELLS).map(|i| rate_key(&[&tag, &i.to_string()])).collect();
    let mut model = vec![Cell::default(); CELLS];
    let mut past: Vec<Past> = Vec::new();
    let mut seen = BTreeSet::new();
    let ttl = Duration::from_hours(1);
    for op in ops {
        let now = world.now_us();
        match op {
            Op::Advance(ms) => world.sim.advance(Duration::from_millis(*ms)),
            Op::Charge { cells, holder, is_peek, is_stale } => {
                let charges: Vec<Charge<'_>> = cells
                    .iter()
                    .map(|(cell, cost, is_shadow)| Charge {
                        key: &keys[*cell],
                        rate: rate(*cell, now, *is_stale),
                        cost: *cost,
                        is_shadow: *is_shadow,
                        holder: Some(*holder),
                    })
                    .collect();
                let answer =
                    if *is_peek { world.space.peek(&charges).await } else { world.space.charge(&charges).await };
                let is_twice = (1..cells.len()).any(|i| cells[..i].iter().any(|c| c.0 == cells[i].0));
                if is_twice {
                    prop_assert!(matches!(answer, Err(Error::Invalid(_))));
                    continue;
                }
                if charges.iter().any(|c| Cell::is_passed(&c.rate, now)) {
                    prop_assert_eq!(answer, Err(Error::WindowPassed { at: Moment::from_micros(now) }));
                    continue;
                }
                let looks: Vec<_> = cells
                    .iter()
                    .zip(&charges)
                    .map(|((cell, cost, _), c)| model[*cell].look(&c.rate, now, *cost, Some(*holder)))
                    .collect();
                let is_allowed = looks.iter().zip(cells).all(|((fits, _), (_, _, is_shadow))| *fits || *is_shadow);
                let mut expected = Vec::new();
                for (((cell, cost, _), charge), look) in cells.iter().zip(&charges).zip(&looks) {
                    if is_allowed && look.0 && !is_peek {
                        model[*cell].charge(&charge.rate, now, *cost, Some(*holder));
                        past.push(Past { cell: *cell, rate: charge.rate, at: now, holder: *holder });
                    }
                    expected.push(model[*cell].answer(&charge.rate, now, *look));
                }
                prop_assert_eq!(answer, Ok(expected), "{:?}", op);
            }
            Op::Adjust { which, delta, once } => {
                if past.is_empty() {
                    continue;
                }
                let p = past[past.len() - 1 - which % past.len().min(8)];
                let adjust = Adjust {
                    key: &keys[p.cell],
                    rate: p.rate,
                    at: Moment::from_micros(p.at),
                    delta: *delta,
                    holder: Some(p.holder),
                };
                let id = once.map(|n| Once { id: n + u128::from_str_radix(&tag, 16).unwrap() * 8, ttl });
                let done = world.space.adjust(id, &[adjust]).await.unwrap();
                let is_first = once.is_none_or(|n| seen.insert(n));
                prop_assert_eq!(done, is_first);
                if is_first {
                    model[p.cell].adjust(&p.rate, now, p.at, *delta, Some(p.holder));
                }
            }
        }
    }
    Ok(())
}

fn compare(world: impl FnOnce() -> World, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = runtime.block_on(async { world() });
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(op(), 1..120), |ops| runtime.block_on(run(&world, &ops)))
        .unwrap();
}

#[test]
fn in_process_as_the_model() {
    compare(World::local, 1500);
}

#[test]
fn on_redis_as_the_model() {
    compare(World::redis, 150);
}

#[test]
fn on_a_cluster_as_the_model() {
    compare(World::cluster, 60);
}
