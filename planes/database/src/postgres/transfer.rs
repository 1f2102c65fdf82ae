//! PostgreSQL as source and as target of a copy.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_postgres::types::Type;

use super::{
    Postgres, Session,
    session::Committed,
    types::{decode, error},
};
use crate::{
    Error, Result, Row, Value,
    migrate::hex,
    transfer::{Batch, Column, Item, Table, Tally, compare, cut_short, quoted},
};

const NO_PARAMS: [(&Value, Type); 0] = [];

impl Postgres {
    /// Reads with a text made by the plane itself, without a bound on its time.
    pub(crate) async fn read_text(&self, sql: String) -> Result<Vec<Row>> {
        let read = self.workers.run(move |local| async move {
            let session = Session::open(&local, false).await?;
            let mut rows = Vec::new();
            each_row(&session, &sql, |row| {
                rows.push(Row::new(row));
                std::future::ready(Ok(()))
            })
            .await?;
            Ok(rows)
        });
        read.await?
    }

    /// Sends every row of one snapshot.
    pub(crate) async fn send_all(&self, tables: Vec<Table>, to: mpsc::Sender<Item>) -> Result<()> {
        let sent = self.workers.run(move |local| async move {
            let mut session = Session::open(&local, false).await?;
            // Whatever happens from here on: the connection is discarded unless the transaction was ended.
            session.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            for table in &tables {
                let mut batch = Batch::default();
                each_row(&session, &table.select(), |row| {
                    let full = batch.add(row);
                    let to = &to;
                    async move {
                        match full {
                            Some(item) => to.send(item).await.map_err(|_| cut_short()),
                            None => Ok(()),
                        }
                    }
                })
                .await?;
                for item in batch.finish() {
                    to.send(item).await.map_err(|_| cut_short())?;
                }
            }
            session.rollback().await;
            Ok(())
        });
        sent.await?
    }

    /// Writes what comes, in one transaction, and compares before it is committed.
    pub(crate) async fn receive_all(&self, tables: Vec<Table>, mut from: mpsc::Receiver<Item>) -> Result<Vec<Tally>> {
        let received = self.workers.run(move |local| async move {
            let mut session = Session::open(&local, false).await?;
            session.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
            let mut tallies = Vec::with_capacity(tables.len());
            for table in &tables {
                tallies.push(receive(&session, table, &mut from).await?);
            }
            match session.commit().await {
                Committed::Yes => Ok(tallies),
                Committed::No(e) => Err(e),
                Committed::Unknown => Err(Error::Unknown),
            }
        });
        received.await?
    }
}

async fn receive(session: &Session, table: &Table, from: &mut mpsc::Receiver<Item>) -> Result<Tally> {
    let fail = |e: &tokio_postgres::Error| match error(e) {
        Error::Other(text) => Error::Other(format!("table {}: {text}", table.name)),
        e => e,
    };
    let client = session.client()?;
    let copy = format!("COPY {} ({}) FROM STDIN", quoted(&table.name), table.column_list());
    let mut sink = pin!(client.copy_in::<_, Bytes>(copy.as_str()).await.map_err(|e| fail(&e))?);
    let sent = loop {
        match from.recv().await.ok_or_else(cut_short)? {
            Item::Rows(rows) => {
                let mut out = BytesMut::new();
                for row in rows {
                    encode(&table.columns, &row, &mut out);
                }
                sink.send(out.freeze()).await.map_err(|e| fail(&e))?;
            }
            Item::End(sent) => break sent,
        }
    };
    sink.as_mut().finish().await.map_err(|e| fail(&e))?;
    let mut found = Tally::default();
    each_row(session, &table.select(), |row| {
        found.add(&row);
        std::future::ready(Ok(()))
    })
    .await?;
    compare(table, sent, found)?;
    for column in table.columns.iter().filter(|c| c.is_identity) {
        // The next generated id comes after those that were copied.
        let name = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let setval = format!(
            "SELECT setval(pg_get_serial_sequence({}, {}), max({column})) FROM {table} HAVING max({column}) > 0",
            name(&quoted(&table.name)),
            name(&column.name),
            column = quoted(&column.name),
            table = quoted(&table.name),
        );
        client.batch_execute(&setval).await.map_err(|e| fail(&e))?;
    }
    Ok(found)
}

/// One line of PostgreSQL's COPY text format.
fn encode(columns: &[Column], row: &[Value], out: &mut BytesMut) {
    for (index, (column, value)) in columns.iter().zip(row).enumerate() {
        if index > 0 {
            out.put_u8(b'\t');
        }
        match value {
            Value::Null => out.put_slice(b"\\N"),
            Value::Bool(v) => out.put_u8(if *v { b't' } else { b'f' }),
            Value::I64(v @ (0 | 1)) if column.data_type == "boolean" => out.put_u8(if *v == 1 { b't' } else { b'f' }),
            Value::I64(v) => out.put_slice(v.to_string().as_bytes()),
            Value::F64(v) if v.is_infinite() => out.put_slice(if *v > 0.0 { b"Infinity" } else { b"-Infinity" }),
            // The shortest text that reads back as the same number.
            Value::F64(v) => out.put_slice(v.to_string().as_bytes()),
            Value::Text(v) => {
                for byte in v.bytes() {
                    match byte {
                        b'\\' => out.put_slice(b"\\\\"),
                        b'\t' => out.put_slice(b"\\t"),
                        b'\n' => out.put_slice(b"\\n"),
                        b'\r' => out.put_slice(b"\\r"),
                        other => out.put_u8(other),
                    }
                }
            }
            Value::Bytes(v) => {
                out.put_slice(b"\\\\x");
                out.put_slice(hex(v).as_bytes());
            }
        }
    }
    out.put_u8(b'\n');
}

async fn each_row<Fut: Future<Output = Result<()>>>(
    session: &Session,
    sql: &str,
    mut visit: impl FnMut(Vec<Value>) -> Fut,
) -> Result<()> {
    let rows = session.client()?.query_typed_raw(sql, NO_PARAMS).await.map_err(|e| error(&e))?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(|e| error(&e))? {
        visit(decode(&row)?).await?;
    }
    Ok(())
}
