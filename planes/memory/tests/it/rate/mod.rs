//! Rate cells.

mod differential;
mod guarantees;
mod model;
mod processes;
mod server;

use std::{sync::OnceLock, time::Duration};

use kernel::{Clock, Lifecycle, ProjectId, Rng, SimClock, Stage, Timestamp};
use memory::{LocalOptions, Memory, OnDown, RateKey, RateTime, RedisOptions, Space, Use};
use testkit::{Redis, RedisCluster};

pub(crate) const RATES: Use = Use { name: "test.rates", on_down: OnDown::Closed };
/// A Thursday, in the middle of every window that the tests use.
pub(crate) const START_MS: i64 = 1_800_000_000_250;

/// An engine whose clock is moved by hand.
pub(crate) struct World {
    pub(crate) space: Space,
    pub(crate) clock: Clock,
    pub(crate) sim: SimClock,
    _lifecycle: Option<Lifecycle>,
}

impl World {
    pub(crate) fn local() -> Self {
        Self::local_with(LocalOptions::default())
    }

    pub(crate) fn local_with(options: LocalOptions) -> Self {
        let (clock, sim) = Clock::simulated(Timestamp::from_millis(START_MS));
        let memory = Memory::local(options, clock.clone(), Rng::seeded(1));
        Self { space: memory.with(RATES), clock, sim, _lifecycle: None }
    }

    pub(crate) fn redis() -> Self {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        Self::on(RedisOptions::single(SERVER.get_or_init(Redis::start).url()))
    }

    pub(crate) fn cluster() -> Self {
        static SERVERS: OnceLock<RedisCluster> = OnceLock::new();
        Self::on(RedisOptions::cluster(SERVERS.get_or_init(|| Redis::cluster(3)).urls()))
    }

    fn on(options: RedisOptions) -> Self {
        // Time-outs count on the clock that the test moves: none of them may end.
        let never = Duration::from_hours(24 * 365 * 50);
        let options = RedisOptions {
            rate_time: RateTime::Caller,
            operation_timeout: never,
            connect_timeout: never,
            check_interval: never,
            ..options
        };
        let (clock, sim) = Clock::simulated(Timestamp::from_millis(START_MS));
        let lifecycle = Lifecycle::new(clock.clone(), Rng::system());
        let memory = Memory::redis(options, clock.clone(), Rng::system(), &lifecycle.tasks(Stage::Planes)).unwrap();
        Self { space: memory.with(RATES), clock, sim, _lifecycle: Some(lifecycle) }
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.clock.now().as_millis()).unwrap() * 1000
    }
}

pub(crate) fn rate_key(parts: &[&str]) -> RateKey {
    RateKey::new(&ProjectId::default_project(), parts)
}

/// So that tests on one server do not see one another.
pub(crate) fn tag() -> String {
    format!("{:016x}", Rng::system().next_u64())
}
