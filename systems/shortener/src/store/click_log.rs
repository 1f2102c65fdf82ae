//! The click log: segments of clicks between the node that took them and the rollups.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::Timestamp;

use super::big;
use crate::model::{Rollup, SEGMENT_FORMAT};

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
            "SELECT writer, seq, clicks FROM shortener_click_log \
             WHERE NOT rolled AND format <= $1 AND (writer = $2 OR at < $3) ORDER BY at, writer, seq LIMIT $4",
            params![SEGMENT_FORMAT, writer, before, limit],
        )
        .await?;
    let read = |row: &Row| Ok(SegmentRef { writer: row.get(0)?, seq: row.get(1)?, clicks: row.get(2)? });
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

/// Adds to the rollups what `segments` hold and marks them, all in this transaction, or nothing when one of them is marked.
pub(crate) async fn roll(
    tx: &mut Tx<'_>,
    now: Timestamp,
    segments: &[SegmentRef],
    rollup: &Rollup,
) -> Result<(), RollError> {
    tx.exec(
        "INSERT INTO shortener_rollers (name, at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at = excluded.at",
        params![ROLLER, now],
    )
    .await?;
    let marks = segments.iter().map(|s| params![&s.writer, big(s.seq)]).collect();
    let marked = tx
        .exec_many("UPDATE shortener_click_log SET rolled = TRUE WHERE writer = $1 AND seq = $2 AND NOT rolled", marks)
        .await?;
    if marked != segments.len() as u64 {
        return Err(RollError::Taken);
    }
    super::clicks::add(tx, rollup).await?;
    super::days::add(tx, rollup).await?;
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
