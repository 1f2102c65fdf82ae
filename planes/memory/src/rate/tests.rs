//! The table: its size, what it forgets, and that it stays whole.

use std::time::Duration;

use kernel::{Clock, ProjectId, Rng, SimClock, Timestamp};
use proptest::prelude::*;

use super::{Adjust, Charge, Rate, RateKey, Table};

const SECOND: Duration = Duration::from_secs(1);

fn table(max: usize) -> (Table, SimClock) {
    let (clock, sim) = Clock::simulated(Timestamp::from_millis(1_800_000_000_000));
    (Table::new(max, clock, &Rng::seeded(7)), sim)
}

fn key(n: usize) -> RateKey {
    RateKey::new(&ProjectId::default_project(), [n.to_string()])
}

#[test]
fn a_million_idle_keys_take_what_is_stated_and_are_forgotten() {
    const COUNT: usize = 1_000_000;
    let (table, sim) = table(2 * COUNT);
    let rate = Rate::TokenBucket { capacity: 10, refill: 1, period: SECOND };
    let mut name = key(0);
    for n in 0..COUNT {
        name.set(&ProjectId::default_project(), [n.to_string()]);
        assert!(table.charge_one(&Charge::new(&name, rate, 1)).unwrap().is_allowed);
    }
    let stats = table.stats();
    assert_eq!((stats.cell_count, stats.evicted_count), (COUNT, 0));
    // The only allocations of a table without ledgers are its shards' places, so capacity × size is all of it.
    let each = stats.bytes / COUNT;
    println!("{each} bytes a key");
    assert!((43..=64).contains(&each), "{each} bytes a key");

    // A bucket that lacks one of ten is full after a second: traffic on another key alone frees a million.
    sim.advance(SECOND);
    name.set(&ProjectId::default_project(), ["busy"]);
    let busy = Charge::new(&name, Rate::FixedWindow { limit: 2_000_000_000, window: SECOND }, 1);
    let mut decisions = 0;
    while table.stats().cell_count > 1 {
        for _ in 0..10_000 {
            table.charge_one(&busy).unwrap();
        }
        decisions += 10_000;
        assert!(decisions <= COUNT, "four places a decision, and at most two places a key");
    }
    let stats = table.stats();
    assert_eq!((stats.forgotten_count, stats.evicted_count), (COUNT as u64, 0));
    assert!(stats.bytes < 500_000, "{} bytes are left of {}", stats.bytes, each * COUNT);

    // And without traffic, when asked to.
    sim.advance(SECOND);
    table.sweep();
    assert_eq!(table.stats().cell_count, 0);
    table.recheck();
}

#[test]
fn past_its_bound_the_cell_nearest_to_rest_goes() {
    let (table, _sim) = table(1000);
    let owed = key(0);
    let hour = Rate::FixedWindow { limit: 1, window: Duration::from_hours(1) };
    assert!(table.charge_one(&Charge::new(&owed, hour, 1)).unwrap().is_allowed);
    for n in 1..20_000 {
        assert!(table.charge_one(&Charge::new(&key(n), Rate::FixedWindow { limit: 1, window: SECOND }, 1)).is_ok());
    }
    let stats = table.stats();
    assert_eq!((stats.cell_count, stats.evicted_count, stats.max_count), (1000, 19_000, 1000));
    // A flood of fresh keys does not wash away who is refused for long.
    assert!(!table.charge_one(&Charge::new(&owed, hour, 1)).unwrap().is_allowed);
    table.recheck();
}

#[test]
fn entries_of_logs_count_against_the_bound() {
    let (table, sim) = table(500);
    let log = Rate::SlidingLog { limit: 100, window: Duration::from_mins(1) };
    for n in 0..2000 {
        sim.advance(Duration::from_millis(1));
        assert!(table.charge_one(&Charge::new(&key(n % 20), log, 1)).is_ok());
        let stats = table.stats();
        assert!(stats.cell_count + stats.entry_count <= 500, "{stats:?}");
    }
    assert!(table.stats().evicted_count > 0);
    table.recheck();
    sim.advance(Duration::from_mins(1));
    table.sweep();
    table.recheck();
    let stats = table.stats();
    assert_eq!((stats.cell_count, stats.entry_count), (0, 0));
    assert!(stats.bytes < 2048, "{stats:?}");
}

#[test]
fn a_step_of_the_wall_clock_is_followed_within_a_second() {
    let (table, sim) = table(100);
    let at = || table.charge_one(&Charge::new(&key(0), Rate::FixedWindow { limit: 9, window: SECOND }, 1)).unwrap().at;
    let before = at().as_micros();
    for step in [3_600_000_i64, -3_600_000] {
        let now = at().timestamp();
        sim.jump_wall_to(Timestamp::from_millis(now.as_millis() + step));
        sim.advance(SECOND);
        assert_eq!(at().timestamp().as_millis(), now.as_millis() + step + 1000);
    }
    assert_eq!(at().as_micros(), before + 2_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// TABLE-1 and TABLE-2 after every operation, in a table that is much too small.
    #[test]
    fn the_table_stays_whole(ops in prop::collection::vec((0_usize..60, 0_usize..5, 0_u64..300, any::<bool>()), 1..300)) {
        let (table, sim) = table(24);
        for (n, kind, ms, is_adjust) in ops {
            let rate = match kind {
                0 => Rate::TokenBucket { capacity: 3, refill: 3, period: SECOND },
                1 => Rate::FixedWindow { limit: 2, window: SECOND },
                2 => Rate::SlidingCounter { limit: 2, window: SECOND },
                3 => Rate::SlidingLog { limit: 4, window: SECOND },
                _ => Rate::Concurrency { limit: 4, lease: SECOND },
            };
            let name = key(n % 12);
            let (other, holder) = (key(n % 7 + 100), Some(n as u128 % 3));
            let one = Charge { key: &name, rate, cost: 1, is_shadow: false, holder };
            if is_adjust {
                let at = table.charge_one(&one).unwrap().at;
                sim.advance(Duration::from_millis(ms));
                table.adjust(None, &[Adjust { key: &name, rate, at, delta: 2 - n as i64 % 5, holder }]).unwrap();
            } else {
                sim.advance(Duration::from_millis(ms));
                table.charge(&[one, Charge { key: &other, ..one }], true).unwrap();
            }
            table.recheck();
        }
    }
}
