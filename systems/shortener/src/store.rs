//! The only file that holds SQL.

use std::collections::BTreeMap;

use database::{Db, Error, Migration, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};
use serde_json::json;

use crate::model::{ClickCounts, ClickPoint, Code, Link, LinkId, LinkWithClicks, Series, Step};

/// The room's numbered steps.
pub static MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "links", sql: include_str!("../migrations/0001_links.sql") },
    Migration { version: 2, name: "clicks", sql: include_str!("../migrations/0002_clicks.sql") },
];

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

fn big(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
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

fn read_counts(row: &Row, index: usize) -> Result<ClickCounts> {
    Ok(ClickCounts {
        people: row.get::<Option<u64>>(index)?.unwrap_or(0),
        bots: row.get::<Option<u64>>(index + 1)?.unwrap_or(0),
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

/// What a project has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectTotals {
    /// Links, the expired ones included.
    pub link_count: u64,
    /// Clicks on all its links, the deleted ones included.
    pub clicks: ClickCounts,
    /// The minute of the last click.
    pub last_click_at: Option<Timestamp>,
}

/// How many links and clicks a project has.
pub(crate) async fn project_totals(db: &Db, project: &ProjectId) -> Result<ProjectTotals> {
    let links = db
        .get(
            "SELECT CAST(COALESCE(SUM(links), 0) AS BIGINT) FROM shortener_link_counts WHERE project = $1",
            params![project],
        )
        .await?;
    let clicks = db
        .get("SELECT people, bots, last_click_at FROM shortener_project_totals WHERE project = $1", params![project])
        .await?;
    Ok(ProjectTotals {
        link_count: links.map_or(Ok(0), |row| row.get(0))?,
        clicks: clicks.as_ref().map_or(Ok(ClickCounts::default()), |row| read_counts(row, 0))?,
        last_click_at: clicks.map_or(Ok(None), |row| row.get(2))?,
    })
}

fn read_point(row: &Row) -> Result<ClickPoint> {
    Ok(ClickPoint { at: row.get(0)?, counts: read_counts(row, 1)? })
}

/// The buckets of a link that have clicks, in order.
pub(crate) async fn link_series(db: &Db, link: LinkId, series: Series) -> Result<Vec<ClickPoint>> {
    let rows = db
        .query(
            "SELECT at, people, bots FROM shortener_clicks \
             WHERE link_id = $1 AND step = $2 AND at >= $3 AND at < $4 ORDER BY at",
            params![big(link.0), series.step.minutes(), series.from, series.to],
        )
        .await?;
    rows.iter().map(read_point).collect()
}

/// The buckets of a project that have clicks, in order.
pub(crate) async fn project_series(db: &Db, project: &ProjectId, series: Series) -> Result<Vec<ClickPoint>> {
    let rows = db
        .query(
            "SELECT at, people, bots FROM shortener_project_clicks \
             WHERE project = $1 AND step = $2 AND at >= $3 AND at < $4 ORDER BY at",
            params![project, series.step.minutes(), series.from, series.to],
        )
        .await?;
    rows.iter().map(read_point).collect()
}

/// Clicks of one link in one minute, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MinuteClicks {
    pub(crate) link: LinkId,
    pub(crate) project: ProjectId,
    pub(crate) minute: Timestamp,
    pub(crate) counts: ClickCounts,
}

/// Adds a batch of clicks to the rollups, once: a batch with a number that `writer` committed before changes nothing.
///
/// Batches of one writer have growing numbers. Rows are written in the order of their keys, so that two nodes cannot wait
/// for each other in a circle.
pub(crate) async fn add_clicks(
    tx: &mut Tx<'_>,
    writer: &str,
    batch: i64,
    now: Timestamp,
    clicks: &[MinuteClicks],
) -> Result<()> {
    let is_new = tx
        .exec(
            "INSERT INTO shortener_flushes (writer, batch, at) VALUES ($1, $2, $3) \
             ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at \
             WHERE shortener_flushes.batch < excluded.batch",
            params![writer, batch, now],
        )
        .await?;
    if is_new == 0 {
        return Ok(());
    }
    let mut links: BTreeMap<(u64, i64, Timestamp), ClickCounts> = BTreeMap::new();
    let mut projects: BTreeMap<(&str, i64, Timestamp), ClickCounts> = BTreeMap::new();
    let mut link_totals: BTreeMap<u64, (Timestamp, ClickCounts)> = BTreeMap::new();
    let mut project_totals: BTreeMap<&str, (Timestamp, ClickCounts)> = BTreeMap::new();
    for click in clicks {
        for step in Step::ALL {
            let at = click.minute.floor(step.width());
            *links.entry((click.link.0, step.minutes(), at)).or_default() += click.counts;
            *projects.entry((click.project.as_str(), step.minutes(), at)).or_default() += click.counts;
        }
        for (last, counts) in
            [link_totals.entry(click.link.0).or_default(), project_totals.entry(click.project.as_str()).or_default()]
        {
            *last = (*last).max(click.minute);
            *counts += click.counts;
        }
    }
    let rows = links.iter().map(|((link, step, at), n)| json!([link, step, at.as_millis(), n.people, n.bots]));
    tx.exec(
        concat!(
            "INSERT INTO shortener_clicks (link_id, step, at, people, bots) \
             SELECT CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT), CAST(r.value ->> 2 AS BIGINT), \
             CAST(r.value ->> 3 AS BIGINT), CAST(r.value ->> 4 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT (link_id, step, at) DO UPDATE SET \
             people = shortener_clicks.people + excluded.people, bots = shortener_clicks.bots + excluded.bots"
        ),
        params![json_rows(rows)],
    )
    .await?;
    let rows = projects.iter().map(|((project, step, at), n)| json!([project, step, at.as_millis(), n.people, n.bots]));
    tx.exec(
        concat!(
            "INSERT INTO shortener_project_clicks (project, step, at, people, bots) \
             SELECT r.value ->> 0, CAST(r.value ->> 1 AS BIGINT), CAST(r.value ->> 2 AS BIGINT), \
             CAST(r.value ->> 3 AS BIGINT), CAST(r.value ->> 4 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT (project, step, at) DO UPDATE SET \
             people = shortener_project_clicks.people + excluded.people, \
             bots = shortener_project_clicks.bots + excluded.bots"
        ),
        params![json_rows(rows)],
    )
    .await?;
    let rows = link_totals.iter().map(|(link, (last, n))| json!([link, last.as_millis(), n.people, n.bots]));
    tx.exec(
        concat!(
            "INSERT INTO shortener_totals (link_id, last_click_at, people, bots) \
             SELECT CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT), CAST(r.value ->> 2 AS BIGINT), \
             CAST(r.value ->> 3 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT (link_id) DO UPDATE SET \
             people = shortener_totals.people + excluded.people, bots = shortener_totals.bots + excluded.bots, \
             last_click_at = CASE WHEN excluded.last_click_at > shortener_totals.last_click_at \
             THEN excluded.last_click_at ELSE shortener_totals.last_click_at END"
        ),
        params![json_rows(rows)],
    )
    .await?;
    let rows = project_totals.iter().map(|(project, (last, n))| json!([project, last.as_millis(), n.people, n.bots]));
    tx.exec(
        concat!(
            "INSERT INTO shortener_project_totals (project, last_click_at, people, bots) \
             SELECT r.value ->> 0, CAST(r.value ->> 1 AS BIGINT), CAST(r.value ->> 2 AS BIGINT), \
             CAST(r.value ->> 3 AS BIGINT) FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " WHERE TRUE ON CONFLICT (project) DO UPDATE SET \
             people = shortener_project_totals.people + excluded.people, \
             bots = shortener_project_totals.bots + excluded.bots, \
             last_click_at = CASE WHEN excluded.last_click_at > shortener_project_totals.last_click_at \
             THEN excluded.last_click_at ELSE shortener_project_totals.last_click_at END"
        ),
        params![json_rows(rows)],
    )
    .await?;
    Ok(())
}

/// Rows as one parameter: both engines unfold a JSON array, so a batch is one statement however long it is.
fn json_rows(rows: impl Iterator<Item = serde_json::Value>) -> String {
    serde_json::Value::Array(rows.collect()).to_string()
}

/// Takes away at most `limit` buckets of a minute that start before `before`, and as many marks of writers that wrote
/// nothing since; gives how many buckets went.
pub(crate) async fn expire_minutes(db: &Db, before: Timestamp, limit: u32) -> Result<u64> {
    let links = db
        .exec(
            "DELETE FROM shortener_clicks WHERE step = 1 AND (link_id, at) IN \
             (SELECT link_id, at FROM shortener_clicks WHERE step = 1 AND at < $1 ORDER BY at LIMIT $2)",
            params![before, limit],
        )
        .await?;
    let projects = db
        .exec(
            "DELETE FROM shortener_project_clicks WHERE step = 1 AND (project, at) IN \
             (SELECT project, at FROM shortener_project_clicks WHERE step = 1 AND at < $1 ORDER BY at LIMIT $2)",
            params![before, limit],
        )
        .await?;
    db.exec(
        "DELETE FROM shortener_flushes WHERE writer IN (SELECT writer FROM shortener_flushes WHERE at < $1 LIMIT $2)",
        params![before, limit],
    )
    .await?;
    Ok(links + projects)
}
