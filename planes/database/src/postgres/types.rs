//! Values to and from PostgreSQL, and what its errors mean.

use std::error::Error as StdError;

use bytes::BytesMut;
use tokio_postgres::{
    Row as PgRow,
    error::{Severity, SqlState},
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use crate::{Error, Result, Value};

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::I64(v) => v.to_sql(ty, out),
            Self::F64(v) => v.to_sql(ty, out),
            Self::Text(v) => v.to_sql(ty, out),
            Self::Bytes(v) => v.to_sql(ty, out),
            Self::Bool(v) => v.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // The type of every parameter was declared from its value, so the server asks for nothing else.
        true
    }

    to_sql_checked!();
}

/// The types that statements are prepared with: taken from the values, so that one parameter means the same wherever it is
/// used, and `$1 - 5` is as wide as on SQLite. NULL leaves it to the server.
pub(super) fn types(params: &[Value]) -> Vec<Type> {
    params
        .iter()
        .map(|value| match value {
            Value::Null => Type::UNKNOWN,
            Value::I64(_) => Type::INT8,
            Value::F64(_) => Type::FLOAT8,
            Value::Text(_) => Type::TEXT,
            Value::Bytes(_) => Type::BYTEA,
            Value::Bool(_) => Type::BOOL,
        })
        .collect()
}

/// Reads the columns of a row.
pub(super) fn decode(row: &PgRow) -> Result<Vec<Value>> {
    fn column<'a, T: FromSql<'a>>(row: &'a PgRow, index: usize, make: impl FnOnce(T) -> Value) -> Result<Value> {
        let value = row.try_get::<_, Option<T>>(index).map_err(|e| Error::Decode(e.to_string()))?;
        Ok(value.map_or(Value::Null, make))
    }
    let one = |(index, column_of): (usize, &tokio_postgres::Column)| match *column_of.type_() {
        Type::INT8 => column::<i64>(row, index, Value::I64),
        Type::INT4 => column::<i32>(row, index, Value::from),
        Type::INT2 => column::<i16>(row, index, |v| Value::I64(v.into())),
        Type::OID => column::<u32>(row, index, Value::from),
        Type::FLOAT8 => column::<f64>(row, index, Value::F64),
        Type::FLOAT4 => column::<f32>(row, index, |v| Value::F64(v.into())),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
            column::<String>(row, index, Value::Text)
        }
        Type::BYTEA => column::<Vec<u8>>(row, index, Value::Bytes),
        Type::BOOL => column::<bool>(row, index, Value::Bool),
        Type::VOID => Ok(Value::Null),
        ref other => Err(Error::Decode(format!(
            "column {} has type {other}, which is not in the SQL subset: cast it to BIGINT, DOUBLE PRECISION or TEXT",
            column_of.name()
        ))),
    };
    row.columns().iter().enumerate().map(one).collect()
}

/// What an error means when it came before COMMIT was sent.
pub(super) fn error(e: &tokio_postgres::Error) -> Error {
    let Some(db) = e.as_db_error() else {
        let is_lost = e.is_closed() || e.source().is_some_and(<dyn StdError>::is::<std::io::Error>);
        let text = e.source().map_or_else(|| e.to_string(), |source| format!("{e}: {source}"));
        return if is_lost { Error::Conn(text) } else { Error::Other(text) };
    };
    let text = || format!("{} ({})", db.message(), db.code().code());
    match db.code() {
        &SqlState::UNIQUE_VIOLATION => Error::Unique,
        &SqlState::FOREIGN_KEY_VIOLATION | &SqlState::RESTRICT_VIOLATION => Error::ForeignKey,
        &SqlState::CHECK_VIOLATION | &SqlState::NOT_NULL_VIOLATION => Error::Check,
        // The last: prepared on another server behind a proxy; the next run prepares again.
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::INVALID_SQL_STATEMENT_NAME => Error::Retry,
        &SqlState::FEATURE_NOT_SUPPORTED if db.message().contains("cached plan") => Error::Retry,
        &SqlState::DISK_FULL => Error::DiskFull,
        &SqlState::LOCK_NOT_AVAILABLE => Error::Busy,
        &SqlState::QUERY_CANCELED => Error::Timeout,
        &SqlState::TOO_MANY_CONNECTIONS => Error::Overloaded,
        // A mistake in the statement, such as a parameter too few: nothing was lost.
        &SqlState::PROTOCOL_VIOLATION => Error::Other(text()),
        code if code.code().starts_with("08") || code.code().starts_with("57P") => Error::Conn(text()),
        _ if is_fatal(db) => Error::Conn(text()),
        _ => Error::Other(text()),
    }
}

/// Whether the statement is to be prepared again before another run.
pub(super) fn is_stale(e: &tokio_postgres::Error) -> bool {
    e.code()
        .is_some_and(|code| *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::FEATURE_NOT_SUPPORTED)
}

/// Whether the server answered with a refusal, so that its outcome is known.
pub(super) fn is_refusal(e: &tokio_postgres::Error) -> bool {
    e.as_db_error().is_some_and(|db| !is_fatal(db))
}

fn is_fatal(db: &tokio_postgres::error::DbError) -> bool {
    !matches!(db.parsed_severity(), Some(Severity::Error)) && db.severity() != "ERROR"
}
