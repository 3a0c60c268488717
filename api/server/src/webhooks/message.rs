//! Messages, and the jobs that send them.

use fourmi_kinds::{JobKind, WebhookDeliver};
use fourmi_model::{Job, Priority, Submission, WebhookEvent};
use fourmi_records::Webhook;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::limit_of;

/// A message: what it tells of, and what is sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) event: WebhookEvent,
    pub(crate) body: String,
    correlation_id: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: WebhookEvent,
    timestamp: Timestamp,
    data: &'a Value,
}

impl Message {
    /// What tells of the end of a job; `None` while it is not over.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let event = WebhookEvent::of(job)?;
        // A job that is replayed ends once more, under a higher version.
        let id = format!("msg_{}_{}", job.id.uuid().simple(), job.version);
        let timestamp = job.finished_at.unwrap_or(job.created_at);
        let message = Self::new(id, event, timestamp, &job.news());
        Some(Self { correlation_id: job.correlation_id.clone(), ..message })
    }

    pub(crate) fn new(id: String, event: WebhookEvent, timestamp: Timestamp, data: &Value) -> Self {
        // What is written here always becomes JSON.
        let body = serde_json::to_string(&Body { r#type: event, timestamp, data }).unwrap_or_default();
        Self { id, event, body, correlation_id: None }
    }

    /// The job that sends it to a webhook; to `url`, if that is not the webhook's.
    pub(crate) fn to(&self, webhook: &Webhook, url: Option<&str>) -> Submission {
        let deliver = WebhookDeliver {
            webhook: webhook.id.clone(),
            message: self.id.clone(),
            event: self.event,
            url: url.map(str::to_owned),
            body: self.body.clone(),
        };
        submission(&deliver, webhook, self.correlation_id.clone())
    }
}

/// The job that sends a message to a webhook. It belongs to whoever made that.
pub(crate) fn submission(deliver: &WebhookDeliver, webhook: &Webhook, correlation_id: Option<String>) -> Submission {
    #[expect(clippy::expect_used, reason = "the name is a constant, and the payload has texts alone")]
    let (kind, payload) =
        (WebhookDeliver::NAME.parse().expect("a kind"), serde_json::value::to_raw_value(deliver).expect("JSON"));
    let payload: Box<RawValue> = payload;
    let mut submission = Submission::new(kind, payload);
    submission.note(&WebhookDeliver::policy());
    if deliver.event == WebhookEvent::Test {
        submission.priority = Priority::High;
    }
    submission.tenant.clone_from(&webhook.tenant);
    submission.limits = vec![limit_of(&webhook.id)];
    submission.envelope.tags = vec![webhook.id.to_string(), deliver.event.to_string()];
    submission.envelope.correlation_id = correlation_id;
    submission.envelope.submitted_by = Some(webhook.created_by.clone());
    submission
}
