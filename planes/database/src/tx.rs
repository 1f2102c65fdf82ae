//! What a transaction body works with.

use crate::{Engine, Error, Result, Row, Value, postgres, sql, sqlite, value};

/// An open transaction, lent to its body.
///
/// A statement that fails ends the transaction on both engines alike: what follows fails with the same error, and the
/// transaction is rolled back even when the body returns `Ok`. Use `ON CONFLICT DO NOTHING` where a conflict is expected.
#[derive(Debug)]
pub struct Tx<'a> {
    on: On<'a>,
    pub(crate) changes: Vec<(&'static str, i64)>,
    pub(crate) failed: Option<Error>,
}

#[derive(Debug)]
pub(crate) enum On<'a> {
    Sqlite(&'a mut sqlite::Conn),
    Postgres(&'a mut postgres::Session),
}

impl<'a> Tx<'a> {
    pub(crate) fn new(on: On<'a>) -> Self {
        Self { on, changes: Vec::new(), failed: None }
    }

    /// Which engine it runs on, for what is worth two ways of saying it.
    pub fn engine(&self) -> Engine {
        match self.on {
            On::Sqlite(_) => Engine::Sqlite,
            On::Postgres(_) => Engine::Postgres,
        }
    }

    fn usable(&self, sql: &str, params: &[Value]) -> Result<()> {
        match &self.failed {
            Some(e) => Err(e.clone()),
            None => sql::check(sql).and_then(|()| value::check(params)),
        }
    }

    fn note<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|e| {
            if self.failed.is_none() {
                match &self.on {
                    On::Sqlite(conn) => conn.counters.error(e),
                    On::Postgres(session) => session.counters().error(e),
                }
                self.failed = Some(e.clone());
            }
        })
    }

    /// Runs a statement; gives how many rows it changed.
    pub async fn exec(&mut self, sql: &'static str, params: Vec<Value>) -> Result<u64> {
        let result = match self.usable(sql, &params) {
            Ok(()) => match &mut self.on {
                On::Sqlite(conn) => conn.exec(sql, &params),
                On::Postgres(session) => session.exec(sql, &params).await,
            },
            Err(e) => Err(e),
        };
        self.note(result)
    }

    /// Runs one statement once for each of `rows`, in their order; gives how many rows all of them changed.
    ///
    /// Prepared once: SQLite runs them in a row, PostgreSQL gets them one behind the other without waiting for each answer, so
    /// a batch costs few round trips. One failure fails the transaction. At most [`crate::MAX_MANY_ROWS`] rows a call; what
    /// bounds the time of a statement bounds the whole call.
    pub async fn exec_many(&mut self, sql: &'static str, rows: Vec<Vec<Value>>) -> Result<u64> {
        let usable = if rows.len() > crate::MAX_MANY_ROWS {
            Err(Error::Value("too many rows for one call"))
        } else {
            rows.iter().try_for_each(|params| self.usable(sql, params))
        };
        let result = match usable {
            Ok(()) if rows.is_empty() => Ok(0),
            Ok(()) => match &mut self.on {
                On::Sqlite(conn) => conn.exec_many(sql, &rows),
                On::Postgres(session) => session.exec_many(sql, &rows).await,
            },
            Err(e) => Err(e),
        };
        self.note(result)
    }

    /// Runs a statement with `RETURNING`; gives its rows.
    pub async fn exec_returning(&mut self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        let result = match self.usable(sql, &params) {
            Ok(()) => match &mut self.on {
                On::Sqlite(conn) => conn.query(sql, &params),
                On::Postgres(session) => session.query(sql, &params).await,
            },
            Err(e) => Err(e),
        };
        self.note(result)
    }

    /// Reads rows; sees what this transaction wrote. At most [`crate::MAX_RESULT_BYTES`].
    pub async fn query(&mut self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        self.exec_returning(sql, params).await
    }

    /// Reads the first row, if there is one.
    pub async fn get(&mut self, sql: &'static str, params: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.exec_returning(sql, params).await?.into_iter().next())
    }

    /// Runs several statements, for migrations: without a bound on their time.
    pub(crate) async fn batch(&mut self, sql: &'static str) -> Result<()> {
        let result = match (&self.failed, &mut self.on) {
            (Some(e), _) => Err(e.clone()),
            (None, On::Sqlite(conn)) => conn.batch(sql::live(sql, Engine::Sqlite)),
            (None, On::Postgres(session)) => session.batch(sql).await,
        };
        self.note(result)
    }

    /// Wakes the watchers of `topic` with `key` once this transaction has committed, and only then.
    pub fn notify(&mut self, topic: &'static str, key: i64) {
        self.changes.push((topic, key));
    }
}
