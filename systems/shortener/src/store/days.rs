//! What is kept of days beside counts: visitors, counts by value of a dimension, and the salts that visitors are hashed with.

use std::collections::BTreeMap;

use database::{Db, Error, Result, Row, Tx, Value, params};
use kernel::{ProjectId, Timestamp};
use serde_json::json;

use super::big;
use crate::model::{ClickCounts, Day, Dimension, LinkId, Sketch, Sums, Tally};

/// The most days that are read and written at once; at most about 25 KiB each.
const DAYS_AT_ONCE: usize = 500;

macro_rules! day_sql {
    (read $table:literal, $key:literal, $cast:literal) => {
        concat!(
            "SELECT d.",
            $key,
            ", d.day, d.visitors, d.sketch, d.referrers, d.browsers, d.systems, d.devices, d.countries, \
             d.languages FROM ",
            "/*sqlite json_each($1) AS r *//*pg jsonb_array_elements(CAST($1 AS TEXT)::jsonb) AS r(value) */",
            " JOIN ",
            $table,
            " d ON d.",
            $key,
            " = CAST(r.value ->> 0 AS ",
            $cast,
            ") AND d.day = CAST(r.value ->> 1 AS BIGINT)"
        )
    };
    (write $table:literal, $key:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            $key,
            ", day, visitors, sketch, referrers, browsers, systems, devices, countries, \
             languages) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (",
            $key,
            ", day) DO UPDATE SET \
             visitors = excluded.visitors, sketch = excluded.sketch, referrers = excluded.referrers, \
             browsers = excluded.browsers, systems = excluded.systems, devices = excluded.devices, \
             countries = excluded.countries, languages = excluded.languages"
        )
    };
}

/// Adds days of links. Only for whoever holds the row of rolling: what is read here is what is written again.
pub(super) async fn add_links(tx: &mut Tx<'_>, links: &[(LinkId, Sums)]) -> Result<()> {
    let days = links.iter().flat_map(|(link, sums)| {
        sums.days
            .iter()
            .map(move |(day, added)| (json!([link.0, day.as_millis()]), Value::from(big(link.0)), *day, added))
    });
    add_days(
        tx,
        day_sql!(read "shortener_link_days", "link_id", "BIGINT"),
        day_sql!(write "shortener_link_days", "link_id"),
        &days.collect::<Vec<_>>(),
    )
    .await
}

/// The same of projects.
pub(super) async fn add_projects(tx: &mut Tx<'_>, projects: &[(ProjectId, Sums)]) -> Result<()> {
    let days = projects.iter().flat_map(|(project, sums)| {
        sums.days
            .iter()
            .map(move |(day, added)| (json!([project.as_str(), day.as_millis()]), Value::from(project), *day, added))
    });
    add_days(
        tx,
        day_sql!(read "shortener_project_days", "project", "TEXT"),
        day_sql!(write "shortener_project_days", "project"),
        &days.collect::<Vec<_>>(),
    )
    .await
}

async fn add_days(
    tx: &mut Tx<'_>,
    read: &'static str,
    write: &'static str,
    days: &[(serde_json::Value, Value, Timestamp, &Day)],
) -> Result<()> {
    for some in days.chunks(DAYS_AT_ONCE) {
        let keys = serde_json::Value::Array(some.iter().map(|(key, ..)| key.clone()).collect()).to_string();
        let known = tx.query(read, params![keys]).await?;
        let mut known: BTreeMap<(String, Timestamp), Row> =
            known.into_iter().map(|row| Ok(((name_of(&row.get(0)?), row.get(1)?), row))).collect::<Result<_>>()?;
        let mut rows = Vec::with_capacity(some.len());
        for (_, subject, day, added) in some {
            let before = known.remove(&(name_of(subject), *day));
            rows.push(merged(subject.clone(), *day, added, before.as_ref())?);
        }
        tx.exec_many(write, rows).await?;
    }
    Ok(())
}

/// A link or a project as one kind of text, to find it again.
fn name_of(subject: &Value) -> String {
    match subject {
        Value::I64(id) => id.to_string(),
        Value::Text(name) => name.clone(),
        _ => String::new(),
    }
}

/// The row of a day after something was added to it.
fn merged(subject: Value, day: Timestamp, added: &Day, before: Option<&Row>) -> Result<Vec<Value>> {
    let damaged = || Error::Decode("a day of clicks is damaged".to_owned());
    let mut sketch = added.sketch.clone();
    let mut tallies = added.tallies.clone();
    let (mut visitors, mut is_over) = (None, false);
    if let Some(row) = before {
        if let Some(bytes) = row.get::<Option<Vec<u8>>>(3)? {
            sketch.merge(&Sketch::of_bytes(&bytes).ok_or_else(damaged)?);
        } else {
            // Only the number was kept: who comes late is not among the visitors.
            (visitors, is_over) = (Some(row.get::<u64>(2)?), true);
        }
        for (index, tally) in (4..).zip(&mut tallies) {
            tally.merge_bytes(&row.get::<Vec<u8>>(index)?).ok_or_else(damaged)?;
        }
    }
    let mut values = vec![
        subject,
        Value::from(day),
        Value::from(big(visitors.unwrap_or_else(|| sketch.count()))),
        if is_over { Value::Null } else { Value::from(sketch.to_bytes()) },
    ];
    for tally in &mut tallies {
        tally.bound();
        values.push(Value::from(tally.to_bytes()));
    }
    Ok(values)
}

/// Whose clicks are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// One link's.
    Link(LinkId),
    /// All links' of a project.
    Project(&'a ProjectId),
}

impl Subject<'_> {
    fn value(self) -> Value {
        match self {
            Self::Link(link) => Value::from(big(link.0)),
            Self::Project(project) => Value::from(project),
        }
    }
}

/// Visitors of each day from `from` until before `to` that has some, in order.
pub(crate) async fn visitors_by_day(
    db: &Db,
    subject: Subject<'_>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(Timestamp, u64)>> {
    let sql = match subject {
        Subject::Link(_) => {
            "SELECT day, visitors FROM shortener_link_days WHERE link_id = $1 AND day >= $2 AND day < $3 ORDER BY day"
        }
        Subject::Project(_) => {
            "SELECT day, visitors FROM shortener_project_days WHERE project = $1 AND day >= $2 AND day < $3 ORDER BY day"
        }
    };
    let rows = db.query(sql, params![subject.value(), from, to]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Clicks and visitors from `from` until before `to`, both starts of days.
pub(crate) async fn range_totals(
    db: &Db,
    subject: Subject<'_>,
    from: Timestamp,
    to: Timestamp,
) -> Result<(ClickCounts, u64)> {
    let (counts, visitors) = match subject {
        Subject::Link(_) => (
            "SELECT CAST(SUM(people) AS BIGINT), CAST(SUM(bots) AS BIGINT) FROM shortener_clicks \
             WHERE link_id = $1 AND step = 1440 AND at >= $2 AND at < $3",
            "SELECT CAST(SUM(visitors) AS BIGINT) FROM shortener_link_days WHERE link_id = $1 AND day >= $2 AND day < $3",
        ),
        Subject::Project(_) => (
            "SELECT CAST(SUM(people) AS BIGINT), CAST(SUM(bots) AS BIGINT) FROM shortener_project_clicks \
             WHERE project = $1 AND step = 1440 AND at >= $2 AND at < $3",
            "SELECT CAST(SUM(visitors) AS BIGINT) FROM shortener_project_days WHERE project = $1 AND day >= $2 AND day < $3",
        ),
    };
    let row = db.get(counts, params![subject.value(), from, to]).await?;
    let counts = row.as_ref().map_or(Ok(ClickCounts::default()), |row| super::clicks::read_counts(row, 0))?;
    let row = db.get(visitors, params![subject.value(), from, to]).await?;
    let visitors = row.map_or(Ok(None), |row| row.get::<Option<u64>>(0))?;
    Ok((counts, visitors.unwrap_or(0)))
}

macro_rules! tally_sql {
    ($column:literal) => {
        [
            concat!("SELECT ", $column, " FROM shortener_link_days WHERE link_id = $1 AND day >= $2 AND day < $3"),
            concat!("SELECT ", $column, " FROM shortener_project_days WHERE project = $1 AND day >= $2 AND day < $3"),
        ]
    };
}

/// Clicks by value of a dimension, of the days from `from` until before `to`. The caller bounds the range.
pub(crate) async fn tally(
    db: &Db,
    subject: Subject<'_>,
    dimension: Dimension,
    from: Timestamp,
    to: Timestamp,
) -> Result<Tally> {
    let [of_link, of_project] = match dimension {
        Dimension::Referrer => tally_sql!("referrers"),
        Dimension::Browser => tally_sql!("browsers"),
        Dimension::System => tally_sql!("systems"),
        Dimension::Device => tally_sql!("devices"),
        Dimension::Country => tally_sql!("countries"),
        Dimension::Language => tally_sql!("languages"),
    };
    let sql = if matches!(subject, Subject::Link(_)) { of_link } else { of_project };
    let rows = db.query(sql, params![subject.value(), from, to]).await?;
    let days: Vec<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
    Tally::sum_of(&days).ok_or_else(|| Error::Decode("a day of clicks is damaged".to_owned()))
}

/// Leaves only the number of visitors of at most `limit` days (of links, and of projects) before `before`; gives how many.
pub(crate) async fn close_days(db: &Db, before: Timestamp, limit: u32) -> Result<u64> {
    let links = db
        .exec(
            "UPDATE shortener_link_days SET sketch = NULL WHERE (link_id, day) IN \
             (SELECT link_id, day FROM shortener_link_days WHERE sketch IS NOT NULL AND day < $1 ORDER BY day LIMIT $2)",
            params![before, limit],
        )
        .await?;
    let projects = db
        .exec(
            "UPDATE shortener_project_days SET sketch = NULL WHERE (project, day) IN \
             (SELECT project, day FROM shortener_project_days WHERE sketch IS NOT NULL AND day < $1 ORDER BY day LIMIT $2)",
            params![before, limit],
        )
        .await?;
    Ok(links.max(projects))
}

/// The salt of a day: the one that a node stored first, `fresh` when none did.
pub(crate) async fn salt_of_day(db: &Db, day: Timestamp, fresh: [u8; 16]) -> Result<[u8; 16]> {
    let insert = "INSERT INTO shortener_click_salts (day, salt) VALUES ($1, $2) ON CONFLICT (day) DO NOTHING";
    db.exec(insert, params![day, fresh]).await?;
    let row = db.get("SELECT salt FROM shortener_click_salts WHERE day = $1", params![day]).await?;
    row.ok_or_else(|| Error::Decode("the salt of a day is missing".to_owned()))?.get(0)
}

/// Deletes the salts of days before `before`.
pub(crate) async fn delete_salts(db: &Db, before: Timestamp) -> Result<u64> {
    db.exec("DELETE FROM shortener_click_salts WHERE day < $1", params![before]).await
}
