//! How values become cells of a row, and cells values.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, postgres::PgRow, sqlite::SqliteRow};

use crate::RecordsError;

/// A row of either database.
pub(crate) trait Cells {
    /// A cell of a text.
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error>;

    /// A cell of a whole number.
    fn whole(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;

    /// A cell of a yes or no.
    fn flag(&self, column: &str) -> Result<bool, sqlx::Error>;
}

macro_rules! cells {
    ($($row:ty),+) => {$(
        impl Cells for $row {
            fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
                self.try_get(column)
            }

            fn whole(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
                self.try_get(column)
            }

            fn flag(&self, column: &str) -> Result<bool, sqlx::Error> {
                self.try_get(column)
            }
        }
    )+};
}

cells!(SqliteRow, PgRow);

/// A row that is read column by column.
pub(crate) struct Columns<'a> {
    row: &'a dyn Cells,
    /// Whose row it is, for errors.
    name: String,
}

impl<'a> Columns<'a> {
    /// The row of a job, an API key, …: its `id` says which.
    pub(crate) fn of(sort: &str, row: &'a dyn Cells) -> Result<Self, RecordsError> {
        let name = format!("{sort} {}", row.text("id")?.unwrap_or_default());
        Ok(Self { row, name })
    }

    fn corrupt(&self, column: &str, error: impl Display) -> RecordsError {
        RecordsError::Corrupt { row: self.name.clone(), reason: format!("{column}: {error}") }
    }

    pub(crate) fn text(&self, column: &str) -> Result<Option<String>, RecordsError> {
        Ok(self.row.text(column)?)
    }

    pub(crate) fn flag(&self, column: &str) -> Result<bool, RecordsError> {
        Ok(self.row.flag(column)?)
    }

    /// A text that must be there.
    pub(crate) fn word<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, RecordsError> {
        self.text(column)?.unwrap_or_default().parse().map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn optional_word<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, RecordsError> {
        let text = self.text(column)?;
        text.map(|text| text.parse().map_err(|error| self.corrupt(column, error))).transpose()
    }

    pub(crate) fn number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, RecordsError> {
        let number = self.row.whole(column)?.unwrap_or_default();
        T::try_from(number).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn optional_number<T: TryFrom<i64, Error: Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, RecordsError> {
        let number = self.row.whole(column)?;
        number.map(|number| T::try_from(number).map_err(|error| self.corrupt(column, error))).transpose()
    }

    pub(crate) fn time(&self, column: &str) -> Result<Option<Timestamp>, RecordsError> {
        let ms = self.row.whole(column)?;
        ms.map(|ms| Timestamp::from_millisecond(ms).map_err(|error| self.corrupt(column, error))).transpose()
    }

    /// JSON that must be there.
    pub(crate) fn needed_json<T: DeserializeOwned>(&self, column: &str) -> Result<T, RecordsError> {
        self.json(column)?.ok_or_else(|| self.corrupt(column, "it is missing"))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, RecordsError> {
        let text = self.text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))).transpose()
    }
}

/// A number that never comes near the largest that SQL knows.
pub(crate) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A text as every database takes it: PostgreSQL knows no NUL.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// The most characters of a text that is looked for. PostgreSQL refuses longer ones in an index than about 2,700 bytes.
const LABEL: usize = 200;

/// A text that is looked for, as its index knows it.
pub(crate) fn label(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LABEL) {
        Some((end, _)) => plain(&text[..end]),
        None => plain(text),
    }
}

pub(crate) fn json(value: &impl Serialize) -> String {
    // The types that are recorded always become JSON, in which a NUL is written as an escape.
    serde_json::to_string(value).unwrap_or_default()
}
