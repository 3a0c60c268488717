//! Webhooks: who is told of the ends of jobs, and what they were told.

use fourmi_model::{ErrorReport, JobId, State, TenantName, WebhookEvent, WebhookId, WebhookInfo};
use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError};

/// A webhook to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewWebhook {
    /// Where messages go.
    pub url: String,
    /// What it is for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it tells of unasked; of every end, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<WebhookEvent>>,
    /// The tenant whose jobs it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// A secret that the other side knows already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What to change of a webhook; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WebhookChange {
    /// Where messages go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it is for; an empty text for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it tells of unasked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<WebhookEvent>>,
    /// Whether messages are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A webhook with its secret, which is shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecret {
    /// The webhook.
    pub webhook: WebhookInfo,
    /// What signs its messages (`whsec_…`).
    pub secret: String,
}

/// A message on its way to a webhook: a job, whose runs are its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The job that sends it.
    pub id: JobId,
    /// The id of the message.
    pub message: String,
    /// What it tells of.
    pub event: WebhookEvent,
    /// Where it is in its life.
    pub state: State,
    /// Attempts so far.
    pub attempts: u32,
    /// When it came about.
    pub created_at: Timestamp,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The status of the answer that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long that answer took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Why the newest attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    /// What is sent.
    pub body: String,
}

#[derive(Deserialize)]
struct Page {
    webhooks: Vec<WebhookInfo>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct Delivering {
    delivery: JobId,
}

#[derive(Deserialize)]
struct Redelivered {
    redelivered: u64,
    next: Option<String>,
}

impl Client {
    /// Makes a webhook.
    ///
    /// # Errors
    /// `invalid_request`, `too_many_webhooks`, `scope_missing`, or that the API does not answer.
    pub async fn create_webhook(&self, webhook: &NewWebhook) -> Result<WebhookSecret, ClientError> {
        self.json(self.request(Method::POST, ["webhooks"]).json(webhook)).await
    }

    /// All webhooks that this client sees, oldest first.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn webhooks(&self) -> Result<Vec<WebhookInfo>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, ["webhooks"]).query(&[("limit", "200")]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: Page = self.json(request).await?;
            all.extend(page.webhooks);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A webhook.
    ///
    /// # Errors
    /// `unknown_webhook`, `scope_missing`, or that the API does not answer.
    pub async fn webhook(&self, id: &WebhookId) -> Result<WebhookInfo, ClientError> {
        self.json(self.request(Method::GET, ["webhooks", id.as_str()])).await
    }

    /// Changes a webhook; in force everywhere within two seconds.
    ///
    /// # Errors
    /// `unknown_webhook`, `invalid_request`, `changed_meanwhile`, `scope_missing`, or that the API does not answer.
    pub async fn change_webhook(&self, id: &WebhookId, change: &WebhookChange) -> Result<WebhookInfo, ClientError> {
        self.json(self.request(Method::PATCH, ["webhooks", id.as_str()]).json(change)).await
    }

    /// Deletes a webhook. Messages to it that are on their way are given up.
    ///
    /// # Errors
    /// `unknown_webhook`, `scope_missing`, or that the API does not answer.
    pub async fn delete_webhook(&self, id: &WebhookId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["webhooks", id.as_str()])).await.map(drop)
    }

    /// Gives a webhook a new secret; the old one signs too for `grace_s` seconds.
    ///
    /// # Errors
    /// `unknown_webhook`, `invalid_request`, `changed_meanwhile`, `scope_missing`, or that the API does not answer.
    pub async fn rotate_webhook(&self, id: &WebhookId, grace_s: u32) -> Result<WebhookSecret, ClientError> {
        let request = self.request(Method::POST, ["webhooks", id.as_str(), "rotate"]);
        self.json(request.json(&json!({ "grace_s": grace_s }))).await
    }

    /// Sends a message `webhook.test`; gives the job that does it.
    ///
    /// # Errors
    /// `unknown_webhook`, `webhook_disabled`, `scope_missing`, or that the API does not answer.
    pub async fn test_webhook(&self, id: &WebhookId) -> Result<JobId, ClientError> {
        let sent: Delivering = self.json(self.request(Method::POST, ["webhooks", id.as_str(), "test"])).await?;
        Ok(sent.delivery)
    }

    /// The newest messages to a webhook, 200 at most.
    ///
    /// # Errors
    /// `unknown_webhook`, `scope_missing`, or that the API does not answer.
    pub async fn deliveries(&self, id: &WebhookId, limit: usize) -> Result<Vec<Delivery>, ClientError> {
        let request = self.request(Method::GET, ["webhooks", id.as_str(), "deliveries"]);
        let page: Deliveries = self.json(request.query(&[("limit", limit)])).await?;
        Ok(page.deliveries)
    }

    /// Sends a message once more.
    ///
    /// # Errors
    /// `unknown_webhook`, `unknown_job`, `webhook_disabled`, `scope_missing`, or that the API does not answer.
    pub async fn redeliver(&self, id: &WebhookId, delivery: &JobId) -> Result<(), ClientError> {
        let request = self.request(Method::POST, ["webhooks", id.as_str(), "redeliver"]);
        self.send(request.json(&json!({ "delivery": delivery }))).await.map(drop)
    }

    /// Sends all messages once more that came about since then and were given up; gives how many.
    ///
    /// # Errors
    /// `unknown_webhook`, `webhook_disabled`, `scope_missing`, or that the API does not answer.
    pub async fn redeliver_since(&self, id: &WebhookId, since: Timestamp) -> Result<u64, ClientError> {
        let mut total = 0;
        let mut wanted = json!({ "since": since, "until": Timestamp::now() });
        loop {
            let request = self.request(Method::POST, ["webhooks", id.as_str(), "redeliver"]);
            let step: Redelivered = self.json(request.json(&wanted)).await?;
            total += step.redelivered;
            match step.next {
                Some(next) => wanted["cursor"] = next.into(),
                None => return Ok(total),
            }
        }
    }
}
