//! What a caller sends to have a job done, and what is checked of it.

use fourmi_blobs::Blobs;
use fourmi_kinds::{Catalogue, KindInfo};
use fourmi_model::{BlobId, JobId, KindName, MAX_PAYLOAD_BYTES, MAX_TAGS, PolicyOverrides, Priority, Submission};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    problem::{Code, Problem},
    routes::kinds::known,
};

/// The longest tag, in characters.
const MAX_TAG_CHARS: usize = 64;

/// The longest correlation id, in characters.
const MAX_CORRELATION_ID_CHARS: usize = 128;

/// A job to be done.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobSubmission<'a> {
    /// The kind.
    #[schemars(with = "KindName")]
    pub(super) kind: String,
    /// What it needs to know, as the kind says; at most 64 KiB.
    #[serde(borrow)]
    #[schemars(with = "Value")]
    pub(super) payload: &'a RawValue,
    /// How urgent it is; by default as the kind says.
    #[serde(default)]
    pub(super) priority: Option<Priority>,
    /// Not before this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) not_before: Option<Timestamp>,
    /// A run that would start after this time does not.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) deadline: Option<Timestamp>,
    /// What differs from the kind's policy.
    #[serde(default)]
    pub(super) policy: PolicyOverrides,
    /// Labels for lists.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub(super) tags: Vec<String>,
    /// Runs through all logs.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    pub(super) correlation_id: Option<String>,
}

impl JobSubmission<'_> {
    /// The job as the queue takes it, under a new id.
    ///
    /// # Errors
    /// The first mistake, by the path of its field.
    pub(super) async fn check(
        self,
        catalogue: &Catalogue,
        blobs: &Blobs,
        idempotency_key: Option<String>,
    ) -> Result<(JobId, Submission), Problem> {
        let kind =
            catalogue.get(&self.kind).ok_or_else(|| Problem::field(Code::UnknownKind, "kind", known(catalogue)))?;
        let payload = check_payload(kind, self.payload)?;
        self.check_times(Timestamp::now())?;
        self.check_labels()?;
        if let Some(problem) = self.policy.problem() {
            let (path, message) = problem.split_once(' ').unwrap_or(("policy", problem));
            return Err(invalid(path, message));
        }
        check_files(&payload, blobs).await?;

        let mut submission = Submission::new(kind.name.clone(), payload);
        submission.priority = self.priority.unwrap_or(kind.policy.priority);
        submission.not_before = self.not_before;
        submission.idempotency_key = idempotency_key;
        submission.envelope.schema_version = kind.schema_version;
        submission.envelope.policy = self.policy;
        submission.note(&kind.policy);
        submission.envelope.tags = self.tags;
        submission.envelope.correlation_id = self.correlation_id;
        submission.envelope.deadline = self.deadline;
        Ok((JobId::new(kind.queue.clone()), submission))
    }

    fn check_times(&self, now: Timestamp) -> Result<(), Problem> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        if deadline <= now {
            return Err(invalid("deadline", "must be in the future"));
        }
        if self.not_before.is_some_and(|start| start >= deadline) {
            return Err(invalid("deadline", "must be after not_before"));
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), Problem> {
        if self.tags.len() > MAX_TAGS {
            return Err(invalid("tags", format!("must be {MAX_TAGS} at most")));
        }
        for (index, tag) in self.tags.iter().enumerate() {
            check_label(&format!("tags[{index}]"), tag, MAX_TAG_CHARS)?;
        }
        let id = self.correlation_id.as_deref();
        id.map_or(Ok(()), |id| check_label("correlation_id", id, MAX_CORRELATION_ID_CHARS))
    }
}

fn check_label(path: &str, label: &str, most: usize) -> Result<(), Problem> {
    if (1..=most).contains(&label.chars().count()) && !label.chars().any(char::is_control) {
        return Ok(());
    }
    Err(invalid(path, format!("must have 1 to {most} characters, none of them a control character")))
}

fn invalid(path: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem::field(Code::InvalidRequest, path, message)
}

/// The payload in the kind's own writing.
fn check_payload(kind: &KindInfo, payload: &RawValue) -> Result<Box<RawValue>, Problem> {
    check_size(payload)?;
    let payload = kind.check(payload.get()).map_err(|mistake| {
        let path = if mistake.path.is_empty() { "payload".into() } else { format!("payload.{}", mistake.path) };
        Problem::field(Code::InvalidPayload, path, mistake.message)
    })?;
    check_size(&payload)?;
    Ok(payload)
}

fn check_size(payload: &RawValue) -> Result<(), Problem> {
    if payload.get().len() <= MAX_PAYLOAD_BYTES {
        return Ok(());
    }
    let detail =
        format!("A payload may have {MAX_PAYLOAD_BYTES} bytes at most; store larger data as a file and name it.");
    Err(Problem::new(Code::PayloadTooLarge, detail))
}

/// Refuses a payload that names a file that does not exist: the caller learns it now, not from a failed job.
///
/// Any text that is a file's id is taken for one, so that every kind is covered. Whether the file is still there when
/// the job runs is for the job to find out.
async fn check_files(payload: &RawValue, blobs: &Blobs) -> Result<(), Problem> {
    if !payload.get().contains("\"file-") {
        return Ok(());
    }
    let mut named = Vec::new();
    collect_files("payload", &serde_json::from_str(payload.get()).map_err(Problem::internal)?, &mut named);
    for (path, id) in named {
        if blobs.get(&id).await?.is_none() {
            return Err(Problem::field(Code::MissingFile, path, format!("there is no file {id}")));
        }
    }
    Ok(())
}

fn collect_files(path: &str, value: &Value, named: &mut Vec<(String, BlobId)>) {
    match value {
        Value::String(text) => named.extend(text.parse().ok().map(|id| (path.to_owned(), id))),
        Value::Array(values) => {
            values
                .iter()
                .enumerate()
                .for_each(|(index, value)| collect_files(&format!("{path}[{index}]"), value, named));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect_files(&format!("{path}.{name}"), value, named));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_wherever_they_are_named() {
        let id = BlobId::random();
        let value = serde_json::json!({ "a": [1, { "b": id }], "c": "file-x", "d": format!("{id} ") });
        let mut named = Vec::new();
        collect_files("payload", &value, &mut named);
        assert_eq!(named, [("payload.a[1].b".to_owned(), id)]);
    }
}
