//! What a caller sends to have a job done, and what is checked of it.

use std::time::Duration;

use fourmi_blobs::Blobs;
use fourmi_kinds::Audience;
use fourmi_model::{
    BlobId, JobId, KEY_LIFE, KEY_LIVES, KindName, LimitName, MAX_LIMITS, MAX_PAYLOAD_BYTES, MAX_TAGS, MAX_UNIQUE,
    ParentFailure, PolicyOverrides, Priority, Submission, TenantName, Unique, UniqueUntil, WebhookTarget,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    caller::Caller,
    headers,
    kinds::{Kind, Kinds},
    problem::{Code, Problem},
    routes::{files, jobs::Jobs, webhooks::check_target},
    trace,
};

/// The longest tag, in characters.
const MAX_TAG_CHARS: usize = 64;

/// The most fields by which jobs are alike.
const MAX_UNIQUE_FIELDS: usize = 8;

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
    /// The key under which the job is accepted once, as the header `Idempotency-Key` says it; for jobs that are sent
    /// together, of which each has its own.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    pub(super) idempotency_key: Option<String>,
    /// How long its idempotency key is remembered, in seconds; a day if nothing is said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub(super) idempotency_ttl_s: Option<u64>,
    /// Whose the job is: the jobs of each tenant wait in lanes of their own, which take turns.
    #[serde(default)]
    pub(super) tenant: Option<TenantName>,
    /// What it shares with others, such as `host/example.org`: a limit of that name, or of `host/*`, binds it.
    #[serde(default)]
    #[schemars(length(max = 2))]
    pub(super) limits: Vec<LimitName>,
    /// Whether it excludes its like: then the answer to a second one is the first; by default as the kind says.
    #[serde(default)]
    pub(super) unique: Option<Unique>,
    /// Its name in the flow that it is submitted with; a job that is submitted alone has none.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub(super) name: Option<String>,
    /// The jobs that it waits for, of any queues: their ids, in a flow also their names.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    pub(super) after: Vec<String>,
    /// What becomes of it when one of those does not succeed.
    #[serde(default)]
    pub(super) on_parent_failure: ParentFailure,
    /// Who is told of its end, beside those who are told of every job's.
    #[serde(default)]
    pub(super) webhook: Option<WebhookTarget>,
}

impl JobSubmission<'_> {
    /// The job as the queue takes it, under a new id.
    ///
    /// # Errors
    /// The first mistake, by the path of its field.
    pub(super) async fn check(
        self,
        kinds: &Kinds,
        jobs: &Jobs,
        caller: &Caller,
        idempotency_key: Option<String>,
    ) -> Result<(JobId, Submission), Problem> {
        let tenant = self.tenant(caller)?;
        let unknown = || Problem::field(Code::UnknownKind, "kind", kinds.in_words(tenant.as_ref()));
        let kind = kinds.get(tenant.as_ref(), &self.kind).ok_or_else(unknown)?;
        check_audience(&kind, caller)?;
        let payload = check_payload(&kind, self.payload)?;
        self.check_times(Timestamp::now())?;
        self.check_labels()?;
        self.check_limits()?;
        self.check_unique(&payload)?;
        let idempotency_key = self.key(idempotency_key)?;
        let key_life = self.key_life(idempotency_key.is_some())?;
        if let Some(problem) = self.policy.problem() {
            let (path, message) = problem.split_once(' ').unwrap_or(("policy", problem));
            return Err(invalid(path, message));
        }
        check_files(&payload, &jobs.blobs, caller).await?;
        if let Some(target) = &self.webhook {
            check_target(jobs, caller, target).await?;
        }

        let mut submission = Submission::new(kind.name().clone(), payload);
        submission.priority = self.priority.unwrap_or(kind.policy().priority);
        submission.not_before = self.not_before;
        // Callers who do not see each other's jobs must not meet in a key either.
        submission.idempotency_key =
            idempotency_key.map(|key| if caller.own_only() { format!("{} {key}", caller.id()) } else { key });
        submission.key_life = key_life;
        submission.tenant = tenant;
        submission.limits = self.limits;
        submission.unique = self.unique;
        submission.envelope.schema_version = kind.schema_version();
        submission.envelope.policy = self.policy;
        submission.note(kind.policy());
        submission.envelope.submitted_by = Some(caller.id().to_owned());
        submission.envelope.tags = self.tags;
        submission.envelope.correlation_id = trace::correlation_id(self.correlation_id);
        submission.envelope.traceparent = trace::traceparent();
        submission.envelope.deadline = self.deadline;
        submission.envelope.on_parent_failure = self.on_parent_failure;
        submission.envelope.webhook = self.webhook;
        Ok((JobId::new(kind.queue()), submission))
    }

    /// The caller's tenant; the one that is named, if the caller is bound to none.
    fn tenant(&self, caller: &Caller) -> Result<Option<TenantName>, Problem> {
        match (caller.tenant(), &self.tenant) {
            (Some(own), Some(named)) if own != named => {
                Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")))
            }
            (Some(own), _) => Ok(Some(own.clone())),
            (None, named) => Ok(named.clone()),
        }
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

    /// The key under which it is accepted once: the one that it names, or `given`, the header's.
    fn key(&self, given: Option<String>) -> Result<Option<String>, Problem> {
        let Some(named) = &self.idempotency_key else { return Ok(given) };
        if !headers::is_idempotency_key(named) {
            return Err(invalid("idempotency_key", format!("must be {}", headers::KEY_FORM)));
        }
        if given.is_some_and(|given| given != *named) {
            return Err(invalid("idempotency_key", "is not the one in the header Idempotency-Key"));
        }
        Ok(Some(named.clone()))
    }

    fn key_life(&self, has_key: bool) -> Result<Duration, Problem> {
        let Some(seconds) = self.idempotency_ttl_s else { return Ok(KEY_LIFE) };
        let life = Duration::from_secs(seconds);
        if !has_key {
            return Err(invalid("idempotency_ttl_s", "is about the idempotency key, which is missing"));
        }
        if !KEY_LIVES.contains(&life) {
            return Err(invalid("idempotency_ttl_s", "must be between 1 and 2592000 (thirty days)"));
        }
        Ok(life)
    }

    fn check_limits(&self) -> Result<(), Problem> {
        if self.limits.len() > MAX_LIMITS {
            return Err(invalid(
                "limits",
                format!("must be {MAX_LIMITS} at most, beside those of its tenant and kind"),
            ));
        }
        let wrong = self.limits.iter().position(|name| !name.is_for_jobs());
        wrong.map_or(Ok(()), |index| {
            let message = "binds its jobs anyway, or is about many: name a value of a class of your own, such as host/example.org";
            Err(invalid(format!("limits[{index}]"), message))
        })
    }

    fn check_unique(&self, payload: &RawValue) -> Result<(), Problem> {
        let Some(unique) = &self.unique else { return Ok(()) };
        if unique.by.len() > MAX_UNIQUE_FIELDS {
            return Err(invalid("unique.by", format!("must be {MAX_UNIQUE_FIELDS} at most")));
        }
        if let UniqueUntil::ForS(seconds) = unique.until
            && !(1..=MAX_UNIQUE.as_secs()).contains(&u64::from(seconds))
        {
            return Err(invalid("unique.until.for_s", "must be between 1 and 2592000 (thirty days)"));
        }
        let missing = |index| invalid(format!("unique.by[{index}]"), "names a field that the payload does not have");
        unique.key_parts(payload.get()).map(drop).map_err(missing)
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

pub(super) fn check_label(path: &str, label: &str, most: usize) -> Result<(), Problem> {
    if (1..=most).contains(&label.chars().count()) && !label.chars().any(char::is_control) {
        return Ok(());
    }
    Err(invalid(path, format!("must have 1 to {most} characters, none of them a control character")))
}

pub(super) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem::field(Code::InvalidRequest, path, message)
}

/// Refuses whoever the kind is not for.
pub(super) fn check_audience(kind: &Kind, caller: &Caller) -> Result<(), Problem> {
    let name = kind.name();
    let (code, message) = match kind.audience() {
        Audience::Everyone => return Ok(()),
        Audience::Staff if !caller.own_only() => return Ok(()),
        Audience::Staff => (Code::KindStaffOnly, format!("{name} is for callers who see the jobs of others")),
        Audience::Operators if caller.is_operator() => return Ok(()),
        Audience::Operators => {
            (Code::KindOperatorsOnly, format!("{name} is for callers with queues:admin who see the jobs of all"))
        }
        Audience::Platform => (Code::KindInternal, format!("the platform itself submits {name}, and nobody else")),
    };
    Err(Problem::field(code, "kind", message))
}

/// The payload in the kind's own writing.
fn check_payload(kind: &Kind, payload: &RawValue) -> Result<Box<RawValue>, Problem> {
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

/// Refuses a payload that names a file that does not exist for the caller: the caller learns it now, not from a failed job.
///
/// Any text that is a file's id is taken for one, so that every kind is covered. Whether the file is still there when
/// the job runs is for the job to find out.
async fn check_files(payload: &RawValue, blobs: &Blobs, caller: &Caller) -> Result<(), Problem> {
    if !payload.get().contains("\"file-") {
        return Ok(());
    }
    let mut named = Vec::new();
    collect_files("payload", &serde_json::from_str(payload.get()).map_err(Problem::internal)?, &mut named);
    for (path, id) in named {
        if files::sees(caller, blobs.get(&id).await?.as_ref()).is_none() {
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
