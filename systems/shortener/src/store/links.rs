//! Links: their rows, tags and history, their ids, their number per project.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use super::{big, clicks::read_counts};
use crate::model::{Code, DomainId, Link, LinkId, LinkState, LinkStatus, LinkWithClicks};

/// In how many parts the number of a project's links is kept.
const COUNT_SHARDS: u64 = 16;
/// How many links one statement of a list looks at when few of them fit the filters.
const WINDOW: u32 = 2000;

macro_rules! link_columns {
    () => {
        "l.id, l.project, l.domain, (SELECT d.host FROM shortener_domains d WHERE d.id = l.domain), l.code, l.is_alias, \
         l.url, l.title, l.notes, l.tags, l.created_at, l.created_by, l.updated_at, l.starts_at, l.expires_at, \
         l.max_clicks, l.state, l.settings, l.version"
    };
}

macro_rules! link_with_clicks {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            link_columns!(),
            ", t.people, t.bots, t.last_click_at, u.uses FROM ",
            $from,
            " l LEFT JOIN shortener_totals t ON t.link_id = l.id LEFT JOIN shortener_uses u ON u.link_id = l.id ",
            $rest
        )
    };
}

fn decode(column: u8, what: &str) -> Error {
    Error::Decode(format!("column {column}: {what}"))
}

fn read_link(row: &Row) -> Result<Link> {
    let (code, tags, state, settings): (String, String, String, String) =
        (row.get(4)?, row.get(9)?, row.get(16)?, row.get(17)?);
    Ok(Link {
        id: LinkId(row.get(0)?),
        project: row.get(1)?,
        domain: DomainId(row.get(2)?),
        host: row.get(3)?,
        code: Code::parse(&code).ok_or_else(|| decode(4, "not a code"))?,
        is_alias: row.get(5)?,
        url: row.get(6)?,
        title: row.get(7)?,
        notes: row.get(8)?,
        tags: serde_json::from_str(&tags).map_err(|_| decode(9, "not a list of tags"))?,
        created_at: row.get(10)?,
        created_by: row.get(11)?,
        updated_at: row.get(12)?,
        starts_at: row.get(13)?,
        expires_at: row.get(14)?,
        max_clicks: row.get(15)?,
        state: LinkState::parse(&state).ok_or_else(|| decode(16, "not a state"))?,
        settings: serde_json::from_str(&settings).map_err(|_| decode(17, "not settings"))?,
        version: row.get(18)?,
    })
}

fn read_link_with_clicks(row: &Row) -> Result<LinkWithClicks> {
    let uses = row.get::<Option<u64>>(22)?.unwrap_or(0);
    Ok(LinkWithClicks { link: read_link(row)?, total: read_counts(row, 19)?, last_click_at: row.get(21)?, uses })
}

/// JSON that cannot fail: maps with text keys, texts and numbers.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
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
             (id, project, domain, code, is_alias, url, title, notes, tags, settings, state, created_at, created_by, \
             creation_token, updated_at, starts_at, expires_at, max_clicks, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
             ON CONFLICT DO NOTHING",
            params![
                big(link.id.0),
                &link.project,
                big(link.domain.0),
                link.code.as_str(),
                link.is_alias,
                &link.url,
                &link.title,
                &link.notes,
                json(&link.tags),
                json(&link.settings),
                link.state.as_str(),
                link.created_at,
                &link.created_by,
                token,
                link.updated_at,
                link.starts_at,
                link.expires_at,
                link.max_clicks.map(big),
                link.version
            ],
        )
        .await?;
    if count == 1 {
        add_to_link_count(tx, link, 1).await?;
        add_tags(tx, link).await?;
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

pub(super) async fn add_to_link_count(tx: &mut Tx<'_>, link: &Link, change: i64) -> Result<()> {
    tx.exec(
        "INSERT INTO shortener_link_counts (project, shard, links) VALUES ($1, $2, $3) \
         ON CONFLICT (project, shard) DO UPDATE SET links = shortener_link_counts.links + excluded.links",
        params![&link.project, big(link.id.0 % COUNT_SHARDS), change],
    )
    .await
    .map(drop)
}

async fn add_tags(tx: &mut Tx<'_>, link: &Link) -> Result<()> {
    for tag in &link.tags {
        tx.exec(
            "INSERT INTO shortener_link_tags (project, tag, created_at, link_id) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
            params![&link.project, tag, link.created_at, big(link.id.0)],
        )
        .await?;
    }
    Ok(())
}

async fn remove_tags(tx: &mut Tx<'_>, link: &Link) -> Result<()> {
    for tag in &link.tags {
        tx.exec(
            "DELETE FROM shortener_link_tags WHERE project = $1 AND tag = $2 AND created_at = $3 AND link_id = $4",
            params![&link.project, tag, link.created_at, big(link.id.0)],
        )
        .await?;
    }
    Ok(())
}

/// The link of a code, whoever owns it; for redirects.
pub(crate) async fn link_by_code(db: &Db, domain: DomainId, code: &str) -> Result<Option<Link>> {
    let row = db
        .get(
            concat!(
                "SELECT ",
                link_columns!(),
                " FROM shortener_links l WHERE l.domain = $1 AND l.code = $2 AND l.deleted_at IS NULL"
            ),
            params![big(domain.0), code],
        )
        .await?;
    row.as_ref().map(read_link).transpose()
}

/// The link of a code inside a project, with its clicks.
pub(crate) async fn project_link(
    db: &Db,
    project: &ProjectId,
    domain: DomainId,
    code: &str,
) -> Result<Option<LinkWithClicks>> {
    let row = db
        .get(
            link_with_clicks!(
                "shortener_links",
                "WHERE l.domain = $3 AND l.code = $2 AND l.project = $1 AND l.deleted_at IS NULL"
            ),
            params![project, code, big(domain.0)],
        )
        .await?;
    row.as_ref().map(read_link_with_clicks).transpose()
}

/// The same inside a transaction, held until its end.
pub(crate) async fn lock_link(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    domain: DomainId,
    code: &str,
) -> Result<Option<Link>> {
    let row = tx
        .get(
            concat!(
                "SELECT ",
                link_columns!(),
                " FROM shortener_links l WHERE l.domain = $3 AND l.code = $2 AND l.project = $1 \
                 AND l.deleted_at IS NULL /*pg FOR UPDATE OF l */"
            ),
            params![project, code, big(domain.0)],
        )
        .await?;
    row.as_ref().map(read_link).transpose()
}

/// The link of a code, whoever owns it, held until the transaction's end.
pub(crate) async fn lock_any_link(tx: &mut Tx<'_>, domain: DomainId, code: &str) -> Result<Option<Link>> {
    let row = tx
        .get(
            concat!(
                "SELECT ",
                link_columns!(),
                " FROM shortener_links l WHERE l.domain = $1 AND l.code = $2 AND l.deleted_at IS NULL \
                 /*pg FOR UPDATE OF l */"
            ),
            params![big(domain.0), code],
        )
        .await?;
    row.as_ref().map(read_link).transpose()
}

/// A link by its number, deleted or not, held until the transaction's end.
pub(crate) async fn lock_link_by_id(tx: &mut Tx<'_>, id: LinkId) -> Result<Option<Link>> {
    let row = tx
        .get(
            concat!("SELECT ", link_columns!(), " FROM shortener_links l WHERE l.id = $1 /*pg FOR UPDATE OF l */"),
            params![big(id.0)],
        )
        .await?;
    row.as_ref().map(read_link).transpose()
}

/// Changes a link to `link`, whose version the caller has moved on, and writes down what changed.
pub(crate) async fn update_link(tx: &mut Tx<'_>, before: &Link, link: &Link, by: &str, changes: &str) -> Result<()> {
    tx.exec(
        "UPDATE shortener_links SET url = $2, title = $3, notes = $4, tags = $5, settings = $6, state = $7, \
         updated_at = $8, starts_at = $9, expires_at = $10, max_clicks = $11, version = $12 WHERE id = $1",
        params![
            big(link.id.0),
            &link.url,
            &link.title,
            &link.notes,
            json(&link.tags),
            json(&link.settings),
            link.state.as_str(),
            link.updated_at,
            link.starts_at,
            link.expires_at,
            link.max_clicks.map(big),
            link.version
        ],
    )
    .await?;
    if before.tags != link.tags {
        remove_tags(tx, before).await?;
        add_tags(tx, link).await?;
    }
    tx.exec(
        "INSERT INTO shortener_link_history (link_id, version, at, made_by, changes) VALUES ($1, $2, $3, $4, $5)",
        params![big(link.id.0), link.version, link.updated_at, by, changes],
    )
    .await
    .map(drop)
}

/// What was changed about a link, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    /// The version that the change made.
    pub version: i64,
    /// When.
    pub at: Timestamp,
    /// The name of the key.
    pub by: String,
    /// Field by field: before and after.
    pub changes: serde_json::Map<String, serde_json::Value>,
}

/// Changes of a link, newest first, of versions below `before`.
pub(crate) async fn link_history(db: &Db, link: LinkId, before: i64, limit: u32) -> Result<Vec<LinkChange>> {
    let rows = db
        .query(
            "SELECT version, at, made_by, changes FROM shortener_link_history \
             WHERE link_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
            params![big(link.0), before, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let changes: String = row.get(3)?;
            Ok(LinkChange {
                version: row.get(0)?,
                at: row.get(1)?,
                by: row.get(2)?,
                changes: serde_json::from_str(&changes).map_err(|_| decode(3, "not changes"))?,
            })
        })
        .collect()
}

/// Deletes a link that the transaction holds.
pub(crate) async fn delete_link(tx: &mut Tx<'_>, link: &Link, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE shortener_links SET deleted_at = $2, version = version + 1 WHERE id = $1",
        params![big(link.id.0), now],
    )
    .await?;
    remove_tags(tx, link).await?;
    add_to_link_count(tx, link, -1).await
}

/// Which links of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListFilter {
    /// Whose code starts with this; then the list is by code.
    pub prefix: Option<String>,
    /// Which carry this tag.
    pub tag: Option<String>,
    /// On this domain.
    pub domain: Option<DomainId>,
    /// Which are this now.
    pub status: Option<LinkStatus>,
    /// Whose code, URL or title holds this, in any case (of ASCII).
    pub text: Option<String>,
}

/// A place in a list: after it the next page goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) code: String,
    pub(crate) created_at: Timestamp,
    pub(crate) id: LinkId,
}

/// One step through a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListStep {
    /// Links that fit, in order.
    pub(crate) links: Vec<LinkWithClicks>,
    /// The last link that was looked at, when there may be more beyond it.
    pub(crate) window_end: Option<Place>,
}

// Three orders. `$2` and `$3` are where the window begins, `$4` narrows it, `$5` is its length: however few links fit, no statement
// looks at more.
macro_rules! newest_window {
    () => {
        "SELECT * FROM shortener_links WHERE project = $1 AND deleted_at IS NULL AND (created_at, id) < ($2, $3) \
         AND CAST($4 AS TEXT) IS NULL ORDER BY created_at DESC, id DESC LIMIT $5"
    };
}
macro_rules! tag_window {
    () => {
        "SELECT k.* FROM shortener_link_tags g JOIN shortener_links k ON k.id = g.link_id \
         WHERE g.project = $1 AND g.tag = $4 AND (g.created_at, g.link_id) < ($2, $3) \
         ORDER BY g.created_at DESC, g.link_id DESC LIMIT $5"
    };
}
macro_rules! code_window {
    () => {
        "SELECT * FROM shortener_links WHERE project = $1 AND deleted_at IS NULL AND (code, id) > ($2, $3) \
         AND code < $4 ORDER BY code, id LIMIT $5"
    };
}
macro_rules! newest_first {
    () => {
        " ORDER BY l.created_at DESC, l.id DESC "
    };
}
macro_rules! by_code {
    () => {
        " ORDER BY l.code, l.id "
    };
}
macro_rules! fitting {
    ($window:ident, $order:ident) => {
        concat!(
            "SELECT ",
            link_columns!(),
            ", t.people, t.bots, t.last_click_at, u.uses FROM (",
            $window!(),
            ") l LEFT JOIN shortener_totals t ON t.link_id = l.id LEFT JOIN shortener_uses u ON u.link_id = l.id \
             WHERE (CAST($6 AS BIGINT) IS NULL OR l.domain = $6) \
             AND (CAST($7 AS TEXT) IS NULL OR $7 = CASE WHEN l.state = 'disabled' THEN 'disabled' \
               WHEN l.state <> 'active' THEN 'taken_down' WHEN l.expires_at <= $8 THEN 'expired' \
               WHEN l.starts_at > $8 THEN 'scheduled' ELSE 'active' END) \
             AND (CAST($9 AS TEXT) IS NULL OR lower(l.code) LIKE $9 ESCAPE '\\' OR lower(l.url) LIKE $9 ESCAPE '\\' \
               OR lower(l.title) LIKE $9 ESCAPE '\\') \
             AND (CAST($10 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM shortener_link_tags g WHERE g.project = $1 \
               AND g.tag = $10 AND g.created_at = l.created_at AND g.link_id = l.id))",
            $order!(),
            "LIMIT $11"
        )
    };
}
macro_rules! window_end {
    ($window:ident, $order:ident) => {
        concat!("SELECT l.code, l.created_at, l.id FROM (", $window!(), ") l", $order!(), "LIMIT 1 OFFSET $5 - 1")
    };
}

/// One step through a list: at most `limit` links of one window. Lists with a prefix are by code, others by time.
pub(crate) async fn list_links(
    db: &Db,
    project: &ProjectId,
    filter: &ListFilter,
    after: Option<&Place>,
    now: Timestamp,
    limit: u32,
) -> Result<ListStep> {
    let by_code = filter.prefix.is_some();
    let narrows = filter.domain.is_some()
        || filter.status.is_some()
        || filter.text.is_some()
        || (by_code && filter.tag.is_some());
    let window = if narrows { WINDOW.max(limit) } else { limit };
    let (at, id) = after.map_or((i64::MAX, i64::MAX), |place| (place.created_at.as_millis(), big(place.id.0)));
    let (select, last, mut parameters) = match (&filter.prefix, &filter.tag) {
        (Some(prefix), _) => {
            let (from, id) = after.map_or((prefix.as_str(), -1), |place| (place.code.as_str(), big(place.id.0)));
            // `~` sorts after everything that a code may hold.
            let parameters = params![project, from, id, format!("{prefix}~"), window];
            (fitting!(code_window, by_code), window_end!(code_window, by_code), parameters)
        }
        (None, Some(tag)) => {
            let parameters = params![project, at, id, tag, window];
            (fitting!(tag_window, newest_first), window_end!(tag_window, newest_first), parameters)
        }
        (None, None) => {
            let parameters = params![project, at, id, None::<String>, window];
            (fitting!(newest_window, newest_first), window_end!(newest_window, newest_first), parameters)
        }
    };
    let of_window = parameters.clone();
    parameters.extend(params![
        filter.domain.map(|domain| big(domain.0)),
        filter.status.map(LinkStatus::as_str),
        now,
        filter.text.as_deref().map(contains),
        filter.tag.as_deref().filter(|_| by_code),
        limit
    ]);
    let links: Vec<_> = db.query(select, parameters).await?.iter().map(read_link_with_clicks).collect::<Result<_>>()?;
    let mut window_end = None;
    if narrows && links.len() < limit as usize {
        let row = db.get(last, of_window).await?;
        window_end = row
            .map(|row| Ok::<_, Error>(Place { code: row.get(0)?, created_at: row.get(1)?, id: LinkId(row.get(2)?) }))
            .transpose()?;
    }
    Ok(ListStep { links, window_end })
}

/// A pattern for LIKE that finds `text` anywhere.
fn contains(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
