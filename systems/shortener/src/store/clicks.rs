//! Clicks: rollups and totals.

use database::{Db, Engine, Result, Row, Tx, Value, params};
use kernel::{ProjectId, Timestamp};

use super::big;
use crate::model::{ClickCounts, ClickPoint, LinkId, Series, Sums};

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

/// A statement that adds to rows, in both ways of giving it many.
struct Add {
    /// One row at a time, prepared once: the cheaper way on SQLite, by half.
    by_row: &'static str,
    /// All rows as one JSON array: on PostgreSQL a third of the time, and nearly none of this process's.
    by_json: &'static str,
}

macro_rules! add_sql {
    ($table:literal, $key:literal, $key_type:literal, [$($column:literal $number:literal),+], $on:literal, $change:literal) => {
        Add {
            by_row: concat!(
                "INSERT INTO ", $table, " (", $key, $(", ", $column),+, ") VALUES ($1", $(", $", $number),+, ") ON CONFLICT (", $on,
                ") DO UPDATE SET people = ", $table, ".people + excluded.people, bots = ", $table, ".bots + excluded.bots", $change
            ),
            by_json: concat!(
                "INSERT INTO ", $table, " (", $key, $(", ", $column),+, ") SELECT CAST(r.value ->> 0 AS ", $key_type, ")",
                $(", CAST(r.value ->> (", $number, " - 1) AS BIGINT)"),+,
                " FROM jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) ON CONFLICT (", $on,
                ") DO UPDATE SET people = ", $table, ".people + excluded.people, bots = ", $table, ".bots + excluded.bots", $change
            ),
        }
    };
}

const LINK_BUCKETS: Add = add_sql!(
    "shortener_clicks",
    "link_id",
    "BIGINT",
    ["step" "2", "at" "3", "people" "4", "bots" "5"],
    "link_id, step, at",
    ""
);
const PROJECT_BUCKETS: Add = add_sql!(
    "shortener_project_clicks",
    "project",
    "TEXT",
    ["step" "2", "at" "3", "people" "4", "bots" "5"],
    "project, step, at",
    ""
);
const LINK_TOTALS: Add = add_sql!(
    "shortener_totals",
    "link_id",
    "BIGINT",
    ["last_click_at" "2", "people" "3", "bots" "4"],
    "link_id",
    ", last_click_at = CASE WHEN excluded.last_click_at > shortener_totals.last_click_at \
     THEN excluded.last_click_at ELSE shortener_totals.last_click_at END"
);
const PROJECT_TOTALS: Add = add_sql!(
    "shortener_project_totals",
    "project",
    "TEXT",
    ["last_click_at" "2", "people" "3", "bots" "4"],
    "project",
    ", last_click_at = CASE WHEN excluded.last_click_at > shortener_project_totals.last_click_at \
     THEN excluded.last_click_at ELSE shortener_project_totals.last_click_at END"
);

/// Adds the buckets and totals of links. Rows are written in the order of their keys, each once.
pub(super) async fn add_links(tx: &mut Tx<'_>, links: &[(LinkId, Sums)]) -> Result<()> {
    let buckets = links.iter().flat_map(|(link, sums)| {
        sums.buckets.iter().map(|((step, at), n)| params![big(link.0), step.minutes(), *at, big(n.people), big(n.bots)])
    });
    add_rows(tx, &LINK_BUCKETS, buckets.collect()).await?;
    let totals = links
        .iter()
        .map(|(link, sums)| params![big(link.0), sums.last_click_at, big(sums.total.people), big(sums.total.bots)]);
    add_rows(tx, &LINK_TOTALS, totals.collect()).await
}

/// The same of projects.
pub(super) async fn add_projects(tx: &mut Tx<'_>, projects: &[(ProjectId, Sums)]) -> Result<()> {
    let buckets = projects.iter().flat_map(|(project, sums)| {
        sums.buckets
            .iter()
            .map(move |((step, at), n)| params![project, step.minutes(), *at, big(n.people), big(n.bots)])
    });
    add_rows(tx, &PROJECT_BUCKETS, buckets.collect()).await?;
    let totals = projects
        .iter()
        .map(|(project, sums)| params![project, sums.last_click_at, big(sums.total.people), big(sums.total.bots)]);
    add_rows(tx, &PROJECT_TOTALS, totals.collect()).await
}

async fn add_rows(tx: &mut Tx<'_>, sql: &Add, mut rows: Vec<Vec<Value>>) -> Result<()> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_AT_ONCE));
        match tx.engine() {
            Engine::Sqlite => tx.exec_many(sql.by_row, rows).await?,
            Engine::Postgres => tx.exec(sql.by_json, params![json_rows(&rows)]).await?,
        };
        rows = rest;
    }
    Ok(())
}

/// Rows of numbers and names as a JSON array of arrays.
fn json_rows(rows: &[Vec<Value>]) -> String {
    let cell = |value: &Value| match value {
        Value::I64(n) => serde_json::Value::from(*n),
        Value::Text(text) => serde_json::Value::from(text.as_str()),
        _ => serde_json::Value::Null,
    };
    let rows = rows.iter().map(|row| serde_json::Value::Array(row.iter().map(cell).collect()));
    serde_json::Value::Array(rows.collect()).to_string()
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
