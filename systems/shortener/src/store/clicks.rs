//! Clicks: rollups and totals.

use std::collections::BTreeMap;

use database::{Db, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};
use serde_json::json;

use super::big;
use crate::model::{ClickCounts, ClickPoint, LinkId, Series, Step};

pub(super) fn read_counts(row: &Row, index: usize) -> Result<ClickCounts> {
    Ok(ClickCounts {
        people: row.get::<Option<u64>>(index)?.unwrap_or(0),
        bots: row.get::<Option<u64>>(index + 1)?.unwrap_or(0),
    })
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
