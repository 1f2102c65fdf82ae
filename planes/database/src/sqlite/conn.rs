//! One connection: how it is opened, how statements run on it, what its errors mean.

use std::{
    fmt,
    fs::OpenOptions,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::Clock;
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement, config::DbConfig, ffi, types::ValueRef};

use crate::{Durability, Engine, Error, Result, Row, SqliteOptions, Value, row::Collected, sql, stats::Counters};

/// SQLite instructions between two looks at the limits.
const INSTRUCTIONS_PER_LOOK: i32 = 2_000;
/// Looks that a read may take on the thread of its caller: about a millisecond of work.
const INLINE_LOOKS: u32 = 10;
const NO_LIMIT: u32 = u32::MAX;
/// Statements that each connection keeps prepared.
const STATEMENT_CACHE: usize = 512;

/// What stops a statement: its time, or that it turned out too long for the thread it runs on.
#[derive(Debug)]
struct Limits {
    looks_left: AtomicU32,
    deadline_us: AtomicU64,
    is_too_long: AtomicBool,
}

/// A connection with its limits.
pub(crate) struct Conn {
    inner: Connection,
    limits: Arc<Limits>,
    clock: Clock,
    statement_timeout: Duration,
    pub(crate) counters: Arc<Counters>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conn")
    }
}

/// Why a read ended without rows.
pub(crate) enum Stopped {
    /// It is long: run it again where it may block.
    TooLong,
    /// It failed.
    Failed(Error),
}

impl Conn {
    /// Opens the file for writing, and makes it where it does not exist.
    pub(crate) fn open_writer(
        path: &Path,
        options: &SqliteOptions,
        clock: &Clock,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        create_private(path)?;
        let this = Self::open(path, flags, options, clock, counters)?;
        let mode: String =
            this.inner.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(|e| error(&e))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(Error::Other(format!("{} does not support WAL: got {mode}", path.display())));
        }
        let synchronous = match options.durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        this.inner.pragma_update(None, "synchronous", synchronous).map_err(|e| error(&e))?;
        // After a reset the file shrinks to this again.
        this.inner
            .pragma_update_and_check(None, "journal_size_limit", super::WAL_LIMIT_BYTES.cast_signed(), |_| Ok(()))
            .map_err(|e| error(&e))?;
        Ok(this)
    }

    /// Opens a connection that cannot write.
    pub(crate) fn open_reader(
        path: &Path,
        options: &SqliteOptions,
        clock: &Clock,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let this = Self::open(path, flags, options, clock, counters)?;
        this.inner.pragma_update(None, "query_only", true).map_err(|e| error(&e))?;
        Ok(this)
    }

    fn open(
        path: &Path,
        flags: OpenFlags,
        options: &SqliteOptions,
        clock: &Clock,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let mut inner = Connection::open_with_flags(path, flags).map_err(|e| error(&e))?;
        let limits = Arc::new(Limits {
            looks_left: AtomicU32::new(NO_LIMIT),
            deadline_us: AtomicU64::new(u64::MAX),
            is_too_long: AtomicBool::new(false),
        });
        let prepare = |inner: &mut Connection| -> rusqlite::Result<()> {
            inner.busy_timeout(options.busy_timeout)?;
            inner.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
            inner.pragma_update(None, "foreign_keys", true)?;
            inner.pragma_update(None, "temp_store", "MEMORY")?;
            inner.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
            // As PostgreSQL does it: LIKE tells cases apart, and "x" is a name, never a string.
            inner.pragma_update(None, "case_sensitive_like", true)?;
            inner.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
            inner.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
            let (look, clock) = (limits.clone(), clock.clone());
            inner.progress_handler(INSTRUCTIONS_PER_LOOK, Some(move || look.should_stop(&clock)))
        };
        prepare(&mut inner).map_err(|e| error(&e))?;
        let (clock, counters) = (clock.clone(), counters.clone());
        Ok(Self { inner, limits, clock, statement_timeout: options.statement_timeout, counters })
    }

    /// The connection itself, for what has no statement form.
    pub(crate) fn raw(&self) -> &Connection {
        &self.inner
    }

    /// Whether no transaction is open.
    pub(crate) fn is_autocommit(&self) -> bool {
        self.inner.is_autocommit()
    }

    /// Runs one of the plane's own statements that bound a transaction.
    pub(crate) fn control(&self, sql: &'static str) -> Result<()> {
        let run = || self.inner.prepare_cached(sql)?.raw_execute();
        run().map(drop).map_err(|e| error(&e))
    }

    /// Runs several statements, without a bound on their time.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        self.inner.execute_batch(sql).map_err(|e| error(&e))
    }

    /// Runs a statement; gives how many rows it changed.
    pub(crate) fn exec(&mut self, sql: &'static str, params: &[Value]) -> Result<u64> {
        self.exec_text(sql::live(sql, Engine::Sqlite), params)
    }

    /// Runs a statement once for each of `rows`; gives how many rows all of them changed.
    pub(crate) fn exec_many(&mut self, sql: &'static str, rows: &[Vec<Value>]) -> Result<u64> {
        let sql = sql::live(sql, Engine::Sqlite);
        self.limited(NO_LIMIT, |inner| {
            let before = inner.total_changes();
            let mut statement = inner.prepare_cached(sql).map_err(|e| error(&e))?;
            let numbers = numbers(&statement)?;
            for params in rows {
                bind_numbered(&mut statement, &numbers, params)?;
                let mut walked = statement.raw_query();
                while walked.next().map_err(|e| error(&e))?.is_some() {}
            }
            Ok(inner.total_changes() - before)
        })
    }

    /// Runs a statement; gives its rows.
    pub(crate) fn query(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>> {
        self.query_text(sql::live(sql, Engine::Sqlite), params)
    }

    /// As [`Conn::exec`], with a text made by the plane itself.
    pub(crate) fn exec_text(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        self.limited(NO_LIMIT, |inner| {
            let mut statement = inner.prepare_cached(sql).map_err(|e| error(&e))?;
            bind(&mut statement, params)?;
            if statement.column_count() == 0 {
                return statement.raw_execute().map(|n| n as u64).map_err(|e| error(&e));
            }
            // With RETURNING, or a SELECT: the rows are walked and dropped.
            let before = inner.total_changes();
            let mut rows = statement.raw_query();
            while rows.next().map_err(|e| error(&e))?.is_some() {}
            Ok(inner.total_changes() - before)
        })
    }

    /// As [`Conn::query`], with a text made by the plane itself.
    pub(crate) fn query_text(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        self.limited(NO_LIMIT, |inner| collect(inner, sql, params))
    }

    /// Reads on the thread of an async caller: gives up when it turns out to be long.
    pub(crate) fn query_inline(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Stopped> {
        let sql = sql::live(sql, Engine::Sqlite);
        let result = self.limited(INLINE_LOOKS, |inner| collect(inner, sql, params));
        result.map_err(|e| {
            if self.limits.is_too_long.load(Ordering::Relaxed) { Stopped::TooLong } else { Stopped::Failed(e) }
        })
    }

    fn limited<T>(&mut self, looks: u32, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let deadline = self.clock.monotonic() + self.statement_timeout;
        self.limits.deadline_us.store(u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.limits.looks_left.store(looks, Ordering::Relaxed);
        self.limits.is_too_long.store(false, Ordering::Relaxed);
        let result = run(&self.inner);
        // Statements that bound a transaction run without a limit: they must not be stopped halfway.
        self.limits.looks_left.store(NO_LIMIT, Ordering::Relaxed);
        self.limits.deadline_us.store(u64::MAX, Ordering::Relaxed);
        result
    }
}

impl Limits {
    fn should_stop(&self, clock: &Clock) -> bool {
        let left = self.looks_left.load(Ordering::Relaxed);
        if left == 0 {
            self.is_too_long.store(true, Ordering::Relaxed);
            return true;
        }
        if left != NO_LIMIT {
            self.looks_left.store(left - 1, Ordering::Relaxed);
        }
        clock.monotonic().as_micros() > u128::from(self.deadline_us.load(Ordering::Relaxed))
    }
}

/// Makes the file where there is none, for this user alone; SQLite gives its companions the same mode. Left to itself it makes
/// files that every user of the machine can read.
pub(crate) fn create_private(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Err(Error::DiskFull),
        Err(e) => Err(Error::Other(format!("cannot open {}: {e}", path.display()))),
    }
}

fn collect(inner: &Connection, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
    let mut statement = inner.prepare_cached(sql).map_err(|e| error(&e))?;
    bind(&mut statement, params)?;
    let column_count = statement.column_count();
    let mut collected = Collected::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(|e| error(&e))? {
        let mut values = Vec::with_capacity(column_count);
        for index in 0..column_count {
            values.push(decode(row.get_ref(index).map_err(|e| error(&e))?)?);
        }
        collected.push(values)?;
    }
    Ok(collected.into_rows())
}

/// Reads what a column holds.
pub(crate) fn decode(value: ValueRef<'_>) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(v) => Value::I64(v),
        ValueRef::Real(v) => Value::F64(v),
        ValueRef::Text(v) => Value::Text(
            std::str::from_utf8(v).map_err(|_| Error::Decode("text that is not UTF-8".to_owned()))?.to_owned(),
        ),
        ValueRef::Blob(v) => Value::Bytes(v.to_vec()),
    })
}

/// Binds `$n` by its number: SQLite itself would take `$n` for names and number them as they come.
fn bind(statement: &mut Statement<'_>, params: &[Value]) -> Result<()> {
    let numbers = numbers(statement)?;
    bind_numbered(statement, &numbers, params)
}

/// The `n` of each parameter, in the order in which SQLite counts them.
fn numbers(statement: &Statement<'_>) -> Result<Vec<usize>> {
    let number = |index| {
        statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$'))
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| Error::Other("a parameter is not written as $1, $2, …".to_owned()))
    };
    (1..=statement.parameter_count()).map(number).collect()
}

fn bind_numbered(statement: &mut Statement<'_>, numbers: &[usize], params: &[Value]) -> Result<()> {
    for (index, number) in (1..).zip(numbers) {
        let value = params
            .get(number - 1)
            .ok_or_else(|| Error::Other(format!("${number} is used, but {} parameters were given", params.len())))?;
        let bound = match value {
            Value::Null => statement.raw_bind_parameter(index, rusqlite::types::Null),
            Value::I64(v) => statement.raw_bind_parameter(index, v),
            Value::F64(v) => statement.raw_bind_parameter(index, v),
            Value::Text(v) => statement.raw_bind_parameter(index, v),
            Value::Bytes(v) => statement.raw_bind_parameter(index, v),
            Value::Bool(v) => statement.raw_bind_parameter(index, v),
        };
        bound.map_err(|e| error(&e))?;
    }
    Ok(())
}

/// What an error of SQLite means.
pub(crate) fn error(e: &rusqlite::Error) -> Error {
    let Some(failure) = e.sqlite_error() else { return Error::Other(e.to_string()) };
    match failure.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            return Error::Unique;
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => return Error::ForeignKey,
        ffi::SQLITE_CONSTRAINT_CHECK | ffi::SQLITE_CONSTRAINT_NOTNULL => return Error::Check,
        // A quota (EDQUOT) and a file-size limit (EFBIG) arrive as a failed write; only ENOSPC as SQLITE_FULL.
        ffi::SQLITE_IOERR_WRITE => return Error::DiskFull,
        _ => {}
    }
    match failure.code {
        ErrorCode::DiskFull => Error::DiskFull,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::Busy,
        ErrorCode::OperationInterrupted => Error::Timeout,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Error::Corrupt(e.to_string()),
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            Error::Conn(e.to_string())
        }
        _ => Error::Other(e.to_string()),
    }
}
