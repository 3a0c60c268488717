//! `webhook.deliver`: a message to a webhook.

use std::time::Duration;

use fourmi_model::{Policy, Retention, WebhookEvent, WebhookId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Audience, JobKind};

/// Sends a message to a webhook, as Standard Webhooks 1.0.0 says. Address and secret are looked up when it is sent, and stand
/// in no payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookDeliver {
    /// The webhook.
    pub webhook: WebhookId,
    /// The id of the message (`webhook-id`): the same for every attempt and redelivery.
    pub message: String,
    /// What the message tells of.
    pub event: WebhookEvent,
    /// The address, if it is not that of the webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is sent, to the byte.
    pub body: String,
}

/// Attempts: at once and after each of [`WEBHOOK_DELAYS`].
const ATTEMPTS: u32 = 10;

/// How long a message waits after each failed attempt: about 75 hours in all. A quarter more or less is left to chance.
pub const WEBHOOK_DELAYS: [Duration; ATTEMPTS as usize - 1] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

impl JobKind for WebhookDeliver {
    const NAME: &'static str = "webhook.deliver";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends a message to a webhook.";
    const AUDIENCE: Audience = Audience::Platform;
    type Output = WebhookDelivered;

    fn policy() -> Policy {
        Policy {
            attempts: Some(ATTEMPTS),
            timeout: Duration::from_secs(40),
            // Redis need not keep what was delivered; the record stays.
            retention: Retention { done: Duration::from_secs(3600), ..Retention::default() },
            ..Policy::default()
        }
    }
}

/// What `webhook.deliver` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookDelivered {
    /// The status of the answer: 200 to 299.
    pub status: u16,
    /// How long the answer took, in milliseconds.
    pub duration_ms: u64,
}
