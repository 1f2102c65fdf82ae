//! Who is behind a key. On the hot path: one hash, one look into the near cache.
//!
//! A key that is known to be good is never throttled. Guessing 256 bits is hopeless at any speed; what the throttle protects
//! is the database (an unknown id costs a read) and the log. So only attempts that the near cache cannot confirm wait, and a
//! client behind the same proxy or NAT as an attacker, who shares the address, goes on undisturbed.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use identity::{ApiKey, KeyId, Principal, SecretHash, Subject};
use kernel::{ProjectId, Timestamp};

use super::Access;
use crate::{
    Error,
    error::Result,
    model::{StoredKey, Verdict},
    store,
};

/// "Last used" is noted at most so often.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// A key in the near cache.
pub(super) struct KnownKey {
    stored: StoredKey,
    principal: Principal,
    noted_ms: AtomicI64,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Attempts that were let in.
    pub accepted_count: u64,
    /// Attempts that were refused.
    pub refused_count: u64,
    /// Of the refused, those that had to wait for failures before.
    pub throttled_count: u64,
    /// Keys read from the database.
    pub key_load_count: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    throttled: AtomicU64,
    key_loads: AtomicU64,
}

/// Where a key stands in the near cache and what its invalidations are called: the last 8 bytes of its id, which are random.
pub(super) fn cache_key(id: KeyId) -> i64 {
    let mut tail = [0; 8];
    tail.copy_from_slice(&id.as_bytes()[8..]);
    i64::from_be_bytes(tail)
}

impl Access {
    /// What happened so far on this node.
    pub fn stats(&self) -> Stats {
        let counters = &self.0.counters;
        Stats {
            accepted_count: counters.accepted.load(Ordering::Relaxed),
            refused_count: counters.refused.load(Ordering::Relaxed),
            throttled_count: counters.throttled.load(Ordering::Relaxed),
            key_load_count: counters.key_loads.load(Ordering::Relaxed),
        }
    }

    /// Who is behind the text of a key, shown from the address `peer`.
    pub async fn authenticate(&self, text: &str, peer: Option<IpAddr>) -> Result<Principal> {
        self.authenticate_secret(text, peer).await.map(|(principal, _)| principal)
    }

    /// Who is behind the text of a key that was good a moment ago; `None` when that needs more than a look into the near cache.
    pub fn try_authenticate(&self, text: &str) -> Option<Principal> {
        let given = ApiKey::parse(text).ok()?;
        let (known, is_fresh) = self.0.keys.get(cache_key(given.id()))?;
        let is_good =
            known.stored.key.id == given.id() && known.stored.judge(&given.hash(), self.now()) == Verdict::Good;
        if !is_fresh || !is_good {
            return None;
        }
        self.note_use(&known);
        self.0.throttle.succeeded(&Subject::Key(given.id()));
        self.0.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Some(known.principal.clone())
    }

    pub(super) async fn authenticate_secret(
        &self,
        text: &str,
        peer: Option<IpAddr>,
    ) -> Result<(Principal, SecretHash)> {
        let outcome = self.check(text, peer).await;
        let counters = &self.0.counters;
        let counted: &[&AtomicU64] = match &outcome {
            Ok(_) => &[&counters.accepted],
            Err(Error::TooManyAttempts(_)) => &[&counters.refused, &counters.throttled],
            Err(_) => &[&counters.refused],
        };
        for counter in counted {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    async fn check(&self, text: &str, peer: Option<IpAddr>) -> Result<(Principal, SecretHash)> {
        let peer = peer.map(Subject::of_address);
        let given = match ApiKey::parse(text) {
            Ok(key) => key,
            Err(e) => {
                let subjects: Vec<Subject> = peer.into_iter().collect();
                self.wait_of(&subjects)?;
                self.0.throttle.failed(&subjects);
                return Err(Error::KeyMalformed(e));
            }
        };
        let (id, hash) = (given.id(), given.hash());
        let subjects: Vec<Subject> = peer.into_iter().chain([Subject::Key(id)]).collect();
        let confirmed =
            self.0.keys.get(cache_key(id)).filter(|(known, _)| {
                known.stored.key.id == id && known.stored.judge(&hash, self.now()) == Verdict::Good
            });
        let known = match confirmed {
            Some((known, true)) => Some(known),
            // It was good a moment ago: look again, without a wait.
            Some((_, false)) => self.known_key(id).await?,
            None => {
                self.wait_of(&subjects)?;
                self.known_key(id).await?
            }
        };
        let Some(known) = known else {
            self.0.throttle.failed(&subjects);
            return Err(Error::Unauthenticated);
        };
        match known.stored.judge(&hash, self.now()) {
            Verdict::Good => {
                self.note_use(&known);
                self.0.throttle.succeeded(&Subject::Key(id));
                Ok((known.principal.clone(), hash))
            }
            Verdict::Wrong => {
                self.0.throttle.failed(&subjects);
                Err(Error::Unauthenticated)
            }
            // Whoever has the secret is not guessing.
            Verdict::Replaced { at } => Err(Error::KeyExpired { at, rotated: true }),
            Verdict::Expired { at } => Err(Error::KeyExpired { at, rotated: false }),
            Verdict::Revoked { at } => Err(Error::KeyRevoked(at)),
        }
    }

    pub(super) fn wait_of(&self, subjects: &[Subject]) -> Result<()> {
        self.0.throttle.wait(subjects).map_or(Ok(()), |wait| Err(Error::TooManyAttempts(wait)))
    }

    /// The key as it was within the last [`crate::AccessConfig::cache_ttl`]; `None` when there is none.
    async fn known_key(&self, id: KeyId) -> Result<Option<Arc<KnownKey>>> {
        let now = self.0.clock.monotonic();
        if let Some(seen_at) = self.0.unknown.get(&id) {
            if now.saturating_sub(seen_at) < self.0.config.cache_ttl {
                return Ok(None);
            }
            self.0.unknown.remove(&id);
        }
        let loaded = self.0.keys.get_or_load(cache_key(id), async {
            self.0.counters.key_loads.fetch_add(1, Ordering::Relaxed);
            let stored = store::get_key(&self.0.db, id).await?;
            Ok::<_, Error>(stored.map(|stored| Arc::new(KnownKey::new(stored))))
        });
        // Another key may end in the same 8 bytes; this one is then never fresh.
        let known = loaded.await?.filter(|known| known.stored.key.id == id);
        if known.is_none() {
            self.0.unknown.insert(id, now);
        }
        Ok(known)
    }

    /// Whether the secret of this hash still opens the key, for sessions.
    pub(super) async fn principal_of(&self, id: KeyId, hash: &SecretHash) -> Result<Option<Principal>> {
        let Some(known) = self.known_key(id).await? else { return Ok(None) };
        if known.stored.judge(hash, self.now()) != Verdict::Good {
            return Ok(None);
        }
        self.note_use(&known);
        Ok(Some(known.principal.clone()))
    }

    fn note_use(&self, known: &KnownKey) {
        let now = self.now();
        let noted = Timestamp::from_millis(known.noted_ms.load(Ordering::Relaxed));
        if now.since(noted) >= NOTE_EVERY {
            known.noted_ms.store(now.as_millis(), Ordering::Relaxed);
            self.0.used_keys.note(known.stored.key.id, now);
        }
    }

    /// Writes the noted times of use, 500 a transaction.
    pub(crate) async fn write_noted(&self) -> Result<()> {
        for chunk in self.0.used_keys.all().chunks(500) {
            let times = chunk.to_vec();
            let write = async move |tx: &mut database::Tx<'_>| -> Result<()> {
                for (id, at) in &times {
                    store::touch_key(tx, *id, *at).await?;
                }
                Ok(())
            };
            self.0.db.tx(write).await?;
            self.0.used_keys.written(chunk);
        }
        for chunk in self.0.seen_sessions.all().chunks(500) {
            let times = chunk.to_vec();
            let write = async move |tx: &mut database::Tx<'_>| -> Result<()> {
                for (id, at) in &times {
                    store::touch_session(tx, id, *at).await?;
                }
                Ok(())
            };
            self.0.db.tx(write).await?;
            self.0.seen_sessions.written(chunk);
        }
        Ok(())
    }

    /// This node forgets what it knew of a key.
    pub(super) fn forget_key(&self, id: KeyId) {
        self.0.keys.invalidate(cache_key(id));
        self.0.unknown.remove(&id);
    }

    pub(crate) fn forget_key_of(&self, cache_key: i64) {
        self.0.keys.invalidate(cache_key);
    }

    pub(crate) fn forget_all_keys(&self) {
        self.0.keys.clear();
    }

    /// The principal in the project that a request names; administrators may choose any that exists.
    pub async fn choose_project(&self, who: Principal, name: Option<&str>) -> Result<Principal> {
        let Some(name) = name else { return Ok(who) };
        let project = ProjectId::parse(name).ok_or(Error::ProjectUnknown)?;
        if project == who.project {
            return Ok(who);
        }
        let chosen = who.in_project(&project).ok_or(Error::OtherProject)?;
        if self.0.projects.get(&project).is_none() {
            store::get_project(&self.0.db, &project).await?.ok_or(Error::ProjectUnknown)?;
            self.0.projects.insert(project, ());
        }
        Ok(chosen)
    }
}

impl KnownKey {
    fn new(stored: StoredKey) -> Self {
        let key = &stored.key;
        Self {
            principal: Principal::of_key(key.project.clone(), key.id, key.name.as_str(), key.scopes.clone()),
            noted_ms: AtomicI64::new(key.last_used_at.unwrap_or(Timestamp::EPOCH).as_millis()),
            stored,
        }
    }
}
