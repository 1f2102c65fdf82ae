//! The only file that holds SQL.

pub(crate) mod acme;

use database::{Db, Migration, Result, Row, Tx, params};
use kernel::Timestamp;

use crate::service::{Version, Written};

/// The room's numbered steps.
pub static MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "gateway", sql: include_str!("../migrations/0001_gateway.sql") },
    Migration { version: 2, name: "certificates", sql: include_str!("../migrations/0002_certificates.sql") },
];

/// What watchers hear of when the document changes.
pub(crate) const TOPIC: &str = "gateway_config";

/// A version with its document, as JSON.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: Version,
    pub(crate) document: String,
}

macro_rules! columns {
    () => {
        "version, route_count, upstream_count, message, written_at, written_by, rolled_back_to"
    };
}

fn version_of(row: &Row) -> Result<Version> {
    let count = |column| Ok::<_, database::Error>(u32::try_from(row.get::<i64>(column)?).unwrap_or(u32::MAX));
    Ok(Version {
        version: row.get(0)?,
        route_count: count(1)?,
        upstream_count: count(2)?,
        written: Written {
            message: row.get(3)?,
            at: Timestamp::from_millis(row.get(4)?),
            by: row.get(5)?,
            rolled_back_to: row.get(6)?,
        },
    })
}

/// The version that holds; 0 when there never was one.
pub(crate) async fn head(db: &Db) -> Result<i64> {
    let row = db.get("SELECT version FROM gateway_config WHERE name = 'document'", params![]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Takes the next version. Until the transaction ends no other takes one, so what was judged is what is replaced.
pub(crate) async fn next(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = "INSERT INTO gateway_config (name, version) VALUES ('document', 1) \
               ON CONFLICT (name) DO UPDATE SET version = gateway_config.version + 1 RETURNING version";
    let rows = tx.exec_returning(sql, params![]).await?;
    rows.first().map_or_else(|| Err(database::Error::Decode("no version".to_owned())), |row| row.get(0))
}

/// Adds a version.
pub(crate) async fn insert(tx: &mut Tx<'_>, version: &Version, document: &str) -> Result<()> {
    let Version { version, route_count, upstream_count, written } = version;
    let sql = "INSERT INTO gateway_versions \
               (version, document, route_count, upstream_count, message, written_at, written_by, rolled_back_to) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = params![
        *version,
        document,
        *route_count,
        *upstream_count,
        &written.message,
        written.at,
        &written.by,
        written.rolled_back_to
    ];
    tx.exec(sql, values).await.map(drop)
}

/// Deletes up to `limit` versions older than `version`.
pub(crate) async fn delete_older(tx: &mut Tx<'_>, version: i64, limit: u32) -> Result<()> {
    let sql = "DELETE FROM gateway_versions WHERE version IN \
               (SELECT v.version FROM gateway_versions v WHERE v.version < $1 ORDER BY v.version LIMIT $2)";
    tx.exec(sql, params![version, limit]).await.map(drop)
}

/// Versions, the newest first, from before `before`.
pub(crate) async fn versions(db: &Db, before: i64, limit: u32) -> Result<Vec<Version>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM gateway_versions WHERE version < $1 ORDER BY version DESC LIMIT $2");
    db.query(sql, params![before, limit]).await?.iter().map(version_of).collect()
}

/// One version with its document.
pub(crate) async fn version(db: &Db, version: i64) -> Result<Option<Stored>> {
    let sql = concat!("SELECT ", columns!(), ", document FROM gateway_versions WHERE version = $1");
    let Some(row) = db.get(sql, params![version]).await? else { return Ok(None) };
    Ok(Some(Stored { version: version_of(&row)?, document: row.get(7)? }))
}

/// An endpoint that takes no requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// The upstream.
    pub upstream: String,
    /// The endpoint's address.
    pub endpoint: String,
    /// Since when.
    pub at: Timestamp,
    /// The name of the key that did it.
    pub by: String,
}

/// Every drained endpoint, up to `limit`.
pub(crate) async fn drains(db: &Db, limit: u32) -> Result<Vec<Drain>> {
    let sql =
        "SELECT upstream, endpoint, drained_at, drained_by FROM gateway_drains ORDER BY upstream, endpoint LIMIT $1";
    let drain = |row: &Row| {
        Ok(Drain {
            upstream: row.get(0)?,
            endpoint: row.get(1)?,
            at: Timestamp::from_millis(row.get(2)?),
            by: row.get(3)?,
        })
    };
    db.query(sql, params![limit]).await?.iter().map(drain).collect()
}

/// How many there are.
pub(crate) async fn drain_count(tx: &mut Tx<'_>) -> Result<i64> {
    let row = tx.get("SELECT COUNT(*) FROM gateway_drains", params![]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Drains an endpoint; one that is stays as it is.
pub(crate) async fn drain(tx: &mut Tx<'_>, drain: &Drain) -> Result<()> {
    let sql = "INSERT INTO gateway_drains (upstream, endpoint, drained_at, drained_by) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (upstream, endpoint) DO NOTHING";
    tx.exec(sql, params![&drain.upstream, &drain.endpoint, drain.at, &drain.by]).await.map(|_| ())
}

/// Gives requests back to an endpoint.
pub(crate) async fn undrain(tx: &mut Tx<'_>, upstream: &str, endpoint: &str) -> Result<()> {
    let sql = "DELETE FROM gateway_drains WHERE upstream = $1 AND endpoint = $2";
    tx.exec(sql, params![upstream, endpoint]).await.map(drop)
}
