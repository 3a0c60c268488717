//! Deleting what is older than it is kept, in steps that let others write between them.

use fourmi_model::{JobId, QueueName, SmsState};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns},
    statement::{Statement, query_of},
    store::{Change, PRUNING, reading, writing},
    walk::Place,
};

/// Rows of one step: some ten milliseconds of work.
const STEP: i64 = 2_000;

/// Text messages of one step: their queue is asked for each.
const SMS_STEP: u16 = 500;

/// Jobs with this tag are never deleted because of their age.
pub const LEGAL_HOLD: &str = "legal-hold";

const IS_HELD: &str = "EXISTS (SELECT 1 FROM job_tags held WHERE held.id = jobs.id AND held.tag = 'legal-hold')";

const OLD_SESSIONS: &str = "sessions WHERE expires_at < $1 OR revoked_at < $1";

const OLD_TOKENS: &str = "one_time_tokens WHERE expires_at < $1 OR used_at < $1";

const OLD_SMS: &str = "\
SELECT job AS id, created_at, state FROM sms_intents \
WHERE created_at >= $1 AND created_at < $2 AND (created_at > $1 OR job > $3) ORDER BY created_at, job LIMIT $4";

const OLD_EVENTS: &str = "audit_events WHERE happened_at < $1";

const NEEDED_FILES: &str = r#"
SELECT job FROM schedules WHERE job LIKE '%"file-%'
UNION ALL SELECT payload || coalesce(result, '') FROM job_tags held CROSS JOIN jobs
WHERE held.tag = 'legal-hold' AND jobs.id = held.id AND (payload LIKE '%"file-%' OR result LIKE '%"file-%')"#;

/// Which jobs are old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldJobs {
    /// Those that ended before this time.
    pub before: Timestamp,
    /// Of this queue alone.
    pub queue: Option<QueueName>,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedJobs {
    /// How many were deleted.
    pub deleted: u64,
    /// Where the next step begins, if this was not the last.
    pub next: Option<NextJobs>,
}

/// Where a step begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextJobs(Place);

/// The old text messages of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldSms {
    /// The jobs of those of which it is known whether they were sent.
    pub jobs: Vec<JobId>,
    /// How many are in doubt. They are never forgotten: their job, tried again, would send them a second time.
    pub in_doubt: u64,
    /// Where the next step begins, if this was not the last.
    pub next: Option<NextSms>,
}

/// Where a step begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextSms(Place);

impl Records {
    /// Deletes some old jobs, the oldest first, but for those with the tag [`LEGAL_HOLD`]. Their statistics stay: have them
    /// added up before ([`Records::roll_up`]).
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing is deleted.
    pub async fn delete_old_jobs(&self, old: &OldJobs, start: Option<&NextJobs>) -> Result<DeletedJobs, RecordsError> {
        let start = start.map(|next| &next.0);
        let end = self.end_of_step(old, start).await?;
        let mut tags = Statement::of("DELETE FROM job_tags WHERE id IN (SELECT id FROM jobs WHERE ");
        push_range(&mut tags, old, start, end.as_ref());
        tags.push(format_args!(" AND NOT {IS_HELD})"));
        let mut jobs = Statement::of("DELETE FROM jobs WHERE ");
        push_range(&mut jobs, old, start, end.as_ref());
        jobs.push(format_args!(" AND NOT {IS_HELD}"));
        let deleted = writing!(self, |db| {
            // The platform's own chores are no part of what anybody counts again.
            if old.queue.is_none() {
                db.run(kept_since("jobs", old.before)).await?;
            }
            db.run(tags).await?;
            db.run(jobs).await?
        })?;
        Ok(DeletedJobs { deleted, next: end.map(NextJobs) })
    }

    /// How many jobs are old, and how many of them are held.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_old_jobs(&self, old: &OldJobs) -> Result<(u64, u64), RecordsError> {
        let mut all = Statement::of("SELECT '' AS id, count(*) AS number FROM jobs WHERE ");
        push_range(&mut all, old, None, None);
        let mut held = Statement::of(
            "SELECT '' AS id, count(*) AS number FROM job_tags held CROSS JOIN jobs \
             WHERE held.tag = 'legal-hold' AND jobs.id = held.id AND ",
        );
        push_range(&mut held, old, None, None);
        Ok((self.count_rows(all).await?, self.count_rows(held).await?))
    }

    /// Where a step ends, if more comes behind it.
    async fn end_of_step(&self, old: &OldJobs, start: Option<&Place>) -> Result<Option<Place>, RecordsError> {
        let mut statement = Statement::of("SELECT jobs.id, jobs.finished_at FROM jobs WHERE ");
        push_range(&mut statement, old, start, None);
        statement.push(" ORDER BY jobs.finished_at, jobs.id LIMIT 1 OFFSET ").bind(STEP - 1);
        let row = reading!(self, |db| match query_of!(statement).fetch_optional(db).await? {
            Some(row) => Some((row.whole("finished_at")?, row.text("id")?)),
            None => None,
        })?;
        Ok(row.map(|(time, id)| Place { time: time.unwrap_or_default(), id: id.unwrap_or_default() }))
    }

    /// Deletes some events of the audit log that are older, the oldest first, and gives how many; none if there are no more.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing is deleted.
    pub async fn delete_old_events(&self, before: Timestamp) -> Result<u64, RecordsError> {
        let delete = Statement::of(format_args!(
            "DELETE FROM audit_events WHERE id IN (SELECT id FROM {OLD_EVENTS} ORDER BY happened_at, id LIMIT $2)"
        ));
        let delete = delete.with(before).with(STEP);
        writing!(self, |db| {
            db.take_turn(PRUNING).await?;
            db.run(kept_since("events", before)).await?;
            db.run(delete).await?
        })
    }

    /// How many events of the audit log are older.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_old_events(&self, before: Timestamp) -> Result<u64, RecordsError> {
        self.count_of(OLD_EVENTS, before).await
    }

    /// Some text messages that were to be sent before, the oldest first.
    ///
    /// # Errors
    /// If the database does not answer, or one cannot be read.
    pub async fn old_sms(&self, before: Timestamp, start: Option<&NextSms>) -> Result<OldSms, RecordsError> {
        let (time, id) = start.map_or((i64::MIN, ""), |NextSms(place)| (place.time, place.id.as_str()));
        let question = Statement::of(OLD_SMS).with(time).with(before).with(id).with(i64::from(SMS_STEP));
        let found: Vec<(i64, JobId, SmsState)> = reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            rows.iter().map(|row| old_message(row)).collect::<Result<_, _>>()?
        })?;
        let last = found.last().filter(|_| found.len() >= usize::from(SMS_STEP));
        let next = last.map(|(time, job, _)| NextSms(Place { time: *time, id: job.to_string() }));
        let all = found.len();
        let known = found.into_iter().filter(|(_, _, state)| *state != SmsState::Sending);
        let jobs: Vec<_> = known.map(|(_, job, _)| job).collect();
        Ok(OldSms { in_doubt: (all - jobs.len()) as u64, jobs, next })
    }

    /// Forgets the text messages of these jobs, but for those in doubt, and gives how many.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing is forgotten.
    pub async fn forget_sms(&self, jobs: &[JobId]) -> Result<u64, RecordsError> {
        if jobs.is_empty() {
            return Ok(0);
        }
        let ids: Vec<_> = jobs.iter().map(ToString::to_string).collect();
        let mut forget = Statement::of("DELETE FROM sms_intents WHERE state <> 'sending' AND job IN ");
        forget.bind_all(ids.iter().map(String::as_str));
        writing!(self, |db| {
            db.take_turn(PRUNING).await?;
            db.run(forget).await?
        })
    }

    /// How many sessions were over before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_old_sessions(&self, before: Timestamp) -> Result<u64, RecordsError> {
        self.count_of(OLD_SESSIONS, before).await
    }

    /// How many tokens had expired or were used before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_old_one_times(&self, before: Timestamp) -> Result<u64, RecordsError> {
        self.count_of(OLD_TOKENS, before).await
    }

    async fn count_of(&self, rows: &str, before: Timestamp) -> Result<u64, RecordsError> {
        let question = Statement::of(format!("SELECT '' AS id, count(*) AS number FROM {rows}"));
        self.count_rows(question.with(before)).await
    }

    async fn count_rows(&self, question: Statement) -> Result<u64, RecordsError> {
        reading!(self, |db| Columns::of("count of", &query_of!(question).fetch_one(db).await?)?.number("number")?)
    }

    /// JSON that may name stored files which must stay: the jobs of schedules, and payloads and results of held jobs.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn texts_with_needed_files(&self) -> Result<Vec<String>, RecordsError> {
        reading!(self, |db| sqlx::query_scalar(NEEDED_FILES).fetch_all(db).await?)
    }
}

fn old_message(row: &dyn Cells) -> Result<(i64, JobId, SmsState), RecordsError> {
    let row = Columns::of("text message of", row)?;
    Ok((row.number("created_at")?, row.word("id")?, row.word("state")?))
}

/// Notes that what is older than this may be gone.
pub(crate) fn kept_since(class: &str, time: Timestamp) -> Statement {
    let note = "INSERT INTO kept_since (class, time) VALUES ($1, $2) \
                ON CONFLICT (class) DO UPDATE SET time = excluded.time WHERE kept_since.time < excluded.time";
    Statement::of(note).with(class).with(time)
}

/// The old jobs after one place, up to another.
fn push_range(statement: &mut Statement, old: &OldJobs, start: Option<&Place>, end: Option<&Place>) {
    // One bound at each end: of two SQLite takes one to find its way, not the closer.
    match end {
        Some(end) => push_place(statement, "<=", end),
        None => statement.push("jobs.finished_at < ").bind(old.before),
    };
    if let Some(queue) = &old.queue {
        statement.push(" AND jobs.queue = ").bind(queue.as_str());
    }
    if let Some(start) = start {
        statement.push(" AND ");
        push_place(statement, ">", start);
    }
}

fn push_place<'a>(statement: &'a mut Statement, comparison: &str, Place { time, id }: &Place) -> &'a mut Statement {
    statement.push(format_args!("(jobs.finished_at, jobs.id) {comparison} ("));
    statement.bind(*time).push(", ").bind(id.as_str()).push(")")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_step_looks_at_its_own_rows_only() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
        let place = Place { time: 7, id: "media-7".to_owned() };
        for (queue, index) in [(None, "jobs_newest"), (Some("media".parse().unwrap()), "jobs_by_end")] {
            let old = OldJobs { before: Timestamp::now(), queue };
            let mut statement = Statement::of("EXPLAIN QUERY PLAN DELETE FROM jobs WHERE ");
            push_range(&mut statement, &old, Some(&place), Some(&place));
            statement.push(format_args!(" AND NOT {IS_HELD}"));
            let steps = query_of!(statement).fetch_all(&sqlite.readers).await.unwrap();
            let steps: Vec<_> = steps.iter().map(|row| row.text("detail").unwrap().unwrap()).collect();
            assert!(steps[0].starts_with("SEARCH jobs") && steps[0].contains(index), "{steps:#?}");
            assert!(steps[0].contains("(finished_at,id)>(?,?) AND (finished_at,id)<(?,?)"), "{steps:#?}");
        }
        let explained = Statement::of(format_args!("EXPLAIN QUERY PLAN {OLD_SMS}")).with(7_i64).with(Timestamp::now());
        let explained = explained.with("messaging-7").with(i64::from(SMS_STEP));
        let steps = query_of!(explained).fetch_all(&sqlite.readers).await.unwrap();
        let step = steps[0].text("detail").unwrap().unwrap();
        assert!(step.contains("sms_intents_by_time (created_at>? AND created_at<?)"), "{step}");
    }
}
