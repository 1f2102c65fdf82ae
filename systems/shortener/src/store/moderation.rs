//! Reports, takedowns and the block list of moderators.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use super::big;
use crate::model::{
    LinkId, LinkState,
    moderation::{BlockId, MAX_OPEN_REPORTS, ReportId, ReportReason, ReportState, Standing},
};

fn decode(what: &str) -> Error {
    Error::Decode(what.to_owned())
}

/// Of what a report or takedown speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeratedLink {
    /// Whose it is.
    pub project: ProjectId,
    /// The host of its domain; `None` for the installation's own.
    pub host: Option<String>,
    /// Its code.
    pub code: String,
    /// Where it leads.
    pub url: String,
    /// Its state now.
    pub state: LinkState,
    /// Whether its owner has deleted it.
    pub is_deleted: bool,
}

macro_rules! moderated_link {
    () => {
        "l.project, (SELECT d.host FROM shortener_domains d WHERE d.id = l.domain), l.code, l.url, l.state, l.deleted_at"
    };
}

fn read_moderated(row: &Row, at: usize) -> Result<ModeratedLink> {
    let state: String = row.get(at + 4)?;
    let deleted_at: Option<Timestamp> = row.get(at + 5)?;
    Ok(ModeratedLink {
        project: row.get(at)?,
        host: row.get(at + 1)?,
        code: row.get(at + 2)?,
        url: row.get(at + 3)?,
        state: LinkState::parse(&state).ok_or_else(|| decode("not a state"))?,
        is_deleted: deleted_at.is_some(),
    })
}

/// A report of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Sorts by time.
    pub id: ReportId,
    /// What was reported.
    pub link: ModeratedLink,
    /// What is said to be wrong.
    pub reason: ReportReason,
    /// In the reporter's own words; may be empty.
    pub detail: String,
    /// The name of the reporter's key; `None` for a visitor.
    pub reported_by: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// What became of it.
    pub state: ReportState,
    /// When that was decided.
    pub decided_at: Option<Timestamp>,
    /// By which key.
    pub decided_by: Option<String>,
    /// What the moderator wrote; may be empty.
    pub note: String,
    /// Open reports of the link that were only counted, because there are too many.
    pub beyond_count: u64,
}

/// A report to be added.
#[derive(Debug, Clone)]
pub(crate) struct NewReport {
    pub(crate) id: ReportId,
    pub(crate) link: LinkId,
    pub(crate) reason: ReportReason,
    pub(crate) detail: String,
    pub(crate) reported_by: Option<String>,
    pub(crate) at: Timestamp,
}

/// Adds a report, or only counts it when its link has as many open ones as are kept. Gives whether it was kept.
pub(crate) async fn add_report(tx: &mut Tx<'_>, report: &NewReport) -> Result<bool> {
    let kept = tx
        .exec(
            "INSERT INTO shortener_report_counts (link_id, kept, beyond) VALUES ($1, 1, 0) \
             ON CONFLICT (link_id) DO UPDATE SET kept = shortener_report_counts.kept + 1 \
             WHERE shortener_report_counts.kept < $2",
            params![big(report.link.0), MAX_OPEN_REPORTS],
        )
        .await?;
    if kept == 0 {
        tx.exec(
            "UPDATE shortener_report_counts SET beyond = beyond + 1 WHERE link_id = $1",
            params![big(report.link.0)],
        )
        .await?;
        return Ok(false);
    }
    tx.exec(
        "INSERT INTO shortener_reports (id, link_id, reason, detail, reported_by, created_at, state, note) \
         VALUES ($1, $2, $3, $4, $5, $6, 'open', '')",
        params![
            report.id.to_string(),
            big(report.link.0),
            report.reason.as_str(),
            &report.detail,
            report.reported_by.clone(),
            report.at
        ],
    )
    .await?;
    Ok(true)
}

macro_rules! list_reports {
    ($after:literal, $order:literal) => {
        concat!(
            "SELECT ",
            moderated_link!(),
            ", r.id, r.reason, r.detail, r.reported_by, r.created_at, r.state, r.decided_at, r.decided_by, r.note, \
             (SELECT c.beyond FROM shortener_report_counts c WHERE c.link_id = r.link_id) \
             FROM shortener_reports r JOIN shortener_links l ON l.id = r.link_id WHERE r.state = $1 AND r.id ",
            $after,
            " $2 ORDER BY r.id ",
            $order,
            " LIMIT $3"
        )
    };
}

/// Reports of a state beyond an id: open ones by age, so that none waits for ever; decided ones newest first.
pub(crate) async fn list_reports(db: &Db, state: ReportState, after: &str, limit: u32) -> Result<Vec<Report>> {
    let rows = if state == ReportState::Open {
        db.query(list_reports!(">", ""), params![state.as_str(), after, limit]).await?
    } else {
        let before = if after.is_empty() { "~" } else { after };
        db.query(list_reports!("<", "DESC"), params![state.as_str(), before, limit]).await?
    };
    rows.iter()
        .map(|row| {
            let (id, reason, state): (String, String, String) = (row.get(6)?, row.get(7)?, row.get(11)?);
            Ok(Report {
                link: read_moderated(row, 0)?,
                id: ReportId::parse(&id).ok_or_else(|| decode("not a report"))?,
                reason: ReportReason::parse(&reason).ok_or_else(|| decode("not a reason"))?,
                detail: row.get(8)?,
                reported_by: row.get(9)?,
                created_at: row.get(10)?,
                state: ReportState::parse(&state).ok_or_else(|| decode("not a state"))?,
                decided_at: row.get(12)?,
                decided_by: row.get(13)?,
                note: row.get(14)?,
                beyond_count: row.get::<Option<u64>>(15)?.unwrap_or(0),
            })
        })
        .collect()
}

/// The link of a report.
pub(crate) async fn link_of_report(tx: &mut Tx<'_>, id: ReportId) -> Result<Option<LinkId>> {
    let row = tx.get("SELECT link_id FROM shortener_reports WHERE id = $1", params![id.to_string()]).await?;
    row.map(|row| Ok(LinkId(row.get(0)?))).transpose()
}

/// The state of a report, inside a transaction that holds its link.
pub(crate) async fn report_state(tx: &mut Tx<'_>, id: ReportId) -> Result<Option<ReportState>> {
    let row = tx.get("SELECT state FROM shortener_reports WHERE id = $1", params![id.to_string()]).await?;
    row.map(|row| {
        let state: String = row.get(0)?;
        ReportState::parse(&state).ok_or_else(|| decode("not a state"))
    })
    .transpose()
}

/// How open reports were decided.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) state: ReportState,
    pub(crate) at: Timestamp,
    pub(crate) by: String,
    pub(crate) note: String,
}

/// Decides one open report of a link (`only`) or all of them, which are at most [`MAX_OPEN_REPORTS`]; gives how many.
pub(crate) async fn decide_reports(
    tx: &mut Tx<'_>,
    link: LinkId,
    only: Option<ReportId>,
    verdict: &Verdict,
) -> Result<u64> {
    let count = tx
        .exec(
            "UPDATE shortener_reports SET state = $3, decided_at = $4, decided_by = $5, note = $6 \
             WHERE link_id = $1 AND state = 'open' AND (CAST($2 AS TEXT) IS NULL OR id = $2)",
            params![
                big(link.0),
                only.map(|id| id.to_string()),
                verdict.state.as_str(),
                verdict.at,
                &verdict.by,
                &verdict.note
            ],
        )
        .await?;
    // Those that were only counted are decided with the last of those that were kept.
    tx.exec(
        "UPDATE shortener_report_counts SET beyond = CASE WHEN kept > $2 THEN beyond ELSE 0 END, kept = kept - $2 \
         WHERE link_id = $1",
        params![big(link.0), big(count)],
    )
    .await?;
    Ok(count)
}

/// Deletes some reports that were decided before an instant.
pub(crate) async fn expire_reports(db: &Db, before: Timestamp, limit: u32) -> Result<u64> {
    db.exec(
        "DELETE FROM shortener_reports WHERE id IN \
         (SELECT id FROM shortener_reports WHERE decided_at < $1 ORDER BY decided_at LIMIT $2)",
        params![before, limit],
    )
    .await
}

/// A takedown of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakedownRecord {
    /// Grows.
    pub id: i64,
    /// What was taken down.
    pub link: ModeratedLink,
    /// `abuse` or `legal`.
    pub kind: String,
    /// Why, for its owner to read.
    pub reason: String,
    /// What the link was before.
    pub state_before: LinkState,
    /// When.
    pub taken_at: Timestamp,
    /// By which key.
    pub taken_by: String,
    /// Where it stands.
    pub standing: Standing,
    /// What the owner says against it.
    pub appeal: Option<String>,
    /// When.
    pub appealed_at: Option<Timestamp>,
    /// By which key.
    pub appealed_by: Option<String>,
    /// What the moderator says to that, or about lifting it.
    pub decision: Option<String>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// By which key.
    pub decided_by: Option<String>,
}

macro_rules! takedowns {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            moderated_link!(),
            ", t.id, t.kind, t.reason, t.state_before, t.taken_at, t.taken_by, t.state, t.appeal, t.appealed_at, \
             t.appealed_by, t.decision, t.decided_at, t.decided_by \
             FROM shortener_takedowns t JOIN shortener_links l ON l.id = t.link_id WHERE ",
            $rest
        )
    };
}

fn read_takedown(row: &Row) -> Result<TakedownRecord> {
    let (before, state): (String, String) = (row.get(9)?, row.get(12)?);
    Ok(TakedownRecord {
        link: read_moderated(row, 0)?,
        id: row.get(6)?,
        kind: row.get(7)?,
        reason: row.get(8)?,
        state_before: LinkState::parse(&before).ok_or_else(|| decode("not a state"))?,
        taken_at: row.get(10)?,
        taken_by: row.get(11)?,
        standing: Standing::parse(&state).ok_or_else(|| decode("not a standing"))?,
        appeal: row.get(13)?,
        appealed_at: row.get(14)?,
        appealed_by: row.get(15)?,
        decision: row.get(16)?,
        decided_at: row.get(17)?,
        decided_by: row.get(18)?,
    })
}

/// The takedown of a link that is not lifted, inside a transaction that holds the link.
pub(crate) async fn standing_takedown(tx: &mut Tx<'_>, link: LinkId) -> Result<Option<TakedownRecord>> {
    let row = tx.get(takedowns!("t.link_id = $1 AND t.state <> 'lifted'"), params![big(link.0)]).await?;
    row.as_ref().map(read_takedown).transpose()
}

/// The last takedown of a link.
pub(crate) async fn last_takedown(db: &Db, link: LinkId) -> Result<Option<TakedownRecord>> {
    let row = db.get(takedowns!("t.link_id = $1 ORDER BY t.id DESC LIMIT 1"), params![big(link.0)]).await?;
    row.as_ref().map(read_takedown).transpose()
}

/// Takedowns of a standing beyond a number: by age, the lifted ones newest first.
pub(crate) async fn list_takedowns(
    db: &Db,
    standing: Standing,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<TakedownRecord>> {
    let rows = if standing == Standing::Clear {
        let parameters = params![standing.as_str(), after.unwrap_or(i64::MAX), limit];
        db.query(takedowns!("t.state = $1 AND t.id < $2 ORDER BY t.id DESC LIMIT $3"), parameters).await?
    } else {
        let parameters = params![standing.as_str(), after.unwrap_or(0), limit];
        db.query(takedowns!("t.state = $1 AND t.id > $2 ORDER BY t.id LIMIT $3"), parameters).await?
    };
    rows.iter().map(read_takedown).collect()
}

/// Writes down a new takedown.
pub(crate) async fn insert_takedown(
    tx: &mut Tx<'_>,
    link: LinkId,
    (kind, before): (LinkState, LinkState),
    reason: &str,
    (at, by): (Timestamp, &str),
) -> Result<()> {
    tx.exec(
        "INSERT INTO shortener_takedowns (link_id, kind, reason, state_before, taken_at, taken_by, state) \
         VALUES ($1, $2, $3, $4, $5, $6, 'standing')",
        params![big(link.0), kind.as_str(), reason, before.as_str(), at, by],
    )
    .await
    .map(drop)
}

/// Writes down what became of a takedown.
pub(crate) async fn update_takedown(tx: &mut Tx<'_>, record: &TakedownRecord) -> Result<()> {
    tx.exec(
        "UPDATE shortener_takedowns SET state = $2, appeal = $3, appealed_at = $4, appealed_by = $5, decision = $6, \
         decided_at = $7, decided_by = $8 WHERE id = $1",
        params![
            record.id,
            record.standing.as_str(),
            record.appeal.clone(),
            record.appealed_at,
            record.appealed_by.clone(),
            record.decision.clone(),
            record.decided_at,
            record.decided_by.clone()
        ],
    )
    .await
    .map(drop)
}

/// An entry of the block list that moderators keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkBlock {
    /// Sorts by time.
    pub id: BlockId,
    /// What is blocked, normalised.
    pub entry: String,
    /// Why; may be empty.
    pub reason: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// By which key.
    pub created_by: String,
}

fn read_block(row: &Row) -> Result<LinkBlock> {
    let id: String = row.get(0)?;
    Ok(LinkBlock {
        id: BlockId::parse(&id).ok_or_else(|| decode("not a block"))?,
        entry: row.get(1)?,
        reason: row.get(2)?,
        created_at: row.get(3)?,
        created_by: row.get(4)?,
    })
}

/// Entries in the order in which they were added, beyond an id.
pub(crate) async fn blocks_after(db: &Db, after: &str, limit: u32) -> Result<Vec<LinkBlock>> {
    let rows = db
        .query(
            "SELECT id, entry, reason, created_at, created_by FROM shortener_link_blocks WHERE id > $1 \
             ORDER BY id LIMIT $2",
            params![after, limit],
        )
        .await?;
    rows.iter().map(read_block).collect()
}

/// Adds an entry; `false` when it is there already.
pub(crate) async fn insert_block(tx: &mut Tx<'_>, block: &LinkBlock) -> Result<bool> {
    let count = tx
        .exec(
            "INSERT INTO shortener_link_blocks (id, entry, reason, created_at, created_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
            params![block.id.to_string(), &block.entry, &block.reason, block.created_at, &block.created_by],
        )
        .await?;
    if count == 1 {
        move_block_version(tx).await?;
    }
    Ok(count == 1)
}

/// Whether there are as many entries as `limit`.
pub(crate) async fn are_blocks_full(tx: &mut Tx<'_>, limit: u32) -> Result<bool> {
    Ok(tx.get("SELECT 1 FROM shortener_link_blocks LIMIT 1 OFFSET $1 - 1", params![limit]).await?.is_some())
}

/// Deletes an entry; gives what it was.
pub(crate) async fn delete_block(tx: &mut Tx<'_>, id: BlockId) -> Result<Option<LinkBlock>> {
    let rows = tx
        .exec_returning(
            "DELETE FROM shortener_link_blocks WHERE id = $1 RETURNING id, entry, reason, created_at, created_by",
            params![id.to_string()],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    move_block_version(tx).await?;
    read_block(row).map(Some)
}

async fn move_block_version(tx: &mut Tx<'_>) -> Result<()> {
    tx.exec(
        "INSERT INTO shortener_block_version (name, version) VALUES ('blocks', 1) \
         ON CONFLICT (name) DO UPDATE SET version = shortener_block_version.version + 1",
        params![],
    )
    .await
    .map(drop)
}

/// Which state of the entries the database has.
pub(crate) async fn block_version(db: &Db) -> Result<i64> {
    let row = db.get("SELECT version FROM shortener_block_version WHERE name = 'blocks'", params![]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}
