//! Imports: their rows, what waits in chunks, and why rows were left out.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};
use serde_json::{Value, json};

use super::big;
use crate::model::{
    DomainId, Link,
    import::{Import, ImportId, ImportState, MAX_LISTED_ERRORS, RowError},
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

/// A link of an import, with what was counted on it elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct ImportedLink {
    /// Which row of the file.
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) link: Link,
    /// Whether the row asked for this code, so that another one will not do.
    pub(crate) is_code_given: bool,
    pub(crate) people: u64,
    pub(crate) bots: u64,
    pub(crate) last_click_at: Timestamp,
}

/// A piece of an import, checked.
#[derive(Debug, Clone)]
pub(crate) struct CheckedChunk {
    pub(crate) import: ImportId,
    pub(crate) project: ProjectId,
    pub(crate) created_by: String,
    pub(crate) seq: u64,
    pub(crate) links: Vec<ImportedLink>,
    pub(crate) errors: Vec<RowError>,
}

impl CheckedChunk {
    /// Domains of projects that its links are on, each once.
    fn domains(&self) -> std::collections::BTreeSet<DomainId> {
        self.links.iter().map(|l| l.link.domain).filter(|domain| *domain != DomainId::OWN).collect()
    }
}

/// What became of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChunkDone {
    /// It is done now: which of its links are made, by their place.
    Done(Vec<usize>),
    /// Somebody did it before, or the import was stopped.
    Gone,
}

/// What a transaction ends with that shall leave nothing behind.
#[derive(Debug)]
pub(crate) enum ChunkError {
    /// These links have generated codes that others have as aliases. They need other ids.
    Collided(Vec<usize>),
    /// A domain was removed meanwhile.
    DomainGone,
    Database(Error),
}

impl From<Error> for ChunkError {
    fn from(e: Error) -> Self {
        Self::Database(e)
    }
}

/// Makes the links of a piece, tells of the rest, counts both and takes the piece away: all of it, once. `taken` makes what is told
/// of a row whose code another link has.
pub(crate) async fn import_chunk(
    tx: &mut Tx<'_>,
    chunk: &CheckedChunk,
    taken: &RowError,
    now: Timestamp,
    held_until: Timestamp,
) -> Result<ChunkDone, ChunkError> {
    let id = chunk.import.to_string();
    // The row of the import is the lock: whoever cancels or works on it waits here.
    let Some(row) = tx
        .get(
            "SELECT rows_failed FROM shortener_imports WHERE id = $1 AND state = 'running' /*pg FOR UPDATE */",
            params![&id],
        )
        .await?
    else {
        return Ok(ChunkDone::Gone);
    };
    let failed_before: u64 = row.get(0)?;
    let count = tx
        .exec("DELETE FROM shortener_import_chunks WHERE import_id = $1 AND seq = $2", params![&id, big(chunk.seq)])
        .await?;
    if count == 0 {
        return Ok(ChunkDone::Gone);
    }
    for domain in chunk.domains() {
        if !super::hold_domain(tx, domain).await? {
            return Err(ChunkError::DomainGone);
        }
    }
    let made = insert_links(tx, chunk).await?;
    let collided: Vec<usize> =
        (0..chunk.links.len()).filter(|i| !made.contains(i) && !chunk.links[*i].is_code_given).collect();
    if !collided.is_empty() {
        return Err(ChunkError::Collided(collided));
    }
    let mut errors = chunk.errors.clone();
    for (_, lost) in chunk.links.iter().enumerate().filter(|(i, _)| !made.contains(i)) {
        errors.push(RowError { number: lost.number, name: lost.name.clone(), ..taken.clone() });
    }
    errors.sort_by_key(|e| e.number);
    let room = usize::try_from(MAX_LISTED_ERRORS.saturating_sub(failed_before)).unwrap_or(0);
    add_errors(tx, &id, &errors[..errors.len().min(room)]).await?;
    tx.exec(
        "UPDATE shortener_imports SET rows_created = rows_created + $2, rows_failed = rows_failed + $3, worked_at = $4, \
         held_until = $5 WHERE id = $1",
        params![&id, big(made.len() as u64), big(errors.len() as u64), now, held_until],
    )
    .await?;
    Ok(ChunkDone::Done(made))
}

/// Inserts the links whose codes are free; gives their places, in order.
async fn insert_links(tx: &mut Tx<'_>, chunk: &CheckedChunk) -> Result<Vec<usize>> {
    if chunk.links.is_empty() {
        return Ok(Vec::new());
    }
    // In the order of the unique key, so that two chunks cannot wait for each other in a circle.
    let mut order: Vec<usize> = (0..chunk.links.len()).collect();
    order.sort_by_key(|i| {
        let link = &chunk.links[*i].link;
        (link.domain.0, link.code.as_str())
    });
    let rows = order.iter().map(|i| {
        let link = &chunk.links[*i].link;
        json!([
            big(link.id.0),
            big(link.domain.0),
            link.code.as_str(),
            link.is_alias,
            link.url,
            link.title,
            link.notes,
            text(&link.tags),
            text(&link.settings),
            link.state.as_str(),
            link.created_at.as_millis(),
            link.updated_at.as_millis(),
            link.starts_at.map(Timestamp::as_millis),
            link.expires_at.map(Timestamp::as_millis),
            link.max_clicks.map(big),
        ])
    });
    let inserted = tx
        .exec_returning(
            concat!(
                "INSERT INTO shortener_links (id, project, domain, code, is_alias, url, title, notes, tags, settings, state, \
                 created_at, created_by, updated_at, starts_at, expires_at, max_clicks, version) \
                 SELECT CAST(r.value ->> 0 AS BIGINT), $2, CAST(r.value ->> 1 AS BIGINT), r.value ->> 2, \
                 CAST(r.value ->> 3 AS BOOLEAN), r.value ->> 4, r.value ->> 5, r.value ->> 6, r.value ->> 7, r.value ->> 8, \
                 r.value ->> 9, CAST(r.value ->> 10 AS BIGINT), $3, CAST(r.value ->> 11 AS BIGINT), \
                 CAST(r.value ->> 12 AS BIGINT), CAST(r.value ->> 13 AS BIGINT), CAST(r.value ->> 14 AS BIGINT), 1 FROM ",
                "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
                " WHERE TRUE ON CONFLICT DO NOTHING RETURNING id"
            ),
            params![array(rows), &chunk.project, &chunk.created_by],
        )
        .await?;
    let ids: std::collections::HashSet<u64> = inserted.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
    let made: Vec<usize> = (0..chunk.links.len()).filter(|i| ids.contains(&chunk.links[*i].link.id.0)).collect();
    let links = || made.iter().map(|i| &chunk.links[*i]);
    if let Some(first) = links().next() {
        let count = i64::try_from(made.len()).unwrap_or(i64::MAX);
        super::links::add_to_link_count(tx, &first.link, count).await?;
    }
    add_tags(tx, &chunk.project, links()).await?;
    add_totals(tx, &chunk.project, links()).await?;
    Ok(made)
}

async fn add_tags<'a>(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    links: impl Iterator<Item = &'a ImportedLink>,
) -> Result<()> {
    let rows: Vec<Value> = links
        .flat_map(|l| l.link.tags.iter().map(|tag| json!([tag, l.link.created_at.as_millis(), big(l.link.id.0)])))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(
        concat!(
            "INSERT INTO shortener_link_tags (project, tag, created_at, link_id) \
             SELECT $2, r.value ->> 0, CAST(r.value ->> 1 AS BIGINT), CAST(r.value ->> 2 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT DO NOTHING"
        ),
        params![array(rows.into_iter()), project],
    )
    .await
    .map(drop)
}

/// What was counted elsewhere becomes the opening balance of the totals; the rollups begin here.
async fn add_totals<'a>(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    links: impl Iterator<Item = &'a ImportedLink>,
) -> Result<()> {
    let counted: Vec<_> = links.filter(|l| l.people + l.bots > 0).collect();
    let Some(last) = counted.iter().map(|l| l.last_click_at).max() else { return Ok(()) };
    let rows =
        counted.iter().map(|l| json!([big(l.link.id.0), l.last_click_at.as_millis(), big(l.people), big(l.bots)]));
    tx.exec(
        concat!(
            "INSERT INTO shortener_totals (link_id, last_click_at, people, bots) \
             SELECT CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT), CAST(r.value ->> 2 AS BIGINT), \
             CAST(r.value ->> 3 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT DO NOTHING"
        ),
        params![array(rows)],
    )
    .await?;
    let sum = |of: fn(&ImportedLink) -> u64| big(counted.iter().map(|l| of(l)).fold(0, u64::saturating_add));
    tx.exec(
        "INSERT INTO shortener_project_totals (project, last_click_at, people, bots) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (project) DO UPDATE SET people = shortener_project_totals.people + excluded.people, \
         bots = shortener_project_totals.bots + excluded.bots, \
         last_click_at = CASE WHEN excluded.last_click_at > shortener_project_totals.last_click_at \
         THEN excluded.last_click_at ELSE shortener_project_totals.last_click_at END",
        params![project, last, sum(|l| l.people), sum(|l| l.bots)],
    )
    .await
    .map(drop)
}

async fn add_errors(tx: &mut Tx<'_>, import: &str, errors: &[RowError]) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let rows = errors.iter().map(|e| json!([big(e.number), e.name, e.code, e.detail]));
    tx.exec(
        concat!(
            "INSERT INTO shortener_import_errors (import_id, number, name, code, detail) \
             SELECT $2, CAST(r.value ->> 0 AS BIGINT), r.value ->> 1, r.value ->> 2, r.value ->> 3 FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT DO NOTHING"
        ),
        params![array(rows), import],
    )
    .await
    .map(drop)
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

/// Rows as one parameter: both engines unfold a JSON array, so a batch is one statement however long it is.
fn array(rows: impl Iterator<Item = Value>) -> String {
    Value::Array(rows.collect()).to_string()
}

/// JSON that cannot fail.
fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
