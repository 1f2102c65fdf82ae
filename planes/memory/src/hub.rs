//! Who listens to which channel in this process, and what waits for each of them.
//!
//! Invariants:
//! - HUB-1: a subscription holds at most [`PubSubLimits::subscription_count`] messages and `subscription_bytes`; all
//!   subscriptions together at most `total_bytes`.
//! - HUB-2: whoever missed a message, or may have, is told by one [`Event::Gap`] before any message published after it. What
//!   waited is dropped with it: after a gap a reader reads the truth anew, and stale news would only undo that.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use kernel::Clock;
use tokio::sync::{Notify, watch};

use crate::{Error, Key, Result, stats::PubSubStats};

/// What a message takes in a queue beside its bytes.
const MESSAGE_OVERHEAD: usize = 64;

/// Bounds of publish and subscribe in one process.
#[derive(Debug, Clone, Copy)]
pub struct PubSubLimits {
    /// Messages that may wait for one subscription.
    pub subscription_count: usize,
    /// Bytes that may wait for one subscription.
    pub subscription_bytes: usize,
    /// Bytes that may wait for all of them together.
    pub total_bytes: usize,
    /// Subscriptions at once.
    pub max_subscriptions: usize,
}

impl Default for PubSubLimits {
    /// 1,024 messages and 1 MiB each, 16 MiB together, 65,536 subscriptions.
    fn default() -> Self {
        Self {
            subscription_count: 1024,
            subscription_bytes: 1 << 20,
            total_bytes: 16 << 20,
            max_subscriptions: 1 << 16,
        }
    }
}

/// What a subscription sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message, in the order of publication.
    Message(Bytes),
    /// Messages before this one may have been lost (the reader was too slow, or the connection was lost): read the truth anew.
    Gap,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    gap: bool,
    closed: bool,
}

struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Whether its reader has it: only then can something be missed. Changed under the lock of the channels.
    is_handed_out: AtomicBool,
}

#[derive(Default)]
struct Channel {
    queues: Vec<Arc<Queue>>,
    /// Whether the server said that it sends this channel's messages; unused in process.
    is_confirmed: bool,
}

#[derive(Default)]
struct Channels {
    by_key: HashMap<Key, Channel>,
    /// Channels that readers came to or left since the remote listener looked last.
    changed: HashSet<Key>,
}

pub(crate) struct Hub {
    limits: PubSubLimits,
    channels: Mutex<Channels>,
    total_bytes: AtomicUsize,
    subscription_count: AtomicUsize,
    delivered_count: AtomicU64,
    lost_count: AtomicU64,
    gap_count: AtomicU64,
    live: AtomicBool,
    /// Told when the set of channels changed; the remote listener brings its subscriptions in line.
    pub(crate) changed: Notify,
    /// Moves whenever the remote listener confirmed channels.
    pub(crate) confirmed: watch::Sender<u64>,
    /// Whether there is a remote listener at all.
    is_remote: bool,
}

impl Hub {
    pub(crate) fn new(limits: PubSubLimits, is_remote: bool) -> Arc<Self> {
        Arc::new(Self {
            limits,
            channels: Mutex::default(),
            total_bytes: AtomicUsize::new(0),
            subscription_count: AtomicUsize::new(0),
            delivered_count: AtomicU64::new(0),
            lost_count: AtomicU64::new(0),
            gap_count: AtomicU64::new(0),
            live: AtomicBool::new(!is_remote),
            changed: Notify::new(),
            confirmed: watch::Sender::new(0),
            is_remote,
        })
    }

    /// Enters a reader. In process it hears everything from now on; else once [`Hub::await_confirmed`] returns `true`.
    pub(crate) fn subscribe(self: &Arc<Self>, channel: &Key) -> Result<Subscription> {
        let limit = self.limits.max_subscriptions;
        self.subscription_count
            .fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1))
            .map_err(|_| Error::TooLarge { what: "subscriptions of this process", limit })?;
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            wake: Notify::new(),
            is_handed_out: AtomicBool::new(!self.is_remote),
        });
        let mut channels = lock(&self.channels);
        channels.by_key.entry(channel.clone()).or_default().queues.push(queue.clone());
        self.note_change(&mut channels, channel);
        drop(channels);
        Ok(Subscription { hub: self.clone(), channel: channel.clone(), queue })
    }

    fn note_change(&self, channels: &mut Channels, channel: &Key) {
        if self.is_remote {
            channels.changed.insert(channel.clone());
            self.changed.notify_one();
        }
    }

    /// Waits, within `bound`, until the server sends the channel; then hands the subscription out either way. Whether it does.
    pub(crate) async fn await_confirmed(&self, subscription: &Subscription, clock: &Clock, bound: Duration) -> bool {
        let mut moves = self.confirmed.subscribe();
        let confirmed = async {
            loop {
                moves.borrow_and_update();
                if self.is_confirmed(&subscription.channel) || moves.changed().await.is_err() {
                    return;
                }
            }
        };
        clock.timeout(bound, confirmed).await;
        let channels = lock(&self.channels);
        subscription.queue.is_handed_out.store(true, Relaxed);
        channels.by_key.get(&subscription.channel).is_some_and(|c| c.is_confirmed)
    }

    /// Hands a message to every subscription of a channel of this process; never waits.
    pub(crate) fn deliver(&self, channel: &str, message: &Bytes) {
        let channels = lock(&self.channels);
        for queue in channels.by_key.get(channel).map(|c| c.queues.as_slice()).unwrap_or_default() {
            self.push(queue, message);
        }
    }

    fn push(&self, queue: &Queue, message: &Bytes) {
        let cost = message.len() + MESSAGE_OVERHEAD;
        let mut waiting = lock(&queue.waiting);
        let fits = waiting.messages.len() < self.limits.subscription_count
            && waiting.bytes + cost <= self.limits.subscription_bytes
            && self
                .total_bytes
                .fetch_update(Relaxed, Relaxed, |n| (n + cost <= self.limits.total_bytes).then_some(n + cost))
                .is_ok();
        if fits {
            waiting.bytes += cost;
            waiting.messages.push_back(message.clone());
            self.delivered_count.fetch_add(1, Relaxed);
        } else {
            self.lost_count.fetch_add(1, Relaxed);
            self.gap(&mut waiting);
        }
        drop(waiting);
        queue.wake.notify_one();
    }

    fn gap(&self, waiting: &mut Waiting) {
        self.lost_count.fetch_add(u64::try_from(waiting.messages.len()).unwrap_or(0), Relaxed);
        waiting.messages.clear();
        self.total_bytes.fetch_sub(std::mem::take(&mut waiting.bytes), Relaxed);
        if !std::mem::replace(&mut waiting.gap, true) {
            self.gap_count.fetch_add(1, Relaxed);
        }
    }

    /// Every channel that somebody listens to, for a new connection.
    pub(crate) fn all_channels(&self) -> Vec<(Key, bool)> {
        let mut channels = lock(&self.channels);
        channels.changed.clear();
        channels.by_key.keys().map(|key| (key.clone(), true)).collect()
    }

    /// Channels that changed since, and whether somebody listens to them now.
    pub(crate) fn take_changes(&self) -> Vec<(Key, bool)> {
        let mut channels = lock(&self.channels);
        let changed = std::mem::take(&mut channels.changed);
        changed.into_iter().map(|key| (key.clone(), channels.by_key.contains_key(&key))).collect()
    }

    /// The server sends this channel from now on. Whoever listened before may have missed something.
    pub(crate) fn confirm(&self, channel: &Key) {
        let mut channels = lock(&self.channels);
        let Some(channel) = channels.by_key.get_mut(channel) else { return };
        if !std::mem::replace(&mut channel.is_confirmed, true) {
            for queue in channel.queues.iter().filter(|q| q.is_handed_out.load(Relaxed)) {
                self.gap(&mut lock(&queue.waiting));
                queue.wake.notify_one();
            }
        }
        drop(channels);
        self.confirmed.send_modify(|n| *n += 1);
    }

    fn is_confirmed(&self, channel: &Key) -> bool {
        lock(&self.channels).by_key.get(channel).is_some_and(|c| c.is_confirmed)
    }

    /// Whether the remote listener is connected.
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Relaxed);
        if !live {
            lock(&self.channels).by_key.values_mut().for_each(|c| c.is_confirmed = false);
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// Ends every subscription: their `recv` gives `None` after what waits.
    pub(crate) fn close(&self) {
        for queue in lock(&self.channels).by_key.values().flat_map(|c| &c.queues) {
            lock(&queue.waiting).closed = true;
            queue.wake.notify_one();
        }
    }

    pub(crate) fn stats(&self) -> PubSubStats {
        PubSubStats {
            subscription_count: self.subscription_count.load(Relaxed),
            channel_count: lock(&self.channels).by_key.len(),
            waiting_bytes: self.total_bytes.load(Relaxed),
            delivered_count: self.delivered_count.load(Relaxed),
            lost_count: self.lost_count.load(Relaxed),
            gap_count: self.gap_count.load(Relaxed),
            is_live: self.is_live(),
        }
    }
}

/// Messages of one channel from the moment it was made. Dropping it ends it.
pub struct Subscription {
    hub: Arc<Hub>,
    channel: Key,
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next event; `None` once the plane is shut down. May be cancelled without losing anything.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            {
                let mut waiting = lock(&self.queue.waiting);
                if std::mem::take(&mut waiting.gap) {
                    return Some(Event::Gap);
                }
                if let Some(message) = waiting.messages.pop_front() {
                    let cost = message.len() + MESSAGE_OVERHEAD;
                    waiting.bytes -= cost;
                    self.hub.total_bytes.fetch_sub(cost, Relaxed);
                    return Some(Event::Message(message));
                }
                if waiting.closed {
                    return None;
                }
            }
            self.queue.wake.notified().await;
        }
    }

    /// Whether messages arrive at present. While they do not, what is derived from them grows stale; a [`Event::Gap`] follows
    /// when they do again.
    pub fn is_live(&self) -> bool {
        self.hub.is_live()
    }

    /// The channel.
    pub fn channel(&self) -> &Key {
        &self.channel
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut channels = lock(&self.hub.channels);
        if let Some(channel) = channels.by_key.get_mut(&self.channel) {
            channel.queues.retain(|q| !Arc::ptr_eq(q, &self.queue));
            if channel.queues.is_empty() {
                channels.by_key.remove(&self.channel);
                self.hub.note_change(&mut channels, &self.channel);
            }
        }
        drop(channels);
        self.hub.total_bytes.fetch_sub(std::mem::take(&mut lock(&self.queue.waiting).bytes), Relaxed);
        self.hub.subscription_count.fetch_sub(1, Relaxed);
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({:?})", self.channel)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
