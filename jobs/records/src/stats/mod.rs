//! Statistics of finished jobs.
//!
//! Jobs are added up by the minute of their end, minutes by hour and hours by day (`rollup`). Whoever records a job, or takes
//! its end back because it has ended once more, notes in the same change that the minute is due. A minute that is due is
//! counted from the jobs themselves, so that figures are right whether and whenever somebody adds up:
//!
//! ```text
//! figures = what is added up of the steps - what of it comes from minutes that are due + the jobs of those minutes
//! ```
//!
//! One statement reads all three, and so sees one state of the database.

mod histogram;
mod rollup;
mod tally;

use std::collections::BTreeSet;

use fourmi_model::{JobStats, KindName, QueueName, StatDimension, StatStep, TenantName};
use futures_util::TryStreamExt;
use jiff::Timestamp;

pub use self::rollup::{Added, Rolled};
use self::tally::Series;
use crate::{
    Records, RecordsError,
    row::Columns,
    statement::{Statement, query_of},
    store::reading,
};

/// Milliseconds of a minute.
const MINUTE: i64 = 60_000;

/// Which jobs to count, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatFilter {
    /// The length of the points.
    pub step: StatStep,
    /// Where the first starts: the beginning of a step.
    pub from: Timestamp,
    /// Where the last ends: the beginning of a later step.
    pub to: Timestamp,
    /// What the jobs are told apart by.
    pub by: Option<StatDimension>,
    /// Only those of this kind.
    pub kind: Option<KindName>,
    /// Only those of this queue.
    pub queue: Option<QueueName>,
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
}

impl Records {
    /// What became of the jobs that ended in a span of time, as far as they are recorded.
    ///
    /// # Errors
    /// If the database does not answer, or not in time, because too many minutes are to be counted job by job.
    pub async fn job_stats(&self, filter: &StatFilter) -> Result<JobStats, RecordsError> {
        let question = question(filter);
        let series = reading!(self, |db| {
            let mut series = Series::new(filter);
            let question = query_of!(question);
            let mut rows = question.fetch(db);
            while let Some(row) = rows.try_next().await? {
                series.add(&row)?;
            }
            series
        })?;
        Ok(series.document(self.unrolled_minutes().await?))
    }

    /// How many minutes nobody has added up yet.
    async fn unrolled_minutes(&self) -> Result<u64, RecordsError> {
        let question = "SELECT '' AS id, count(DISTINCT minute) AS minutes FROM job_stats_due";
        reading!(self, |db| {
            let row = sqlx::query(question).fetch_one(db).await?;
            Columns::of("statistics", &row)?.number("minutes")?
        })
    }
}

/// Where a minute begins, of a time in milliseconds since 1970.
pub(crate) fn minute_of(time: i64) -> i64 {
    time - time.rem_euclid(MINUTE)
}

/// Notes that minutes are due; there must be one.
pub(crate) fn due(minutes: BTreeSet<i64>) -> Statement {
    // Who has counted a minute takes back the notes that it knew of, and no others.
    let change: i64 = rand::random();
    let mut statement = Statement::of("INSERT INTO job_stats_due (minute, change) VALUES ");
    let mut before = "";
    for minute in minutes {
        statement.push(before).bind_all([minute, change]);
        before = ", ";
    }
    statement
}

/// Minutes before this time can be counted no more: their jobs, or the minutes beside them, may be gone.
const GONE: &str = "coalesce((SELECT max(time) FROM kept_since WHERE class IN ('jobs', 'minutes')), 0)";

/// Rows with their number of times, and of a single job how long it waited and ran.
fn question(filter: &StatFilter) -> Statement {
    let (from, to) = (filter.from.as_millisecond(), filter.to.as_millisecond());
    let mut statement = Statement::of(format_args!(
        "WITH due AS (SELECT DISTINCT minute FROM job_stats_due WHERE minute >= $1 AND minute < $2 AND minute >= {GONE}) \
         SELECT '' AS id, CAST(1 AS BIGINT) AS times, at, queue, kind, tenant, state, jobs, waits, runs, \
           CAST(NULL AS BIGINT) AS wait_ms, CAST(NULL AS BIGINT) AS run_ms \
         FROM job_stats WHERE step = $3 AND at >= $1 AND at < $2"
    ))
    .with(from)
    .with(to)
    .with(filter.step.seconds());
    push_conditions(&mut statement, filter);
    statement.push(
        " UNION ALL SELECT '', -1, at, queue, kind, tenant, state, jobs, waits, runs, NULL, NULL \
         FROM due CROSS JOIN job_stats WHERE step = 60 AND at = due.minute",
    );
    push_conditions(&mut statement, filter);
    statement.push(
        " UNION ALL SELECT '', 1, finished_at, queue, kind, coalesce(tenant, ''), state, 1, '[]', '[]', waited_ms, \
           finished_at - started_at \
         FROM due CROSS JOIN jobs WHERE finished_at >= due.minute AND finished_at < due.minute + 60000",
    );
    push_conditions(&mut statement, filter);
    statement
}

fn push_conditions(statement: &mut Statement, filter: &StatFilter) {
    let conditions = [
        ("kind", filter.kind.as_ref().map(KindName::as_str)),
        ("queue", filter.queue.as_ref().map(QueueName::as_str)),
        ("tenant", filter.tenant.as_ref().map(TenantName::as_str)),
    ];
    for (column, value) in conditions {
        if let Some(value) = value {
            statement.push(format_args!(" AND {column} = ")).bind(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{row::Cells as _, store::Store};

    /// Counting what is due must not look at jobs of other minutes, and steps not at those of other lengths.
    #[tokio::test]
    async fn nothing_is_looked_at_in_vain() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
        let filter = StatFilter {
            step: StatStep::Hour,
            from: Timestamp::UNIX_EPOCH,
            to: Timestamp::now(),
            by: None,
            kind: None,
            queue: None,
            tenant: None,
        };
        let question = question(&filter);
        let mut explained = Statement::of(format_args!("EXPLAIN QUERY PLAN {}", question.text()));
        for value in question.values() {
            explained = explained.with(value.clone());
        }
        let steps = query_of!(explained).fetch_all(&sqlite.readers).await.unwrap();
        let steps: Vec<_> = steps.iter().map(|row| row.text("detail").unwrap().unwrap()).collect();
        for search in
            ["job_stats USING PRIMARY KEY (step=? AND at", "jobs USING INDEX jobs_newest (finished_at>? AND fin"]
        {
            assert!(steps.iter().any(|step| step.contains(search)), "{search}: {steps:#?}");
        }
        assert!(!steps.iter().any(|step| step.contains("SCAN jobs")), "{steps:#?}");
    }
}
