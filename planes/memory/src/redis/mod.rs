//! The engine on Redis or Valkey, one server or a Cluster.
//!
//! Invariants:
//! - REDIS-1: an operation ends within `operation_timeout`, and at once while the server is known to be down.
//! - REDIS-2: at most `max_in_flight` operations wait; nothing queues behind them.
//! - REDIS-3: an operation is executed at most once: what may have been executed is never sent again.

mod commands;
mod keeper;
mod listener;
mod rate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo},
    cmd,
};
use bytes::Bytes;
use kernel::{Clock, Rng, Tasks};
use tokio::sync::{Notify, Semaphore, watch};

use self::commands::Request;
use crate::{
    Error, Health, Key, RedisOptions, Result,
    hub::Hub,
    local::Local,
    op::{Reply, Verb},
};

/// Wait before a command is sent again that a cluster certainly did not execute (a slot on the move, a failover).
const CLUSTER_WAIT: Duration = Duration::from_millis(10);

#[derive(Clone)]
enum Conn {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

enum Connector {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// What is known about the server.
#[derive(Clone, Default)]
struct State {
    conn: Option<Conn>,
    /// Why it does not serve, or not wholly.
    reason: Option<String>,
    /// Whether a first attempt to connect has ended; until then operations wait for it.
    is_settled: bool,
}

pub(crate) struct Redis {
    connector: Connector,
    /// One client a node, for the connection that listens.
    nodes: Vec<Client>,
    pub(crate) options: RedisOptions,
    clock: Clock,
    rng: Rng,
    state: watch::Sender<State>,
    /// Told when an operation had trouble, so that the connection is checked now.
    suspect: Notify,
    in_flight: Semaphore,
    connect_count: AtomicU64,
}

impl Redis {
    /// Begins to connect; `stand_in` is emptied whenever the server is known to serve.
    pub(crate) fn start(
        options: RedisOptions,
        clock: Clock,
        rng: Rng,
        stand_in: &Arc<Local>,
        hub: &Arc<Hub>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>> {
        options.check()?;
        let urls: Vec<&str> = options.urls.iter().map(kernel::Secret::expose).collect();
        // The message of the library may quote the url, and with it a password.
        let wrong =
            |_| Error::Config("memory.url: expected redis://[user:password@]host:port[/db] or rediss://".to_owned());
        let nodes = urls.iter().map(|url| Client::open(*url)).collect::<RedisResult<Vec<_>>>().map_err(wrong)?;
        let connector = match nodes.first() {
            Some(client) if !options.cluster => Connector::Single(Box::new(client.clone())),
            _ => Connector::Cluster(Box::new(
                ClusterClientBuilder::new(urls)
                    // The library would also send again what a lost connection may have executed (REDIS-3).
                    .retries(0)
                    .connection_timeout(options.connect_timeout)
                    .response_timeout(options.operation_timeout)
                    .overall_response_timeout(None)
                    .build()
                    .map_err(wrong)?,
            )),
        };
        let this = Arc::new(Self {
            connector,
            nodes,
            in_flight: Semaphore::new(options.max_in_flight.min(Semaphore::MAX_PERMITS)),
            options,
            clock,
            rng,
            state: watch::Sender::default(),
            suspect: Notify::new(),
            connect_count: AtomicU64::new(0),
        });
        keeper::supervise(&this, stand_in, tasks);
        listener::supervise(&this, hub, tasks);
        Ok(this)
    }

    pub(crate) async fn run(&self, key: &Key, verb: &Verb) -> Result<Reply> {
        let request = commands::request(key, verb);
        let value = self.bounded(self.execute(&request)).await?;
        commands::reply(verb, value)
    }

    pub(crate) async fn publish(&self, channel: &Key, message: &Bytes) -> Result<()> {
        let mut command = cmd("PUBLISH");
        command.arg(channel.as_str()).arg(&message[..]);
        self.bounded(self.execute(&Request::Command(command))).await.map(drop)
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.bounded(async { self.conn().await?.ping().await.map_err(|e| commands::error(&e)) }).await
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state.borrow();
        match (&state.conn, &state.reason) {
            (Some(_), None) => Health::Serving,
            (_, Some(reason)) => Health::Degraded { reason: reason.clone() },
            (None, None) => Health::Degraded { reason: "connecting".to_owned() },
        }
    }

    pub(crate) fn connect_count(&self) -> u64 {
        self.connect_count.load(Relaxed)
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        self.options.max_in_flight.saturating_sub(self.in_flight.available_permits())
    }

    /// Bounds an operation in number and time, and has the connection checked when it fails.
    async fn bounded<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let Ok(_permit) = self.in_flight.try_acquire() else { return Err(Error::Overloaded) };
        let bound = self.options.operation_timeout;
        // On the heap, so that the futures of callers stay small.
        let outcome = self.clock.timeout(bound, Box::pin(operation)).await;
        let outcome = outcome.unwrap_or_else(|| Err(Error::Unavailable(format!("no answer within {bound:?}"))));
        if matches!(outcome, Err(Error::Unavailable(_))) {
            self.suspect.notify_one();
        }
        outcome
    }

    /// The connection; waits for it only before the first attempt has ended.
    async fn conn(&self) -> Result<Conn> {
        let known = |state: &State| match (&state.conn, &state.reason) {
            (Some(conn), _) => Ok(conn.clone()),
            (None, reason) => Err(Error::Unavailable(reason.clone().unwrap_or_else(|| "connecting".to_owned()))),
        };
        {
            let state = self.state.borrow();
            if state.is_settled {
                return known(&state);
            }
        }
        let mut changes = self.state.subscribe();
        match changes.wait_for(|state| state.is_settled).await {
            Ok(state) => known(&state),
            Err(_) => Err(Error::Unavailable("shut down".to_owned())),
        }
    }

    async fn execute(&self, request: &Request) -> Result<Value> {
        let mut conn = self.conn().await?;
        loop {
            let outcome = match (conn.send(request.command()).await, request) {
                (Err(e), Request::Script(by_hash, lua)) if e.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    conn.send(&commands::with_text(by_hash, lua)).await
                }
                (outcome, _) => outcome,
            };
            match outcome {
                Ok(value) => return Ok(value),
                Err(e) if matches!(conn, Conn::Cluster(_)) && was_not_executed(&e) => {
                    if let Some(answer) = conn.follow(&e, request).await {
                        return answer.map_err(|e| commands::error(&e));
                    }
                    self.clock.sleep(CLUSTER_WAIT).await;
                }
                Err(e) => return Err(commands::error(&e)),
            }
        }
    }

    async fn connect(&self) -> RedisResult<Conn> {
        match &self.connector {
            Connector::Single(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.options.connect_timeout))
                    .set_response_timeout(None);
                client.get_multiplexed_async_connection_with_config(&config).await.map(Conn::Single)
            }
            Connector::Cluster(client) => client.get_async_connection().await.map(Conn::Cluster),
        }
    }
}

/// A cluster said that somebody else, or nobody just now, serves the slot.
fn was_not_executed(e: &RedisError) -> bool {
    matches!(
        e.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        ) | ErrorKind::ClusterConnectionNotFound
    )
}

impl Conn {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(conn) => command.query_async(conn).await,
            Self::Cluster(conn) => command.query_async(conn).await,
        }
    }

    /// Asks the node that a redirect names; `None` where there is no redirect.
    async fn follow(&mut self, e: &RedisError, request: &Request) -> Option<RedisResult<Value>> {
        let Self::Cluster(conn) = self else { return None };
        let (host, port) = e.redirect_node()?.0.rsplit_once(':')?;
        let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port: port.parse().ok()? };
        let command = match request {
            Request::Command(command) => command.clone(),
            // The new node may not have the script yet.
            Request::Script(by_hash, lua) => commands::with_text(by_hash, lua),
        };
        let answer = if e.kind() == ErrorKind::Server(ServerErrorKind::Ask) {
            let mut pipe = ::redis::pipe();
            pipe.cmd("ASKING").ignore().add_command(command);
            conn.route_pipeline(pipe, 1, 1, node)
                .await
                .and_then(|mut values| values.pop().unwrap_or(Value::Nil).extract_error())
        } else {
            conn.route_command(command, RoutingInfo::SingleNode(node)).await.and_then(Value::extract_error)
        };
        // Moved once more, or a node that is not known yet: from the start.
        match answer {
            Err(e) if was_not_executed(&e) => None,
            answer => Some(answer),
        }
    }

    /// A sign of life: of the server, or of any node.
    async fn ping(&mut self) -> RedisResult<()> {
        self.send(&cmd("PING")).await.map(drop)
    }

    /// A sign of life of everybody who holds keys.
    async fn ping_all(&mut self) -> RedisResult<()> {
        match self {
            Self::Single(_) => self.ping().await,
            Self::Cluster(conn) => {
                let everybody =
                    RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::AllSucceeded)));
                conn.route_command(cmd("PING"), everybody).await.and_then(Value::extract_error).map(drop)
            }
        }
    }
}
