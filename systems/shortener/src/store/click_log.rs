//! The click log: segments of clicks between the node that took them and the rollups.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use super::big;
use crate::model::{LinkId, SEGMENT_FORMAT, Sums};

/// The row that whoever rolls holds.
const ROLLER: &str = "clicks";

/// A segment as it is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewSegment {
    /// One after another, for each writer.
    pub(crate) seq: u64,
    /// When it was closed.
    pub(crate) at: Timestamp,
    /// How many clicks are in it.
    pub(crate) clicks: u64,
    /// Them.
    pub(crate) data: Vec<u8>,
}

/// A segment in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRef {
    pub(crate) writer: String,
    pub(crate) seq: u64,
    pub(crate) clicks: u64,
    /// Up to which link it is in the rollups.
    pub(crate) rolled_to: Option<LinkId>,
}

/// Appends a segment, once: the same number of the same writer again changes nothing.
pub(crate) async fn append_segment(db: &Db, writer: &str, segment: &NewSegment) -> Result<()> {
    db.exec(
        "INSERT INTO shortener_click_log (writer, seq, at, format, clicks, rolled, data) \
         VALUES ($1, $2, $3, $4, $5, FALSE, $6) ON CONFLICT (writer, seq) DO NOTHING",
        params![writer, big(segment.seq), segment.at, SEGMENT_FORMAT, big(segment.clicks), &segment.data],
    )
    .await
    .map(drop)
}

/// Segments that are not in the rollups, oldest first: those of `writer`, and those of anybody that were closed before `before`.
/// Only what this program can read.
pub(crate) async fn waiting_segments(db: &Db, writer: &str, before: Timestamp, limit: u32) -> Result<Vec<SegmentRef>> {
    let rows = db
        .query(
            "SELECT l.writer, l.seq, l.clicks, p.rolled_to FROM shortener_click_log l \
             LEFT JOIN shortener_click_log_parts p ON p.writer = l.writer AND p.seq = l.seq \
             WHERE NOT l.rolled AND l.format <= $1 AND (l.writer = $2 OR l.at < $3) \
             ORDER BY l.at, l.writer, l.seq LIMIT $4",
            params![SEGMENT_FORMAT, writer, before, limit],
        )
        .await?;
    let read = |row: &Row| {
        let rolled_to = row.get::<Option<u64>>(3)?.map(LinkId);
        Ok(SegmentRef { writer: row.get(0)?, seq: row.get(1)?, clicks: row.get(2)?, rolled_to })
    };
    rows.iter().map(read).collect()
}

/// The clicks of a segment; `None` when it is in the rollups by now, or deleted.
pub(crate) async fn segment_data(db: &Db, segment: &SegmentRef) -> Result<Option<Vec<u8>>> {
    let row = db
        .get(
            "SELECT data FROM shortener_click_log WHERE writer = $1 AND seq = $2 AND NOT rolled",
            params![&segment.writer, big(segment.seq)],
        )
        .await?;
    row.map(|row| row.get(0)).transpose()
}

/// Why segments were not rolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RollError {
    /// One of them is in the rollups already: nothing was done.
    Taken,
    /// The database.
    Database(Error),
}

impl From<Error> for RollError {
    fn from(e: Error) -> Self {
        Self::Database(e)
    }
}

/// Whoever holds the row of rolling works alone until its transaction ends.
async fn hold(tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
    tx.exec(
        "INSERT INTO shortener_rollers (name, at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at = excluded.at",
        params![ROLLER, now],
    )
    .await
    .map(drop)
}

/// Adds some links' sums of `segments` to the rollups and notes that these are in them up to the last of these links; all in this
/// transaction, or nothing when one of the segments is not as far as it says.
pub(crate) async fn roll_links(
    tx: &mut Tx<'_>,
    now: Timestamp,
    segments: &[SegmentRef],
    links: &[(LinkId, Sums)],
) -> Result<(), RollError> {
    let Some((last, _)) = links.last() else { return Ok(()) };
    hold(tx, now).await?;
    let (mut first, mut next) = (Vec::new(), Vec::new());
    for SegmentRef { writer, seq, rolled_to, .. } in segments {
        match rolled_to {
            None => first.push(params![writer, big(*seq), big(last.0)]),
            Some(before) => next.push(params![writer, big(*seq), big(before.0), big(last.0.max(before.0))]),
        }
    }
    let begun = tx
        .exec_many(
            "INSERT INTO shortener_click_log_parts (writer, seq, rolled_to) \
             SELECT writer, seq, CAST($3 AS BIGINT) FROM shortener_click_log WHERE writer = $1 AND seq = $2 AND NOT rolled \
             ON CONFLICT (writer, seq) DO NOTHING",
            first,
        )
        .await?;
    let moved = tx
        .exec_many(
            "UPDATE shortener_click_log_parts SET rolled_to = $4 WHERE writer = $1 AND seq = $2 AND rolled_to = $3",
            next,
        )
        .await?;
    if begun + moved != segments.len() as u64 {
        return Err(RollError::Taken);
    }
    super::clicks::add_links(tx, links).await?;
    super::days::add_links(tx, links).await?;
    Ok(())
}

/// Adds the sums of projects of `segments`, whose links are all in the rollups, and marks them as rolled; all in this transaction,
/// or nothing when one of them is not as far as it says.
pub(crate) async fn roll_projects(
    tx: &mut Tx<'_>,
    now: Timestamp,
    segments: &[SegmentRef],
    projects: &[(ProjectId, Sums)],
) -> Result<(), RollError> {
    hold(tx, now).await?;
    let marks = segments.iter().map(|s| params![&s.writer, big(s.seq)]).collect();
    let marked = tx
        .exec_many("UPDATE shortener_click_log SET rolled = TRUE WHERE writer = $1 AND seq = $2 AND NOT rolled", marks)
        .await?;
    let parts = segments.iter().filter_map(|s| Some(params![&s.writer, big(s.seq), big(s.rolled_to?.0)]));
    let parts: Vec<_> = parts.collect();
    let part_count = parts.len() as u64;
    let ended = tx
        .exec_many("DELETE FROM shortener_click_log_parts WHERE writer = $1 AND seq = $2 AND rolled_to = $3", parts)
        .await?;
    if marked != segments.len() as u64 || ended != part_count {
        return Err(RollError::Taken);
    }
    super::clicks::add_projects(tx, projects).await?;
    super::days::add_projects(tx, projects).await?;
    Ok(())
}

/// Deletes at most `limit` segments that are in the rollups and were closed before `before`; gives how many.
pub(crate) async fn delete_segments(db: &Db, before: Timestamp, limit: u32) -> Result<u64> {
    db.exec(
        "DELETE FROM shortener_click_log WHERE (writer, seq) IN \
         (SELECT writer, seq FROM shortener_click_log WHERE rolled AND at < $1 ORDER BY at LIMIT $2)",
        params![before, limit],
    )
    .await
}
