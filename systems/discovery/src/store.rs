//! The only file that holds SQL.

use database::{Db, Error, Migration, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use crate::model::{Instance, InstanceSpec, State};

/// The room's numbered steps.
pub static MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "discovery", sql: include_str!("../migrations/0001_discovery.sql") }];

/// What watchers hear of when an instance changes.
pub(crate) const TOPIC: &str = "discovery";

/// A row: an instance, or that it left.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) instance: Instance,
    pub(crate) is_gone: bool,
}

/// A node that runs, or ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) beat: i64,
    pub(crate) is_blind: bool,
}

macro_rules! columns {
    () => {
        "project, id, spec, state, is_gone, created, revision, changed_at"
    };
}

fn changed(row: &Row) -> Result<Changed> {
    let wrong = |what: &str| Error::Decode(format!("not {what}"));
    let instance = Instance {
        project: ProjectId::parse(&row.get::<String>(0)?).ok_or_else(|| wrong("a project"))?,
        id: row.get(1)?,
        spec: serde_json::from_str::<InstanceSpec>(&row.get::<String>(2)?).map_err(|_| wrong("an instance"))?,
        state: serde_json::from_str::<State>(&row.get::<String>(3)?).map_err(|_| wrong("a state"))?,
        created: row.get(5)?,
        revision: row.get(6)?,
        changed_at: Timestamp::from_millis(row.get(7)?),
    };
    Ok(Changed { instance, is_gone: row.get(4)? })
}

/// The revision of the last change, and up to which changes have been forgotten.
pub(crate) async fn revision(db: &Db) -> Result<(i64, i64)> {
    let row = db.get("SELECT revision, forgotten FROM discovery_revision WHERE name = 'instances'", params![]).await?;
    row.map_or(Ok((0, 0)), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// What changed after a revision, in the order of the changes.
pub(crate) async fn changed_since(db: &Db, revision: i64, limit: u32) -> Result<Vec<Changed>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM discovery_instances WHERE revision > $1 ORDER BY revision LIMIT $2");
    db.query(sql, params![revision, limit]).await?.iter().map(changed).collect()
}

/// Takes the next revision. Until the transaction ends no other takes one: changes are seen in the order of their revisions.
pub(crate) async fn next_revision(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = "INSERT INTO discovery_revision (name, revision, forgotten) VALUES ('instances', 1, 0) \
               ON CONFLICT (name) DO UPDATE SET revision = discovery_revision.revision + 1 RETURNING revision";
    let rows = tx.exec_returning(sql, params![]).await?;
    rows.first().map_or_else(|| Err(Error::Decode("no revision".to_owned())), |row| row.get(0))
}

/// An instance as it is now, one that left as well.
pub(crate) async fn load(tx: &mut Tx<'_>, project: &ProjectId, id: &str) -> Result<Option<Changed>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM discovery_instances WHERE project = $1 AND id = $2 /*pg FOR UPDATE */");
    tx.get(sql, params![project, id]).await?.as_ref().map(changed).transpose()
}

/// The same outside of a transaction; `None` when it left.
pub(crate) async fn read(db: &Db, project: &ProjectId, id: &str) -> Result<Option<Instance>> {
    let sql = concat!("SELECT ", columns!(), " FROM discovery_instances WHERE project = $1 AND id = $2");
    let found = db.get(sql, params![project, id]).await?.as_ref().map(changed).transpose()?;
    Ok(found.filter(|one| !one.is_gone).map(|one| one.instance))
}

/// Whether a project has at least `most` instances.
pub(crate) async fn is_full(tx: &mut Tx<'_>, project: &ProjectId, most: u32) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM (SELECT 1 AS one FROM discovery_instances \
               WHERE project = $1 AND NOT is_gone LIMIT $2) AS counted";
    let row = tx.get(sql, params![project, most]).await?;
    Ok(row.map_or(Ok(0), |row| row.get::<i64>(0))? >= i64::from(most))
}

/// Writes an instance, or that it left.
pub(crate) async fn put(tx: &mut Tx<'_>, one: &Instance, is_gone: bool) -> Result<()> {
    let text = |value: serde_json::Result<String>| value.map_err(|e| Error::Decode(e.to_string()));
    let (spec, state) = (text(serde_json::to_string(&one.spec))?, text(serde_json::to_string(&one.state))?);
    let sql = "INSERT INTO discovery_instances (project, id, spec, state, is_gone, created, revision, changed_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (project, id) DO UPDATE SET spec = excluded.spec, \
               state = excluded.state, is_gone = excluded.is_gone, created = excluded.created, \
               revision = excluded.revision, changed_at = excluded.changed_at";
    let values = params![&one.project, &one.id, spec, state, is_gone, one.created, one.revision, one.changed_at];
    tx.exec(sql, values).await.map(drop)
}

/// Forgets up to `limit` instances that left before a time; how many it did. Nodes that had not heard of them read everything anew.
pub(crate) async fn forget(tx: &mut Tx<'_>, before: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM discovery_instances WHERE (project, id) IN (SELECT g.project, g.id FROM discovery_instances g \
               WHERE g.is_gone AND g.changed_at < $1 ORDER BY g.changed_at LIMIT $2) RETURNING revision";
    let rows = tx.exec_returning(sql, params![before, limit]).await?;
    let revisions = rows.iter().map(|row| row.get::<i64>(0)).collect::<Result<Vec<_>>>()?;
    let Some(last) = revisions.iter().max() else { return Ok(0) };
    let sql = "UPDATE discovery_revision SET forgotten = $1 WHERE name = 'instances' AND forgotten < $1";
    tx.exec(sql, params![*last]).await?;
    Ok(revisions.len() as u64)
}

/// Says that a node runs.
pub(crate) async fn beat(db: &Db, node: &str, name: &str, is_blind: bool) -> Result<()> {
    let sql = "INSERT INTO discovery_nodes (node, name, beat, is_blind) VALUES ($1, $2, 1, $3) \
               ON CONFLICT (node) DO UPDATE SET beat = discovery_nodes.beat + 1, is_blind = excluded.is_blind";
    db.exec(sql, params![node, name, is_blind]).await.map(drop)
}

/// The nodes that run, or ran.
pub(crate) async fn nodes(db: &Db, limit: u32) -> Result<Vec<NodeRow>> {
    let sql = "SELECT node, name, beat, is_blind FROM discovery_nodes ORDER BY node LIMIT $1";
    let read =
        |row: &Row| Ok(NodeRow { node: row.get(0)?, name: row.get(1)?, beat: row.get(2)?, is_blind: row.get(3)? });
    db.query(sql, params![limit]).await?.iter().map(read).collect()
}

/// Deletes a node that ran, unless it said something since.
pub(crate) async fn delete_node(db: &Db, node: &str, beat: i64) -> Result<()> {
    db.exec("DELETE FROM discovery_nodes WHERE node = $1 AND beat = $2", params![node, beat]).await.map(drop)
}
