//! Wake-ups by topic.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::broadcast;

/// How many wake-ups a slow watcher may be behind before it is told `Lagged`, which it treats as [`Change::Resync`].
pub const WATCH_CAPACITY: usize = 1024;

/// A hint that something changed; the reader rereads from its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// What this key names has changed.
    Key(i64),
    /// Wake-ups may have been missed: reread everything.
    Resync,
}

/// The watchers of this process.
#[derive(Debug, Default)]
pub(crate) struct Topics(Mutex<HashMap<String, broadcast::Sender<Change>>>);

impl Topics {
    pub(crate) fn watch(&self, topic: &str) -> broadcast::Receiver<Change> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match topics.get(topic) {
            Some(sender) => sender.subscribe(),
            None => {
                topics.entry(topic.to_owned()).or_insert_with(|| broadcast::Sender::new(WATCH_CAPACITY)).subscribe()
            }
        }
    }

    /// Wakes the watchers of `topic`. That nobody watches is fine.
    pub(crate) fn wake(&self, topic: &str, change: Change) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topic) {
            drop(sender.send(change));
        }
    }

    /// Tells every watcher that it may have missed something.
    pub(crate) fn resync(&self) {
        for sender in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            drop(sender.send(Change::Resync));
        }
    }
}
