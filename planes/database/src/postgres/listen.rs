//! Wake-ups across nodes: `NOTIFY` after commit, one `LISTEN` connection, and slow polling beneath both.
//!
//! A notification is a hint and may be lost: a node can die between its commit and its NOTIFY, and nothing is heard while the
//! LISTEN connection is away. So every watcher gets [`Change::Resync`] whenever LISTEN is (re-)established, and once every
//! `resync_interval` in any case, which bounds how long a lost hint stays unnoticed. (A table of topics, written in every
//! transaction, would notice sooner and make one row the bottleneck of all writes.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use kernel::{Backoff, Clock, Rng, Shutdown};
use tokio::sync::{Notify, watch};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket, tls::TlsStream};

use super::{connect::Target, types, worker::Workers};
use crate::{Change, Error, Result, Value, stats::Counters, topics::Topics};

/// The one channel of all topics.
const CHANNEL: &str = "mainstay";
/// Keys of one topic in one notification; past it, the topic resyncs. Keeps the payload below PostgreSQL's 8,000 bytes.
const KEYS_PER_PAYLOAD: usize = 300;
/// At most one NOTIFY transaction in this time: each takes a lock that all of the server's notifying commits share.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);

/// What is still to be told to other nodes.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Keys by topic; `None` is a resync of the whole topic.
    pending: Mutex<BTreeMap<String, Option<BTreeSet<i64>>>>,
    filled: Notify,
}

impl Outbox {
    pub(super) fn put(&self, changes: &[(&'static str, i64)]) {
        if changes.is_empty() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, key) in changes {
            let keys = match pending.get_mut(*topic) {
                Some(keys) => keys,
                None => pending.entry((*topic).to_owned()).or_insert_with(|| Some(BTreeSet::new())),
            };
            if let Some(set) = keys {
                set.insert(*key);
                if set.len() > KEYS_PER_PAYLOAD {
                    *keys = None;
                }
            }
        }
        drop(pending);
        self.filled.notify_one();
    }

    fn take(&self) -> BTreeMap<String, Option<BTreeSet<i64>>> {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What could not be sent: the keys are given up for a resync, so what waits here stays small.
    fn put_back(&self, topics: impl Iterator<Item = String>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend(topics.map(|topic| (topic, None)));
        drop(pending);
        self.filled.notify_one();
    }
}

fn payload(node: &str, topic: &str, keys: Option<&BTreeSet<i64>>) -> String {
    let mut text = format!("{node} {topic} ");
    match keys {
        None => text.push('*'),
        Some(keys) => {
            for (index, key) in keys.iter().enumerate() {
                // Writing to a String cannot fail.
                let written = write!(text, "{}{key}", if index == 0 { "" } else { "," });
                debug_assert!(written.is_ok());
            }
        }
    }
    text
}

/// Wakes the watchers of this node as another node's payload says.
fn hear(topics: &Topics, own_node: &str, payload: &str) {
    let mut parts = payload.split(' ');
    let (Some(node), Some(topic), Some(keys)) = (parts.next(), parts.next(), parts.next()) else { return };
    // This node's watchers were woken at the commit.
    if node == own_node {
        return;
    }
    if keys == "*" {
        topics.wake(topic, Change::Resync);
        return;
    }
    for key in keys.split(',').filter_map(|key| key.parse().ok()) {
        topics.wake(topic, Change::Key(key));
    }
}

/// Sends what transactions of this node have to tell, outside of them.
pub(super) async fn send_loop(
    outbox: Arc<Outbox>,
    workers: Arc<Workers>,
    node: String,
    clock: Clock,
    rng: Rng,
    stop: Shutdown,
) {
    let mut attempt = 0;
    loop {
        let is_last = stop.or(outbox.filled.notified()).await.is_none();
        let taken = outbox.take();
        if !taken.is_empty() {
            let payloads: Vec<String> =
                taken.iter().map(|(topic, keys)| payload(&node, topic, keys.as_ref())).collect();
            match send(&workers, payloads).await {
                Ok(()) => attempt = 0,
                Err(e) if is_last => {
                    tracing::warn!(error = %e, "the last wake-ups were not sent; other nodes resync by themselves");
                }
                Err(e) => {
                    tracing::warn!(error = %e, "wake-ups were not sent; trying again");
                    outbox.put_back(taken.into_keys());
                    let delay = Backoff::STANDARD.delay(attempt, &rng);
                    attempt = attempt.saturating_add(1);
                    stop.or(clock.sleep(delay)).await;
                }
            }
        }
        if is_last {
            return;
        }
        stop.or(clock.sleep(NOTIFY_INTERVAL)).await;
    }
}

async fn send(workers: &Workers, payloads: Vec<String>) -> Result<()> {
    let sent = workers.run(move |local| async move {
        let mut session = super::Session::open(&local, false).await?;
        for payload in payloads {
            let params = [Value::from(CHANNEL), Value::from(payload)];
            session.alone("SELECT pg_notify($1, $2)", &params, true).await?;
        }
        Ok(())
    });
    sent.await?
}

/// What the listener needs.
pub(super) struct Listener {
    pub(super) target: Target,
    pub(super) topics: Arc<Topics>,
    pub(super) counters: Arc<Counters>,
    pub(super) node: String,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) stop: Shutdown,
    /// Told once LISTEN was tried, however that ended.
    pub(super) tried: watch::Sender<bool>,
}

impl Listener {
    /// Keeps one LISTEN connection.
    pub(super) async fn run(&self) {
        let mut attempt = 0;
        loop {
            let mut was_listening = false;
            let Some(ended) = self.stop.or(Box::pin(self.listen(&mut was_listening))).await else { return };
            self.tried.send_replace(true);
            if was_listening {
                self.counters.listen_lost.fetch_add(1, Ordering::Relaxed);
                attempt = 0;
            }
            let delay = Backoff::STANDARD.delay(attempt, &self.rng);
            attempt = attempt.saturating_add(1);
            tracing::warn!(error = %ended, retry_in_ms = delay.as_millis(), "LISTEN is away; watchers are polling");
            if self.stop.or(self.clock.sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    async fn listen(&self, was_listening: &mut bool) -> Error {
        let mut config = self.target.config.clone();
        config.application_name("mainstay listen");
        match &self.target.tls {
            Some(tls) => match config.connect(tls.clone()).await {
                Ok((client, connection)) => self.hear_all(&client, connection, was_listening).await,
                Err(e) => types::error(&e),
            },
            None => match config.connect(NoTls).await {
                Ok((client, connection)) => self.hear_all(&client, connection, was_listening).await,
                Err(e) => types::error(&e),
            },
        }
    }

    async fn hear_all<S>(&self, client: &Client, connection: Connection<Socket, S>, was_listening: &mut bool) -> Error
    where
        S: TlsStream + Unpin,
    {
        let mut messages = pin!(messages(connection));
        let mut subscribed = pin!(client.batch_execute("LISTEN mainstay"));
        loop {
            tokio::select! {
                outcome = &mut subscribed, if !*was_listening => match outcome {
                    Ok(()) => {
                        *was_listening = true;
                        // Whatever came before LISTEN was not heard.
                        self.topics.resync();
                        self.tried.send_replace(true);
                    }
                    Err(e) => return types::error(&e),
                },
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(n))) if n.channel() == CHANNEL => {
                        hear(&self.topics, &self.node, n.payload());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return types::error(&e),
                    None => return Error::Conn("the server closed the connection".to_owned()),
                },
            }
        }
    }
}

fn messages<S: TlsStream + Unpin>(
    mut connection: Connection<Socket, S>,
) -> impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> {
    stream::poll_fn(move |cx| connection.poll_message(cx))
}

/// The slow polling beneath LISTEN.
pub(super) async fn poll_loop(topics: Arc<Topics>, interval: Duration, clock: Clock, stop: Shutdown) {
    while stop.or(clock.sleep(interval)).await.is_some() {
        topics.resync();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_reach_other_nodes_and_stay_small() {
        let topics = Topics::default();
        let mut watcher = topics.watch("links");
        let keys: BTreeSet<i64> = [3, -1].into();
        hear(&topics, "b", &payload("a", "links", Some(&keys)));
        hear(&topics, "b", &payload("a", "links", None));
        hear(&topics, "a", &payload("a", "links", None));
        for nonsense in ["", "a", "a links", "a links x,y"] {
            hear(&topics, "b", nonsense);
        }
        let heard: Vec<Change> = std::iter::from_fn(|| watcher.try_recv().ok()).collect();
        assert_eq!(heard, [Change::Key(-1), Change::Key(3), Change::Resync]);

        let outbox = Outbox::default();
        for key in 0..=i64::try_from(KEYS_PER_PAYLOAD).unwrap() {
            outbox.put(&[("many", i64::MIN + key), ("few", 1)]);
        }
        let taken = outbox.take();
        assert_eq!(taken["many"], None, "too many keys become a resync");
        assert_eq!(taken["few"], Some([1].into()), "the same key is told once");
        let most: BTreeSet<i64> = (0..i64::try_from(KEYS_PER_PAYLOAD).unwrap()).map(|k| i64::MIN + k).collect();
        assert!(payload("0123456789abcdef", &"t".repeat(60), Some(&most)).len() < 8000);
    }
}
