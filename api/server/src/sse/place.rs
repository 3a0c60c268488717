//! How much of a job a client has seen.

use std::fmt;

use fourmi_model::Job;
use fourmi_queue::Watch;

/// How much of a job was given: the id of an event, `<version>.<number of the newest line of its log>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: u64,
    pub(crate) line: u64,
}

impl Place {
    /// That of a whole document.
    pub(crate) fn of_job(job: &Job) -> Self {
        Self { version: job.version, line: job.log_lines }
    }

    pub(super) fn of(watch: &Watch) -> Self {
        let (version, line) = watch.place();
        Self { version, line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.line)
    }
}

/// What a client has seen: a version and, unless it does not follow the log, a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) line: Option<u64>,
}

impl Seen {
    /// What the id of an event says; nonsense is nothing.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (version, line) = text.split_once('.').map_or((text, None), |(version, line)| (version, Some(line)));
        Some(Self { version: version.parse().ok()?, line: line.map(str::parse).transpose().ok()? })
    }

    /// Whether that is all that there will ever be.
    pub(crate) fn is_all_of(&self, job: &Job) -> bool {
        job.state.is_final() && self.version >= job.version && self.line.is_none_or(|line| line >= job.log_lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_was_not_seen() {
        let seen_of = |version, line| Some(Seen { version, line });
        for (text, seen) in [
            ("7", seen_of(7, None)),
            ("7.41", seen_of(7, Some(41))),
            ("-1", None),
            ("7.", None),
            ("7.x", None),
            ("x", None),
            ("", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(Seen::read(text), seen, "{text}");
        }
    }
}
