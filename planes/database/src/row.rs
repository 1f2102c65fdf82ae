//! One row of a result.

use crate::{Error, FromValue, Result, Value};

/// One row; columns are read by their position, from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(Vec<Value>);

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// Reads column `index`. [`Error::Decode`] when there is no such column or it holds something else.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T> {
        let value = self.0.get(index).ok_or_else(|| Error::Decode(format!("no column {index}")))?;
        T::from_value(value.clone()).map_err(|e| match e {
            Error::Decode(detail) => Error::Decode(format!("column {index}: {detail}")),
            other => other,
        })
    }

    /// Reads column `index` without a copy, leaving NULL in its place.
    pub fn take<T: FromValue>(&mut self, index: usize) -> Result<T> {
        let value = self.0.get_mut(index).ok_or_else(|| Error::Decode(format!("no column {index}")))?;
        T::from_value(std::mem::take(value)).map_err(|e| match e {
            Error::Decode(detail) => Error::Decode(format!("column {index}: {detail}")),
            other => other,
        })
    }

    /// How many columns it has.
    pub fn column_count(&self) -> usize {
        self.0.len()
    }

    /// The columns as they came.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// The columns as they came.
    pub fn into_values(self) -> Vec<Value> {
        self.0
    }
}

/// The bound on what one statement may return: past it, [`Error::TooLarge`].
#[derive(Debug)]
pub(crate) struct Collected {
    rows: Vec<Row>,
    left_bytes: usize,
}

impl Collected {
    /// An empty result.
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), left_bytes: crate::MAX_RESULT_BYTES }
    }

    /// For what is committed already when its rows come.
    pub(crate) fn unbounded() -> Self {
        Self { rows: Vec::new(), left_bytes: usize::MAX }
    }

    /// Adds a row while there is room.
    pub(crate) fn push(&mut self, values: Vec<Value>) -> Result<()> {
        let size = size_of::<Row>() + values.iter().map(Value::size_bytes).sum::<usize>();
        self.left_bytes = self.left_bytes.checked_sub(size).ok_or(Error::TooLarge)?;
        self.rows.push(Row(values));
        Ok(())
    }

    /// The rows.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}
