//! Webhooks: who is told of the ends of jobs, and how messages to them come about.
//!
//! A job that has ended lies in its queue's outbox for webhooks until a job `webhook.deliver` is accepted for everyone who
//! is told: whoever dies in between leaves it there. Its id is derived from the job, the end and the webhook, so that one
//! that is made twice is one.

mod announcer;
mod message;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use fourmi_kinds::{JobKind, WebhookDeliver, catalogue};
use fourmi_model::{Limit, LimitName, QueueName, WebhookId};
use fourmi_queue::{Consumer, Outbox, OutboxConfig, QueueError, Queues};
use fourmi_records::{Records, RecordsError, Webhook};
use fourmi_secrets::Secrets;
use jiff::Timestamp;
use tokio::{sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::message::{Message, submission};
use crate::people::People;

/// How soon a server notices that there are webhooks, or none any more.
const LOOK: Duration = Duration::from_secs(2);

/// Messages to one webhook that are on their way at once, while nobody has said otherwise: one that is slow must not take
/// the time of the others.
const AT_ONCE: u32 = 32;

/// The webhooks of the platform.
pub struct Webhooks {
    pub(crate) records: Records,
    pub(crate) queues: Queues,
    pub(crate) secrets: Secrets,
    people: Arc<People>,
    outboxes: Vec<Outbox>,
    known: Mutex<Known>,
    /// When webhooks took messages last, as far as this server has noted it.
    noted: std::sync::Mutex<HashMap<WebhookId, Timestamp>>,
}

/// The webhooks as they were at a version.
#[derive(Default)]
struct Known {
    version: Option<i64>,
    webhooks: Arc<Vec<Webhook>>,
}

impl Webhooks {
    /// The webhooks in the records; from now on they are told, until `stop` is cancelled.
    ///
    /// # Errors
    /// If Redis does not answer now or keeps a queue in another layout.
    pub async fn start(
        records: Records,
        queues: Queues,
        secrets: Secrets,
        people: Arc<People>,
        config: OutboxConfig,
        stop: &CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let mut outboxes = Vec::new();
        for queue in catalogue().queues() {
            let outbox = Outbox::of(&queues, queue, Consumer::Webhooks, config).await;
            outboxes.push(outbox.context("the outboxes of webhooks cannot be opened")?);
        }
        let webhooks = Arc::new(Self {
            records,
            queues,
            secrets,
            people,
            outboxes,
            known: Mutex::default(),
            noted: std::sync::Mutex::default(),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&webhooks).keep_up()));
        Ok(webhooks)
    }

    /// Announces ends of jobs while there are webhooks. What no queue has to put aside costs nothing.
    async fn keep_up(self: Arc<Self>) {
        let mut is_closed = false;
        loop {
            match self.known().await {
                Ok(known) if known.is_empty() => {
                    // Once: whoever makes the next webhook opens the outboxes.
                    if !std::mem::replace(&mut is_closed, true) {
                        self.close().await;
                    }
                }
                Ok(_) => {
                    is_closed = false;
                    let announcing = self.outboxes.iter().map(|outbox| announcer::run(&self, outbox));
                    tokio::select! {
                        _ = futures_util::future::join_all(announcing) => {}
                        () = self.are_gone() => {}
                    }
                }
                Err(error) => tracing::debug!(%error, "webhooks cannot be read"),
            }
            sleep(LOOK).await;
        }
    }

    async fn are_gone(&self) {
        loop {
            sleep(LOOK).await;
            if self.known().await.is_ok_and(|known| known.is_empty()) {
                return;
            }
        }
    }

    /// All webhooks, as they are now.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn known(&self) -> Result<Arc<Vec<Webhook>>, RecordsError> {
        let version = self.records.webhooks_version().await?;
        let mut known = self.known.lock().await;
        if known.version != Some(version) {
            // What changes after the version was read is read again next time.
            let webhooks = Arc::new(self.records.webhooks().await?);
            *known = Known { version: Some(version), webhooks };
        }
        Ok(Arc::clone(&known.webhooks))
    }

    /// Has every queue put finished jobs aside from now on.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub(crate) async fn open(&self) -> Result<(), QueueError> {
        for outbox in &self.outboxes {
            outbox.open().await?;
        }
        let (queue, name) = (queue(), class());
        let limits = self.queues.limits(&queue).await?;
        if !limits.iter().any(|limit| limit.name == name) {
            let limit = Limit { concurrency: Some(AT_ONCE), rate: None };
            self.queues.set_limit(&queue, &name, Some(limit)).await?;
        }
        Ok(())
    }

    async fn close(&self) {
        for outbox in &self.outboxes {
            if let Err(error) = outbox.close().await {
                tracing::debug!(%error, "an outbox cannot be closed");
            }
        }
    }
}

/// The queue of messages.
#[expect(clippy::expect_used, reason = "the names of kinds and queues are constants")]
pub(crate) fn queue() -> QueueName {
    WebhookDeliver::QUEUE.parse().expect("a queue name")
}

/// What limits messages to any one webhook.
#[expect(clippy::expect_used, reason = "a constant")]
fn class() -> LimitName {
    "webhook/*".parse().expect("a limit name")
}

/// What limits messages to a webhook.
#[expect(clippy::expect_used, reason = "ids of webhooks are short and of visible characters")]
fn limit_of(id: &WebhookId) -> LimitName {
    format!("webhook/{id}").parse().expect("a limit name")
}

/// What the secret of a webhook is sealed for.
pub(crate) fn seal_context(id: &WebhookId) -> String {
    format!("webhook {id}")
}
