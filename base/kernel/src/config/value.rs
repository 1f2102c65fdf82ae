//! What a key can hold, and how it is read and shown.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use super::Value;
use crate::limits::{ByteSize, format_duration, parse_duration};

/// A type that a key can have.
pub trait ConfigValue: Sized {
    /// In words, for documentation and messages.
    const KIND: &'static str;
    /// Whether values are secret.
    const SECRET: bool = false;
    /// Whether text from the environment or `--set` is taken as it stands. Otherwise it is read as TOML first, and `1.10` would
    /// become the number 1.1.
    const TEXT: bool = false;
    /// Reads a TOML value; the error says what would be right.
    fn read(value: &Value) -> Result<Self, String>;
    /// As it would stand in the file.
    fn show(&self) -> String;
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(unset)" } else { "Secret(…)" })
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl ConfigValue for $ty {
            const KIND: &'static str = "integer";
            fn read(value: &Value) -> Result<Self, String> {
                value
                    .as_integer()
                    .and_then(|n| Self::try_from(n).ok())
                    .ok_or_else(|| format!("expected a whole number from {} to {}", Self::MIN, Self::MAX))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
integer!(u16, u32, u64, usize, i64);

impl ConfigValue for bool {
    const KIND: &'static str = "boolean";
    fn read(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "expected true or false".to_owned())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for String {
    const KIND: &'static str = "string";
    const TEXT: bool = true;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(s) => Ok(s.clone()),
            // `--set name=123` is still a string where a string is asked for.
            Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => Ok(value.to_string()),
            _ => Err("expected a string".to_owned()),
        }
    }
    fn show(&self) -> String {
        Value::String(self.clone()).to_string()
    }
}

impl ConfigValue for Secret {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;
    const TEXT: bool = true;
    fn read(value: &Value) -> Result<Self, String> {
        String::read(value).map(Self)
    }
    fn show(&self) -> String {
        if self.is_empty() { "\"\"".to_owned() } else { "\"…\"".to_owned() }
    }
}

macro_rules! from_text {
    ($ty:ty, $kind:literal, $expected:literal, $parse:expr, $show:expr) => {
        impl ConfigValue for $ty {
            const KIND: &'static str = $kind;
            const TEXT: bool = true;
            fn read(value: &Value) -> Result<Self, String> {
                let text = String::read(value).map_err(|_| concat!("expected ", $expected).to_owned())?;
                let parse: fn(&str) -> Option<$ty> = $parse;
                parse(&text).ok_or_else(|| format!(concat!("expected ", $expected, ", not {:?}"), text))
            }
            fn show(&self) -> String {
                let show: fn(&$ty) -> String = $show;
                Value::String(show(self)).to_string()
            }
        }
    };
}
from_text!(ByteSize, "size", "bytes such as \"512KiB\" or \"10MiB\"", ByteSize::parse, ToString::to_string);
from_text!(
    Duration,
    "duration",
    "a duration such as \"250ms\", \"5s\" or \"2h\"",
    parse_duration,
    |d| format_duration(*d)
);
from_text!(SocketAddr, "address", "an address such as \"127.0.0.1:7070\"", |t| t.parse().ok(), ToString::to_string);
from_text!(PathBuf, "path", "a path", |t| Some(PathBuf::from(t)), |p| p.display().to_string());

impl<T: ConfigValue> ConfigValue for Vec<T> {
    const KIND: &'static str = "list";
    const SECRET: bool = T::SECRET;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => items.iter().map(T::read).collect(),
            Value::String(s) if s.is_empty() => Ok(Self::new()),
            Value::String(s) => {
                let item = |part: &str| if T::TEXT { Value::String(part.to_owned()) } else { text_value(part) };
                s.split(',').map(|part| T::read(&item(part.trim()))).collect()
            }
            _ => Err("expected a list".to_owned()),
        }
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}

/// An empty string stands for "not set".
impl<T: ConfigValue> ConfigValue for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;
    const TEXT: bool = T::TEXT;
    fn read(value: &Value) -> Result<Self, String> {
        if value.as_str() == Some("") { Ok(None) } else { T::read(value).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), T::show)
    }
}

pub(super) fn default_value(text: &str) -> Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Text from the environment or `--set`: a TOML array, number or boolean where it reads as one, else the text itself.
pub(super) fn text_value(text: &str) -> Value {
    match text.as_bytes().first() {
        Some(b'[' | b'"' | b'0'..=b'9' | b't' | b'f' | b'-' | b'+') => match default_value(text) {
            Value::Datetime(_) => Value::String(text.to_owned()),
            value => value,
        },
        _ => Value::String(text.to_owned()),
    }
}

/// Text as it stands, or what a quoted TOML string holds.
pub(super) fn unquoted(text: &str) -> Value {
    match default_value(text) {
        value @ Value::String(_) if text.starts_with(['"', '\'']) => value,
        _ => Value::String(text.to_owned()),
    }
}
