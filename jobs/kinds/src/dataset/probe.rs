//! `dataset.probe`: what a table holds.

use std::time::Duration;

use fourmi_model::{BlobId, Isolation, Policy, Priority};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TableFormat;
use crate::JobKind;

/// Looks into a table: columns, types, statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetProbe {
    /// The stored table.
    pub file: BlobId,
    /// How it is written; found out by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
}

impl JobKind for DatasetProbe {
    const NAME: &'static str = "dataset.probe";
    const QUEUE: &'static str = "insight";
    const SUMMARY: &'static str = "Looks into a table: columns, types, statistics.";
    type Output = DatasetInfo;

    fn policy() -> Policy {
        Policy {
            attempts: Some(3),
            timeout: Duration::from_mins(30),
            priority: Priority::High,
            isolation: Isolation::Process { memory_bytes: 2 * 1024 * 1024 * 1024 },
            ..Policy::default()
        }
    }
}

/// What `dataset.probe` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetInfo {
    /// How the table is written.
    pub format: TableFormat,
    /// What stands between its values, if something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The encoding of its text (`UTF-8`, `windows-1252`).
    pub encoding: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// Rows, without that of the names.
    pub rows: u64,
    /// The columns, in their order.
    pub columns: Vec<ColumnInfo>,
    /// What was noticed: names that came twice, and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<DatasetNote>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Whole numbers.
    Integer,
    /// Numbers.
    Float,
    /// Yes and no.
    Boolean,
    /// Days, or days with times, by ISO 8601.
    Date,
    /// One of few texts.
    Category,
    /// Text.
    Text,
    /// Another value in each row: a key, not a measure.
    Identifier,
    /// The same value in each row.
    Constant,
    /// No value at all.
    Empty,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnInfo {
    /// Its name; of a longer one the first 200 bytes, and a number if another begins so.
    pub name: String,
    /// What it holds, found out from all rows.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Values that are missing: nothing, `null`, `NA`, `NaN`.
    pub missing: u64,
    /// Different values: exact up to 10,000 (fewer in tables of very many columns), above it an estimate within some percent.
    pub distinct: u64,
    /// Whether `distinct` is an estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distinct_estimated: bool,
    /// Of columns of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumberStatistics>,
    /// The most frequent values of the others, at most ten, with how often they come; of each text 80 characters at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(String, u64)>,
}

/// Statistics of a column of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NumberStatistics {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the sample.
    pub sd: f64,
    /// The skewness of the sample; 0 is even.
    pub skewness: f64,
    /// The quantiles 1, 5, 25, 50, 75, 95 and 99 %: exact up to 100,000 values, above it of that many drawn ones.
    pub quantiles: [f64; 7],
    /// How many values lie in each of twenty equal parts between the smallest and the largest.
    pub histogram: Vec<u64>,
}

/// Something that was noticed about a table, and did not stop the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetNote {
    /// A stable code, such as `duplicate_headers`.
    pub code: String,
    /// What it means, for a person.
    pub message: String,
}
