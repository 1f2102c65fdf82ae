//! The only file that holds SQL.

use database::{Db, Error, Migration, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use crate::{
    model::RuleSpec,
    service::{Version, Written},
};

/// The room's numbered steps.
pub static MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "limiter", sql: include_str!("../migrations/0001_limiter.sql") }];

/// What watchers hear of when rules change.
pub(crate) const TOPIC: &str = "limiter_rules";

/// The rules of a domain that a node does not have yet.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) project: ProjectId,
    pub(crate) domain: String,
    pub(crate) version: i64,
    pub(crate) revision: i64,
    pub(crate) rules: Vec<RuleSpec>,
}

/// A version with its rules.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: Version,
    pub(crate) rules: Vec<RuleSpec>,
}

/// What a project has beside one of its domains.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Others {
    pub(crate) domains: i64,
    pub(crate) rules: i64,
    pub(crate) bytes: i64,
}

fn rules(text: &str) -> Result<Vec<RuleSpec>> {
    serde_json::from_str(text).map_err(|e| Error::Decode(format!("not rules: {e}")))
}

fn project(row: &Row, column: usize) -> Result<ProjectId> {
    ProjectId::parse(&row.get::<String>(column)?).ok_or_else(|| Error::Decode("not a project".to_owned()))
}

/// The revision of the last change; 0 when there was none.
pub(crate) async fn revision(db: &Db) -> Result<i64> {
    let row = db.get("SELECT revision FROM limiter_revision WHERE name = 'rules'", params![]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Rules that changed after a revision, in the order of the changes.
pub(crate) async fn changed_since(db: &Db, revision: i64, limit: u32) -> Result<Vec<Changed>> {
    let sql = "SELECT s.project, s.domain, s.version, s.revision, v.rules FROM limiter_rule_sets s \
               JOIN limiter_versions v ON v.project = s.project AND v.domain = s.domain AND v.version = s.version \
               WHERE s.revision > $1 ORDER BY s.revision LIMIT $2";
    let rows = db.query(sql, params![revision, limit]).await?;
    let read = |row: &Row| {
        Ok(Changed {
            project: project(row, 0)?,
            domain: row.get(1)?,
            version: row.get(2)?,
            revision: row.get(3)?,
            rules: rules(&row.get::<String>(4)?)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Takes the next revision. Until the transaction ends no other takes one: changes are seen in the order of their revisions.
pub(crate) async fn next_revision(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = "INSERT INTO limiter_revision (name, revision) VALUES ('rules', 1) \
               ON CONFLICT (name) DO UPDATE SET revision = limiter_revision.revision + 1 RETURNING revision";
    let rows = tx.exec_returning(sql, params![]).await?;
    rows.first().map_or_else(|| Err(Error::Decode("no revision".to_owned())), |row| row.get(0))
}

/// The version that holds; `None` when the domain never had rules.
pub(crate) async fn head(tx: &mut Tx<'_>, project: &ProjectId, domain: &str) -> Result<Option<i64>> {
    let sql = "SELECT version FROM limiter_rule_sets WHERE project = $1 AND domain = $2";
    tx.get(sql, params![project, domain]).await?.map(|row| row.get(0)).transpose()
}

/// What a project has beside one domain.
pub(crate) async fn others(tx: &mut Tx<'_>, project: &ProjectId, domain: &str) -> Result<Others> {
    let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(rule_count), 0) AS BIGINT), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) \
               FROM limiter_rule_sets WHERE project = $1 AND domain <> $2";
    let Some(row) = tx.get(sql, params![project, domain]).await? else { return Ok(Others::default()) };
    Ok(Others { domains: row.get(0)?, rules: row.get(1)?, bytes: row.get(2)? })
}

/// Adds a version and makes it the one that holds.
pub(crate) async fn put(
    tx: &mut Tx<'_>,
    (project, domain): (&ProjectId, &str),
    revision: i64,
    text: &str,
    version: &Version,
) -> Result<()> {
    let Version { version, rule_count, written } = version;
    let sql = "INSERT INTO limiter_versions \
               (project, domain, version, rules, rule_count, message, written_at, written_by, rolled_back_to) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let values = params![
        project,
        domain,
        *version,
        text,
        *rule_count,
        &written.message,
        written.at,
        &written.by,
        written.rolled_back_to
    ];
    tx.exec(sql, values).await?;
    let sql = "INSERT INTO limiter_rule_sets (project, domain, version, revision, rule_count, bytes) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project, domain) DO UPDATE SET version = excluded.version, \
               revision = excluded.revision, rule_count = excluded.rule_count, bytes = excluded.bytes";
    let bytes = i64::try_from(text.len()).unwrap_or(i64::MAX);
    tx.exec(sql, params![project, domain, *version, revision, *rule_count, bytes]).await.map(drop)
}

/// Deletes up to `limit` versions of a domain that are older than `version`.
pub(crate) async fn delete_older(
    tx: &mut Tx<'_>,
    (project, domain): (&ProjectId, &str),
    version: i64,
    limit: u32,
) -> Result<()> {
    let sql = "DELETE FROM limiter_versions WHERE project = $1 AND domain = $2 AND version IN \
               (SELECT v.version FROM limiter_versions v WHERE v.project = $1 AND v.domain = $2 AND v.version < $3 \
               ORDER BY v.version LIMIT $4)";
    tx.exec(sql, params![project, domain, version, limit]).await.map(drop)
}

macro_rules! version_columns {
    () => {
        "version, rule_count, message, written_at, written_by, rolled_back_to"
    };
}

fn version_of(row: &Row) -> Result<Version> {
    Ok(Version {
        version: row.get(0)?,
        rule_count: u32::try_from(row.get::<i64>(1)?).unwrap_or(u32::MAX),
        written: Written {
            message: row.get(2)?,
            at: Timestamp::from_millis(row.get(3)?),
            by: row.get(4)?,
            rolled_back_to: row.get(5)?,
        },
    })
}

/// Versions of a domain, the newest first, from before `before`.
pub(crate) async fn versions(
    db: &Db,
    project: &ProjectId,
    domain: &str,
    before: i64,
    limit: u32,
) -> Result<Vec<Version>> {
    let sql = concat!(
        "SELECT ",
        version_columns!(),
        " FROM limiter_versions WHERE project = $1 AND domain = $2 AND version < $3 ORDER BY version DESC LIMIT $4"
    );
    db.query(sql, params![project, domain, before, limit]).await?.iter().map(version_of).collect()
}

/// One version with its rules.
pub(crate) async fn version(db: &Db, project: &ProjectId, domain: &str, version: i64) -> Result<Option<Stored>> {
    let sql = concat!(
        "SELECT ",
        version_columns!(),
        ", rules FROM limiter_versions WHERE project = $1 AND domain = $2 AND version = $3"
    );
    let Some(row) = db.get(sql, params![project, domain, version]).await? else { return Ok(None) };
    Ok(Some(Stored { version: version_of(&row)?, rules: rules(&row.get::<String>(6)?)? }))
}

/// The text of one version's rules, inside of a transaction.
pub(crate) async fn version_text(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    domain: &str,
    version: i64,
) -> Result<Option<(String, u32)>> {
    let sql = "SELECT rules, rule_count FROM limiter_versions WHERE project = $1 AND domain = $2 AND version = $3";
    let Some(row) = tx.get(sql, params![project, domain, version]).await? else { return Ok(None) };
    Ok(Some((row.get(0)?, u32::try_from(row.get::<i64>(1)?).unwrap_or(u32::MAX))))
}
