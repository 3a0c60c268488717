//! Jobs that somebody wants gone.

use std::time::Duration;

use fourmi_model::JobId;
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    statement::{Statement, query_of},
    store::{Deletions as _, writing},
};

/// Jobs of one statement.
const STEP: usize = 500;

/// How long a deleted job is kept out. It could come again from an outbox that held it when it was deleted, which is
/// emptied within seconds unless no archiver runs.
const KEPT_OUT: Duration = Duration::from_hours(30 * 24);

impl Records {
    /// Deletes what is recorded of these jobs, all or none, and gives how many were recorded. Those that are not recorded
    /// yet never will be: what an archiver writes of a deleted job in the next 30 days is left out.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing is deleted.
    pub async fn delete(&self, jobs: &[JobId]) -> Result<u64, RecordsError> {
        let mut ids: Vec<String> = jobs.iter().map(JobId::to_string).collect();
        ids.sort();
        ids.dedup();
        let now = Timestamp::now();
        let past = now.saturating_sub(KEPT_OUT).unwrap_or(Timestamp::MIN);
        writing!(self, |db| {
            db.keep_out_archiving().await?;
            let forget = sqlx::query("DELETE FROM deleted_jobs WHERE deleted_at < $1");
            forget.bind(past.as_millisecond()).execute(&mut *db).await?;
            let mut deleted = 0;
            for ids in ids.chunks(STEP) {
                query_of!(keep_out(ids, now)).execute(&mut *db).await?;
                query_of!(delete("job_tags", ids)).execute(&mut *db).await?;
                deleted += query_of!(delete("jobs", ids)).execute(&mut *db).await?.rows_affected();
            }
            deleted
        })
    }
}

fn keep_out(ids: &[String], now: Timestamp) -> Statement {
    let mut statement = Statement::of("INSERT INTO deleted_jobs (id, deleted_at) VALUES ");
    let mut before = "(";
    for id in ids {
        statement.push(before).bind(id.as_str()).push(", ").bind(now.as_millisecond()).push(")");
        before = ", (";
    }
    statement.push(" ON CONFLICT (id) DO UPDATE SET deleted_at = excluded.deleted_at");
    statement
}

fn delete(table: &str, ids: &[String]) -> Statement {
    let mut statement = Statement::of(format_args!("DELETE FROM {table} WHERE id IN "));
    statement.bind_all(ids.iter().map(String::as_str));
    statement
}
