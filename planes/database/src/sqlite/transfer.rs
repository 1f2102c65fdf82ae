//! SQLite as source and as target of a copy.

use tokio::sync::mpsc;

use super::{
    Conn, Sqlite,
    conn::{decode, error},
};
use crate::{
    Error, Result, Row, Value,
    transfer::{Batch, Item, Table, Tally, compare, cut_short, quoted},
};

impl Sqlite {
    /// Reads with a text made by the plane itself.
    pub(crate) async fn read_text(&self, sql: String) -> Result<Vec<Row>> {
        let mut conn = self.open_reader()?;
        blocking(move || conn.query_text(&sql, &[])).await
    }

    /// Sends every row of one snapshot.
    pub(crate) async fn send_all(&self, tables: Vec<Table>, to: mpsc::Sender<Item>) -> Result<()> {
        let conn = self.open_reader()?;
        blocking(move || {
            conn.control("BEGIN")?;
            for table in &tables {
                let mut batch = Batch::default();
                each_row(&conn, table, |row| match batch.add(row) {
                    Some(item) => to.blocking_send(item).map_err(|_| cut_short()),
                    None => Ok(()),
                })?;
                for item in batch.finish() {
                    to.blocking_send(item).map_err(|_| cut_short())?;
                }
            }
            conn.control("ROLLBACK")
        })
        .await
    }

    /// Writes what comes, in one transaction, and compares before it is committed.
    pub(crate) async fn receive_all(&self, tables: Vec<Table>, from: mpsc::Receiver<Item>) -> Result<Vec<Tally>> {
        let mut from = Some(from);
        self.own(move |conn| {
            // What was taken from the channel cannot be taken again.
            let mut from = from.take().ok_or(Error::Retry)?;
            // Rows may come before those that they refer to; checked at COMMIT.
            conn.batch("PRAGMA defer_foreign_keys = ON")?;
            tables.iter().map(|table| receive(conn, table, &mut from)).collect()
        })
        .await
    }
}

fn receive(conn: &mut Conn, table: &Table, from: &mut mpsc::Receiver<Item>) -> Result<Tally> {
    let places = (1..=table.columns.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
    let insert = format!("INSERT INTO {} ({}) VALUES ({places})", quoted(&table.name), table.column_list());
    loop {
        match from.blocking_recv().ok_or_else(cut_short)? {
            Item::Rows(rows) => {
                for row in rows {
                    conn.exec_text(&insert, &row)?;
                }
            }
            Item::End(sent) => {
                let mut found = Tally::default();
                each_row(conn, table, |row| {
                    found.add(&row);
                    Ok(())
                })?;
                compare(table, sent, found)?;
                return Ok(found);
            }
        }
    }
}

fn each_row(conn: &Conn, table: &Table, mut visit: impl FnMut(Vec<Value>) -> Result<()>) -> Result<()> {
    let mut statement = conn.raw().prepare(&table.select()).map_err(|e| error(&e))?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(|e| error(&e))? {
        let column = |index| decode(row.get_ref(index).map_err(|e| error(&e))?);
        visit((0..table.columns.len()).map(column).collect::<Result<_>>()?)?;
    }
    Ok(())
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Other("a blocking task ended early".to_owned()))?
}
