//! Finished jobs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fourmi_model::{Job, JobId, JobRecord, ParentFailure, TenantName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::QueryBuilder;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, json, label, plain, whole},
    statement::{Statement, query_of},
    stats,
    store::{Deletions as _, reading, writing},
};

/// Rows of one statement: what a statement costs beside its rows is then no longer felt.
const ROWS: usize = 50;

const INSERT: &str = "\
INSERT INTO jobs (id, version, queue, kind, schema_version, state, error_code, priority, tags, correlation_id, run, attempts, \
  crashes, created_at, started_at, finished_at, deadline, worker, payload, progress, result, error, runs, tenant, \
  submitted_by, flow, waited_ms) ";

/// A row is replaced only by a newer one. What never changes of a job is left out.
const REPLACE: &str = "\
 ON CONFLICT (id) DO UPDATE SET version = excluded.version, state = excluded.state, error_code = excluded.error_code, \
  run = excluded.run, attempts = excluded.attempts, crashes = excluded.crashes, started_at = excluded.started_at, \
  finished_at = excluded.finished_at, worker = excluded.worker, progress = excluded.progress, \
  result = excluded.result, error = excluded.error, runs = excluded.runs, waited_ms = excluded.waited_ms \
WHERE excluded.version > jobs.version";

impl Records {
    /// Writes finished jobs, all or none, and gives how many were new or newer than their row.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then none is written.
    pub async fn archive(&self, records: &[JobRecord]) -> Result<u64, RecordsError> {
        let mut rows = newest(records);
        writing!(self, |db| {
            let mut written = 0;
            db.keep_out_deletions().await?;
            if !rows.is_empty() {
                let deleted = query_of!(deleted(&rows)).fetch_all(&mut *db).await?;
                let deleted = deleted.iter().map(|row| row.text("id")).collect::<Result<HashSet<_>, _>>()?;
                rows.retain(|(id, _)| !deleted.contains(&Some(id.clone())));
            }
            if let Some(ends_before) = ends_before(&rows) {
                let rows_before = query_of!(ends_before).fetch_all(&mut *db).await?;
                query_of!(stats::due(minutes(&rows, &rows_before)?)).execute(&mut *db).await?;
            }
            for rows in rows.chunks(ROWS) {
                let mut insert = QueryBuilder::new(INSERT);
                insert.push_values(rows, |mut row, (id, JobRecord { job, worker, waited_ms, runs })| {
                    row.push_bind(id)
                        .push_bind(whole(job.version))
                        .push_bind(job.queue.as_str())
                        .push_bind(job.kind.as_str())
                        .push_bind(i64::from(job.schema_version))
                        .push_bind(job.state.as_str())
                        .push_bind(job.error.as_ref().map(|error| label(&error.code)))
                        .push_bind(job.priority.as_str())
                        .push_bind(json(&job.tags))
                        .push_bind(job.correlation_id.as_deref().map(plain))
                        .push_bind(whole(job.run))
                        .push_bind(i64::from(job.attempts))
                        .push_bind(i64::from(job.crashes))
                        .push_bind(job.created_at.as_millisecond())
                        .push_bind(job.started_at.map(Timestamp::as_millisecond))
                        .push_bind(end_of(job))
                        .push_bind(job.deadline.map(Timestamp::as_millisecond))
                        .push_bind(worker.as_deref().map(plain))
                        .push_bind(json(&job.payload))
                        .push_bind(job.progress.as_ref().map(json))
                        .push_bind(job.result.as_ref().map(json))
                        .push_bind(job.error.as_ref().map(json))
                        .push_bind(json(runs))
                        .push_bind(job.tenant.as_ref().map(TenantName::as_str))
                        .push_bind(job.submitted_by.as_deref().map(label))
                        .push_bind(Flow::of(job).as_ref().map(json))
                        .push_bind(waited_ms.map(whole));
                });
                insert.push(REPLACE);
                written += insert.build().execute(&mut *db).await?.rows_affected();
                if let Some(tags) = tags(rows) {
                    query_of!(tags).execute(&mut *db).await?;
                }
            }
            written
        })
    }

    /// The record of a job.
    ///
    /// # Errors
    /// If the database does not answer, or the record cannot be read.
    pub async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, RecordsError> {
        reading!(self, |db| {
            let row = sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id.to_string()).fetch_optional(db).await?;
            row.map(|row| record(&row)).transpose()?
        })
    }

    /// How many jobs are recorded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count(&self) -> Result<u64, RecordsError> {
        let count: i64 = reading!(self, |db| sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(db).await?)?;
        Ok(count.unsigned_abs())
    }
}

/// One statement may meet a row once only: of a job that ended twice, the last end counts. In the order of their ids, so
/// that two who write the same jobs do not wait for each other.
fn newest(records: &[JobRecord]) -> Vec<(String, &JobRecord)> {
    let mut newest: BTreeMap<String, &JobRecord> = BTreeMap::new();
    for record in records {
        let known = newest.entry(record.job.id.to_string()).or_insert(record);
        if record.job.version > known.job.version {
            *known = record;
        }
    }
    newest.into_iter().collect()
}

/// Which of these jobs were deleted: they come from an outbox once more.
fn deleted(rows: &[(String, &JobRecord)]) -> Statement {
    let mut statement = Statement::of("SELECT id FROM deleted_jobs WHERE id IN ");
    statement.bind_all(rows.iter().map(|(id, _)| id.as_str()));
    statement
}

/// When those of these jobs ended that are recorded already.
fn ends_before(rows: &[(String, &JobRecord)]) -> Option<Statement> {
    let mut statement = Statement::of("SELECT DISTINCT finished_at FROM jobs WHERE id IN ");
    statement.bind_all(rows.iter().map(|(id, _)| id.as_str()));
    (!rows.is_empty()).then_some(statement)
}

/// The minutes of whose statistics these jobs are a part, or were.
fn minutes(rows: &[(String, &JobRecord)], before: &[impl Cells]) -> Result<BTreeSet<i64>, sqlx::Error> {
    let now = rows.iter().map(|(_, record)| Ok(end_of(&record.job)));
    let before = before.iter().map(|row| Ok(row.whole("finished_at")?.unwrap_or_default()));
    now.chain(before).map(|end| end.map(stats::minute_of)).collect()
}

/// In milliseconds since 1970.
fn end_of(job: &Job) -> i64 {
    job.finished_at.unwrap_or(job.created_at).as_millisecond()
}

/// Makes the tags of these jobs findable, if they have any. They never change, but a job may end once more.
fn tags(rows: &[(String, &JobRecord)]) -> Option<Statement> {
    let tags = rows.iter().flat_map(|(id, record)| record.job.tags.iter().map(move |tag| (id.as_str(), label(tag))));
    let tags: BTreeSet<_> = tags.collect();
    let mut statement = Statement::of("WITH tagged (id, tag) AS (VALUES ");
    let mut before = "";
    for (id, tag) in &tags {
        statement.push(before).bind_all([*id, tag]);
        before = ", ";
    }
    // SQLite would take a bare ON for that of a join.
    statement.push(
        ") INSERT INTO job_tags (id, tag, finished_at) \
         SELECT tagged.id, tagged.tag, jobs.finished_at FROM tagged CROSS JOIN jobs WHERE jobs.id = tagged.id \
         ON CONFLICT (id, tag) DO UPDATE SET finished_at = excluded.finished_at",
    );
    (!tags.is_empty()).then_some(statement)
}

/// How a job is tied to others, as its row holds it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Flow {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<JobId>,
    #[serde(skip_serializing_if = "ParentFailure::is_default")]
    on_parent_failure: ParentFailure,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
}

impl Flow {
    /// `None` if it stands alone.
    fn of(job: &Job) -> Option<Self> {
        let flow = Self {
            after: job.after.clone(),
            on_parent_failure: job.on_parent_failure,
            parent: job.parent.clone(),
            batch: job.batch.clone(),
        };
        (flow != Self::default()).then_some(flow)
    }
}

pub(crate) fn record(row: &dyn Cells) -> Result<JobRecord, RecordsError> {
    let row = Columns::of("job", row)?;
    let id: JobId = row.word("id")?;
    let flow: Flow = row.json("flow")?.unwrap_or_default();
    let job = Job {
        queue: id.queue().clone(),
        id,
        kind: row.word("kind")?,
        schema_version: row.number("schema_version")?,
        state: row.word("state")?,
        version: row.number("version")?,
        priority: row.word("priority")?,
        tenant: row.optional_word("tenant")?,
        // What bound it is of no meaning any more.
        limits: Vec::new(),
        tags: row.json("tags")?.unwrap_or_default(),
        correlation_id: row.text("correlation_id")?,
        run: row.number("run")?,
        attempts: row.number("attempts")?,
        crashes: row.number("crashes")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        due_at: None,
        started_at: row.time("started_at")?,
        finished_at: row.time("finished_at")?,
        deadline: row.time("deadline")?,
        after: flow.after,
        on_parent_failure: flow.on_parent_failure,
        parent: flow.parent,
        batch: flow.batch,
        submitted_by: row.text("submitted_by")?,
        webhook: None,
        worker: None,
        parked_reason: None,
        cancel_requested: false,
        // The log goes with the job.
        log_lines: 0,
        progress: row.json("progress")?,
        result: row.json("result")?,
        error: row.json("error")?,
        payload: row.json("payload")?.unwrap_or_default(),
        archived: true,
    };
    Ok(JobRecord {
        job,
        worker: row.text("worker")?,
        waited_ms: row.optional_number("waited_ms")?,
        runs: row.json("runs")?.unwrap_or_default(),
    })
}
