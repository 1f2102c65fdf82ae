//! Links: their rows, their ids, their number per project.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use super::{big, clicks::read_counts};
use crate::model::{Code, Link, LinkId, LinkWithClicks};

/// In how many parts the number of a project's links is kept.
const COUNT_SHARDS: u64 = 16;

macro_rules! link_columns {
    () => {
        "l.id, l.project, l.code, l.is_alias, l.url, l.created_at, l.created_by, l.expires_at, l.version"
    };
}

macro_rules! link_with_clicks {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            link_columns!(),
            ", t.people, t.bots, t.last_click_at FROM shortener_links l \
             LEFT JOIN shortener_totals t ON t.link_id = l.id ",
            $rest
        )
    };
}

fn read_link(row: &Row) -> Result<Link> {
    let code: String = row.get(2)?;
    Ok(Link {
        id: LinkId(row.get(0)?),
        project: row.get(1)?,
        code: Code::parse(&code).ok_or_else(|| Error::Decode("column 2: not a code".to_owned()))?,
        is_alias: row.get(3)?,
        url: row.get(4)?,
        created_at: row.get(5)?,
        created_by: row.get(6)?,
        expires_at: row.get(7)?,
        version: row.get(8)?,
    })
}

fn read_link_with_clicks(row: &Row) -> Result<LinkWithClicks> {
    Ok(LinkWithClicks { link: read_link(row)?, total: read_counts(row, 9)?, last_click_at: row.get(11)? })
}

/// Takes `size` ids that no other node has or will have; gives the first.
pub(crate) async fn allocate_block(db: &Db, size: u32) -> Result<u64> {
    let rows = db
        .exec_returning(
            "INSERT INTO shortener_blocks (name, next_id) VALUES ('links', $1)
             ON CONFLICT (name) DO UPDATE SET next_id = shortener_blocks.next_id + excluded.next_id RETURNING next_id",
            params![size],
        )
        .await?;
    let next: u64 = rows.first().ok_or_else(|| Error::Decode("the row of blocks is missing".to_owned()))?.get(0)?;
    Ok(next.saturating_sub(size.into()))
}

/// What [`insert_link`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// The link is new.
    New,
    /// The same creation made this link before.
    Before(Box<Link>),
    /// Another link has the code.
    CodeTaken,
}

/// Inserts a link unless its code is taken or its creation token was used before.
pub(crate) async fn insert_link(tx: &mut Tx<'_>, link: &Link, token: Option<&str>) -> Result<Inserted> {
    let count = tx
        .exec(
            "INSERT INTO shortener_links \
             (id, project, code, is_alias, url, created_at, created_by, creation_token, expires_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
            params![
                big(link.id.0),
                &link.project,
                link.code.as_str(),
                link.is_alias,
                &link.url,
                link.created_at,
                &link.created_by,
                token,
                link.expires_at,
                link.version
            ],
        )
        .await?;
    if count == 1 {
        add_to_link_count(tx, link, 1).await?;
        return Ok(Inserted::New);
    }
    if let Some(token) = token
        && let Some(row) = tx
            .get(
                concat!(
                    "SELECT ",
                    link_columns!(),
                    " FROM shortener_links l WHERE l.project = $1 AND l.creation_token = $2"
                ),
                params![&link.project, token],
            )
            .await?
    {
        return Ok(Inserted::Before(Box::new(read_link(&row)?)));
    }
    Ok(Inserted::CodeTaken)
}

async fn add_to_link_count(tx: &mut Tx<'_>, link: &Link, change: i64) -> Result<()> {
    tx.exec(
        "INSERT INTO shortener_link_counts (project, shard, links) VALUES ($1, $2, $3) \
         ON CONFLICT (project, shard) DO UPDATE SET links = shortener_link_counts.links + excluded.links",
        params![&link.project, big(link.id.0 % COUNT_SHARDS), change],
    )
    .await
    .map(drop)
}

/// The link of a code, whoever owns it; for redirects.
pub(crate) async fn link_by_code(db: &Db, code: &str) -> Result<Option<Link>> {
    let row = db
        .get(
            concat!(
                "SELECT ",
                link_columns!(),
                " FROM shortener_links l WHERE l.domain = '' AND l.code = $1 AND l.deleted_at IS NULL"
            ),
            params![code],
        )
        .await?;
    row.as_ref().map(read_link).transpose()
}

/// The link of a code inside a project, with its clicks.
pub(crate) async fn project_link(db: &Db, project: &ProjectId, code: &str) -> Result<Option<LinkWithClicks>> {
    let row = db
        .get(
            link_with_clicks!("WHERE l.domain = '' AND l.code = $2 AND l.project = $1 AND l.deleted_at IS NULL"),
            params![project, code],
        )
        .await?;
    row.as_ref().map(read_link_with_clicks).transpose()
}

/// Links of a project, newest first, strictly after `after`.
pub(crate) async fn newest_links(
    db: &Db,
    project: &ProjectId,
    after: Option<(Timestamp, LinkId)>,
    limit: u32,
) -> Result<Vec<LinkWithClicks>> {
    let (at, id) = after.map_or((i64::MAX, i64::MAX), |(at, id)| (at.as_millis(), big(id.0)));
    let rows = db
        .query(
            link_with_clicks!(
                "WHERE l.project = $1 AND l.deleted_at IS NULL AND (l.created_at, l.id) < ($2, $3) \
                 ORDER BY l.created_at DESC, l.id DESC LIMIT $4"
            ),
            params![project, at, id, limit],
        )
        .await?;
    rows.iter().map(read_link_with_clicks).collect()
}

/// Links of a project whose code starts with `prefix`, by code, strictly after `after`. The prefix has no wildcards.
pub(crate) async fn links_by_prefix(
    db: &Db,
    project: &ProjectId,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<LinkWithClicks>> {
    // `~` sorts after everything that a code may hold.
    let rows = db
        .query(
            link_with_clicks!(
                "WHERE l.project = $1 AND l.deleted_at IS NULL AND l.code >= $2 AND l.code < $3 AND l.code > $4 \
                 ORDER BY l.code LIMIT $5"
            ),
            params![project, prefix, format!("{prefix}~"), after.unwrap_or_default(), limit],
        )
        .await?;
    rows.iter().map(read_link_with_clicks).collect()
}

/// What [`delete_link`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It is deleted now.
    Done(Box<Link>),
    /// There is no such link.
    Unknown,
    /// It is at another version.
    Changed,
}

/// Deletes a link, when it still is at `version` (if one is given).
pub(crate) async fn delete_link(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    code: &str,
    version: Option<i64>,
    now: Timestamp,
) -> Result<Deleted> {
    let Some(row) = tx
        .get(
            concat!(
                "SELECT ",
                link_columns!(),
                " FROM shortener_links l \
                 WHERE l.domain = '' AND l.code = $2 AND l.project = $1 AND l.deleted_at IS NULL /*pg FOR UPDATE */"
            ),
            params![project, code],
        )
        .await?
    else {
        return Ok(Deleted::Unknown);
    };
    let link = read_link(&row)?;
    if version.is_some_and(|v| v != link.version) {
        return Ok(Deleted::Changed);
    }
    tx.exec(
        "UPDATE shortener_links SET deleted_at = $2, version = version + 1 WHERE id = $1",
        params![big(link.id.0), now],
    )
    .await?;
    add_to_link_count(tx, &link, -1).await?;
    Ok(Deleted::Done(Box::new(link)))
}
