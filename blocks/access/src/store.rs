//! The only file that holds SQL.

use database::{Db, Migration, Result, Row, Tx, params};
use identity::{KeyId, Scopes, SecretHash};
use kernel::{ProjectId, Timestamp};

use crate::model::{AuditEntry, AuditFilter, AuditId, Key, Project, StoredKey};

/// The schema's steps.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "access", sql: include_str!("../migrations/1_access.sql") }];

/// Above every id of a key; ids differ from it in their third letter, which every collation orders alike.
const AFTER_KEYS: &str = "kez";
/// Above every id of an audit entry.
const AFTER_AUDIT: &str = "aue";

macro_rules! key_columns {
    () => {
        "id, project, name, scopes, created_at, created_by, expires_at, revoked_at, last_used_at, previous_until, \
         secret_hash, previous_hash, rotation_token"
    };
}

fn decode<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| database::Error::Decode(format!("not {what}")))
}

fn key(row: &Row) -> Result<StoredKey> {
    let hash = |bytes: [u8; 32]| SecretHash::from_bytes(bytes);
    Ok(StoredKey {
        key: Key {
            id: decode(KeyId::parse(&row.get::<String>(0)?), "the id of a key")?,
            project: row.get(1)?,
            name: row.get(2)?,
            scopes: decode(Scopes::parse(&row.get::<String>(3)?).ok(), "scopes")?,
            created_at: row.get(4)?,
            created_by: row.get(5)?,
            expires_at: row.get(6)?,
            revoked_at: row.get(7)?,
            last_used_at: row.get(8)?,
            previous_until: row.get(9)?,
        },
        hash: hash(row.get(10)?),
        previous_hash: row.get::<Option<[u8; 32]>>(11)?.map(hash),
        rotation_token: row.get(12)?,
    })
}

fn project(row: &Row) -> Result<Project> {
    Ok(Project { id: row.get(0)?, title: row.get(1)?, created_at: row.get(2)? })
}

// ---- projects

/// Adds a project; `false` when there is one of that name.
pub(crate) async fn insert_project(tx: &mut Tx<'_>, project: &Project) -> Result<bool> {
    let sql = "INSERT INTO access_projects (id, title, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
    Ok(tx.exec(sql, params![&project.id, &project.title, project.created_at]).await? == 1)
}

/// Reads a project.
pub(crate) async fn get_project(db: &Db, id: &ProjectId) -> Result<Option<Project>> {
    let sql = "SELECT id, title, created_at FROM access_projects WHERE id = $1";
    db.get(sql, params![id]).await?.as_ref().map(project).transpose()
}

/// Projects by name, from after `after`.
pub(crate) async fn list_projects(db: &Db, after: &str, limit: i64) -> Result<Vec<Project>> {
    let sql = "SELECT id, title, created_at FROM access_projects WHERE id > $1 ORDER BY id LIMIT $2";
    db.query(sql, params![after, limit]).await?.iter().map(project).collect()
}

// ---- keys

/// Adds a key. With a request token that made one before, nothing is added and that key comes back.
pub(crate) async fn insert_key(
    tx: &mut Tx<'_>,
    new: &StoredKey,
    request_token: Option<[u8; 16]>,
) -> Result<Option<StoredKey>> {
    if let Some(token) = request_token {
        let sql = concat!("SELECT ", key_columns!(), " FROM access_keys WHERE request_token = $1 /*pg FOR UPDATE */");
        if let Some(row) = tx.get(sql, params![token]).await? {
            return key(&row).map(Some);
        }
    }
    let k = &new.key;
    let sql = "INSERT INTO access_keys (id, project, name, scopes, is_admin, secret_hash, created_at, created_by, expires_at, \
               request_token) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let values = params![
        k.id.to_string(),
        &k.project,
        &k.name,
        k.scopes.to_string(),
        k.scopes.is_everything(),
        new.hash.as_bytes(),
        k.created_at,
        &k.created_by,
        k.expires_at,
        request_token
    ];
    tx.exec(sql, values).await?;
    Ok(None)
}

/// Reads a key of whatever project: for authentication.
pub(crate) async fn get_key(db: &Db, id: KeyId) -> Result<Option<StoredKey>> {
    let sql = concat!("SELECT ", key_columns!(), " FROM access_keys WHERE id = $1");
    db.get(sql, params![id.to_string()]).await?.as_ref().map(key).transpose()
}

/// Reads a key of a project and holds it until the transaction ends.
pub(crate) async fn lock_key(tx: &mut Tx<'_>, project: &ProjectId, id: KeyId) -> Result<Option<StoredKey>> {
    let sql = concat!("SELECT ", key_columns!(), " FROM access_keys WHERE id = $1 AND project = $2 /*pg FOR UPDATE */");
    tx.get(sql, params![id.to_string(), project]).await?.as_ref().map(key).transpose()
}

/// Keys of a project, the newest first, from before `before`.
pub(crate) async fn list_keys(
    db: &Db,
    project: &ProjectId,
    before: Option<String>,
    limit: i64,
) -> Result<Vec<StoredKey>> {
    let sql = concat!(
        "SELECT ",
        key_columns!(),
        " FROM access_keys WHERE project = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
    );
    let before = before.unwrap_or_else(|| AFTER_KEYS.to_owned());
    db.query(sql, params![project, before, limit]).await?.iter().map(key).collect()
}

/// Gives a key another secret; the one before may go on for a while.
pub(crate) async fn replace_secret(
    tx: &mut Tx<'_>,
    id: KeyId,
    hash: &SecretHash,
    previous: Option<(SecretHash, Timestamp)>,
    rotation_token: Option<[u8; 16]>,
) -> Result<()> {
    let sql = "UPDATE access_keys SET secret_hash = $2, previous_hash = $3, previous_until = $4, rotation_token = $5 \
               WHERE id = $1";
    let (previous_hash, previous_until) = previous.map(|(hash, until)| (*hash.as_bytes(), until)).unzip();
    let values = params![id.to_string(), hash.as_bytes(), previous_hash, previous_until, rotation_token];
    tx.exec(sql, values).await.map(drop)
}

/// Revokes a key.
pub(crate) async fn revoke_key(tx: &mut Tx<'_>, id: KeyId, at: Timestamp) -> Result<()> {
    let sql = "UPDATE access_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    tx.exec(sql, params![id.to_string(), at]).await.map(drop)
}

/// Whether a key with `*` other than this one works at `now`. Holds them, so that two revocations cannot both rely on the other.
pub(crate) async fn other_admin_exists(tx: &mut Tx<'_>, id: KeyId, now: Timestamp) -> Result<bool> {
    let sql = "SELECT id FROM access_keys WHERE is_admin AND revoked_at IS NULL \
               AND (expires_at IS NULL OR expires_at > $2) AND id <> $1 ORDER BY id /*pg FOR UPDATE */";
    Ok(tx.get(sql, params![id.to_string(), now]).await?.is_some())
}

/// Notes when a key was used; never moves it back.
pub(crate) async fn touch_key(tx: &mut Tx<'_>, id: KeyId, at: Timestamp) -> Result<()> {
    let sql = "UPDATE access_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    tx.exec(sql, params![id.to_string(), at]).await.map(drop)
}

// ---- audit log: rows are only ever added

/// Adds an entry.
pub(crate) async fn insert_audit(tx: &mut Tx<'_>, entry: &AuditEntry) -> Result<()> {
    let sql = "INSERT INTO access_audit (id, at, project, actor, actor_name, action, object, detail) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = params![
        entry.id.to_string(),
        entry.at,
        &entry.project,
        &entry.actor,
        &entry.actor_name,
        &entry.action,
        &entry.object,
        entry.detail.to_string()
    ];
    tx.exec(sql, values).await.map(drop)
}

macro_rules! audit_where {
    ($first:literal) => {
        concat!(
            "SELECT id, at, project, actor, actor_name, action, object, detail FROM access_audit WHERE project = $1 ",
            $first,
            " AND id < $2 AND ($3 = '' OR actor = $3) AND ($4 = '' OR action = $4) AND ($5 = '' OR object = $5) \
              ORDER BY id DESC LIMIT $6"
        )
    };
}

/// Entries of a project, the newest first, from before `before`.
pub(crate) async fn list_audit(
    db: &Db,
    project: &ProjectId,
    filter: &AuditFilter,
    before: Option<String>,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    // The narrowest filter given decides which index is read.
    let sql = match filter {
        AuditFilter { object: Some(_), .. } => audit_where!("AND object = $5"),
        AuditFilter { actor: Some(_), .. } => audit_where!("AND actor = $3"),
        AuditFilter { action: Some(_), .. } => audit_where!("AND action = $4"),
        _ => audit_where!(""),
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let before = before.unwrap_or_else(|| AFTER_AUDIT.to_owned());
    let values = params![project, before, text(&filter.actor), text(&filter.action), text(&filter.object), limit];
    let entry = |row: &Row| -> Result<AuditEntry> {
        Ok(AuditEntry {
            id: decode(AuditId::parse(&row.get::<String>(0)?), "the id of an audit entry")?,
            at: row.get(1)?,
            project: row.get(2)?,
            actor: row.get(3)?,
            actor_name: row.get(4)?,
            action: row.get(5)?,
            object: row.get(6)?,
            detail: serde_json::from_str(&row.get::<String>(7)?).unwrap_or_default(),
        })
    };
    db.query(sql, values).await?.iter().map(entry).collect()
}

// ---- what the installation has once

/// Keeps a value under a name that has none yet; `false` when it has one.
pub(crate) async fn claim_installation(tx: &mut Tx<'_>, name: &str, value: &[u8]) -> Result<bool> {
    let sql = "INSERT INTO access_installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    Ok(tx.exec(sql, params![name, value]).await? == 1)
}

/// Reads a value.
pub(crate) async fn get_installation(tx: &mut Tx<'_>, name: &str) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT value FROM access_installation WHERE name = $1";
    tx.get(sql, params![name]).await?.map(|row| row.get(0)).transpose()
}

// ---- sessions

/// A session as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredSession {
    /// SHA-256 of its token.
    pub(crate) id: [u8; 32],
    /// The key that opened it.
    pub(crate) key_id: KeyId,
    /// Of the secret that opened it.
    pub(crate) secret_hash: SecretHash,
    /// When the last request came, to about a minute.
    pub(crate) seen_at: Timestamp,
    /// When it ends whatever happens.
    pub(crate) expires_at: Timestamp,
}

/// Opens a session.
pub(crate) async fn insert_session(tx: &mut Tx<'_>, session: &StoredSession) -> Result<()> {
    let sql = "INSERT INTO access_sessions (id, key_id, secret_hash, created_at, seen_at, expires_at) \
               VALUES ($1, $2, $3, $4, $4, $5)";
    let values = params![
        session.id,
        session.key_id.to_string(),
        session.secret_hash.as_bytes(),
        session.seen_at,
        session.expires_at
    ];
    tx.exec(sql, values).await.map(drop)
}

/// Reads a session.
pub(crate) async fn get_session(db: &Db, id: &[u8; 32]) -> Result<Option<StoredSession>> {
    let sql = "SELECT key_id, secret_hash, seen_at, expires_at FROM access_sessions WHERE id = $1";
    let Some(row) = db.get(sql, params![id]).await? else { return Ok(None) };
    Ok(Some(StoredSession {
        id: *id,
        key_id: decode(KeyId::parse(&row.get::<String>(0)?), "the id of a key")?,
        secret_hash: SecretHash::from_bytes(row.get(1)?),
        seen_at: row.get(2)?,
        expires_at: row.get(3)?,
    }))
}

/// Notes that a session was used; never moves it back.
pub(crate) async fn touch_session(tx: &mut Tx<'_>, id: &[u8; 32], at: Timestamp) -> Result<()> {
    let sql = "UPDATE access_sessions SET seen_at = $2 WHERE id = $1 AND seen_at < $2";
    tx.exec(sql, params![id, at]).await.map(drop)
}

/// Ends a session; `false` when there was none.
pub(crate) async fn delete_session(tx: &mut Tx<'_>, id: &[u8; 32]) -> Result<bool> {
    Ok(tx.exec("DELETE FROM access_sessions WHERE id = $1", params![id]).await? > 0)
}

/// Deletes up to `limit` sessions that ended before `now`, or were idle since `idle_since`.
pub(crate) async fn delete_ended_sessions(db: &Db, now: Timestamp, idle_since: Timestamp, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM access_sessions WHERE id IN (SELECT id FROM access_sessions \
               WHERE expires_at <= $1 OR seen_at <= $2 LIMIT $3 /*pg FOR UPDATE SKIP LOCKED */)";
    db.exec(sql, params![now, idle_since, limit]).await
}

// ---- idempotency

/// A record as stored; the answer is sealed.
#[derive(Debug, Clone)]
pub(crate) struct StoredRecord {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) holder: [u8; 16],
    pub(crate) lease_until: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) answer: Option<Vec<u8>>,
}

/// Takes a key that has no record; `false` when it has one. On PostgreSQL, waits for another transaction that is taking it.
pub(crate) async fn insert_record(tx: &mut Tx<'_>, id: &[u8; 32], record: &StoredRecord) -> Result<bool> {
    let sql = "INSERT INTO access_idempotency (id, fingerprint, holder, lease_until, expires_at) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING";
    let values = params![id, record.fingerprint, record.holder, record.lease_until, record.expires_at];
    Ok(tx.exec(sql, values).await? == 1)
}

/// Reads a record and holds it until the transaction ends.
pub(crate) async fn lock_record(tx: &mut Tx<'_>, id: &[u8; 32]) -> Result<Option<StoredRecord>> {
    let sql = "SELECT fingerprint, holder, lease_until, expires_at, answer FROM access_idempotency WHERE id = $1 \
               /*pg FOR UPDATE */";
    let Some(mut row) = tx.get(sql, params![id]).await? else { return Ok(None) };
    Ok(Some(StoredRecord {
        fingerprint: row.get(0)?,
        holder: row.get(1)?,
        lease_until: row.get(2)?,
        expires_at: row.get(3)?,
        answer: row.take(4)?,
    }))
}

/// Puts another claim in place of a record that [`lock_record`] holds.
pub(crate) async fn take_over_record(tx: &mut Tx<'_>, id: &[u8; 32], record: &StoredRecord) -> Result<()> {
    let sql = "UPDATE access_idempotency SET fingerprint = $2, holder = $3, lease_until = $4, expires_at = $5, answer = NULL \
               WHERE id = $1";
    let values = params![id, record.fingerprint, record.holder, record.lease_until, record.expires_at];
    tx.exec(sql, values).await.map(drop)
}

/// Keeps an answer, if the holder still has the record.
pub(crate) async fn finish_record(db: &Db, id: &[u8; 32], holder: &[u8; 16], answer: Vec<u8>) -> Result<u64> {
    let sql = "UPDATE access_idempotency SET answer = $3 WHERE id = $1 AND holder = $2 AND answer IS NULL";
    db.exec(sql, params![id, holder, answer]).await
}

/// Gives a record up, if the holder still has it.
pub(crate) async fn release_record(db: &Db, id: &[u8; 32], holder: &[u8; 16]) -> Result<u64> {
    let sql = "DELETE FROM access_idempotency WHERE id = $1 AND holder = $2 AND answer IS NULL";
    db.exec(sql, params![id, holder]).await
}

/// Deletes up to `limit` records whose time is over.
pub(crate) async fn delete_expired_records(db: &Db, now: Timestamp, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM access_idempotency WHERE id IN (SELECT id FROM access_idempotency \
               WHERE expires_at <= $1 LIMIT $2 /*pg FOR UPDATE SKIP LOCKED */)";
    db.exec(sql, params![now, limit]).await
}
