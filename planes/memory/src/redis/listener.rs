//! The connection that listens: subscribes to what the hub's readers want, again after every loss, and tells them of the gap.

use std::{collections::HashSet, sync::Arc};

use ::redis::aio::{PubSubSink, PubSubStream};
use bytes::Bytes;
use futures_util::StreamExt;
use kernel::{Backoff, OnPanic, Shutdown, Tasks};

use super::{Redis, keeper::RECONNECT};
use crate::{Key, hub::Hub};

/// Channels in one SUBSCRIBE.
const CHUNK: usize = 512;

pub(super) fn supervise(redis: &Arc<Redis>, hub: &Arc<Hub>, tasks: &Tasks) {
    let (redis, hub) = (redis.clone(), hub.clone());
    tasks.supervise("memory.listener", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
        let (redis, hub) = (redis.clone(), hub.clone());
        async move {
            listen(&redis, &hub, &shutdown).await;
            hub.set_live(false);
            hub.close();
        }
    });
}

async fn listen(redis: &Redis, hub: &Hub, shutdown: &Shutdown) {
    let mut attempt = 0_u32;
    let mut next = 0_usize;
    while !shutdown.is_triggered() {
        // The bus of a cluster carries every message to every node, so that any one will do; after a loss the next one.
        let Some(node) = redis.nodes.get(next % redis.nodes.len().max(1)) else { return };
        next += 1;
        let connect = Box::pin(node.get_async_pubsub());
        if let Some(Ok(pubsub)) = redis.clock.timeout(redis.options.connect_timeout, connect).await {
            let (sink, stream) = pubsub.split();
            hub.set_live(true);
            let began = redis.clock.monotonic();
            let ended = follow(redis, hub, sink, stream, shutdown).await;
            hub.set_live(false);
            if ended.is_none() {
                return;
            }
            if redis.clock.monotonic().saturating_sub(began) > RECONNECT.cap {
                attempt = 0;
            }
        }
        let wait = RECONNECT.delay(attempt, &redis.rng);
        attempt = attempt.saturating_add(1);
        if shutdown.or(redis.clock.sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Listens until the connection is lost (`Some`) or shutdown (`None`).
async fn follow(
    redis: &Redis,
    hub: &Hub,
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    shutdown: &Shutdown,
) -> Option<()> {
    // What the server sends on this connection.
    let mut subscribed: HashSet<Key> = HashSet::new();
    let mut changes = hub.all_channels();
    loop {
        let bound = redis.options.operation_timeout;
        match redis.clock.timeout(bound * 4, Box::pin(reconcile(hub, &mut sink, &mut subscribed, changes))).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return Some(()),
        }
        loop {
            tokio::select! {
                () = shutdown.wait() => return None,
                () = hub.changed.notified() => break,
                message = stream.next() => match message {
                    Some(message) => {
                        hub.deliver(message.get_channel_name(), &Bytes::copy_from_slice(message.get_payload_bytes()));
                    }
                    None => return Some(()),
                },
                () = redis.clock.sleep(redis.options.check_interval) => {
                    match redis.clock.timeout(bound, sink.ping::<::redis::Value>()).await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Some(()),
                    }
                }
            }
        }
        changes = hub.take_changes();
    }
}

/// Brings the subscriptions of the connection in line with what readers want.
async fn reconcile(
    hub: &Hub,
    sink: &mut PubSubSink,
    subscribed: &mut HashSet<Key>,
    changes: Vec<(Key, bool)>,
) -> ::redis::RedisResult<()> {
    let (wanted, unwanted): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(_, is_wanted)| *is_wanted);
    let wanted: Vec<Key> = wanted.into_iter().map(|(key, _)| key).collect();
    let fresh: Vec<&Key> = wanted.iter().filter(|key| !subscribed.contains(*key)).collect();
    for chunk in fresh.chunks(CHUNK) {
        let names: Vec<&str> = chunk.iter().map(|key| key.as_str()).collect();
        sink.subscribe(names).await?;
    }
    for key in wanted {
        hub.confirm(&key);
        subscribed.insert(key);
    }
    let gone: Vec<Key> = unwanted.into_iter().map(|(key, _)| key).filter(|key| subscribed.remove(key)).collect();
    for chunk in gone.chunks(CHUNK) {
        let names: Vec<&str> = chunk.iter().map(Key::as_str).collect();
        sink.unsubscribe(names).await?;
    }
    Ok(())
}
