//! The handle, and what happens when the engine cannot serve.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use kernel::{Clock, Rng, Tasks};

use crate::{
    EngineKind, Error, Health, Key, LocalOptions, MAX_KEY_BYTES, MAX_MESSAGE_BYTES, MemoryConfig, RedisOptions, Result,
    Space, Stats, Subscription,
    hub::Hub,
    local::{Local, slot},
    op::{FromReply, Reply, Verb, at_most},
    redis::Redis,
    stats::UseCounters,
};

/// What a use of the plane does while the engine cannot serve (unreachable, too slow, overloaded or full).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// Fail open: every operation answers as a plane would that is empty and forgets at once. `get` gives `None`,
    /// `set_if_absent` and `join` give `true`, `increment` gives `by`, lists are empty. For hints and caches, and for limits that
    /// should rather let everybody in.
    Open,
    /// Fail closed: every operation fails with [`Error::Unavailable`]. For what must not be guessed.
    Closed,
    /// The same operations on a bounded engine in this process: every node for itself, starting empty. When the server is back
    /// it is asked again, and what was held meanwhile is forgotten. For limits that should hold about right.
    BoundedLocal,
}

/// One use of the plane, declared where it is used: `const SEEN: Use = Use { name: "jobs.seen", on_down: OnDown::Closed };`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// A short name for metrics, such as `shortener.hot`; one declaration a name.
    pub name: &'static str,
    /// What it does while the engine cannot serve.
    pub on_down: OnDown,
}

/// The memory plane. Cheap to clone. Operations are on the [`Space`] that [`Memory::with`] gives.
#[derive(Clone)]
pub struct Memory(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    /// All data in process; on Redis what stands in while it is down.
    pub(crate) local: Arc<Local>,
    hub: Arc<Hub>,
    pub(crate) clock: Clock,
    uses: Mutex<BTreeMap<&'static str, Arc<UseCounters>>>,
}

pub(crate) enum Engine {
    Local,
    Redis(Arc<Redis>),
}

impl Memory {
    /// The engine that the configuration names.
    pub fn open(config: &MemoryConfig, clock: Clock, rng: Rng, tasks: &Tasks) -> Result<Self> {
        match config.redis() {
            None => Ok(Self::local(config.local(), clock, rng)),
            Some(options) => Self::redis(options, clock, rng, tasks),
        }
    }

    /// In this process.
    #[allow(clippy::needless_pass_by_value, reason = "the same form as the other constructors")]
    pub fn local(options: LocalOptions, clock: Clock, rng: Rng) -> Self {
        let local = Arc::new(Local::new(options.max_bytes, options.max_rate_cells, clock.clone(), &rng));
        Self::made(Engine::Local, local, Hub::new(options.pubsub, false), clock)
    }

    /// On Redis or Valkey. Connects in the background, on `tasks` (of [`kernel::Stage::Planes`]): a server that is not there
    /// does not keep the process from starting, it degrades the plane. The first operations wait for the first connection
    /// within their time-out.
    pub fn redis(options: RedisOptions, clock: Clock, rng: Rng, tasks: &Tasks) -> Result<Self> {
        let (bytes, cells) = (options.fallback_max_bytes, options.fallback_max_rate_cells);
        let stand_in = Arc::new(Local::new(bytes, cells, clock.clone(), &rng));
        let hub = Hub::new(options.pubsub, true);
        let redis = Redis::start(options, clock.clone(), rng, &stand_in, &hub, tasks)?;
        Ok(Self::made(Engine::Redis(redis), stand_in, hub, clock))
    }

    fn made(engine: Engine, local: Arc<Local>, hub: Arc<Hub>, clock: Clock) -> Self {
        Self(Arc::new(Shared { engine, local, hub, clock, uses: Mutex::default() }))
    }

    /// The operations, for a declared use.
    pub fn with(&self, declared: Use) -> Space {
        let mut uses = self.0.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = uses.entry(declared.name).or_insert_with(|| Arc::new(UseCounters::new(declared))).clone();
        debug_assert_eq!(counters.declared, declared, "two declarations of one use");
        Space { shared: self.0.clone(), declared, counters }
    }

    /// Which engine serves.
    pub fn engine(&self) -> EngineKind {
        match &self.0.engine {
            Engine::Local => EngineKind::Local,
            Engine::Redis(redis) if redis.options.cluster => EngineKind::Cluster,
            Engine::Redis(_) => EngineKind::Redis,
        }
    }

    /// Asks the engine for a sign of life, whatever the uses declare.
    pub async fn ping(&self) -> Result<()> {
        match &self.0.engine {
            Engine::Local => Ok(()),
            Engine::Redis(redis) => redis.ping().await,
        }
    }

    /// Whether the plane serves; costs nothing, since the engine is watched all the time.
    pub fn health(&self) -> Health {
        match &self.0.engine {
            Engine::Local => Health::Serving,
            Engine::Redis(redis) => redis.health(),
        }
    }

    /// Forgets every rate cell at rest now. Traffic does so in passing; this is for a process that has none.
    pub fn sweep_rates(&self) {
        self.0.local.rates.sweep();
    }

    /// Counts for operators.
    pub fn stats(&self) -> Stats {
        let uses = self.0.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let redis = match &self.0.engine {
            Engine::Local => None,
            Engine::Redis(redis) => Some(redis),
        };
        Stats {
            engine: self.engine(),
            local: self.0.local.stats(),
            rates: self.0.local.rates.stats(),
            pubsub: self.0.hub.stats(),
            connect_count: redis.map_or(0, |r| r.connect_count()),
            in_flight_count: redis.map_or(0, |r| r.in_flight_count()),
            uses: uses.values().map(|u| u.stats()).collect(),
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({:?})", self.engine())
    }
}

impl Shared {
    /// Runs one operation as its use declared.
    pub(crate) async fn run<T: FromReply>(&self, counters: &UseCounters, key: &Key, verb: Verb) -> Result<T> {
        let verb = verb.checked(key)?;
        counters.operations.fetch_add(1, Relaxed);
        let reply = match &self.engine {
            Engine::Local => self.local.apply(key, &verb),
            Engine::Redis(redis) => redis.run(key, &verb).await,
        };
        let reply = match reply {
            Err(e) if e.is_down() => self.while_down(counters, key, &verb, e),
            other => other,
        };
        T::from_reply(reply?).ok_or_else(|| Error::Other("an answer of another type".to_owned()))
    }

    fn while_down(&self, counters: &UseCounters, key: &Key, verb: &Verb, error: Error) -> Result<Reply> {
        counters.down.fetch_add(1, Relaxed);
        match counters.declared.on_down {
            OnDown::Open => slot::apply(verb, &mut None, self.clock.monotonic()),
            OnDown::BoundedLocal => self.local.apply(key, verb),
            OnDown::Closed => Err(error),
        }
    }

    pub(crate) async fn publish(&self, counters: &UseCounters, channel: &Key, message: &Bytes) -> Result<()> {
        at_most("channel (bytes)", channel.as_str().len(), MAX_KEY_BYTES)?;
        at_most("message (bytes)", message.len(), MAX_MESSAGE_BYTES)?;
        counters.operations.fetch_add(1, Relaxed);
        let sent = match &self.engine {
            Engine::Local => {
                self.hub.deliver(channel.as_str(), &Bytes::copy_from_slice(message));
                return Ok(());
            }
            Engine::Redis(redis) => redis.publish(channel, message).await,
        };
        match sent {
            Err(e) if e.is_down() => {
                counters.down.fetch_add(1, Relaxed);
                match counters.declared.on_down {
                    OnDown::Open => Ok(()),
                    OnDown::BoundedLocal => {
                        self.hub.deliver(channel.as_str(), &Bytes::copy_from_slice(message));
                        Ok(())
                    }
                    OnDown::Closed => Err(e),
                }
            }
            other => other,
        }
    }

    pub(crate) async fn subscribe(&self, counters: &UseCounters, channel: &Key) -> Result<Subscription> {
        at_most("channel (bytes)", channel.as_str().len(), MAX_KEY_BYTES)?;
        counters.operations.fetch_add(1, Relaxed);
        match &self.engine {
            Engine::Local => self.hub.subscribe(channel),
            Engine::Redis(redis) => {
                let subscription = self.hub.subscribe(channel)?;
                let bound = redis.options.operation_timeout;
                if !self.hub.await_confirmed(&subscription, &self.clock, bound).await {
                    counters.down.fetch_add(1, Relaxed);
                    if counters.declared.on_down == OnDown::Closed {
                        return Err(Error::Unavailable("the subscription was not confirmed in time".to_owned()));
                    }
                }
                Ok(subscription)
            }
        }
    }
}
