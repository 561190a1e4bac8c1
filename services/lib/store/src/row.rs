//! Conversion of columns into domain types. A value that is not valid is an error that names the table and the row.

use std::fmt::Display;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use millrace_domain::Priority;

use crate::error::StoreError;

pub(crate) type Time = DateTime<Utc>;

/// Table and key of the row that is being read, for error messages.
#[derive(Clone, Copy)]
pub(crate) struct RowOf<K> {
    table: &'static str,
    key: K,
}

impl<K: ToString> RowOf<K> {
    pub(crate) fn new(table: &'static str, key: K) -> Self {
        Self { table, key }
    }

    pub(crate) fn parse<T>(&self, text: &str) -> Result<T, StoreError>
    where
        T: FromStr<Err: Display>,
    {
        text.parse().map_err(|error: T::Err| self.fault(error))
    }

    pub(crate) fn parse_all<T>(&self, texts: &[String]) -> Result<Vec<T>, StoreError>
    where
        T: FromStr<Err: Display>,
    {
        texts.iter().map(|text| self.parse(text)).collect()
    }

    pub(crate) fn parse_some<T>(&self, text: Option<&str>) -> Result<Option<T>, StoreError>
    where
        T: FromStr<Err: Display>,
    {
        text.map(|text| self.parse(text)).transpose()
    }

    /// An unsigned number, which PostgreSQL stores in a signed column.
    pub(crate) fn number<S, T>(&self, value: S) -> Result<T, StoreError>
    where
        T: TryFrom<S, Error: Display>,
    {
        T::try_from(value).map_err(|error| self.fault(error))
    }

    pub(crate) fn priority(&self, stored: i16) -> Result<Priority, StoreError> {
        let found = Priority::ALL.iter().find(|known| rank(**known) == stored);
        found
            .copied()
            .ok_or_else(|| self.fault(format!("{stored} is no priority")))
    }

    pub(crate) fn fault(&self, problem: impl Display) -> StoreError {
        StoreError::inconsistent(self.table, self.key.to_string(), problem.to_string())
    }
}

/// A priority as stored: higher numbers are released first.
pub(crate) fn rank(priority: Priority) -> i16 {
    match priority {
        Priority::Background => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

/// An unsigned number for an `integer` column. Everything that is stored is bounded far below its maximum.
pub(crate) fn int4(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// An unsigned number for a `bigint` column.
pub(crate) fn int8(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
