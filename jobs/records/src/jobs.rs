//! Finished jobs.

use std::{collections::BTreeMap, fmt::Display};

use fourmi_model::{Job, JobId, JobRecord, ParentFailure, TenantName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use crate::{Records, RecordsError};

/// Rows of one statement: what a statement costs beside its rows is then no longer felt.
const ROWS: usize = 50;

const COLUMNS: &str = "id, version, queue, kind, schema_version, state, error_code, priority, tags, correlation_id, run, \
  attempts, crashes, created_at, started_at, finished_at, deadline, worker, payload, progress, result, error, runs, tenant, \
  flow";

/// A row is replaced only by a newer one. What never changes of a job is left out.
const REPLACE: &str = "\
ON CONFLICT (id) DO UPDATE SET version = excluded.version, state = excluded.state, error_code = excluded.error_code, \
  run = excluded.run, attempts = excluded.attempts, crashes = excluded.crashes, started_at = excluded.started_at, \
  finished_at = excluded.finished_at, worker = excluded.worker, progress = excluded.progress, \
  result = excluded.result, error = excluded.error, runs = excluded.runs \
WHERE excluded.version > jobs.version";

impl Records {
    /// Writes finished jobs, all or none, and gives how many were new or newer than their row.
    ///
    /// # Errors
    /// If the database refuses; then none is written.
    pub async fn archive(&self, records: &[JobRecord]) -> Result<u64, RecordsError> {
        // One statement may meet a row once only: of a job that ended twice, the last end counts.
        let mut newest: BTreeMap<String, &JobRecord> = BTreeMap::new();
        for record in records {
            let known = newest.entry(record.job.id.to_string()).or_insert(record);
            if record.job.version > known.job.version {
                *known = record;
            }
        }
        let rows: Vec<_> = newest.into_iter().collect();

        // A transaction that begins by reading could not wait for another writer.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut written = 0;
        for rows in rows.chunks(ROWS) {
            let mut insert = QueryBuilder::<Sqlite>::new(format!("INSERT INTO jobs ({COLUMNS}) "));
            insert.push_values(rows, |mut row, (id, JobRecord { job, worker, runs })| {
                row.push_bind(id)
                    .push_bind(whole(job.version))
                    .push_bind(job.queue.as_str())
                    .push_bind(job.kind.as_str())
                    .push_bind(i64::from(job.schema_version))
                    .push_bind(job.state.as_str())
                    .push_bind(job.error.as_ref().map(|error| error.code.as_str()))
                    .push_bind(job.priority.as_str())
                    .push_bind(json(&job.tags))
                    .push_bind(job.correlation_id.as_deref())
                    .push_bind(whole(job.run))
                    .push_bind(i64::from(job.attempts))
                    .push_bind(i64::from(job.crashes))
                    .push_bind(job.created_at.as_millisecond())
                    .push_bind(job.started_at.map(Timestamp::as_millisecond))
                    .push_bind(job.finished_at.unwrap_or(job.created_at).as_millisecond())
                    .push_bind(job.deadline.map(Timestamp::as_millisecond))
                    .push_bind(worker.as_deref())
                    .push_bind(json(&job.payload))
                    .push_bind(job.progress.as_ref().map(json))
                    .push_bind(job.result.as_ref().map(json))
                    .push_bind(job.error.as_ref().map(json))
                    .push_bind(json(runs))
                    .push_bind(job.tenant.as_ref().map(TenantName::as_str))
                    .push_bind(Flow::of(job).as_ref().map(json));
            });
            let insert = insert.push(" ").push(REPLACE);
            written += insert.build().execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(written)
    }

    /// The record of a job.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, RecordsError> {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id.to_string()).fetch_optional(&self.pool);
        row.await?.map(|row| Columns { id, row }.record()).transpose()
    }

    /// How many jobs are recorded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count(&self) -> Result<u64, RecordsError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&self.pool).await?;
        Ok(count.unsigned_abs())
    }
}

/// How a job is tied to others and to who submitted it, as its row holds it.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_by: Option<String>,
}

impl Flow {
    /// `None` if it stands alone.
    fn of(job: &Job) -> Option<Self> {
        let flow = Self {
            after: job.after.clone(),
            on_parent_failure: job.on_parent_failure,
            parent: job.parent.clone(),
            batch: job.batch.clone(),
            submitted_by: job.submitted_by.clone(),
        };
        (flow != Self::default()).then_some(flow)
    }
}

/// A number that never comes near the largest that SQL knows.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> String {
    // The types of a job always become JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// A row of the table, read column by column.
struct Columns<'a> {
    id: &'a JobId,
    row: SqliteRow,
}

impl Columns<'_> {
    fn record(&self) -> Result<JobRecord, RecordsError> {
        let flow: Flow = self.json("flow")?.unwrap_or_default();
        let job = Job {
            id: self.id.clone(),
            kind: self.word("kind")?,
            schema_version: self.number("schema_version")?,
            queue: self.id.queue().clone(),
            state: self.word("state")?,
            version: self.number("version")?,
            priority: self.word("priority")?,
            tenant: self.text("tenant")?.and_then(|name| name.parse().ok()),
            // What bound it is of no meaning any more.
            limits: Vec::new(),
            tags: self.json("tags")?.unwrap_or_default(),
            correlation_id: self.text("correlation_id")?,
            run: self.number("run")?,
            attempts: self.number("attempts")?,
            crashes: self.number("crashes")?,
            created_at: self.time("created_at")?.unwrap_or_default(),
            due_at: None,
            started_at: self.time("started_at")?,
            finished_at: self.time("finished_at")?,
            deadline: self.time("deadline")?,
            after: flow.after,
            on_parent_failure: flow.on_parent_failure,
            parent: flow.parent,
            batch: flow.batch,
            submitted_by: flow.submitted_by,
            worker: None,
            parked_reason: None,
            cancel_requested: false,
            // The log goes with the job.
            log_lines: 0,
            progress: self.json("progress")?,
            result: self.json("result")?,
            error: self.json("error")?,
            payload: self.json("payload")?.unwrap_or_default(),
            archived: true,
        };
        Ok(JobRecord { job, worker: self.text("worker")?, runs: self.json("runs")?.unwrap_or_default() })
    }

    fn corrupt(&self, column: &str, error: impl Display) -> RecordsError {
        RecordsError::Corrupt(self.id.clone(), format!("{column}: {error}"))
    }

    fn text(&self, column: &str) -> Result<Option<String>, RecordsError> {
        Ok(self.row.try_get(column)?)
    }

    fn word<T: std::str::FromStr<Err: Display>>(&self, column: &str) -> Result<T, RecordsError> {
        self.text(column)?.unwrap_or_default().parse().map_err(|error| self.corrupt(column, error))
    }

    fn number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, RecordsError> {
        let number: i64 = self.row.try_get(column)?;
        T::try_from(number).map_err(|error| self.corrupt(column, error))
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>, RecordsError> {
        let ms: Option<i64> = self.row.try_get(column)?;
        ms.map(|ms| Timestamp::from_millisecond(ms).map_err(|error| self.corrupt(column, error))).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, RecordsError> {
        let text = self.text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))).transpose()
    }
}
