//! Who listens to which channel in this process, and what waits for each of them.
//!
//! Invariants:
//! - HUB-1: a subscription holds at most [`PubSubLimits::subscription_count`] messages and `subscription_bytes`; all
//!   subscriptions together at most `total_bytes`.
//! - HUB-2: whoever missed a message, or may have, is told by one [`Event::Gap`] before any message published after it. What
//!   waited is dropped with it: after a gap a reader reads the truth anew, and stale news would only undo that.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
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
}

#[derive(Default)]
struct Channel {
    queues: Vec<Arc<Queue>>,
    /// Whether the server said that it sends this channel's messages; always so in process.
    confirmed: bool,
}

pub(crate) struct Hub {
    limits: PubSubLimits,
    channels: Mutex<HashMap<Key, Channel>>,
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

    pub(crate) fn subscribe(self: &Arc<Self>, channel: &Key) -> Result<Subscription> {
        let limit = self.limits.max_subscriptions;
        self.subscription_count
            .fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1))
            .map_err(|_| Error::TooLarge { what: "subscriptions of this process", limit })?;
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Notify::new() });
        lock(&self.channels).entry(channel.clone()).or_default().queues.push(queue.clone());
        self.changed.notify_one();
        Ok(Subscription { hub: self.clone(), channel: channel.clone(), queue })
    }

    /// Hands a message to every subscription of a channel of this process; never waits.
    pub(crate) fn deliver(&self, channel: &Key, message: &Bytes) {
        let channels = lock(&self.channels);
        for queue in channels.get(channel).map(|c| c.queues.as_slice()).unwrap_or_default() {
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

    /// Every channel that somebody listens to, with whether the server confirmed it.
    pub(crate) fn channels(&self) -> Vec<(Key, bool)> {
        lock(&self.channels).iter().map(|(key, c)| (key.clone(), c.confirmed)).collect()
    }

    /// The server sends this channel from now on. `gap`: messages may have been missed until now.
    pub(crate) fn confirm(&self, channel: &Key, gap: bool) {
        if let Some(channel) = lock(&self.channels).get_mut(channel) {
            channel.confirmed = true;
            if gap {
                for queue in &channel.queues {
                    self.gap(&mut lock(&queue.waiting));
                    queue.wake.notify_one();
                }
            }
        }
    }

    pub(crate) fn is_confirmed(&self, channel: &Key) -> bool {
        lock(&self.channels).get(channel).is_some_and(|c| c.confirmed)
    }

    /// Whether the remote listener is connected.
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Relaxed);
        if !live {
            lock(&self.channels).values_mut().for_each(|c| c.confirmed = false);
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// Ends every subscription: their `recv` gives `None` after what waits.
    pub(crate) fn close(&self) {
        for queue in lock(&self.channels).values().flat_map(|c| &c.queues) {
            lock(&queue.waiting).closed = true;
            queue.wake.notify_one();
        }
    }

    pub(crate) fn stats(&self) -> PubSubStats {
        PubSubStats {
            subscription_count: self.subscription_count.load(Relaxed),
            channel_count: lock(&self.channels).len(),
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
        if let Some(channel) = channels.get_mut(&self.channel) {
            channel.queues.retain(|q| !Arc::ptr_eq(q, &self.queue));
            if channel.queues.is_empty() {
                channels.remove(&self.channel);
            }
        }
        drop(channels);
        self.hub.total_bytes.fetch_sub(std::mem::take(&mut lock(&self.queue.waiting).bytes), Relaxed);
        self.hub.subscription_count.fetch_sub(1, Relaxed);
        if self.hub.is_remote {
            self.hub.changed.notify_one();
        }
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
