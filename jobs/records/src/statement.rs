//! Statements that are put together, with the values of their placeholders.

use std::fmt::{Display, Write};

use jiff::Timestamp;

use crate::row::plain;

/// A statement that grows. What comes from callers is bound, never part of the text.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    text: String,
    values: Vec<Value>,
}

/// The value of a placeholder.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Whole(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Some(text).into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(|text| plain(text).into_owned()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Whole(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Whole(number)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Some(time).into()
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(time: Option<Timestamp>) -> Self {
        Self::Whole(time.map(Timestamp::as_millisecond))
    }
}

impl Statement {
    pub(crate) fn of(text: impl Display) -> Self {
        Self { text: text.to_string(), values: Vec::new() }
    }

    /// With the value of the next placeholder of its text.
    pub(crate) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Goes on with text of the program.
    pub(crate) fn push(&mut self, text: impl Display) -> &mut Self {
        // A string takes everything.
        let _ = write!(self.text, "{text}");
        self
    }

    /// Goes on with a placeholder.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let number = self.values.len();
        self.push(format_args!("${number}"))
    }

    /// Goes on with placeholders in brackets; there must be one at least.
    pub(crate) fn bind_all<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        let mut before = "(";
        for value in values {
            self.push(before).bind(value);
            before = ", ";
        }
        self.push(")")
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }
}

/// The query of a statement, for whichever database runs it.
macro_rules! query_of {
    ($statement:expr) => {{
        let statement: &$crate::statement::Statement = &$statement;
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.text()));
        for value in statement.values() {
            query = match value {
                $crate::statement::Value::Text(text) => query.bind(text.as_deref()),
                $crate::statement::Value::Whole(number) => query.bind(*number),
            };
        }
        query
    }};
}

pub(crate) use query_of;
