//! Sessions of the console.
//!
//! Invariants:
//! - SESSION-1: a token is 256 random bits; only its SHA-256 is stored.
//! - SESSION-2: a session lives only while the secret that opened it does: when its key is revoked, expires or is rotated past
//!   its overlap, the session ends with it (on other nodes within [`crate::AccessConfig::cache_ttl`]).
//! - SESSION-3: it ends after `session_lifetime`, and after `session_idle` without a request.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use identity::{Principal, SecretHash, Subject};
use kernel::Timestamp;
use ring::hmac;
use serde_json::json;

use super::{Access, SESSIONS_TOPIC};
use crate::{
    Error,
    error::Result,
    store::{self, StoredSession},
};

/// "Last seen" is noted at most so often.
const NOTE_EVERY: Duration = Duration::from_secs(30);
/// An idle session is deleted so much later than it ends.
const DELETE_MARGIN: Duration = Duration::from_mins(5);
const TOKEN_CHARS: usize = 64;

/// What the browser's cookie holds. It has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(String);

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

impl SessionToken {
    /// Reads a cookie's value; `None` when it cannot be a token.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = text.len() == TOKEN_CHARS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ok.then(|| Self(text.to_owned()))
    }

    /// The value, for the cookie.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn id(&self) -> [u8; 32] {
        *SecretHash::of(self.0.as_bytes()).as_bytes()
    }
}

/// Somebody signed in to the console.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who.
    pub principal: Principal,
    /// What every form has to send back as `csrf`.
    pub csrf: String,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
}

pub(super) struct KnownSession {
    stored: StoredSession,
    seen_ms: AtomicI64,
}

fn cache_key(id: &[u8; 32]) -> i64 {
    let mut head = [0; 8];
    head.copy_from_slice(&id[..8]);
    i64::from_be_bytes(head)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(DIGITS[usize::from(n)])).collect()
}

impl Access {
    /// Opens a session with the text of a key, shown from the address `peer`.
    pub async fn sign_in(&self, text: &str, peer: Option<IpAddr>) -> Result<(SessionToken, Session)> {
        let (principal, secret_hash) = self.authenticate_secret(text, peer).await?;
        let key_id = principal.key_id.ok_or(Error::Unauthenticated)?;
        let token = SessionToken(hex(&self.0.rng.bytes::<32>()));
        let now = self.now();
        let expires_at = now.plus(self.0.config.session_lifetime);
        let stored = StoredSession { id: token.id(), key_id, secret_hash, seen_at: now, expires_at };
        let session = Session { principal, csrf: self.csrf_of(&stored.id), expires_at };
        let (this, who) = (self.clone(), session.principal.clone());
        self.0
            .db
            .tx(async move |tx| -> Result<()> {
                store::insert_session(tx, &stored).await?;
                let detail = json!({ "expires_at": stored.expires_at });
                Ok(this.audit(tx, &who, "access.session.open", &who.actor(), &detail).await?)
            })
            .await?;
        Ok((token, session))
    }

    /// The session of a token; `None` when it has ended or never was.
    pub async fn session(&self, token: &SessionToken, peer: Option<IpAddr>) -> Result<Option<Session>> {
        let id = token.id();
        let subjects: Vec<Subject> = peer.map(Subject::of_address).into_iter().collect();
        if self.0.sessions.get(cache_key(&id)).is_none() {
            self.wait_of(&subjects)?;
        }
        let loaded = self.0.sessions.get_or_load(cache_key(&id), async {
            // Read first: what is no longer noted afterwards was written before.
            let noted = self.0.seen_sessions.get(&id);
            let stored = store::get_session(&self.0.db, &id).await?;
            Ok::<_, Error>(stored.map(|stored| {
                // A request since the last write counts, although only memory knows of it.
                let noted = noted.unwrap_or(stored.seen_at);
                let seen_ms = AtomicI64::new(stored.seen_at.max(noted).as_millis());
                Arc::new(KnownSession { stored, seen_ms })
            }))
        });
        let Some(known) = loaded.await?.filter(|known| known.stored.id == id) else {
            self.0.throttle.failed(&subjects);
            return Ok(None);
        };
        let now = self.now();
        let seen_at = Timestamp::from_millis(known.seen_ms.load(Ordering::Relaxed));
        if known.stored.expires_at <= now || now.since(seen_at) >= self.0.config.session_idle {
            return Ok(None);
        }
        let Some(principal) = self.principal_of(known.stored.key_id, &known.stored.secret_hash).await? else {
            return Ok(None);
        };
        if now.since(seen_at) >= NOTE_EVERY {
            known.seen_ms.store(now.as_millis(), Ordering::Relaxed);
            self.0.seen_sessions.note(id, now);
        }
        Ok(Some(Session { principal, csrf: self.csrf_of(&id), expires_at: known.stored.expires_at }))
    }

    /// Ends a session; one that has ended already is no error.
    pub async fn sign_out(&self, token: &SessionToken, who: &Principal) -> Result<()> {
        let (this, who, id) = (self.clone(), who.clone(), token.id());
        self.0
            .db
            .tx(async move |tx| -> Result<()> {
                if store::delete_session(tx, &id).await? {
                    tx.notify(SESSIONS_TOPIC, cache_key(&id));
                    this.audit(tx, &who, "access.session.close", &who.actor(), &json!({})).await?;
                }
                Ok(())
            })
            .await?;
        self.forget_session_of(cache_key(&id));
        Ok(())
    }

    /// The session of `--dev`, which asks nobody to sign in; `None` without `--dev`.
    pub fn dev_session(&self) -> Option<Session> {
        self.0.dev.then(|| Session {
            principal: Principal::dev(),
            csrf: self.csrf_of(&self.0.dev_session),
            expires_at: Timestamp::from_millis(i64::MAX),
        })
    }

    fn csrf_of(&self, session_id: &[u8; 32]) -> String {
        hex(&hmac::sign(&self.0.csrf_key, session_id).as_ref()[..16])
    }

    /// Whether cookies may be marked `Secure`.
    pub(crate) fn secure_cookies(&self) -> bool {
        self.0.secure_cookies
    }

    /// How long the browser keeps a session's cookie.
    pub(crate) fn session_lifetime(&self) -> Duration {
        self.0.config.session_lifetime
    }

    pub(crate) fn forget_session_of(&self, cache_key: i64) {
        self.0.sessions.invalidate(cache_key);
    }

    pub(crate) fn forget_all_sessions(&self) {
        self.0.sessions.clear();
    }

    /// Deletes what had ended at `now`: up to `limit` sessions and as many idempotency records. Gives how many. A session that
    /// seems idle gets some more time, in which another node that saw it may write so.
    pub(crate) async fn delete_ended(&self, now: Timestamp, limit: i64) -> Result<u64> {
        let db = &self.0.db;
        let idle_since = now.minus(self.0.config.session_idle).minus(DELETE_MARGIN);
        let sessions = store::delete_ended_sessions(db, now, idle_since, limit).await?;
        Ok(sessions + store::delete_expired_records(db, now, limit).await?)
    }
}

impl Session {
    /// Whether a form came from this session; takes the same time wherever the token differs.
    pub fn is_own_form(&self, csrf: &str) -> bool {
        SecretHash::of(self.csrf.as_bytes()).matches(&SecretHash::of(csrf.as_bytes()))
    }
}
