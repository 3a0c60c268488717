//! Webhooks: who is told of the ends of jobs.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::{
    BATCH_KIND, Job, State, TenantName, UnknownWord,
    id::{InvalidName, text_name},
};

/// The id of a webhook: `hook-` and a UUIDv7 without hyphens, so that ids sort by time of creation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebhookId(Arc<str>);

impl WebhookId {
    const RULE: &str = "'hook-' and 32 lower-case hexadecimal digits";

    /// A new id.
    pub fn random() -> Self {
        Self(format!("hook-{}", Uuid::now_v7().simple()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.strip_prefix("hook-") {
            Some(digits) if digits.len() == 32 && digits.bytes().all(is_digit) => Ok(Self(text.into())),
            _ => Err(InvalidName::new("webhook id", Self::RULE, text)),
        }
    }
}

text_name!(
    WebhookId,
    "WebhookId",
    "The id of a webhook.",
    "^hook-[0-9a-f]{32}$",
    "hook-0198c0de000070008000000000000001"
);

/// What a webhook tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WebhookEvent {
    /// A job has succeeded.
    #[serde(rename = "job.succeeded")]
    JobSucceeded,
    /// A job has failed for good.
    #[serde(rename = "job.failed")]
    JobFailed,
    /// A job was cancelled.
    #[serde(rename = "job.cancelled")]
    JobCancelled,
    /// All jobs of a batch have succeeded.
    #[serde(rename = "batch.succeeded")]
    BatchSucceeded,
    /// A batch is over, and a job of it has failed.
    #[serde(rename = "batch.failed")]
    BatchFailed,
    /// A batch was cancelled.
    #[serde(rename = "batch.cancelled")]
    BatchCancelled,
    /// Somebody tries the webhook.
    #[serde(rename = "webhook.test")]
    Test,
}

impl WebhookEvent {
    /// Every event that a webhook may be made for.
    pub const ALL: &[Self] = &[
        Self::JobSucceeded,
        Self::JobFailed,
        Self::JobCancelled,
        Self::BatchSucceeded,
        Self::BatchFailed,
        Self::BatchCancelled,
    ];

    /// The word that stands for it everywhere: the `type` of a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::JobCancelled => "job.cancelled",
            Self::BatchSucceeded => "batch.succeeded",
            Self::BatchFailed => "batch.failed",
            Self::BatchCancelled => "batch.cancelled",
            Self::Test => "webhook.test",
        }
    }

    /// What the end of this job is; `None` while it is not over.
    pub fn of(job: &Job) -> Option<Self> {
        let is_batch = job.kind.as_str() == BATCH_KIND;
        Some(match (job.state, is_batch) {
            (State::Succeeded, false) => Self::JobSucceeded,
            (State::Failed, false) => Self::JobFailed,
            (State::Cancelled, false) => Self::JobCancelled,
            (State::Succeeded, true) => Self::BatchSucceeded,
            (State::Failed, true) => Self::BatchFailed,
            (State::Cancelled, true) => Self::BatchCancelled,
            _ => return None,
        })
    }
}

impl fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for WebhookEvent {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|event| event.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|event| event.as_str()).collect();
            UnknownWord::new(text, &known)
        })
    }
}

/// Whom a job has told of its end, beside those who are told of every job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// The webhook, which signs.
    pub id: WebhookId,
    /// The address, if it is not that of the webhook: of the same origin (scheme, host and port).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
}

/// A webhook, as everyone reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookInfo {
    /// The id, which never changes.
    pub id: WebhookId,
    /// Where messages go.
    pub url: String,
    /// What it is for, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it tells of, of all jobs that whoever made it sees. With none it tells of those jobs alone that name it.
    pub events: Vec<WebhookEvent>,
    /// The tenant whose jobs it tells of; without one, those of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Whether it tells of those jobs alone that whoever made it has submitted.
    pub own_only: bool,
    /// Whether messages are sent.
    pub enabled: bool,
    /// Why not, if nobody has asked for it: `gone` (the other side answered 410), `failing` (nothing was taken for days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_for: Option<String>,
    /// Since when messages are not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub disabled_at: Option<Timestamp>,
    /// Until when the secret before the present one signs, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub previous_secret_until: Option<Timestamp>,
    /// When a message was taken last, to within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_success_at: Option<Timestamp>,
    /// When it was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// The id of the key or of the person that made it.
    pub created_by: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_reads_back_as_itself() {
        for event in WebhookEvent::ALL {
            assert_eq!(event.as_str().parse::<WebhookEvent>().unwrap(), *event);
            assert_eq!(serde_json::to_string(event).unwrap(), format!("\"{event}\""));
        }
        assert!("webhook.test".parse::<WebhookEvent>().is_err(), "nobody can subscribe to it");
    }
}
