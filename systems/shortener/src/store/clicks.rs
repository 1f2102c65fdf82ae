//! Clicks: rollups and totals.

use database::{Db, Result, Row, Tx, Value, params};
use kernel::{ProjectId, Timestamp};

use super::big;
use crate::model::{ClickCounts, ClickPoint, LinkId, Rollup, Series};

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
    /// The last click.
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

/// The most rows of one statement.
const ROWS_AT_ONCE: usize = 5000;

/// Adds the buckets and totals of a rollup. Rows are written in the order of their keys.
pub(super) async fn add(tx: &mut Tx<'_>, rollup: &Rollup) -> Result<()> {
    let links = rollup.links.iter().flat_map(|(link, sums)| {
        sums.buckets.iter().map(|((step, at), n)| params![big(link.0), step.minutes(), *at, big(n.people), big(n.bots)])
    });
    add_rows(
        tx,
        "INSERT INTO shortener_clicks (link_id, step, at, people, bots) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (link_id, step, at) DO UPDATE SET \
         people = shortener_clicks.people + excluded.people, bots = shortener_clicks.bots + excluded.bots",
        links.collect(),
    )
    .await?;
    let projects = rollup.projects.iter().flat_map(|(project, sums)| {
        sums.buckets
            .iter()
            .map(move |((step, at), n)| params![project, step.minutes(), *at, big(n.people), big(n.bots)])
    });
    add_rows(
        tx,
        "INSERT INTO shortener_project_clicks (project, step, at, people, bots) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (project, step, at) DO UPDATE SET people = shortener_project_clicks.people + excluded.people, \
         bots = shortener_project_clicks.bots + excluded.bots",
        projects.collect(),
    )
    .await?;
    let links = rollup
        .links
        .iter()
        .map(|(link, sums)| params![big(link.0), sums.last_click_at, big(sums.total.people), big(sums.total.bots)]);
    add_rows(
        tx,
        "INSERT INTO shortener_totals (link_id, last_click_at, people, bots) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (link_id) DO UPDATE SET \
         people = shortener_totals.people + excluded.people, bots = shortener_totals.bots + excluded.bots, \
         last_click_at = CASE WHEN excluded.last_click_at > shortener_totals.last_click_at \
         THEN excluded.last_click_at ELSE shortener_totals.last_click_at END",
        links.collect(),
    )
    .await?;
    let projects = rollup
        .projects
        .iter()
        .map(|(project, sums)| params![project, sums.last_click_at, big(sums.total.people), big(sums.total.bots)]);
    add_rows(
        tx,
        "INSERT INTO shortener_project_totals (project, last_click_at, people, bots) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (project) DO UPDATE SET people = shortener_project_totals.people + excluded.people, \
         bots = shortener_project_totals.bots + excluded.bots, \
         last_click_at = CASE WHEN excluded.last_click_at > shortener_project_totals.last_click_at \
         THEN excluded.last_click_at ELSE shortener_project_totals.last_click_at END",
        projects.collect(),
    )
    .await
}

async fn add_rows(tx: &mut Tx<'_>, sql: &'static str, mut rows: Vec<Vec<Value>>) -> Result<()> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_AT_ONCE));
        tx.exec_many(sql, rows).await?;
        rows = rest;
    }
    Ok(())
}

/// Takes away at most `limit` buckets of a minute (of links, and of projects) that start before `before`; gives how many went.
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
    Ok(links + projects)
}
