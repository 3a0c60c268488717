//! A job as everyone outside the queue reads it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ErrorReport, JobId, KindName, LimitName, ParentFailure, ParkReason, Priority, Progress, QueueName, State,
    TenantName, WebhookTarget,
};

/// A job at one moment: what the API answers, what a stream sends, what the command line shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The id.
    pub id: JobId,
    /// The type.
    pub kind: KindName,
    /// The version of the payload's schema.
    pub schema_version: u32,
    /// The queue.
    pub queue: QueueName,
    /// Where the job is in its life.
    pub state: State,
    /// Grows with every transition and every progress update: of two documents the one with the higher number is newer.
    pub version: u64,
    /// How urgent it is.
    pub priority: Priority,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The limits that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitName>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Runs through all logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Runs started so far; it never falls.
    pub run: u64,
    /// Runs that count against the retry budget.
    pub attempts: u32,
    /// Runs that took their process down.
    pub crashes: u32,
    /// When the job was accepted.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// When it will be able to run (`scheduled`, `retrying`), or not before when (`blocked`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub due_at: Option<Timestamp>,
    /// When the newest run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When the job was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// A run that would start after this does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// The jobs that it waits for, or waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
    /// What becomes of it when one of them does not succeed.
    #[serde(default, skip_serializing_if = "ParentFailure::is_default")]
    pub on_parent_failure: ParentFailure,
    /// The job whose run made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The batch that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
    /// The id of the API key that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// Who is told of its end, beside those who are told of every job's; its record does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,
    /// The worker process that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Why it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_reason: Option<ParkReason>,
    /// Whether a caller asked to stop it and the run has not stopped yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
    /// Lines that its runs have written to its log: the number of the newest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_lines: u64,
    /// How far the newest run is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the job gave (`succeeded`), in the form that its kind documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why the newest run did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    /// The payload as it was accepted.
    pub payload: Value,
    /// Whether the queue has forgotten the job, and this is its record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
}

/// The largest result or error that news of a job carry, in bytes of JSON: whoever wants a larger one reads the job.
const LARGEST_NEWS: usize = 8 * 1024;

impl Job {
    /// What webhooks and brokers are told of a job: the job without its payload and progress, and without a result or error
    /// that is large; then `result_omitted` or `error_omitted` says so.
    pub fn news(&self) -> Value {
        let mut news = serde_json::to_value(self).unwrap_or_default();
        let Some(fields) = news.as_object_mut() else { return news };
        for field in
            ["payload", "progress", "webhook", "limits", "schema_version", "log_lines", "after", "on_parent_failure"]
        {
            fields.remove(field);
        }
        for field in ["result", "error"] {
            if fields.get(field).is_some_and(|value| value.to_string().len() > LARGEST_NEWS) {
                fields.remove(field);
                fields.insert(format!("{field}_omitted"), true.into());
            }
        }
        news
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A run that did not succeed, as the job's record keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// The number of the run.
    pub run: u64,
    /// The worker process.
    pub worker: String,
    /// When it started.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub ended_at: Timestamp,
    /// How long it lasted, in milliseconds.
    pub duration_ms: u64,
    /// Why it did not succeed. Of a run whose process died, the message names the signal, the exit status or the memory.
    pub error: ErrorReport,
}

/// A finished job with all that is known of it, as it leaves the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// The job at its end.
    pub job: Job,
    /// The worker process of its newest run.
    pub worker: Option<String>,
    /// How long its newest run waited since it could start, in milliseconds, if it has run.
    pub waited_ms: Option<u64>,
    /// The runs that did not succeed, oldest first; the newest fifty.
    pub runs: Vec<RunReport>,
}
