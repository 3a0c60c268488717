//! Failed tries of logging in, which make who tries wait.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Columns, label},
    statement::{Statement, query_of},
    store::{Change, PRUNING, reading, writing},
};

/// Subjects that are deleted at once.
const STEP: u64 = 1_000;

/// How often something failed for a subject: an account, an address, or whatever else is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How often in a row.
    pub failures: u32,
    /// Until when nothing more may be tried.
    pub until: Option<Timestamp>,
}

/// Who comes next waits for the row, and sees it as it is then.
const COUNT: &str = "\
INSERT INTO attempts (subject, failures, last_at) VALUES ($1, 1, $2) \
ON CONFLICT (subject) DO UPDATE SET last_at = excluded.last_at, \
  failures = CASE WHEN attempts.last_at < $3 THEN 1 ELSE attempts.failures + 1 END \
RETURNING subject AS id, failures";

const WAIT: &str = "UPDATE attempts SET until = $2 WHERE subject = $1";

const PRUNE: &str = "\
DELETE FROM attempts WHERE subject IN ( \
  SELECT subject FROM attempts WHERE last_at < $1 AND (until IS NULL OR until < $1) LIMIT $2)";

impl Records {
    /// How things stand with these subjects, in the same order. Of one that is longer than 200 characters, the rest does
    /// not count, here and everywhere.
    ///
    /// # Errors
    /// If the database does not answer, or a row cannot be read.
    pub async fn attempts(&self, subjects: &[&str]) -> Result<Vec<Attempts>, RecordsError> {
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let subjects: Vec<_> = subjects.iter().map(|subject| label(subject)).collect();
        let mut statement = Statement::of("SELECT subject AS id, failures, until FROM attempts WHERE subject IN ");
        statement.bind_all(subjects.iter().map(AsRef::as_ref));
        let known: HashMap<String, Attempts> = reading!(self, |db| {
            let rows = query_of!(statement).fetch_all(db).await?;
            let attempts = |row| {
                let row = Columns::of("attempts of", row)?;
                let attempts = Attempts { failures: row.number("failures")?, until: row.time("until")? };
                Ok::<_, RecordsError>((row.word("id")?, attempts))
            };
            rows.iter().map(|row| attempts(row)).collect::<Result<_, _>>()?
        })?;
        Ok(subjects.iter().map(|subject| known.get(subject.as_ref()).copied().unwrap_or_default()).collect())
    }

    /// Counts a failure, and gives how things stand then. Earlier ones are forgotten if the last was longer ago than
    /// `forget_after`; `wait` says how long nothing more may be tried after so many. Those that come at once all count.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn note_failure(
        &self,
        subject: &str,
        now: Timestamp,
        forget_after: Duration,
        wait: impl FnOnce(u32) -> Duration + Send,
    ) -> Result<Attempts, RecordsError> {
        let subject = label(subject);
        let past = now.saturating_sub(forget_after).unwrap_or(Timestamp::MIN);
        let count = Statement::of(COUNT).with(&*subject).with(now).with(past);
        writing!(self, |db| {
            let failures = match db.row(count).await? {
                Some(row) => Columns::of("attempts of", &row)?.number("failures")?,
                None => 0,
            };
            let wait = wait(failures);
            let until = (!wait.is_zero()).then(|| now.saturating_add(wait).unwrap_or(Timestamp::MAX));
            db.run(Statement::of(WAIT).with(&*subject).with(until)).await?;
            Attempts { failures, until }
        })
    }

    /// Forgets what failed for these subjects: it has succeeded.
    ///
    /// # Errors
    /// If the database does not answer; then nothing is forgotten.
    pub async fn forget_attempts(&self, subjects: &[&str]) -> Result<(), RecordsError> {
        // Two who forget the same ones in different orders would wait for each other.
        let mut subjects: Vec<_> = subjects.iter().map(|subject| label(subject)).collect();
        subjects.sort();
        writing!(self, |db| {
            for subject in subjects {
                db.run(Statement::of("DELETE FROM attempts WHERE subject = $1").with(&*subject)).await?;
            }
        })
    }

    /// Deletes what failed last before this time and has no wait after it, and gives of how many subjects.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then a part may be deleted.
    pub async fn prune_attempts(&self, before: Timestamp) -> Result<u64, RecordsError> {
        let mut pruned = 0;
        loop {
            // In steps, so that nobody waits long.
            let step = self.prune_some_attempts(before).await?;
            pruned += step;
            if step < STEP {
                return Ok(pruned);
            }
        }
    }

    async fn prune_some_attempts(&self, before: Timestamp) -> Result<u64, RecordsError> {
        writing!(self, |db| {
            db.take_turn(PRUNING).await?;
            db.run(Statement::of(PRUNE).with(before).with(STEP.cast_signed())).await?
        })
    }
}
