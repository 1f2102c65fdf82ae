//! The pure core: what keys and projects are, and when a secret is good. No I/O, no async, no clock.

use std::time::Duration;

use identity::{ApiKey, KeyId, Scopes, SecretHash};
use kernel::{ProjectId, Timestamp};

use crate::{Error, error::Result};

kernel::typed_id!(
    /// Names an entry of the audit log.
    AuditId,
    "aud"
);

/// The longest name of a key, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// The longest title of a project, in characters.
pub const MAX_TITLE_CHARS: usize = 200;
/// The longest time that both secrets of a rotated key work.
pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);
/// The overlap when none is asked for.
pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(1);
/// The most bytes of an audit entry's detail; more is replaced by a note.
pub const MAX_DETAIL_BYTES: usize = 16 * 1024;
/// The longest action and object of an audit entry, in characters; more is cut.
pub const MAX_AUDIT_WORD_CHARS: usize = 300;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name, which is its id.
    pub id: ProjectId,
    /// What people call it.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The project that it works in.
    pub project: ProjectId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it: the id of a key, or `system`, or `dev`.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<Timestamp>,
    /// Until when the secret before the last rotation works.
    pub previous_until: Option<Timestamp>,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It works.
    Active,
    /// It works, and so does the secret before it.
    Rotating,
    /// It ended by itself.
    Expired,
    /// It was revoked.
    Revoked,
}

impl KeyState {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Key {
    /// Where it stands at `now`.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if self.expires_at.is_some_and(|at| at <= now) {
            KeyState::Expired
        } else if self.previous_until.is_some_and(|until| now < until) {
            KeyState::Rotating
        } else {
            KeyState::Active
        }
    }
}

/// A key with the hashes of its secrets.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// What may be shown.
    pub key: Key,
    /// Of its secret.
    pub hash: SecretHash,
    /// Of the secret before the last rotation.
    pub previous_hash: Option<SecretHash>,
    /// The request that rotated it last, so that a second try of it rotates once.
    pub rotation_token: Option<[u8; 16]>,
}

/// What a secret is to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It opens.
    Good,
    /// It is not this key's.
    Wrong,
    /// It was this key's until a rotation's overlap ended.
    Replaced {
        /// When that was.
        at: Timestamp,
    },
    /// It is this key's, which expired.
    Expired {
        /// When that was.
        at: Timestamp,
    },
    /// It is this key's, which was revoked.
    Revoked {
        /// When that was.
        at: Timestamp,
    },
}

impl StoredKey {
    /// Judges a secret at `now`. Both hashes are compared whatever the first comparison gave, and what is wrong with a key is
    /// told only to who has its secret.
    pub fn judge(&self, given: &SecretHash, now: Timestamp) -> Verdict {
        let is_current = self.hash.matches(given);
        let is_previous = self.previous_hash.as_ref().is_some_and(|hash| hash.matches(given));
        if !(is_current || is_previous) {
            return Verdict::Wrong;
        }
        if let Some(at) = self.key.revoked_at {
            return Verdict::Revoked { at };
        }
        if let Some(at) = self.key.expires_at.filter(|at| *at <= now) {
            return Verdict::Expired { at };
        }
        if is_current {
            return Verdict::Good;
        }
        match self.key.previous_until {
            Some(until) if now < until => Verdict::Good,
            until => Verdict::Replaced { at: until.unwrap_or(self.key.created_at) },
        }
    }
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What its owner calls it: 1 to 100 characters, no control characters.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// Checks it against the time it is made at.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        let wrong = |field, detail: &str| Err(Error::KeyInvalid { field, detail: detail.to_owned() });
        if !is_label(&self.name, MAX_NAME_CHARS) {
            return wrong("name", "A name is 1 to 100 characters, without control characters or spaces at its ends.");
        }
        if self.scopes.iter().next().is_none() {
            return wrong("scopes", "A key needs at least one scope, such as links:read.");
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return wrong("expires_at", "The expiry must lie in the future; leave it out for a key that does not end.");
        }
        Ok(())
    }
}

/// Whether a text can be shown as a name.
pub(crate) fn is_label(text: &str, max_chars: usize) -> bool {
    !text.is_empty() && text.chars().count() <= max_chars && text.trim() == text && !text.chars().any(char::is_control)
}

/// A key just made or rotated: the only moment at which its text is known.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The key.
    pub key: Key,
    /// With its secret.
    pub text: ApiKey,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its id; sorts by time.
    pub id: AuditId,
    /// When it happened.
    pub at: Timestamp,
    /// In which project.
    pub project: ProjectId,
    /// Who did it: the id of a key, `dev`, or `system`.
    pub actor: String,
    /// What the actor was called then.
    pub actor_name: String,
    /// What was done: `<system>.<thing>.<verb>`, such as `access.key.create`.
    pub action: String,
    /// To what.
    pub object: String,
    /// More, as JSON.
    pub detail: serde_json::Value,
}

/// Which entries of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// On this object.
    pub object: Option<String>,
}

impl AuditFilter {
    /// A text that tells two filters apart, for cursors.
    pub(crate) fn scope(&self) -> String {
        format!("actor={:?} action={:?} object={:?}", self.actor, self.action, self.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1_000)
    }

    fn stored(change: impl FnOnce(&mut StoredKey)) -> StoredKey {
        let mut key = StoredKey {
            key: Key {
                id: KeyId::from_bytes([1; 16]),
                project: ProjectId::default_project(),
                name: "ci".to_owned(),
                scopes: Scopes::parse("links:write").unwrap(),
                created_at: at(0),
                created_by: "system".to_owned(),
                expires_at: None,
                revoked_at: None,
                last_used_at: None,
                previous_until: None,
            },
            hash: SecretHash::of(b"new"),
            previous_hash: None,
            rotation_token: None,
        };
        change(&mut key);
        key
    }

    #[test]
    fn verdicts() {
        let rotated = |k: &mut StoredKey| {
            k.previous_hash = Some(SecretHash::of(b"old"));
            k.key.previous_until = Some(at(100));
        };
        let expiring = |k: &mut StoredKey| k.key.expires_at = Some(at(50));
        let revoked = |k: &mut StoredKey| k.key.revoked_at = Some(at(20));
        for (key, secret, now, want) in [
            (stored(|_| ()), "new", 10, Verdict::Good),
            (stored(|_| ()), "old", 10, Verdict::Wrong),
            (stored(rotated), "new", 10, Verdict::Good),
            (stored(rotated), "old", 99, Verdict::Good),
            (stored(rotated), "old", 100, Verdict::Replaced { at: at(100) }),
            (stored(rotated), "older", 10, Verdict::Wrong),
            (stored(expiring), "new", 49, Verdict::Good),
            (stored(expiring), "new", 50, Verdict::Expired { at: at(50) }),
            (stored(expiring), "guess", 50, Verdict::Wrong),
            (stored(revoked), "new", 20, Verdict::Revoked { at: at(20) }),
            (stored(revoked), "guess", 20, Verdict::Wrong),
        ] {
            assert_eq!(key.judge(&SecretHash::of(secret.as_bytes()), at(now)), want, "{secret} at {now}");
        }
    }

    #[test]
    fn new_keys() {
        let good =
            NewKey { name: "ci".to_owned(), scopes: Scopes::parse("links:write").unwrap(), expires_at: Some(at(2)) };
        assert!(good.check(at(1)).is_ok());
        for (change, want) in [
            ((|k| k.name = String::new()) as fn(&mut NewKey), "name"),
            (|k| k.name = " ci".to_owned(), "name"),
            (|k| k.name = "c\ni".to_owned(), "name"),
            (|k| k.name = "x".repeat(101), "name"),
            (|k| k.scopes = Scopes::default(), "scopes"),
            (|k| k.expires_at = Some(at(1)), "expires_at"),
        ] {
            let mut key = good.clone();
            change(&mut key);
            assert!(matches!(key.check(at(1)), Err(Error::KeyInvalid { field, .. }) if field == want));
        }
    }
}
