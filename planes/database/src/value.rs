//! What goes into a statement: the six kinds of value that both engines store alike.

use kernel::{ProjectId, Timestamp};

use crate::{Error, Result};

/// A parameter or a column's content.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// SQL NULL.
    #[default]
    Null,
    /// A `BIGINT`.
    I64(i64),
    /// A `DOUBLE PRECISION`; never NaN, which SQLite would turn into NULL.
    F64(f64),
    /// A `TEXT`; never with a NUL character, which PostgreSQL refuses.
    Text(String),
    /// A `BYTEA`.
    Bytes(Vec<u8>),
    /// A `BOOLEAN`; SQLite gives it back as [`Value::I64`] 0 or 1, which [`crate::Row::get`] reads as `bool`.
    Bool(bool),
}

impl Value {
    /// In words, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::I64(_) => "an integer",
            Self::F64(_) => "a floating-point number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Bool(_) => "a boolean",
        }
    }

    /// Roughly what it holds in memory, for the bound on results.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Bytes(bytes) => bytes.len(),
                _ => 0,
            }
    }
}

/// Refuses what one of the engines would refuse or change, so that both behave alike.
pub(crate) fn check(params: &[Value]) -> Result<()> {
    for value in params {
        match value {
            Value::Text(text) if text.as_bytes().contains(&0) => {
                return Err(Error::Value("text must not hold a NUL character"));
            }
            Value::F64(number) if number.is_nan() => return Err(Error::Value("a number must not be NaN")),
            _ => {}
        }
    }
    Ok(())
}

macro_rules! from {
    ($($ty:ty => |$v:ident| $make:expr;)*) => {$(
        impl From<$ty> for Value {
            fn from($v: $ty) -> Self {
                $make
            }
        }
    )*};
}
from! {
    i64 => |v| Self::I64(v);
    i32 => |v| Self::I64(v.into());
    u32 => |v| Self::I64(v.into());
    u16 => |v| Self::I64(v.into());
    u8 => |v| Self::I64(v.into());
    f64 => |v| Self::F64(v);
    bool => |v| Self::Bool(v);
    String => |v| Self::Text(v);
    &String => |v| Self::Text(v.clone());
    &str => |v| Self::Text(v.to_owned());
    Vec<u8> => |v| Self::Bytes(v);
    &Vec<u8> => |v| Self::Bytes(v.clone());
    &[u8] => |v| Self::Bytes(v.to_vec());
    bytes::Bytes => |v| Self::Bytes(v.to_vec());
    Timestamp => |v| Self::I64(v.as_millis());
    ProjectId => |v| Self::Text(v.as_str().to_owned());
    &ProjectId => |v| Self::Text(v.as_str().to_owned());
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(v: [u8; N]) -> Self {
        Self::Bytes(v.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(v: &[u8; N]) -> Self {
        Self::Bytes(v.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// Converts; the error says what was found.
    fn from_value(value: Value) -> Result<Self>;
}

fn unexpected<T>(wanted: &str, found: &Value) -> Result<T> {
    Err(Error::Decode(format!("expected {wanted}, found {}", found.kind())))
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self> {
        Ok(value)
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::I64(v) => Ok(v),
            Value::Bool(v) => Ok(v.into()),
            other => unexpected("an integer", &other),
        }
    }
}

macro_rules! narrower {
    ($($ty:ty),*) => {$(
        impl FromValue for $ty {
            fn from_value(value: Value) -> Result<Self> {
                let wide = i64::from_value(value)?;
                Self::try_from(wide)
                    .map_err(|_| Error::Decode(format!("{wide} does not fit {}", stringify!($ty))))
            }
        }
    )*};
}
narrower!(i32, u16, u32, u64, usize);

impl FromValue for f64 {
    #[allow(clippy::cast_precision_loss, reason = "SQLite gives a whole DOUBLE computed from integers as an integer")]
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::F64(v) => Ok(v),
            Value::I64(v) => Ok(v as Self),
            other => unexpected("a floating-point number", &other),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Bool(v) => Ok(v),
            Value::I64(v @ (0 | 1)) => Ok(v == 1),
            other => unexpected("a boolean", &other),
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Text(v) => Ok(v),
            other => unexpected("text", &other),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Bytes(v) => Ok(v),
            other => unexpected("bytes", &other),
        }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: Value) -> Result<Self> {
        let bytes = Vec::<u8>::from_value(value)?;
        Self::try_from(bytes.as_slice())
            .map_err(|_| Error::Decode(format!("expected {N} bytes, found {}", bytes.len())))
    }
}

impl FromValue for Timestamp {
    fn from_value(value: Value) -> Result<Self> {
        i64::from_value(value).map(Self::from_millis)
    }
}

impl FromValue for ProjectId {
    fn from_value(value: Value) -> Result<Self> {
        let text = String::from_value(value)?;
        Self::parse(&text).ok_or_else(|| Error::Decode("not the name of a project".to_owned()))
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// Makes the parameters of a statement: `params![id, "name", None::<i64>]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        ::std::vec![$($crate::Value::from($value)),*]
    };
}
