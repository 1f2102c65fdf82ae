//! Imports: their rows, what waits in chunks, and why rows were left out.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use super::big;
use crate::model::{
    import::{Import, ImportId, ImportState, RowError},
    transfer::Format,
};

/// Wakes the workers of every node.
pub(crate) const TOPIC: &str = "shortener.imports";

macro_rules! import_columns {
    () => {
        "id, project, format, host, state, rows_total, rows_created, rows_failed, created_at, created_by, started_at, \
         finished_at"
    };
}

fn decode(what: &str) -> Error {
    Error::Decode(format!("not {what}"))
}

fn read_import(row: &Row) -> Result<Import> {
    let (id, format, state): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(4)?);
    Ok(Import {
        id: ImportId::parse(&id).ok_or_else(|| decode("the id of an import"))?,
        project: row.get(1)?,
        format: Format::parse(&format).ok_or_else(|| decode("a format"))?,
        host: row.get(3)?,
        state: ImportState::parse(&state).ok_or_else(|| decode("a state"))?,
        row_count: row.get(5)?,
        created_count: row.get(6)?,
        failed_count: row.get(7)?,
        created_at: row.get(8)?,
        created_by: row.get(9)?,
        started_at: row.get(10)?,
        finished_at: row.get(11)?,
    })
}

/// How many imports of a project are under way; counts no further than `limit`.
pub(crate) async fn live_import_count(tx: &mut Tx<'_>, project: &ProjectId, limit: u32) -> Result<u64> {
    let row = tx
        .get(
            "SELECT COUNT(*) FROM (SELECT id FROM shortener_imports WHERE is_spooled = TRUE AND project = $1 \
             AND state IN ('receiving', 'queued', 'running') LIMIT $2) live",
            params![project, limit],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// An import that was asked for under a token before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EarlierImport {
    pub(crate) import: Import,
    pub(crate) digest: Option<String>,
    pub(crate) held_until: Timestamp,
}

/// The import of a token.
pub(crate) async fn import_of_token(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    token: &str,
) -> Result<Option<EarlierImport>> {
    let row = tx
        .get(
            concat!(
                "SELECT ",
                import_columns!(),
                ", digest, held_until FROM shortener_imports WHERE project = $1 AND token = $2 /*pg FOR UPDATE */"
            ),
            params![project, token],
        )
        .await?;
    row.map(|row| Ok(EarlierImport { import: read_import(&row)?, digest: row.get(12)?, held_until: row.get(13)? }))
        .transpose()
}

/// Adds an import whose file begins to arrive; `false` when its token came in between.
pub(crate) async fn insert_import(
    tx: &mut Tx<'_>,
    import: &Import,
    token: Option<&str>,
    held_until: Timestamp,
) -> Result<bool> {
    let count = tx
        .exec(
            "INSERT INTO shortener_imports (id, project, format, host, state, is_spooled, token, rows_total, \
             rows_created, rows_failed, created_at, created_by, worked_at, held_until) \
             VALUES ($1, $2, $3, $4, $5, TRUE, $6, 0, 0, 0, $7, $8, $7, $9) ON CONFLICT DO NOTHING",
            params![
                import.id.to_string(),
                &import.project,
                import.format.as_str(),
                import.host.as_deref(),
                import.state.as_str(),
                token,
                import.created_at,
                &import.created_by,
                held_until
            ],
        )
        .await?;
    Ok(count == 1)
}

/// Keeps a piece of a file that arrives; `false` when the import does not wait for it any more.
pub(crate) async fn add_chunk(
    tx: &mut Tx<'_>,
    import: ImportId,
    seq: u64,
    content: &str,
    held_until: Timestamp,
) -> Result<bool> {
    let count = tx
        .exec(
            "UPDATE shortener_imports SET held_until = $2 WHERE id = $1 AND state = 'receiving'",
            params![import.to_string(), held_until],
        )
        .await?;
    if count == 0 {
        return Ok(false);
    }
    tx.exec(
        "INSERT INTO shortener_import_chunks (import_id, seq, content) VALUES ($1, $2, $3)",
        params![import.to_string(), big(seq), content],
    )
    .await?;
    Ok(true)
}

/// The file is there whole; `false` when the import does not wait for it any more.
pub(crate) async fn queue_import(
    tx: &mut Tx<'_>,
    import: ImportId,
    row_count: u64,
    digest: &str,
    now: Timestamp,
) -> Result<bool> {
    let count = tx
        .exec(
            "UPDATE shortener_imports SET state = 'queued', rows_total = $2, digest = $3, worked_at = $4, held_until = 0 \
             WHERE id = $1 AND state = 'receiving'",
            params![import.to_string(), big(row_count), digest, now],
        )
        .await?;
    tx.notify(TOPIC, 0);
    Ok(count == 1)
}

/// Gives up an import whose file did not arrive whole, and frees its token.
pub(crate) async fn discard_import(tx: &mut Tx<'_>, import: ImportId, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE shortener_imports SET state = 'discarded', token = NULL, worked_at = $2, held_until = 0 \
         WHERE id = $1 AND state = 'receiving'",
        params![import.to_string(), now],
    )
    .await?;
    tx.notify(TOPIC, 0);
    Ok(())
}

/// An import of a project.
pub(crate) async fn project_import(db: &Db, project: &ProjectId, import: ImportId) -> Result<Option<Import>> {
    let row = db
        .get(
            concat!(
                "SELECT ",
                import_columns!(),
                " FROM shortener_imports WHERE id = $2 AND project = $1 AND state <> 'discarded'"
            ),
            params![project, import.to_string()],
        )
        .await?;
    row.as_ref().map(read_import).transpose()
}

/// Imports of a project, newest first, strictly after `after`.
pub(crate) async fn project_imports(
    db: &Db,
    project: &ProjectId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Import>> {
    // `~` sorts after every id.
    let rows = db
        .query(
            concat!(
                "SELECT ",
                import_columns!(),
                " FROM shortener_imports WHERE project = $1 AND id < $2 AND state <> 'discarded' ORDER BY id DESC LIMIT $3"
            ),
            params![project, after.unwrap_or("~"), limit],
        )
        .await?;
    rows.iter().map(read_import).collect()
}

/// Why rows of an import were left out, in the order of the file, after row `after`.
pub(crate) async fn import_errors(db: &Db, import: ImportId, after: u64, limit: u32) -> Result<Vec<RowError>> {
    let rows = db
        .query(
            "SELECT number, name, code, detail FROM shortener_import_errors \
             WHERE import_id = $1 AND number > $2 ORDER BY number LIMIT $3",
            params![import.to_string(), big(after), limit],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(RowError { number: row.get(0)?, name: row.get(1)?, code: row.get(2)?, detail: row.get(3)? }))
        .collect()
}

/// Stops an import that is not over; gives it as it then is, and whether this stopped it.
pub(crate) async fn cancel_import(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    import: ImportId,
    now: Timestamp,
) -> Result<Option<(Import, bool)>> {
    let Some(row) = tx
        .get(
            concat!(
                "SELECT ",
                import_columns!(),
                " FROM shortener_imports WHERE id = $2 AND project = $1 AND state <> 'discarded' /*pg FOR UPDATE */"
            ),
            params![project, import.to_string()],
        )
        .await?
    else {
        return Ok(None);
    };
    let mut found = read_import(&row)?;
    if found.state.is_over() {
        return Ok(Some((found, false)));
    }
    tx.exec(
        "UPDATE shortener_imports SET state = 'cancelled', finished_at = $2, worked_at = $2, held_until = 0 WHERE id = $1",
        params![import.to_string(), now],
    )
    .await?;
    tx.notify(TOPIC, 0);
    found.state = ImportState::Cancelled;
    found.finished_at = Some(now);
    Ok(Some((found, true)))
}

/// Takes on the import that waited longest, for `holder` until `held_until`; `None` when none waits.
pub(crate) async fn claim_import(
    db: &Db,
    holder: &str,
    now: Timestamp,
    held_until: Timestamp,
) -> Result<Option<Import>> {
    // Mostly there is none, and looking costs less than trying.
    let waiting = db
        .get(
            "SELECT id FROM shortener_imports WHERE is_spooled = TRUE AND state IN ('queued', 'running') \
             AND held_until <= $1 LIMIT 1",
            params![now],
        )
        .await?;
    if waiting.is_none() {
        return Ok(None);
    }
    let rows = db
        .exec_returning(
            concat!(
                "UPDATE shortener_imports SET state = 'running', holder = $1, held_until = $3, worked_at = $2, \
                 started_at = COALESCE(started_at, $2) WHERE id = (SELECT id FROM shortener_imports \
                 WHERE is_spooled = TRUE AND state IN ('queued', 'running') AND held_until <= $2 \
                 ORDER BY worked_at LIMIT 1 /*pg FOR UPDATE SKIP LOCKED */) RETURNING ",
                import_columns!()
            ),
            params![holder, now, held_until],
        )
        .await?;
    rows.first().map(read_import).transpose()
}

/// Lets go of an import, for whoever comes next.
pub(crate) async fn release_import(db: &Db, import: ImportId, holder: &str, now: Timestamp) -> Result<()> {
    db.exec(
        "UPDATE shortener_imports SET held_until = 0, worked_at = $3 WHERE id = $1 AND holder = $2 AND state = 'running'",
        params![import.to_string(), holder, now],
    )
    .await
    .map(drop)
}

/// The next piece of an import: its number and content.
pub(crate) async fn next_chunk(db: &Db, import: ImportId) -> Result<Option<(u64, String)>> {
    let row = db
        .get(
            "SELECT seq, content FROM shortener_import_chunks WHERE import_id = $1 ORDER BY seq LIMIT 1",
            params![import.to_string()],
        )
        .await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// The last piece of an import is gone: it is over.
pub(crate) async fn finish_import(db: &Db, import: ImportId, now: Timestamp) -> Result<()> {
    db.exec(
        "UPDATE shortener_imports SET state = 'finished', is_spooled = FALSE, finished_at = $2, worked_at = $2, held_until = 0 \
         WHERE id = $1 AND state = 'running' \
         AND NOT EXISTS (SELECT 1 FROM shortener_import_chunks WHERE import_id = $1)",
        params![import.to_string(), now],
    )
    .await
    .map(drop)
}

/// Gives up imports whose file stopped to arrive before `now`; at most `limit`.
pub(crate) async fn discard_stalled(db: &Db, now: Timestamp, limit: u32) -> Result<u64> {
    let stalled = db
        .get(
            "SELECT id FROM shortener_imports WHERE is_spooled = TRUE AND state = 'receiving' AND held_until < $1 LIMIT 1",
            params![now],
        )
        .await?;
    if stalled.is_none() {
        return Ok(0);
    }
    db.exec(
        "UPDATE shortener_imports SET state = 'discarded', token = NULL, worked_at = $1, held_until = 0 \
         WHERE id IN (SELECT id FROM shortener_imports WHERE is_spooled = TRUE AND state = 'receiving' AND held_until < $1 LIMIT $2) \
         AND state = 'receiving' AND held_until < $1",
        params![now, limit],
    )
    .await
}

/// Takes away chunks that nobody will work on, at most `limit`, and the mark of one import that has none left; gives whether there
/// may be more.
pub(crate) async fn clear_chunks(db: &Db, now: Timestamp, limit: u32) -> Result<bool> {
    let Some(row) = db
        .get(
            "SELECT id FROM shortener_imports WHERE is_spooled = TRUE AND state IN ('cancelled', 'discarded') \
             ORDER BY worked_at LIMIT 1",
            params![],
        )
        .await?
    else {
        return Ok(false);
    };
    let id: String = row.get(0)?;
    let count = db
        .exec(
            "DELETE FROM shortener_import_chunks WHERE import_id = $1 AND seq IN \
             (SELECT seq FROM shortener_import_chunks WHERE import_id = $1 ORDER BY seq LIMIT $2)",
            params![&id, limit],
        )
        .await?;
    if count < u64::from(limit) {
        db.exec(
            "UPDATE shortener_imports SET is_spooled = FALSE, worked_at = $2 \
             WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM shortener_import_chunks WHERE import_id = $1)",
            params![&id, now],
        )
        .await?;
    }
    Ok(true)
}

/// Forgets one import that was over before `before`, with what it tells; gives whether there may be more.
pub(crate) async fn expire_import(db: &Db, before: Timestamp) -> Result<bool> {
    let row = db
        .get(
            "SELECT id FROM shortener_imports WHERE is_spooled = FALSE AND worked_at < $1 ORDER BY worked_at LIMIT 1",
            params![before],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let id: String = row.get(0)?;
    // At most MAX_LISTED_ERRORS rows.
    db.exec("DELETE FROM shortener_import_errors WHERE import_id = $1", params![&id]).await?;
    db.exec("DELETE FROM shortener_imports WHERE id = $1 AND is_spooled = FALSE", params![&id]).await?;
    Ok(true)
}
