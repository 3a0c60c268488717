//! Printing for people and for programs.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use fourmi_model::State;
use jiff::Timestamp;
use serde::Serialize;

/// Writes text and a line feed to standard output.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut written = Ok(());
    crate::progress::above_bars(|| {
        let mut out = io::stdout().lock();
        written = writeln!(out, "{text}").and_then(|()| out.flush());
    });
    Ok(written?)
}

/// Writes one JSON document, indented if a person reads it.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    line(&text)
}

/// Writes one JSON object in one line, as part of a stream of them.
pub(crate) fn json_line<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes a line to standard error, above progress bars. Whether it can be read is no reason to fail.
pub(crate) fn to_stderr(text: &str) {
    crate::progress::above_bars(|| {
        let _nobody_reads = writeln!(io::stderr().lock(), "{text}");
    });
}

/// Whether colours are welcome on a stream.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A table for a terminal. The last column is not padded.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let widths = self.widths();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column| self.rows.iter().filter_map(move |row| row.get(column));
        (0..columns).map(|column| cells(column).map(|cell: &String| cell.chars().count()).max().unwrap_or(0)).collect()
    }
}

/// Text of others on one line, without what would steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A state as a person reads it.
pub(crate) fn state(state: State) -> String {
    if !colours(&io::stdout()) {
        return state.to_string();
    }
    let colour = match state {
        State::Succeeded => 32,
        State::Failed => 31,
        State::Running => 36,
        State::Retrying | State::Parked | State::Cancelled => 33,
        _ => return state.to_string(),
    };
    format!("\x1b[{colour}m{state}\x1b[0m")
}

/// A size: `1.4 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A length of time: `0:07`, `1:02:03`.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// How long something took or takes, roughly: `340 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=99 => format!("{} s", duration.as_secs()),
        100..=5_999 => format!("{} min", duration.as_secs() / 60),
        6_000..=172_799 => format!("{} h", duration.as_secs() / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A time as a clock on the wall here shows it: `14:03:22`.
pub(crate) fn time_of_day(time: Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// The time from one moment to another; nothing if it runs backwards, as between two clocks it may.
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// A path as it is written in the folder where we are.
pub(crate) fn short(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.components().count() > 1 => below.to_owned(),
        Ok(below) => Path::new(".").join(below),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        let texts =
            [0, 340, 12_000, 59_999, 200_000, 7_200_000, 900_000_000].map(|ms| rough(Duration::from_millis(ms)));
        assert_eq!(texts, ["0 ms", "340 ms", "12 s", "59 s", "3 min", "2 h", "10 d"]);
        assert_eq!([7, 187, 3723].map(|s| clock(Duration::from_secs(s))), ["0:07", "3:07", "1:02:03"]);
    }

    #[test]
    fn text_of_others_does_not_steer_the_terminal() {
        assert_eq!(one_line("a\x1b[31m\nb"), "a [31m b");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "STATE"]);
        table.row(vec!["é-long".into(), "running".into()]);
        assert_eq!(table.widths(), [6, 7]);
    }
}
