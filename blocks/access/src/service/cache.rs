//! The near cache: what a node may answer from without asking the database.
//!
//! Invariants:
//! - CACHE-1: nothing older than `ttl` is fresh.
//! - CACHE-2: a value read before an invalidation is not kept after it: a load notes the epoch before it reads, and takes its
//!   entry out again when the epoch moved meanwhile.
//! - CACHE-3: at most `capacity` entries; of callers that miss the same entry at once, one asks the database.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kernel::Clock;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;

/// Callers that miss are lined up by the key's remainder of this.
const STRIPES: u8 = 64;

pub(crate) struct NearCache<V> {
    entries: Cache<i64, (Duration, V)>,
    epoch: AtomicU64,
    stripes: [Mutex<()>; STRIPES as usize],
    ttl: Duration,
    clock: Clock,
}

impl<V: Clone> NearCache<V> {
    pub(crate) fn new(capacity: usize, ttl: Duration, clock: Clock) -> Self {
        Self {
            entries: Cache::new(capacity),
            epoch: AtomicU64::new(0),
            stripes: std::array::from_fn(|_| Mutex::new(())),
            ttl,
            clock,
        }
    }

    /// What is known, and whether it is fresh.
    pub(crate) fn get(&self, key: i64) -> Option<(V, bool)> {
        let (loaded_at, value) = self.entries.get(&key)?;
        Some((value, self.clock.monotonic().saturating_sub(loaded_at) < self.ttl))
    }

    fn fresh(&self, key: i64) -> Option<V> {
        self.get(key).filter(|(_, fresh)| *fresh).map(|(value, _)| value)
    }

    /// What is fresh, else what `load` gives. An absence is not kept.
    pub(crate) async fn get_or_load<E, F>(&self, key: i64, load: F) -> Result<Option<V>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        if let Some(value) = self.fresh(key) {
            return Ok(Some(value));
        }
        let stripe = usize::try_from(key.rem_euclid(i64::from(STRIPES))).unwrap_or(0);
        let _one_at_a_time = self.stripes[stripe].lock().await;
        if let Some(value) = self.fresh(key) {
            return Ok(Some(value));
        }
        let epoch = self.epoch.load(Ordering::SeqCst);
        let loaded_at = self.clock.monotonic();
        let Some(value) = load.await? else {
            self.entries.remove(&key);
            return Ok(None);
        };
        self.entries.insert(key, (loaded_at, value.clone()));
        if self.epoch.load(Ordering::SeqCst) != epoch {
            self.entries.remove(&key);
        }
        Ok(Some(value))
    }

    /// Forgets one entry.
    pub(crate) fn invalidate(&self, key: i64) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.entries.remove(&key);
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::Timestamp;

    fn cache() -> (NearCache<u32>, kernel::SimClock) {
        let (clock, time) = Clock::simulated(Timestamp::EPOCH);
        (NearCache::new(100, Duration::from_secs(5), clock), time)
    }

    fn load(value: u32) -> std::future::Ready<Result<Option<u32>, ()>> {
        std::future::ready(Ok(Some(value)))
    }

    #[tokio::test]
    async fn fresh_until_the_ttl() {
        let (cache, time) = cache();
        assert_eq!(cache.get_or_load(1, load(10)).await, Ok(Some(10)));
        time.advance(Duration::from_millis(4_999));
        assert_eq!(cache.get_or_load(1, load(11)).await, Ok(Some(10)));
        time.advance(Duration::from_millis(1));
        assert_eq!(cache.get(1), Some((10, false)));
        assert_eq!(cache.get_or_load(1, load(11)).await, Ok(Some(11)));
    }

    /// CACHE-2.
    #[tokio::test]
    async fn a_load_that_an_invalidation_overtook_is_not_kept() {
        let (cache, _time) = cache();
        let overtaken = cache.get_or_load(1, async {
            cache.invalidate(1);
            load(10).await
        });
        assert_eq!(overtaken.await, Ok(Some(10)));
        assert_eq!(cache.get(1), None);
    }

    #[tokio::test]
    async fn an_absence_is_not_kept_and_errors_pass() {
        let (cache, _time) = cache();
        assert_eq!(cache.get_or_load(1, async { Ok::<_, ()>(None) }).await, Ok(None));
        assert_eq!(cache.get_or_load(1, async { Err("lost") }).await, Err("lost"));
        assert_eq!(cache.get_or_load(1, load(3)).await, Ok(Some(3)));
        cache.clear();
        assert_eq!(cache.get(1), None);
    }

    /// CACHE-3.
    #[tokio::test]
    async fn callers_that_miss_at_once_ask_once() {
        let (cache, _time) = cache();
        let asked = AtomicU64::new(0);
        let one = async || {
            cache
                .get_or_load(1, async {
                    asked.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    load(7).await
                })
                .await
        };
        let (a, b, c) = tokio::join!(one(), one(), one());
        assert_eq!((a, b, c), (Ok(Some(7)), Ok(Some(7)), Ok(Some(7))));
        assert_eq!(asked.into_inner(), 1);
    }
}
