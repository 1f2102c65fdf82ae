//! Numbered steps per system, each in a transaction of its own, each applied once.

use std::collections::BTreeMap;

use crate::{Db, Error, Result, Tx, params};

/// One step of a system's schema. Once released, its text never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// 1, 2, 3, … without gaps.
    pub version: u32,
    /// What it does, in a few words, for messages.
    pub name: &'static str,
    /// The statements, in the subset that both engines share (see the README).
    pub sql: &'static str,
}

impl Migration {
    /// SHA-256 of the text, in hexadecimal.
    pub fn checksum(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.sql.as_bytes());
        hex(digest.as_ref())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(DIGITS[usize::from(n)])).collect()
}

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS _migrations (
    system TEXT NOT NULL,
    version BIGINT NOT NULL,
    checksum TEXT NOT NULL,
    PRIMARY KEY (system, version)
)";
pub(crate) const APPLIED: &str = "SELECT version, checksum FROM _migrations WHERE system = $1 ORDER BY version";
pub(crate) const RECORD: &str = "INSERT INTO _migrations (system, version, checksum) VALUES ($1, $2, $3)";

/// The steps that are missing, after every check that can be made before anything is done.
pub(crate) fn missing(
    system: &str,
    migrations: &'static [Migration],
    applied: &BTreeMap<u32, String>,
) -> Result<Vec<&'static Migration>> {
    for (index, step) in migrations.iter().enumerate() {
        if step.version as usize != index + 1 {
            return Err(Error::Migration(format!(
                "the migrations of {system} are not numbered 1, 2, 3, …: found {} in place {}",
                step.version,
                index + 1
            )));
        }
    }
    let known = migrations.len();
    if let Some((newest, _)) = applied.last_key_value()
        && *newest as usize > known
    {
        return Err(Error::Migration(format!(
            "the database is newer than this binary: {system} is at migration {newest}, this binary knows {known}; \
             start the newer binary, or restore a backup from before the upgrade"
        )));
    }
    let mut missing = Vec::new();
    for step in migrations {
        match applied.get(&step.version) {
            Some(checksum) if *checksum == step.checksum() => {}
            Some(_) => {
                return Err(Error::Migration(format!(
                    "migration {} of {system} ({}) was changed after it had been applied to this database; \
                     add a new migration instead",
                    step.version, step.name
                )));
            }
            None => missing.push(step),
        }
    }
    if let (Some(first), Some((newest, _))) = (missing.first(), applied.last_key_value())
        && first.version < *newest
    {
        return Err(Error::Migration(format!(
            "migration {} of {system} was never applied, but {newest} was: the table _migrations was altered",
            first.version
        )));
    }
    Ok(missing)
}

pub(crate) fn applied_map(rows: &[crate::Row]) -> Result<BTreeMap<u32, String>> {
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// One node at a time; released at the end of its transaction, so it holds behind PgBouncer too.
const LOCK: &str = "/*pg SELECT pg_advisory_xact_lock(5570193308342063) */";

/// Applies what is missing, each step in a transaction of its own.
pub(crate) async fn migrate(db: &Db, system: &'static str, migrations: &'static [Migration]) -> Result<()> {
    loop {
        let applied = db.tx(async move |tx| step(tx, system, migrations).await).await?;
        match applied {
            Some(step) => tracing::info!(system, version = step.version, name = step.name, "migration applied"),
            None => return Ok(()),
        }
    }
}

/// Applies the first step that is missing; `None` when there is none.
async fn step(
    tx: &mut Tx<'_>,
    system: &'static str,
    migrations: &'static [Migration],
) -> Result<Option<&'static Migration>> {
    tx.batch(LOCK).await?;
    tx.batch(TABLE).await?;
    let applied = applied_map(&tx.query(APPLIED, params![system]).await?)?;
    let Some(step) = missing(system, migrations, &applied)?.first().copied() else { return Ok(None) };
    tx.batch(step.sql).await.map_err(|e| failed(system, step, &e))?;
    tx.exec(RECORD, params![system, step.version, step.checksum()]).await?;
    Ok(Some(step))
}

/// What a step that failed is reported as.
pub(crate) fn failed(system: &str, step: &Migration, e: &Error) -> Error {
    match e {
        Error::Other(_) | Error::Unique | Error::Check | Error::ForeignKey => {
            Error::Migration(format!("migration {} of {system} ({}) failed: {e}", step.version, step.name))
        }
        e => e.clone(),
    }
}
