//! The engines that tests run on.

use std::{sync::OnceLock, time::Duration};

use kernel::{Clock, Lifecycle, ProjectId, Rng, SimClock, Stage, Timestamp};
use memory::{Event, Key, LocalOptions, Memory, OnDown, RedisOptions, Space, Subscription, Use};
use testkit::{Redis, RedisCluster};

pub(crate) const CONTRACT: Use = Use { name: "test.contract", on_down: OnDown::Closed };
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An engine with its way of letting time pass.
pub(crate) struct Engine {
    pub(crate) memory: Memory,
    pub(crate) space: Space,
    sim: Option<SimClock>,
    /// So that tests on one server do not see one another.
    tag: String,
    _lifecycle: Option<Lifecycle>,
}

fn tag() -> String {
    format!("{:016x}", Rng::system().next_u64())
}

impl Engine {
    pub(crate) fn local() -> Self {
        let (clock, sim) = Clock::simulated(Timestamp::from_millis(1_800_000_000_000));
        let memory = Memory::local(LocalOptions::default(), clock, Rng::seeded(1));
        Self { space: memory.with(CONTRACT), memory, sim: Some(sim), tag: tag(), _lifecycle: None }
    }

    pub(crate) fn redis() -> Self {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        Self::on(RedisOptions::single(SERVER.get_or_init(Redis::start).url()))
    }

    pub(crate) fn cluster() -> Self {
        static SERVERS: OnceLock<RedisCluster> = OnceLock::new();
        Self::on(RedisOptions::cluster(SERVERS.get_or_init(|| Redis::cluster(3)).urls()))
    }

    /// On a server of the test's own.
    pub(crate) fn on(mut options: RedisOptions) -> Self {
        // Wide, since several suites share two cores; tests of the time-out set their own.
        options.operation_timeout = options.operation_timeout.max(Duration::from_secs(5));
        Self::exactly(options)
    }

    /// With these options and no others.
    pub(crate) fn exactly(options: RedisOptions) -> Self {
        let (clock, rng) = (Clock::system(), Rng::system());
        let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
        let memory = Memory::redis(options, clock, rng, &lifecycle.tasks(Stage::Planes)).unwrap();
        Self { space: memory.with(CONTRACT), memory, sim: None, tag: tag(), _lifecycle: Some(lifecycle) }
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        key(&[&self.tag, name])
    }

    /// Waits until something that time brings about has happened.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        if let Some(sim) = &self.sim {
            for _ in 0..10_000 {
                if holds().await {
                    return;
                }
                sim.advance(Duration::from_millis(10));
            }
            panic!("waited in vain for: {what}");
        }
        testkit::eventually(PATIENCE, what, holds).await;
    }
}

pub(crate) fn key(parts: &[&str]) -> Key {
    Key::new(&ProjectId::default_project(), "test", parts)
}

/// Receiving with a bound, so that a message that never comes fails a test instead of holding it up.
pub(crate) trait Soon {
    async fn soon(&mut self) -> Option<Event>;
}

impl Soon for Subscription {
    async fn soon(&mut self) -> Option<Event> {
        let event = Clock::system().timeout(PATIENCE, self.recv()).await;
        event.unwrap_or_else(|| panic!("nothing arrived on {:?} within {PATIENCE:?}", self.channel()))
    }
}
