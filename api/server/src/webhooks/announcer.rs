//! From the ends of jobs to messages; and what follows from the ends of those.

use std::time::Duration;

use fourmi_kinds::{Audience, JobKind, Notice, WebhookDeliver, catalogue};
use fourmi_model::{Job, JobId, JobRecord, State, Submission, WebhookId};
use fourmi_queue::{Outbox, QueueError, Refusal};
use fourmi_records::{RecordsError, Webhook};
use jiff::{SignedDuration, Timestamp};

use super::{Message, Webhooks, queue};
use crate::{
    outbox::{self, Consume},
    people::{Act, Event},
};

/// How exactly it is known when a webhook took a message last.
const RESOLUTION: SignedDuration = SignedDuration::from_mins(1);

/// Announces what is in an outbox, for ever.
pub(super) async fn run(webhooks: &Webhooks, outbox: &Outbox) {
    outbox::run(outbox, &Announcer(webhooks)).await;
}

struct Announcer<'a>(&'a Webhooks);

#[derive(Debug, thiserror::Error)]
pub(super) enum AnnounceError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("messages are not accepted: {0}")]
    Refused(Refusal),
}

impl Consume for Announcer<'_> {
    const POLL: Duration = Duration::from_millis(200);
    const DONE: &'static str = "announced";
    type Error = AnnounceError;

    async fn consume(&self, records: &[JobRecord]) -> Result<(), AnnounceError> {
        let webhooks = self.0.known().await?;
        let is_ours = |job: &Job| job.kind.as_str() == WebhookDeliver::NAME;
        let (ours, others): (Vec<&Job>, Vec<&Job>) =
            records.iter().map(|record| &record.job).partition(|job| is_ours(job));
        let messages = messages(&others, &webhooks);
        if !messages.is_empty() {
            for answer in self.0.queues.push_many(&queue(), &messages).await? {
                answer.map_err(AnnounceError::Refused)?;
            }
        }
        self.note_successes(&ours, &webhooks).await?;
        for job in ours.iter().filter(|job| job.state == State::Failed) {
            self.look_at_failure(job).await?;
        }
        Ok(())
    }
}

/// The jobs that tell everyone who is to be told.
fn messages(jobs: &[&Job], webhooks: &[Webhook]) -> Vec<(JobId, Submission)> {
    let mut messages = Vec::new();
    for job in jobs {
        let told: Vec<_> = webhooks.iter().filter_map(|webhook| Some((webhook, is_told(webhook, job)?))).collect();
        // Most jobs have nobody to tell.
        if told.is_empty() {
            continue;
        }
        let Some(message) = Message::of(job) else { continue };
        for (webhook, url) in told {
            let id = job.id.child(queue(), &format!("{} {}", webhook.id, message.id));
            messages.push((id, message.to(webhook, url)));
        }
    }
    messages
}

/// Whether a webhook is told of the end of a job, and at which address, if it is not its own.
fn is_told<'a>(webhook: &Webhook, job: &'a Job) -> Option<Option<&'a str>> {
    if webhook.disabled_at.is_some() {
        return None;
    }
    if let Some(target) = job.webhook.as_ref().filter(|target| target.id == webhook.id) {
        return Some(target.url.as_deref());
    }
    if is_of_platform(job) {
        return None;
    }
    let is_of_tenant = webhook.tenant.is_none() || webhook.tenant == job.tenant;
    let is_own = !webhook.own_only || job.submitted_by.as_ref() == Some(&webhook.created_by);
    let event = fourmi_model::WebhookEvent::of(job)?;
    (is_of_tenant && is_own && webhook.events.contains(&event)).then_some(None)
}

/// Whether it is the work of the platform itself: mails, messages and chores, which come every minute, are nobody's news.
fn is_of_platform(job: &Job) -> bool {
    let audience = catalogue().get(job.kind.as_str()).map(|kind| kind.audience);
    matches!(audience, Some(Audience::Operators | Audience::Platform))
}

/// The webhook that a message goes to.
fn webhook_of(job: &Job) -> Option<WebhookId> {
    serde_json::from_value::<WebhookDeliver>(job.payload.clone()).ok().map(|deliver| deliver.webhook)
}

impl Announcer<'_> {
    async fn note_successes(&self, jobs: &[&Job], webhooks: &[Webhook]) -> Result<(), RecordsError> {
        let mut times: Vec<(WebhookId, Timestamp)> = Vec::new();
        for job in jobs.iter().filter(|job| job.state == State::Succeeded) {
            let Some((id, time)) = webhook_of(job).zip(job.finished_at) else { continue };
            match times.iter_mut().find(|(known, _)| *known == id) {
                Some((_, latest)) => *latest = time.max(*latest),
                None => times.push((id, time)),
            }
        }
        times.retain(|(id, time)| {
            let noted = self.0.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).copied();
            let known = webhooks.iter().find(|webhook| webhook.id == *id).and_then(|webhook| webhook.last_success_at);
            noted.max(known).is_none_or(|noted| time.duration_since(noted) > RESOLUTION)
        });
        if times.is_empty() {
            return Ok(());
        }
        self.0.records.webhooks_succeeded(&times).await?;
        self.0.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(times);
        Ok(())
    }

    /// Disables a webhook whose address wants nothing any more, or has taken nothing for as long as a message is tried.
    async fn look_at_failure(&self, job: &Job) -> Result<(), RecordsError> {
        let (Some(id), Some(error)) = (webhook_of(job), &job.error) else { return Ok(()) };
        let reason = if error.code == "webhook_gone" {
            "gone"
        } else if error.retryable || job.attempts >= WebhookDeliver::policy().attempts.unwrap_or(u32::MAX) {
            "failing"
        } else {
            return Ok(());
        };
        let Some(webhook) = self.0.records.webhook(&id).await? else { return Ok(()) };
        let has_worked_since = webhook.last_success_at.is_some_and(|time| time + RESOLUTION > job.created_at);
        if reason == "failing" && has_worked_since {
            return Ok(());
        }
        if !self.0.records.disable_webhook(&id, Timestamp::now(), reason).await? {
            return Ok(());
        }
        tracing::warn!(webhook.id = %id, reason, "a webhook was disabled");
        let event = Event::of_platform(Act::WebhookDisabled).to(&id).in_tenant(webhook.tenant.as_ref());
        event.with("reason", reason).note(&self.0.records).await?;
        // Its maker is told by mail if it is a person; keys read no mail.
        if let Ok(user) = webhook.created_by.parse()
            && let Some(user) = self.0.people.records.user(&user).await?
        {
            self.0.people.try_to_mail(&user, Notice::WebhookDisabled).await;
        }
        Ok(())
    }
}
