//! Files of JSON lines that outlive the processes that write them.

use std::{fs::File, io::Write, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::bench::queue::monotonic_ns;

/// The clock of all journals, in milliseconds: it is the same in all processes, and no skew of theirs changes it.
pub(super) fn now() -> i64 {
    i64::try_from(monotonic_ns() / 1_000_000).unwrap()
}

pub(super) struct Journal(File);

impl Journal {
    pub(super) fn open(path: &Path) -> Self {
        Self(File::options().create(true).append(true).open(path).unwrap())
    }

    /// One write, so that lines of several processes do not mix, and a line of a process that is killed is whole or not
    /// there.
    pub(super) fn write(&self, line: &impl Serialize) {
        let mut text = serde_json::to_vec(line).unwrap();
        text.push(b'\n');
        (&self.0).write_all(&text).unwrap();
    }

    /// Also on disk when this returns.
    pub(super) fn write_durably(&self, line: &impl Serialize) {
        self.write(line);
        self.0.sync_data().unwrap();
    }
}

/// The lines of a journal, none if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
