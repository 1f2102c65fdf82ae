//! The handle: cheap to clone; the use cases of projects, keys and the audit log.

mod auth;
mod cache;
mod idempotency;
mod pending;
mod secrets;
mod sessions;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use database::{Db, Tx};
use identity::{ApiKey, KeyId, Policy, Principal, Scopes, Throttle};
use kernel::{Clock, CursorKey, ProjectId, Rng, Tasks, Timestamp};
use quick_cache::sync::Cache;
use ring::hmac;
use serde_json::json;
use web::{Page, PageQuery};

use crate::{
    AccessConfig, Error, MIGRATIONS,
    error::Result,
    model::{
        AuditEntry, AuditFilter, AuditId, Issued, Key, KeyState, MAX_AUDIT_WORD_CHARS, MAX_DETAIL_BYTES, MAX_OVERLAP,
        MAX_TITLE_CHARS, NewKey, Project, StoredKey, is_label,
    },
    store, worker,
};

pub use auth::Stats;
pub use sessions::{Session, SessionToken};

use auth::{Counters, KnownKey};
use cache::NearCache;
use pending::Pending;
use secrets::RootSecret;
use sessions::KnownSession;

/// The topic that tells of changed keys.
pub(crate) const KEYS_TOPIC: &str = "access_keys";
/// The topic that tells of ended sessions.
pub(crate) const SESSIONS_TOPIC: &str = "access_sessions";
/// What marks that an installation has had its first start.
const FIRST_KEY: &str = "first_key";

/// How access is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The section `[access]`.
    pub config: AccessConfig,
    /// `--dev`: requests without a key are the administrator's. Only for a server that nobody but its own machine reaches.
    pub dev: bool,
    /// Whether this server itself speaks TLS, so that the console's cookie can be marked `Secure`.
    pub tls: bool,
}

/// Projects, keys, sessions, audit log. Cheap to clone.
#[derive(Clone)]
pub struct Access(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    rng: Rng,
    config: AccessConfig,
    dev: bool,
    secure_cookies: bool,
    root: RootSecret,
    cursor_key: CursorKey,
    csrf_key: hmac::Key,
    /// What the forms of `--dev`, which has no session, are tied to.
    dev_session: [u8; 32],
    throttle: Throttle,
    keys: NearCache<Arc<KnownKey>>,
    /// Ids that no key has, and when that was seen.
    unknown: Cache<KeyId, Duration>,
    sessions: NearCache<Arc<KnownSession>>,
    /// Projects that exist; they are never deleted.
    projects: Cache<ProjectId, ()>,
    used_keys: Pending<KeyId>,
    seen_sessions: Pending<[u8; 32]>,
    counters: Counters,
    /// How many invalidations were heard from other nodes, for tests and metrics.
    pub(crate) heard_count: AtomicU64,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("dev", &self.0.dev).finish_non_exhaustive()
    }
}

impl Access {
    /// Brings the schema up to date, makes what an installation needs, and starts the background work on `tasks`.
    ///
    /// At the very first start without `dev` it makes the first key, with the scope `*`, and returns it: print it, for it is shown
    /// this once. Of several nodes that start together on one database exactly one gets it.
    pub async fn start(
        db: Db,
        options: Options,
        clock: Clock,
        rng: Rng,
        tasks: &Tasks,
    ) -> Result<(Self, Option<Issued>)> {
        db.migrate("access", MIGRATIONS).await?;
        let Options { config, dev, tls } = options;
        let root = RootSecret::open(&db, &config.root_secret, &rng).await?;
        let policy = Policy { free_count: config.free_attempts, ..Policy::default() };
        let (entries, ttl) = (config.cache_entries, config.cache_ttl);
        let access = Self(Arc::new(Inner {
            cursor_key: CursorKey::new(&root.derive(&[b"access.cursor"])),
            csrf_key: hmac::Key::new(hmac::HMAC_SHA256, &root.derive(&[b"access.csrf"])),
            dev_session: rng.bytes(),
            throttle: Throttle::new(policy, clock.clone()),
            keys: NearCache::new(entries, ttl, clock.clone()),
            unknown: Cache::new(entries),
            sessions: NearCache::new(entries, ttl, clock.clone()),
            projects: Cache::new(entries),
            used_keys: Pending::new(entries),
            seen_sessions: Pending::new(entries),
            counters: Counters::default(),
            heard_count: AtomicU64::new(0),
            secure_cookies: tls || config.secure_cookies,
            db,
            clock,
            rng,
            config,
            dev,
            root,
        }));
        let first = access.first_start().await?;
        worker::spawn(&access, tasks);
        Ok((access, first))
    }

    async fn first_start(&self) -> Result<Option<Issued>> {
        let (this, dev) = (self.clone(), self.0.dev);
        let text = ApiKey::generate(&self.0.clock, &self.0.rng);
        let stored = self.new_stored(
            &Principal::system(),
            &NewKey { name: "first admin".to_owned(), scopes: Scopes::everything(), expires_at: None },
            &text,
        );
        let issued = Issued { key: stored.key.clone(), text };
        let created = self.0.db.tx(async move |tx| -> Result<bool> {
            let project = Project {
                id: ProjectId::default_project(),
                title: "Default".to_owned(),
                created_at: stored.key.created_at,
            };
            store::insert_project(tx, &project).await?;
            // The row is the lottery ticket: of nodes that start together, one inserts it.
            if dev || !store::claim_installation(tx, FIRST_KEY, stored.key.id.as_bytes()).await? {
                return Ok(false);
            }
            store::insert_key(tx, &stored, None).await?;
            let detail = json!({ "name": stored.key.name, "scopes": stored.key.scopes, "reason": "first start" });
            this.audit(tx, &Principal::system(), "access.key.create", &stored.key.id.to_string(), &detail).await?;
            Ok(true)
        });
        Ok(created.await?.then_some(issued))
    }

    /// A secret of this installation: 32 bytes, the same on every node and at every start, apart for every label.
    pub fn secret(&self, label: &str) -> [u8; 32] {
        self.0.root.derive(&[b"room ", label.as_bytes()])
    }

    /// Whether it runs with `--dev`.
    pub fn is_dev(&self) -> bool {
        self.0.dev
    }

    /// The clock that it lives by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    // ---- audit log

    /// Adds an entry to the audit log, inside of the caller's transaction: the change and its entry are committed together or
    /// not at all. `action` is `<system>.<thing>.<verb>`; `object` is what it was done to; `detail` at most 16 KiB of JSON.
    pub async fn audit(
        &self,
        tx: &mut Tx<'_>,
        who: &Principal,
        action: &str,
        object: &str,
        detail: &serde_json::Value,
    ) -> Result<(), database::Error> {
        let cut = |text: &str| text.replace('\0', "").chars().take(MAX_AUDIT_WORD_CHARS).collect::<String>();
        let is_small = detail.to_string().len() <= MAX_DETAIL_BYTES;
        let entry = AuditEntry {
            id: AuditId::new(&self.0.clock, &self.0.rng),
            at: self.now(),
            project: who.project.clone(),
            actor: who.actor(),
            actor_name: cut(&who.name),
            action: cut(action),
            object: cut(object),
            detail: if is_small { detail.clone() } else { json!({ "note": "the detail was too large to keep" }) },
        };
        store::insert_audit(tx, &entry).await
    }

    /// The audit log of the project, the newest first.
    pub async fn list_audit(
        &self,
        project: &ProjectId,
        filter: &AuditFilter,
        query: &PageQuery,
    ) -> Result<Page<AuditEntry>> {
        let scope = format!("audit {project} {}", filter.scope());
        let before = self.position(query, &scope)?;
        let rows = store::list_audit(&self.0.db, project, filter, before, query.fetch_count()).await?;
        Ok(Page::new(rows, query, &self.0.cursor_key, &scope, |last| last.id.to_string().into_bytes()))
    }

    fn position(&self, query: &PageQuery, scope: &str) -> Result<Option<String>> {
        let bytes = query.position(&self.0.cursor_key, scope)?;
        // Only text is ever sealed.
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    // ---- projects

    /// Makes a project. Only an administrator may.
    pub async fn create_project(&self, who: &Principal, id: &str, title: Option<&str>) -> Result<Project> {
        if !who.is_admin {
            return Err(Error::AdminOnly("create projects"));
        }
        let invalid = |field, detail: &str| Error::ProjectInvalid { field, detail: detail.to_owned() };
        let id = ProjectId::parse(id).ok_or_else(|| {
            invalid("id", "The id of a project is 1 to 40 of a-z, 0-9 and -, starting with a letter.")
        })?;
        let title = title.unwrap_or(id.as_str()).to_owned();
        if !is_label(&title, MAX_TITLE_CHARS) {
            return Err(invalid(
                "title",
                "A title is 1 to 200 characters, without control characters or spaces at its ends.",
            ));
        }
        let project = Project { id, title, created_at: self.now() };
        let (this, who, new) = (self.clone(), who.clone(), project.clone());
        self.0
            .db
            .tx(async move |tx| -> Result<()> {
                if !store::insert_project(tx, &new).await? {
                    return Err(Error::ProjectExists);
                }
                let detail = json!({ "title": new.title });
                Ok(this.audit(tx, &who, "access.project.create", new.id.as_str(), &detail).await?)
            })
            .await?;
        Ok(project)
    }

    /// The projects that a principal may see, by name: every one for an administrator, else its own.
    pub async fn list_projects(&self, who: &Principal, query: &PageQuery) -> Result<Page<Project>> {
        let scope = format!("projects admin={}", who.is_admin);
        let rows = if who.is_admin {
            let after = self.position(query, &scope)?.unwrap_or_default();
            store::list_projects(&self.0.db, &after, query.fetch_count()).await?
        } else {
            self.position(query, &scope)?;
            store::get_project(&self.0.db, &who.project).await?.into_iter().collect()
        };
        Ok(Page::new(rows, query, &self.0.cursor_key, &scope, |last| last.id.as_str().as_bytes().to_vec()))
    }

    /// A project that a principal may see.
    pub async fn get_project(&self, who: &Principal, id: &str) -> Result<Project> {
        let id = ProjectId::parse(id).ok_or(Error::ProjectUnknown)?;
        if !who.is_admin && who.project != id {
            return Err(Error::ProjectUnknown);
        }
        store::get_project(&self.0.db, &id).await?.ok_or(Error::ProjectUnknown)
    }

    // ---- keys

    fn new_stored(&self, who: &Principal, new: &NewKey, text: &ApiKey) -> StoredKey {
        let key = Key {
            id: text.id(),
            project: who.project.clone(),
            name: new.name.clone(),
            scopes: new.scopes.clone(),
            created_at: self.now(),
            created_by: who.actor(),
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
            previous_until: None,
        };
        StoredKey { key, hash: text.hash(), previous_hash: None, rotation_token: None }
    }

    /// Makes a key in the principal's project. Nobody gives a scope that they do not have.
    ///
    /// With a `request_token` (web's idempotency token), a second try of one request makes no second key: it gives the first
    /// one a fresh secret, since the secret of the first try was never kept.
    pub async fn create_key(&self, who: &Principal, new: &NewKey, request_token: Option<[u8; 16]>) -> Result<Issued> {
        new.check(self.now())?;
        if let Some(scope) = who.scopes.beyond(&new.scopes) {
            return Err(Error::ScopeTooWide(scope.to_string()));
        }
        let text = ApiKey::generate(&self.0.clock, &self.0.rng);
        let stored = self.new_stored(who, new, &text);
        let (this, who) = (self.clone(), who.clone());
        let issued = self
            .0
            .db
            .tx(async move |tx| -> Result<Issued> {
                if let Some(found) = store::insert_key(tx, &stored, request_token).await? {
                    let text = ApiKey::renew(found.key.id, &this.0.rng);
                    store::replace_secret(tx, found.key.id, &text.hash(), None, found.rotation_token).await?;
                    tx.notify(KEYS_TOPIC, auth::cache_key(found.key.id));
                    return Ok(Issued { key: found.key, text });
                }
                let key = stored.key.clone();
                let detail = json!({ "name": key.name, "scopes": key.scopes, "expires_at": key.expires_at });
                this.audit(tx, &who, "access.key.create", &key.id.to_string(), &detail).await?;
                Ok(Issued { key, text: text.clone() })
            })
            .await?;
        self.forget_key(issued.key.id);
        Ok(issued)
    }

    /// Keys of a project, the newest first; revoked and expired ones too.
    pub async fn list_keys(&self, project: &ProjectId, query: &PageQuery) -> Result<Page<Key>> {
        let scope = format!("keys {project}");
        let before = self.position(query, &scope)?;
        let rows = store::list_keys(&self.0.db, project, before, query.fetch_count()).await?;
        let rows = rows.into_iter().map(|stored| stored.key).collect();
        Ok(Page::new(rows, query, &self.0.cursor_key, &scope, |last: &Key| last.id.to_string().into_bytes()))
    }

    /// A key of a project.
    pub async fn get_key(&self, project: &ProjectId, id: &str) -> Result<Key> {
        let id = KeyId::parse(id).ok_or(Error::KeyUnknown)?;
        let found = store::get_key(&self.0.db, id).await?.filter(|stored| stored.key.project == *project);
        found.map(|stored| stored.key).ok_or(Error::KeyUnknown)
    }

    /// Reads and holds a key that `who` may change: of the same project, with no scope that `who` lacks.
    async fn lock_changeable(tx: &mut Tx<'_>, who: &Principal, id: KeyId) -> Result<StoredKey> {
        let stored = store::lock_key(tx, &who.project, id).await?.ok_or(Error::KeyUnknown)?;
        match who.scopes.beyond(&stored.key.scopes) {
            Some(scope) => Err(Error::ScopeTooWide(scope.to_string())),
            None => Ok(stored),
        }
    }

    /// Gives a key a new secret. The old one works for `overlap` longer (at most 30 days); one that was still working from a
    /// rotation before ends now.
    pub async fn rotate_key(
        &self,
        who: &Principal,
        id: &str,
        overlap: Duration,
        request_token: Option<[u8; 16]>,
    ) -> Result<Issued> {
        let id = KeyId::parse(id).ok_or(Error::KeyUnknown)?;
        if overlap > MAX_OVERLAP {
            let detail = "The old secret may go on for at most 30 days (2592000 s).".to_owned();
            return Err(Error::KeyInvalid { field: "overlap_seconds", detail });
        }
        let (this, who, text) = (self.clone(), who.clone(), ApiKey::renew(id, &self.0.rng));
        let issued = self
            .0
            .db
            .tx(async move |tx| -> Result<Issued> {
                let stored = Self::lock_changeable(tx, &who, id).await?;
                let now = this.now();
                if matches!(stored.key.state(now), KeyState::Revoked | KeyState::Expired) {
                    return Err(Error::KeyEnded);
                }
                let is_second_try = request_token.is_some() && stored.rotation_token == request_token;
                let previous = if is_second_try {
                    // The first try kept the secret before; the one it made reached nobody.
                    stored.previous_hash.zip(stored.key.previous_until)
                } else {
                    Some((stored.hash, now.plus(overlap))).filter(|_| !overlap.is_zero())
                };
                store::replace_secret(tx, id, &text.hash(), previous, request_token).await?;
                tx.notify(KEYS_TOPIC, auth::cache_key(id));
                let previous_until = previous.map(|(_, until)| until);
                let detail = json!({ "name": stored.key.name, "old_secret_until": previous_until });
                if !is_second_try {
                    this.audit(tx, &who, "access.key.rotate", &id.to_string(), &detail).await?;
                }
                Ok(Issued { key: Key { previous_until, ..stored.key }, text: text.clone() })
            })
            .await?;
        self.forget_key(id);
        Ok(issued)
    }

    /// Ends a key for good: at once on this node, within [`AccessConfig::cache_ttl`] on the others. A key that was revoked
    /// stays as it is, which is no error. The last working key of an administrator cannot be revoked.
    pub async fn revoke_key(&self, who: &Principal, id: &str) -> Result<Key> {
        let id = KeyId::parse(id).ok_or(Error::KeyUnknown)?;
        let (this, who) = (self.clone(), who.clone());
        let key = self
            .0
            .db
            .tx(async move |tx| -> Result<Key> {
                let stored = Self::lock_changeable(tx, &who, id).await?;
                if stored.key.revoked_at.is_some() {
                    return Ok(stored.key);
                }
                let now = this.now();
                if stored.key.scopes.is_everything() && !store::other_admin_exists(tx, id, now).await? {
                    return Err(Error::LastAdminKey);
                }
                store::revoke_key(tx, id, now).await?;
                tx.notify(KEYS_TOPIC, auth::cache_key(id));
                let detail = json!({ "name": stored.key.name });
                this.audit(tx, &who, "access.key.revoke", &id.to_string(), &detail).await?;
                Ok(Key { revoked_at: Some(now), ..stored.key })
            })
            .await?;
        self.forget_key(id);
        Ok(key)
    }
}
