//! One piece of an import in one transaction: its links, what is told of the rest, and the piece itself.

use database::{Error, Result, Tx, params};
use kernel::{ProjectId, Timestamp};
use serde_json::{Value, json};

use super::big;
use crate::model::{
    DomainId, Link,
    import::{ImportId, MAX_LISTED_ERRORS, RowError},
};

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
    /// How many of `max_clicks` are used up.
    pub(crate) used: u64,
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
    add_uses(tx, links()).await?;
    Ok(made)
}

/// What was used up elsewhere of a limit of clicks is used up here.
async fn add_uses<'a>(tx: &mut Tx<'_>, links: impl Iterator<Item = &'a ImportedLink>) -> Result<()> {
    let used = links.filter(|l| l.link.max_clicks.is_some() && l.used > 0);
    let rows: Vec<Value> = used.map(|l| json!([big(l.link.id.0), big(l.used)])).collect();
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(
        concat!(
            "INSERT INTO shortener_uses (link_id, uses) SELECT CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT DO NOTHING"
        ),
        params![array(rows.into_iter())],
    )
    .await
    .map(drop)
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

/// Rows as one parameter: both engines unfold a JSON array, so a batch is one statement however long it is.
fn array(rows: impl Iterator<Item = Value>) -> String {
    Value::Array(rows.collect()).to_string()
}

/// JSON that cannot fail.
fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
