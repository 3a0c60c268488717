//! What a job says of itself while it runs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LogLevel, job::is_zero};

/// Lines that a job keeps: the newest.
pub const MAX_LOG_LINES: usize = 1_000;

/// The longest line, in characters.
pub const MAX_LOG_LINE_CHARS: usize = 2_000;

/// Ends a line that was cut.
const CUT: char = '…';

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Its number, from 1. It grows by one with every line of the job, over all runs.
    pub n: u64,
    /// When it was recorded.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Timestamp,
    /// The run that wrote it.
    pub run: u64,
    /// How grave it is.
    pub level: LogLevel,
    /// What the run said: one line, 2,000 characters at most.
    pub text: String,
}

/// A part of a job's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPage {
    /// The lines, in order.
    pub lines: Vec<LogLine>,
    /// The number of the last of them: `after` of the next page, which holds what has been written since.
    pub next: u64,
    /// How many lines before the first of them are gone: a job keeps its newest 1,000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

/// A line as it is handed in, fit for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    level: LogLevel,
    text: String,
}

impl LogEntry {
    /// A line of this text: control characters become blanks, and what is too long is cut, which the last character
    /// (`…`) shows.
    pub fn new(level: LogLevel, text: &str) -> Self {
        Self { level, text: clean(text) }
    }

    /// How grave it is.
    pub fn level(&self) -> LogLevel {
        self.level
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let text = text.trim_end();
    let mut line: String = text.chars().take(MAX_LOG_LINE_CHARS).map(visible).collect();
    if text.chars().nth(MAX_LOG_LINE_CHARS).is_some() {
        line.pop();
        line.push(CUT);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_clean_and_not_too_long() {
        assert_eq!(clean("a\tb\r\nc\u{1b}[31m\n"), "a b  c [31m");
        let longest = "é".repeat(MAX_LOG_LINE_CHARS);
        assert_eq!(clean(&longest), longest);
        let cut = clean(&format!("{longest}x"));
        assert_eq!((cut.chars().count(), cut.chars().last()), (MAX_LOG_LINE_CHARS, Some('…')));
    }
}
