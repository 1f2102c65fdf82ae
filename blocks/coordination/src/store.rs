//! The only file that holds SQL.

use std::sync::Arc;

use bytes::Bytes;
use database::{Db, Error, Migration, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use crate::model::{Event, KeyRange, KeyValue};

/// The room's numbered steps.
pub static MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "coordination", sql: include_str!("../migrations/0001_coordination.sql") }];

/// What nodes hear of when keys change.
pub(crate) const TOPIC: &str = "coordination";

/// Rows of the log that one statement reads: so many of the largest fit into one result.
const PAGE: u32 = 40;
/// Rows that one statement writes.
const WRITE_ROWS: usize = 5000;

/// How far a keyspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) swept: i64,
}

/// Before anything was written.
const NEW: Head = Head { revision: 1, compacted: 0, swept: 0 };

/// One row of the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kv: Arc<KeyValue>,
    pub(crate) is_delete: bool,
    pub(crate) previous: i64,
    pub(crate) sub: i64,
}

/// A lease as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredLease {
    pub(crate) id: i64,
    pub(crate) ttl_seconds: i64,
    pub(crate) expires_at: Timestamp,
}

fn head_of(row: &Row) -> Result<Head> {
    Ok(Head { revision: row.get(0)?, compacted: row.get(1)?, swept: row.get(2)? })
}

/// Of what is committed.
pub(crate) async fn head(db: &Db, project: &ProjectId) -> Result<Head> {
    let sql = "SELECT revision, compacted, swept FROM coordination_heads WHERE project = $1";
    db.get(sql, params![project]).await?.map_or(Ok(NEW), |row| head_of(&row))
}

/// Keeps every other writer of this keyspace out until the transaction ends.
pub(crate) async fn lock_head(tx: &mut Tx<'_>, project: &ProjectId) -> Result<Head> {
    let sql = "SELECT revision, compacted, swept FROM coordination_heads WHERE project = $1 /*pg FOR UPDATE */";
    if let Some(row) = tx.get(sql, params![project]).await? {
        return head_of(&row);
    }
    let make = "INSERT INTO coordination_heads (project, revision, compacted, swept) VALUES ($1, $2, $3, $4) ON CONFLICT (project) DO NOTHING";
    tx.exec(make, params![project, NEW.revision, NEW.compacted, NEW.swept]).await?;
    tx.get(sql, params![project]).await?.map_or(Ok(NEW), |row| head_of(&row))
}

pub(crate) async fn set_head(tx: &mut Tx<'_>, project: &ProjectId, head: Head) -> Result<()> {
    let sql = "UPDATE coordination_heads SET revision = $2, compacted = $3, swept = $4 WHERE project = $1";
    tx.exec(sql, params![project, head.revision, head.compacted, head.swept]).await.map(drop)
}

fn entry(mut row: Row) -> Result<Entry> {
    let kv = KeyValue {
        key: Bytes::from(row.take::<Vec<u8>>(2)?),
        create_revision: row.get(4)?,
        mod_revision: row.get(0)?,
        version: row.get(5)?,
        lease: row.get(6)?,
        value: Bytes::from(row.take::<Vec<u8>>(8)?),
    };
    Ok(Entry { kv: Arc::new(kv), is_delete: row.get(3)?, previous: row.get(7)?, sub: row.get(1)? })
}

const LOG: &str = "SELECT revision, sub, key, is_delete, create_revision, version, lease, previous, value FROM coordination_log \
                   WHERE project = $1 AND revision >= $2 AND (revision > $2 OR sub > $3) AND revision <= $4 ORDER BY revision, sub LIMIT $5";

/// The rows after `(revision, sub)` up to the revision `to`, in order: a page, and none when there are no more.
pub(crate) async fn log_in(tx: &mut Tx<'_>, project: &ProjectId, after: (i64, i64), to: i64) -> Result<Vec<Entry>> {
    tx.query(LOG, params![project, after.0, after.1, to, PAGE]).await?.into_iter().map(entry).collect()
}

/// The same of what is committed.
pub(crate) async fn log(db: &Db, project: &ProjectId, after: (i64, i64), to: i64) -> Result<Vec<Entry>> {
    db.query(LOG, params![project, after.0, after.1, to, PAGE]).await?.into_iter().map(entry).collect()
}

/// The rows of one key at one revision; what a watcher gives as the value before.
pub(crate) async fn at(db: &Db, project: &ProjectId, key: &[u8], revision: i64) -> Result<Option<Arc<KeyValue>>> {
    let sql = "SELECT revision, sub, key, is_delete, create_revision, version, lease, previous, value FROM coordination_log \
               WHERE project = $1 AND key = $2 AND revision = $3";
    db.get(sql, params![project, key, revision]).await?.map(|row| entry(row).map(|e| e.kv)).transpose()
}

/// The keys of a range after `after` as they were at a revision, in their order: a page, and none when there are no more.
pub(crate) async fn past(
    db: &Db,
    project: &ProjectId,
    keys: &KeyRange,
    after: Option<&Bytes>,
    revision: i64,
) -> Result<Vec<Arc<KeyValue>>> {
    let sql = "SELECT l.revision, l.sub, l.key, l.is_delete, l.create_revision, l.version, l.lease, l.previous, l.value FROM coordination_log l \
               WHERE l.project = $1 AND l.key >= $2 AND (CAST($3 AS BYTEA) IS NULL OR l.key < $3) AND l.key <> $4 AND l.revision <= $5 AND l.is_delete = FALSE \
               AND NOT EXISTS (SELECT 1 FROM coordination_log n WHERE n.project = $1 AND n.key = l.key AND n.revision > l.revision AND n.revision <= $5) \
               ORDER BY l.key LIMIT $6";
    let (from, to) = keys.bounds();
    // No key is empty: nothing is left out when nothing came before.
    let (from, last) = after.map_or((from, Bytes::new()), |after| (after.clone(), after.clone()));
    let rows = db.query(sql, params![project, from, to, last, revision, PAGE]).await?;
    rows.into_iter().map(|row| entry(row).map(|e| e.kv)).collect()
}

/// Writes the changes of one revision.
pub(crate) async fn append(tx: &mut Tx<'_>, project: &ProjectId, changes: &[(i64, Vec<Event>)]) -> Result<()> {
    let sql = "INSERT INTO coordination_log (project, revision, sub, key, is_delete, create_revision, version, lease, previous, value) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let mut rows = Vec::new();
    for (revision, events) in changes {
        for (sub, event) in events.iter().enumerate() {
            let (kv, previous) = (&event.kv, event.previous.as_ref().map_or(0, |kv| kv.mod_revision));
            let sub = i64::try_from(sub).unwrap_or(i64::MAX);
            rows.push(params![
                project,
                *revision,
                sub,
                kv.key.clone(),
                event.is_delete,
                kv.create_revision,
                kv.version,
                kv.lease,
                previous,
                kv.value.clone()
            ]);
            if rows.len() >= WRITE_ROWS {
                tx.exec_many(sql, std::mem::take(&mut rows)).await?;
            }
        }
    }
    tx.exec_many(sql, rows).await.map(drop)
}

fn lease(row: &Row) -> Result<StoredLease> {
    Ok(StoredLease { id: row.get(0)?, ttl_seconds: row.get(1)?, expires_at: Timestamp::from_millis(row.get(2)?) })
}

pub(crate) async fn lease_in(tx: &mut Tx<'_>, project: &ProjectId, id: i64) -> Result<Option<StoredLease>> {
    let sql = "SELECT id, ttl_seconds, expires_at FROM coordination_leases WHERE project = $1 AND id = $2";
    tx.get(sql, params![project, id]).await?.map(|row| lease(&row)).transpose()
}

pub(crate) async fn get_lease(db: &Db, project: &ProjectId, id: i64) -> Result<Option<StoredLease>> {
    let sql = "SELECT id, ttl_seconds, expires_at FROM coordination_leases WHERE project = $1 AND id = $2";
    db.get(sql, params![project, id]).await?.map(|row| lease(&row)).transpose()
}

/// The leases after an id, in their order.
pub(crate) async fn leases(db: &Db, project: &ProjectId, after: i64, limit: u32) -> Result<Vec<StoredLease>> {
    let sql = "SELECT id, ttl_seconds, expires_at FROM coordination_leases WHERE project = $1 AND id > $2 ORDER BY id LIMIT $3";
    db.query(sql, params![project, after, limit]).await?.iter().map(lease).collect()
}

/// Leases that ran out, longest ago first.
pub(crate) async fn run_out(db: &Db, now: Timestamp, limit: u32) -> Result<Vec<(ProjectId, i64)>> {
    let sql = "SELECT project, id FROM coordination_leases WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";
    let rows = db.query(sql, params![now, limit]).await?;
    rows.iter()
        .map(|row| {
            let project = ProjectId::parse(&row.get::<String>(0)?);
            Ok((project.ok_or_else(|| Error::Decode("not a project".to_owned()))?, row.get(1)?))
        })
        .collect()
}

/// Makes leases, or moves their ends.
pub(crate) async fn save_leases(tx: &mut Tx<'_>, project: &ProjectId, leases: &[StoredLease]) -> Result<()> {
    let sql = "INSERT INTO coordination_leases (project, id, ttl_seconds, expires_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (project, id) DO UPDATE SET expires_at = excluded.expires_at";
    let rows = leases.iter().map(|l| params![project, l.id, l.ttl_seconds, l.expires_at]).collect();
    tx.exec_many(sql, rows).await.map(drop)
}

pub(crate) async fn remove_leases(tx: &mut Tx<'_>, project: &ProjectId, ids: &[i64]) -> Result<()> {
    let sql = "DELETE FROM coordination_leases WHERE project = $1 AND id = $2";
    tx.exec_many(sql, ids.iter().map(|id| params![project, *id]).collect()).await.map(drop)
}

/// Projects that have history to give up.
pub(crate) async fn unswept(db: &Db, limit: u32) -> Result<Vec<ProjectId>> {
    let sql = "SELECT project FROM coordination_heads WHERE swept < compacted ORDER BY project LIMIT $1";
    let rows = db.query(sql, params![limit]).await?;
    rows.iter()
        .map(|row| ProjectId::parse(&row.get::<String>(0)?).ok_or_else(|| Error::Decode("not a project".to_owned())))
        .collect()
}

/// Rows looked at in one step: more than two transactions can put.
const SWEEP_ROWS: u32 = 2500;

/// One step of giving history up: what the next rows supersede goes, and they too if they say that a key went; deletions of the
/// compacted revision itself stay, since watchers may begin there. Whether there is more.
///
/// It takes the lock that writers take, for a bounded number of rows.
pub(crate) async fn sweep(tx: &mut Tx<'_>, project: &ProjectId) -> Result<bool> {
    let head = lock_head(tx, project).await?;
    if head.swept >= head.compacted {
        return Ok(false);
    }
    let sql = "SELECT revision, sub, key, is_delete, previous FROM coordination_log \
               WHERE project = $1 AND revision >= $2 AND revision <= $3 ORDER BY revision, sub LIMIT $4";
    let rows = tx.query(sql, params![project, head.swept, head.compacted, SWEEP_ROWS]).await?;
    let is_last = rows.len() < SWEEP_ROWS as usize;
    let mut superseded = Vec::new();
    let mut deletions = Vec::new();
    let mut last = head.swept;
    for mut row in rows {
        let (revision, sub): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (is_delete, previous): (bool, i64) = (row.get(3)?, row.get(4)?);
        let key: Vec<u8> = row.take(2)?;
        last = revision;
        if previous > 0 {
            superseded.push(params![project, key, previous]);
        }
        if is_delete && revision < head.compacted {
            deletions.push(params![project, revision, sub]);
        }
    }
    tx.exec_many("DELETE FROM coordination_log WHERE project = $1 AND key = $2 AND revision = $3", superseded).await?;
    tx.exec_many("DELETE FROM coordination_log WHERE project = $1 AND revision = $2 AND sub = $3", deletions).await?;
    // The last revision may have more rows than were read: it is looked at again. A page that holds one or two revisions has deletions
    // in it (no transaction puts so many keys), and these are gone now.
    let swept = if is_last { head.compacted } else { last - 1 };
    set_head(tx, project, Head { swept, ..head }).await?;
    Ok(!is_last)
}
