//! What only a server has: its clock, keys that vanish, scripts that it forgets, outages.

use std::time::Duration;

use kernel::{Clock, Lifecycle, Rng, SimClock, Stage, Timestamp};
use memory::{
    Adjust, Charge, Charged, Error, Health, Memory, Moment, OnDown, Once, Rate, RateTime, RedisOptions, Space, Use,
};
use testkit::{Redis, eventually};

use super::{RATES, START_MS, World, rate_key, tag};
use crate::support::PATIENCE;

const OPEN: Use = Use { name: "test.rates.open", on_down: OnDown::Open };
const LOCAL: Use = Use { name: "test.rates.local", on_down: OnDown::BoundedLocal };
const HOUR: Duration = Duration::from_hours(1);

fn at_real_time(url: String) -> (Memory, Lifecycle) {
    let (clock, rng) = (Clock::system(), Rng::system());
    let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
    let options = RedisOptions {
        check_interval: Duration::from_millis(100),
        operation_timeout: Duration::from_secs(5),
        ..RedisOptions::single(url)
    };
    let memory = Memory::redis(options, clock, rng, &lifecycle.tasks(Stage::Planes)).unwrap();
    (memory, lifecycle)
}

async fn one(space: &Space, charge: Charge<'_>) -> Result<Charged, Error> {
    space.charge(&[charge]).await.map(|answers| answers[0])
}

/// Clocks of callers do not matter: one an hour ahead and one an hour behind share a window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_is_the_servers() {
    let server = Redis::start();
    let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
    let skewed = |ms: i64| -> (Space, SimClock) {
        let now = Clock::system().now().as_millis();
        let (clock, sim) = Clock::simulated(Timestamp::from_millis(now + ms));
        let options = RedisOptions { operation_timeout: HOUR, ..RedisOptions::single(server.url()) };
        assert_eq!(options.rate_time, RateTime::Server);
        let memory = Memory::redis(options, clock, Rng::system(), &lifecycle.tasks(Stage::Planes)).unwrap();
        (memory.with(RATES), sim)
    };
    let ((ahead, _sim1), (behind, _sim2)) = (skewed(3_600_000), skewed(-3_600_000));
    let key = rate_key(&["clock"]);
    let charge = Charge::new(&key, Rate::SlidingLog { limit: 3, window: HOUR }, 1);
    let before = Clock::system().now();
    let mut answers = Vec::new();
    for space in [&ahead, &behind, &ahead, &behind] {
        answers.push(one(space, charge).await.unwrap());
    }
    let after = Clock::system().now();
    assert_eq!(answers.iter().map(|a| a.is_allowed).collect::<Vec<_>>(), [true, true, true, false]);
    for answer in answers {
        assert!((before..=after).contains(&answer.at.timestamp()), "{before} {answer:?} {after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_share_a_slot_vanish_at_rest_and_survive_forgotten_scripts() {
    let server = Redis::start();
    let (memory, _lifecycle) = at_real_time(server.url());
    let space = memory.with(RATES);
    let short = Duration::from_millis(150);
    let rates = [
        Rate::TokenBucket { capacity: 5, refill: 5, period: short },
        Rate::FixedWindow { limit: 5, window: short },
        Rate::SlidingLog { limit: 5, window: short },
        Rate::SlidingCounter { limit: 5, window: short },
        Rate::Concurrency { limit: 5, lease: short },
    ];
    let keys: Vec<_> = (0..rates.len()).map(|i| rate_key(&["slot", &i.to_string()])).collect();
    let charges: Vec<_> = keys.iter().zip(rates).map(|(key, rate)| Charge::new(key, rate, 2).held_by(7)).collect();
    for _ in 0..3 {
        space.charge(&charges).await.unwrap();
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "+OK");
    }
    let once = Once { id: 1, ttl: short };
    let delta = Adjust { key: &keys[1], rate: rates[1], at: Moment::from_micros(0), delta: -1, holder: None };
    assert_eq!(space.adjust(Some(once), &[delta]).await, Ok(true));
    assert_eq!(space.adjust(Some(once), &[delta]).await, Ok(false));
    for key in &keys {
        assert!(key.as_str().starts_with("ms:{default:rate}:"), "the hash tag is the project's: {key:?}");
    }
    eventually(PATIENCE, "every key vanishes", async || server.command(&["DBSIZE"]) == ":0").await;
    assert_eq!(space.adjust(Some(once), &[delta]).await, Ok(true), "and the id with them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_use_does_what_it_declared_while_redis_is_down() {
    let mut server = Redis::start();
    let (memory, _lifecycle) = at_real_time(server.url());
    let (closed, open, local) = (memory.with(RATES), memory.with(OPEN), memory.with(LOCAL));
    let key = rate_key(&["outage"]);
    let charge = Charge::new(&key, Rate::FixedWindow { limit: 3, window: Duration::from_hours(24 * 365) }, 1);
    for space in [&closed, &open, &local] {
        assert!(one(space, charge).await.unwrap().is_allowed);
    }
    assert!(!one(&closed, charge).await.unwrap().is_allowed, "the three share the cell");

    server.stop();
    eventually(PATIENCE, "degraded", async || memory.health() != Health::Serving).await;
    let give = [Adjust { key: &key, rate: charge.rate, at: Moment::from_micros(0), delta: -1, holder: None }];
    for _ in 0..5 {
        assert!(matches!(one(&closed, charge).await, Err(Error::Unavailable(_))));
        assert!(matches!(closed.peek(&[charge]).await, Err(Error::Unavailable(_))));
        assert!(matches!(closed.adjust(None, &give).await, Err(Error::Unavailable(_))));
        // Open: as if nothing had been counted before; what never fits does not fit now either.
        let answer = one(&open, charge).await.unwrap();
        assert_eq!((answer.is_allowed, answer.remaining), (true, 2));
        let never = one(&open, Charge { cost: 4, ..charge }).await.unwrap();
        assert_eq!((never.is_allowed, never.retry_after), (false, None));
        assert_eq!(open.adjust(None, &give).await, Ok(true));
    }
    // Bounded local: this process counts for itself, from empty.
    for expected in [true, true, true, false, false] {
        assert_eq!(one(&local, charge).await.unwrap().is_allowed, expected);
    }
    assert_eq!(memory.stats().rates.cell_count, 1);
    let uses = memory.stats().uses;
    let of = |used: Use| *uses.iter().find(|u| u.declared == used).unwrap();
    assert_eq!(
        (of(RATES).refused_count, of(OPEN).opened_count, of(LOCAL).local_count),
        (15, 15, 5),
        "and it is counted"
    );

    server.restart();
    eventually(PATIENCE, "serving", async || memory.health() == Health::Serving).await;
    assert_eq!(memory.stats().rates.cell_count, 0, "what stood in is forgotten");
    // This server was started anew and kept nothing.
    assert_eq!(one(&local, charge).await.unwrap().remaining, 2);
}

#[tokio::test]
async fn a_correction_with_an_id_happens_once() {
    for world in [World::local(), World::redis(), World::cluster()] {
        let tag = tag();
        let key = rate_key(&[&tag]);
        let charge = Charge::new(&key, Rate::FixedWindow { limit: 10, window: HOUR }, 10);
        let at = one(&world.space, charge).await.unwrap().at;
        let give = [Adjust { key: &key, rate: charge.rate, at, delta: -4, holder: None }];
        let id = Some(Once { id: u128::from_str_radix(&tag, 16).unwrap(), ttl: HOUR });
        let both = tokio::join!(world.space.adjust(id, &give), world.space.adjust(id, &give));
        assert_eq!(u8::from(both.0.unwrap()) + u8::from(both.1.unwrap()), 1);
        let left = world.space.peek(&[charge]).await.unwrap()[0].remaining;
        assert_eq!(left, 4);
        // Another project with the same id is another correction.
        let other = memory::RateKey::new(&kernel::ProjectId::parse("other").unwrap(), [&tag]);
        assert_eq!(world.space.adjust(id, &[Adjust { key: &other, ..give[0] }]).await, Ok(true));
        for wrong in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let id = Some(Once { id: 9, ttl: wrong });
            assert!(matches!(world.space.adjust(id, &give).await, Err(Error::Invalid(_))));
        }
        assert!(matches!(world.space.adjust(None, &[]).await, Err(Error::Invalid(_))));
    }
    // In process the id is forgotten with its time as well.
    let world = World::local();
    let key = rate_key(&["once"]);
    let rate = Rate::SlidingLog { limit: 9, window: HOUR };
    let give = [Adjust { key: &key, rate, at: Moment::from_micros(0), delta: 1, holder: None }];
    let id = Some(Once { id: 5, ttl: Duration::from_secs(1) });
    assert_eq!(world.space.adjust(id, &give).await, Ok(true));
    assert_eq!(world.space.adjust(id, &give).await, Ok(false));
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(world.space.adjust(id, &give).await, Ok(true));
}

#[tokio::test]
async fn a_calendar_window_that_is_over_says_so_and_charges_nothing() {
    for world in [World::local(), World::redis()] {
        let tag = tag();
        let (key, other) = (rate_key(&[&tag, "calendar"]), rate_key(&[&tag, "other"]));
        let bounds = |start: i64| [0, 1, 2].map(|n| Timestamp::from_millis(start + n * 1000));
        let start = START_MS / 1000 * 1000;
        let calendar = |start| Charge::new(&key, Rate::Calendar { limit: 2, bounds: bounds(start) }, 1);
        let count = Charge::new(&other, Rate::FixedWindow { limit: 100, window: HOUR }, 1);
        for bad in [start - 2000, start + 1000] {
            let answer = world.space.charge(&[count, calendar(bad)]).await;
            assert_eq!(answer, Err(Error::WindowPassed { at: Moment::from_micros(world.now_us()) }));
        }
        // The same window, first as the present one, then as the next one that was computed a window ago.
        for from in [start, start - 1000] {
            assert!(world.space.charge(&[count, calendar(from)]).await.unwrap()[1].is_allowed);
        }
        let refused = world.space.charge(&[count, calendar(start)]).await.unwrap()[1];
        assert_eq!((refused.is_allowed, refused.retry_after), (false, Some(Duration::from_millis(750))));
        assert_eq!(world.space.peek(&[count]).await.unwrap()[0].remaining, 98);
        world.sim.advance(Duration::from_millis(750));
        assert!(world.space.charge(&[calendar(start)]).await.unwrap()[0].is_allowed);
    }
}
