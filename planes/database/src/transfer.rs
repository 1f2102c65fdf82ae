//! Moving everything from one database to another, whichever engines they are, and proving that it arrived.
//!
//! ```text
//! source: one snapshot ── batches ──▶ progress ── batches ──▶ target: one transaction ─ reread, compare ─ COMMIT
//! ```
//!
//! The tables come from the catalogue. Both sides count rows and sum the SHA-256 of each row (as 256-bit numbers, so that
//! order does not matter and a row that is there twice counts twice); the target does so by reading back what it wrote, and
//! commits only when every table agrees.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tokio::sync::mpsc;

use crate::{
    Db, Error, Result, Row, Value,
    db::On,
    migrate::{TABLE, hex},
    params,
};

/// Batches between source and target.
const BATCHES_IN_FLIGHT: usize = 4;
/// A batch ends when it has so many rows, or holds so many bytes.
const ROWS_PER_BATCH: usize = 500;
const BYTES_PER_BATCH: usize = 1 << 20;

/// How far long work has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The table in hand; empty when whole pages are copied.
    pub table: String,
    /// Rows (or pages) done, over all tables.
    pub done_count: u64,
    /// Rows (or pages) in all.
    pub total_count: u64,
}

/// One table of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub row_count: u64,
    /// The sum of the SHA-256 of its rows, in hexadecimal; the same on both sides.
    pub checksum: String,
}

/// What was copied, and verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The tables, in the order they were copied.
    pub tables: Vec<TableReport>,
}

impl Report {
    /// Rows over all tables.
    pub fn row_count(&self) -> u64 {
        self.tables.iter().map(|t| t.row_count).sum()
    }
}

/// A table as both sides know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    depends_on: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As the target declares it, in lower case.
    pub(crate) data_type: String,
    pub(crate) is_identity: bool,
}

impl Table {
    /// `"a", "b"`.
    pub(crate) fn column_list(&self) -> String {
        self.columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(", ")
    }

    /// Reads every row.
    pub(crate) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.column_list(), quoted(&self.name))
    }
}

/// A name as SQL takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Count and checksum of a table.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    count: u64,
    sum: [u64; 4],
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with checksum {}", self.count, self.checksum())
    }
}

impl Tally {
    /// Adds a row. The engines' spellings of a boolean count as the same value.
    pub(crate) fn add(&mut self, row: &[Value]) {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for value in row {
            match value {
                Value::Null => context.update(&[0]),
                Value::I64(v) => number(&mut context, *v),
                Value::Bool(v) => number(&mut context, i64::from(*v)),
                Value::F64(v) => {
                    context.update(&[2]);
                    // −0 and 0 are the same number, and PostgreSQL and SQLite may give either.
                    context.update(&(if *v == 0.0 { 0.0 } else { *v }).to_bits().to_le_bytes());
                }
                Value::Text(v) => bytes(&mut context, 3, v.as_bytes()),
                Value::Bytes(v) => bytes(&mut context, 4, v),
            }
        }
        self.count += 1;
        let digest = context.finish();
        let mut carry = false;
        for (limb, chunk) in self.sum.iter_mut().zip(digest.as_ref().chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            let (sum, first) = limb.overflowing_add(u64::from_le_bytes(word));
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = first || second;
        }
    }

    fn checksum(&self) -> String {
        hex(&self.sum.iter().flat_map(|limb| limb.to_le_bytes()).collect::<Vec<_>>())
    }
}

fn number(context: &mut ring::digest::Context, v: i64) {
    context.update(&[1]);
    context.update(&v.to_le_bytes());
}

fn bytes(context: &mut ring::digest::Context, kind: u8, v: &[u8]) {
    context.update(&[kind]);
    context.update(&(v.len() as u64).to_le_bytes());
    context.update(v);
}

/// What the source sends: the rows of one table after another, in the order of the plan.
pub(crate) enum Item {
    /// Some rows of the table in hand.
    Rows(Vec<Vec<Value>>),
    /// The table in hand is complete.
    End(Tally),
}

/// Gathers rows into batches.
#[derive(Default)]
pub(crate) struct Batch {
    rows: Vec<Vec<Value>>,
    size_bytes: usize,
    tally: Tally,
}

impl Batch {
    /// Adds a row; gives the batch when it is full.
    pub(crate) fn add(&mut self, row: Vec<Value>) -> Option<Item> {
        self.tally.add(&row);
        self.size_bytes += row.iter().map(Value::size_bytes).sum::<usize>();
        self.rows.push(row);
        if self.rows.len() < ROWS_PER_BATCH && self.size_bytes < BYTES_PER_BATCH {
            return None;
        }
        self.size_bytes = 0;
        Some(Item::Rows(std::mem::take(&mut self.rows)))
    }

    /// The rest, and the end.
    pub(crate) fn finish(self) -> [Item; 2] {
        [Item::Rows(self.rows), Item::End(self.tally)]
    }
}

/// The other side ended early; its own error says why.
pub(crate) fn cut_short() -> Error {
    Error::Other("the other side of the copy ended early".to_owned())
}

/// Compares what was sent with what is there now.
pub(crate) fn compare(table: &Table, sent: Tally, found: Tally) -> Result<()> {
    if sent == found {
        return Ok(());
    }
    Err(Error::CopyDiffers(format!("table {}: sent {sent:?}, found {found:?}", table.name)))
}

/// Copies every table of `from` into `to`, which must hold no rows; verifies counts and checksums before it commits.
///
/// `to` is first migrated to what was migrated through `from`'s handle ([`Db::migrate`]). `from` may be written to meanwhile:
/// what is copied is one snapshot. All or nothing: after an error `to` is as empty as before.
pub async fn copy(from: &Db, to: &Db, mut progress: impl FnMut(&Progress) + Send) -> Result<Report> {
    for (system, migrations) in from.migrations() {
        to.migrate(system, migrations).await?;
    }
    same_migrations(from, to).await?;
    let plan = plan(from, to).await?;
    let mut total_count = 0;
    for table in &plan {
        total_count += count(from, table).await?;
        if count(to, table).await? > 0 {
            return Err(Error::NotEmpty(format!("the target holds rows already: table {}", table.name)));
        }
    }

    let (source_tx, mut source_rx) = mpsc::channel(BATCHES_IN_FLIGHT);
    let (target_tx, target_rx) = mpsc::channel(BATCHES_IN_FLIGHT);
    let source = async {
        match from.on() {
            On::Sqlite(db) => db.send_all(plan.clone(), source_tx).await,
            On::Postgres(db) => db.send_all(plan.clone(), source_tx).await,
        }
    };
    let target = async {
        match to.on() {
            On::Sqlite(db) => db.receive_all(plan.clone(), target_rx).await,
            On::Postgres(db) => db.receive_all(plan.clone(), target_rx).await,
        }
    };
    let names: Vec<&str> = plan.iter().map(|t| t.name.as_str()).collect();
    let forward = async move {
        let (mut table, mut done_count) = (0, 0_u64);
        while let Some(item) = source_rx.recv().await {
            match &item {
                Item::Rows(rows) => {
                    done_count += rows.len() as u64;
                    let table = names.get(table).copied().unwrap_or_default().to_owned();
                    progress(&Progress { table, done_count, total_count: total_count.max(done_count) });
                }
                Item::End(_) => table += 1,
            }
            if target_tx.send(item).await.is_err() {
                break;
            }
        }
    };
    let (sent, received, ()) = futures_util::future::join3(source, target, forward).await;
    // Where one side failed, the other was cut short: the reason comes first.
    let tallies = match (sent, received) {
        (Ok(()), received) => received?,
        (Err(e), Err(other)) if e == cut_short() => return Err(other),
        (Err(e), _) => return Err(e),
    };
    let report = |(table, tally): (&Table, Tally)| TableReport {
        name: table.name.clone(),
        row_count: tally.count,
        checksum: tally.checksum(),
    };
    Ok(Report { tables: plan.iter().zip(tallies).map(report).collect() })
}

async fn count(db: &Db, table: &Table) -> Result<u64> {
    let sql = format!("SELECT COUNT(*) FROM {}", quoted(&table.name));
    match db.on() {
        On::Sqlite(sqlite) => sqlite.read_text(sql).await,
        On::Postgres(postgres) => postgres.read_text(sql).await,
    }?
    .first()
    .map_or(Ok(0), |row| row.get(0))
}

async fn same_migrations(from: &Db, to: &Db) -> Result<()> {
    let read = |db: &Db| {
        let db = db.clone();
        async move {
            // A database that was never migrated has no such table.
            db.tx(async |tx| tx.batch(TABLE).await).await?;
            let rows = db.query("SELECT system, version, checksum FROM _migrations", params![]).await?;
            rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect::<Result<BTreeSet<_>>>()
        }
    };
    let (ours, theirs): (BTreeSet<(String, i64, String)>, _) = (read(from).await?, read(to).await?);
    match ours.symmetric_difference(&theirs).next() {
        None => Ok(()),
        Some((system, version, _)) => Err(Error::Migration(format!(
            "source and target differ in migration {version} of {system}: the systems of both must be migrated by this binary"
        ))),
    }
}

/// The tables that both sides have, those that others refer to first.
async fn plan(from: &Db, to: &Db) -> Result<Vec<Table>> {
    let (sources, targets) = (tables(from).await?, tables(to).await?);
    let names = |map: &BTreeMap<String, Table>| map.keys().cloned().collect::<BTreeSet<_>>();
    if let Some(name) = names(&sources).symmetric_difference(&names(&targets)).next() {
        return Err(Error::Migration(format!("only one side has the table {name}")));
    }
    let mut left = targets;
    let mut plan: Vec<Table> = Vec::new();
    for (name, source) in &sources {
        let columns = |table: &Table| table.columns.iter().map(|c| c.name.clone()).collect::<BTreeSet<_>>();
        if left.get(name).is_some_and(|target| columns(target) != columns(source)) {
            return Err(Error::Migration(format!("the columns of table {name} differ between source and target")));
        }
    }
    while !left.is_empty() {
        let is_ready =
            |table: &Table| !table.depends_on.iter().any(|other| *other != table.name && left.contains_key(other));
        // Tables that refer to each other in a circle are taken as they come, and the target decides.
        let next = left.values().find(|t| is_ready(t)).or_else(|| left.values().next()).map(|t| t.name.clone());
        plan.extend(next.and_then(|name| left.remove(&name)));
    }
    Ok(plan)
}

async fn tables(db: &Db) -> Result<BTreeMap<String, Table>> {
    let (names, columns, references) = match db.on() {
        On::Sqlite(_) => (
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'",
            "SELECT name, lower(type), FALSE FROM pragma_table_info($1) ORDER BY cid",
            "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list($1)",
        ),
        On::Postgres(_) => (
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables
             WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'",
            "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT), is_identity = 'YES'
             FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1 AND is_generated = 'NEVER'
             ORDER BY ordinal_position",
            "SELECT DISTINCT CAST(other.relname AS TEXT) FROM pg_constraint c
             JOIN pg_class own ON own.oid = c.conrelid JOIN pg_class other ON other.oid = c.confrelid
             JOIN pg_namespace n ON n.oid = own.relnamespace
             WHERE c.contype = 'f' AND n.nspname = current_schema() AND own.relname = $1",
        ),
    };
    let mut tables = BTreeMap::new();
    for row in db.query(names, params![]).await? {
        let name: String = row.get(0)?;
        if name == "_migrations" {
            continue;
        }
        let column = |row: &Row| Ok(Column { name: row.get(0)?, data_type: row.get(1)?, is_identity: row.get(2)? });
        let columns = db.query(columns, params![&name]).await?.iter().map(column).collect::<Result<Vec<_>>>()?;
        let depends_on = db.query(references, params![&name]).await?.iter().map(|r| r.get(0)).collect::<Result<_>>()?;
        tables.insert(name.clone(), Table { name, columns, depends_on });
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_sees_rows_not_their_order() {
        let tally = |rows: &[Vec<Value>]| {
            let mut tally = Tally::default();
            for row in rows {
                tally.add(row);
            }
            tally
        };
        let (a, b) = (params![1, "a", true, 0.0], params![2, "b", false, None::<String>]);
        assert_eq!(tally(&[a.clone(), b.clone()]), tally(&[b.clone(), a.clone()]));
        assert_eq!(tally(std::slice::from_ref(&a)), tally(&[params![1, "a", 1, -0.0]]));
        for other in [
            vec![a.clone()],
            vec![a.clone(), a.clone()],
            vec![a.clone(), b.clone(), b.clone()],
            vec![a.clone(), params![2, "b", false, ""]],
            vec![params![1, "", true, 0.0], params![2, "ab", false, None::<String>]],
        ] {
            assert_ne!(tally(&other), tally(&[a.clone(), b.clone()]), "{other:?}");
        }
        assert_ne!(tally(&[params!["ab", "c"]]), tally(&[params!["a", "bc"]]));
        assert_ne!(tally(&[params!["a"]]), tally(&[params![b"a"]]));
    }
}
