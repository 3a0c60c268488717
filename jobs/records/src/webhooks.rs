//! Webhooks.

use fourmi_model::{TenantName, WebhookEvent, WebhookId};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, json},
    statement::{Statement, query_of},
    store::{reading, writing},
};

/// A webhook, as it is kept. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id; never changes.
    pub id: WebhookId,
    /// Grows with every change: a change is made only to the webhook that was read.
    pub version: i64,
    /// Where messages go.
    pub url: String,
    /// What it is for, for a person.
    pub description: Option<String>,
    /// What it tells of unasked.
    pub events: Vec<WebhookEvent>,
    /// The tenant whose jobs it tells of, without one those of all; never changes.
    pub tenant: Option<TenantName>,
    /// Whether it tells of those jobs alone that whoever made it has submitted; never changes.
    pub own_only: bool,
    /// What signs, sealed.
    pub secret: String,
    /// The secret before, sealed.
    pub previous_secret: Option<String>,
    /// Until when the secret before signs, too.
    pub previous_until: Option<Timestamp>,
    /// Since when nothing is sent.
    pub disabled_at: Option<Timestamp>,
    /// Why, if nobody has asked for it, as a word.
    pub disabled_for: Option<String>,
    /// When a message was taken last.
    pub last_success_at: Option<Timestamp>,
    /// When it was made; never changes.
    pub created_at: Timestamp,
    /// The id of who made it; never changes.
    pub created_by: String,
}

const ADD: &str = "\
INSERT INTO webhooks (id, version, url, description, events, tenant, own_only, secret, previous_secret, previous_until, \
  disabled_at, disabled_for, last_success_at, created_at, created_by) \
VALUES ($1, $2, $3, $4, $5, $6, $7 <> 0, $8, $9, $10, $11, $12, $13, $14, $15)";

const CHANGE: &str = "\
UPDATE webhooks SET version = version + 1, url = $3, description = $4, events = $5, secret = $6, previous_secret = $7, \
  previous_until = $8, disabled_at = $9, disabled_for = $10 \
WHERE id = $1 AND version = $2";

const SUCCEEDED: &str = "\
UPDATE webhooks SET last_success_at = $2 WHERE id = $1 AND (last_success_at IS NULL OR last_success_at < $2)";

const DISABLE: &str = "\
UPDATE webhooks SET version = version + 1, disabled_at = $2, disabled_for = $3 WHERE id = $1 AND disabled_at IS NULL";

/// Whoever changes webhooks waits here for others who do.
pub(crate) const CHANGED: &str = "UPDATE webhook_changes SET number = number + 1";

impl Records {
    /// Adds a webhook.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_webhook(&self, webhook: &Webhook) -> Result<(), RecordsError> {
        let add = Statement::of(ADD)
            .with(webhook.id.as_str())
            .with(webhook.version)
            .with(webhook.url.as_str())
            .with(webhook.description.as_deref())
            .with(&*json(&webhook.events))
            .with(webhook.tenant.as_ref().map(TenantName::as_str))
            .with(i64::from(webhook.own_only))
            .with(webhook.secret.as_str())
            .with(webhook.previous_secret.as_deref())
            .with(webhook.previous_until)
            .with(webhook.disabled_at)
            .with(webhook.disabled_for.as_deref())
            .with(webhook.last_success_at)
            .with(webhook.created_at)
            .with(webhook.created_by.as_str());
        writing!(self, |db| {
            query_of!(add).execute(&mut *db).await?;
            sqlx::query(CHANGED).execute(&mut *db).await?;
        })
    }

    /// A webhook by its id.
    ///
    /// # Errors
    /// If the database does not answer, or the webhook cannot be read.
    pub async fn webhook(&self, id: &WebhookId) -> Result<Option<Webhook>, RecordsError> {
        let question = Statement::of("SELECT * FROM webhooks WHERE id = $1").with(id.as_str());
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| webhook(&row)).transpose()?)
    }

    /// All webhooks, oldest first.
    ///
    /// # Errors
    /// If the database does not answer, or a webhook cannot be read.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query("SELECT * FROM webhooks ORDER BY id").fetch_all(db).await?;
            rows.iter().map(|row| webhook(row)).collect::<Result<_, _>>()?
        })
    }

    /// How many webhooks somebody has made, and how many there are in all.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn webhook_counts(&self, creator: &str) -> Result<(u64, u64), RecordsError> {
        const COUNTS: &str = "\
SELECT $1 AS id, (SELECT count(*) FROM webhooks WHERE created_by = $1) AS own, (SELECT count(*) FROM webhooks) AS total";
        let question = Statement::of(COUNTS).with(creator);
        reading!(self, |db| {
            let row = query_of!(question).fetch_one(db).await?;
            let row = Columns::of("webhooks of", &row)?;
            (row.number("own")?, row.number("total")?)
        })
    }

    /// Replaces what may change of a webhook (its address, description, events, secrets and whether it is disabled), and
    /// raises its version by one. `false` if it is not at the version that `webhook` has: somebody else was faster, or it is
    /// gone.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn change_webhook(&self, webhook: &Webhook) -> Result<bool, RecordsError> {
        let change = Statement::of(CHANGE)
            .with(webhook.id.as_str())
            .with(webhook.version)
            .with(webhook.url.as_str())
            .with(webhook.description.as_deref())
            .with(&*json(&webhook.events))
            .with(webhook.secret.as_str())
            .with(webhook.previous_secret.as_deref())
            .with(webhook.previous_until)
            .with(webhook.disabled_at)
            .with(webhook.disabled_for.as_deref());
        self.change_webhooks(change).await
    }

    /// Disables a webhook for a reason. `false` if it was disabled already, or is gone.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn disable_webhook(&self, id: &WebhookId, now: Timestamp, reason: &str) -> Result<bool, RecordsError> {
        self.change_webhooks(Statement::of(DISABLE).with(id.as_str()).with(now).with(reason)).await
    }

    /// Removes a webhook. `false` if it is not there.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_webhook(&self, id: &WebhookId) -> Result<bool, RecordsError> {
        self.change_webhooks(Statement::of("DELETE FROM webhooks WHERE id = $1").with(id.as_str())).await
    }

    /// Notes when webhooks took a message last. No time is moved back, and webhooks that are gone are left out.
    ///
    /// # Errors
    /// If the database does not answer; then nothing is noted.
    pub async fn webhooks_succeeded(&self, times: &[(WebhookId, Timestamp)]) -> Result<(), RecordsError> {
        // Two who note the same webhooks in different orders would wait for each other.
        let mut times = times.to_vec();
        times.sort();
        writing!(self, |db| {
            for (id, time) in &times {
                query_of!(Statement::of(SUCCEEDED).with(id.as_str()).with(*time)).execute(&mut *db).await?;
            }
        })
    }

    /// A number that is another one after every addition, change or removal of a webhook: who keeps webhooks compares it now
    /// and then. Successes do not count.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn webhooks_version(&self) -> Result<i64, RecordsError> {
        reading!(self, |db| sqlx::query_scalar("SELECT number FROM webhook_changes").fetch_one(db).await?)
    }

    async fn change_webhooks(&self, change: Statement) -> Result<bool, RecordsError> {
        writing!(self, |db| {
            let changed = query_of!(change).execute(&mut *db).await?.rows_affected() > 0;
            if changed {
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            changed
        })
    }
}

fn webhook(row: &dyn Cells) -> Result<Webhook, RecordsError> {
    let row = Columns::of("webhook", row)?;
    Ok(Webhook {
        id: row.word("id")?,
        version: row.number("version")?,
        url: row.word("url")?,
        description: row.text("description")?,
        events: row.json("events")?.unwrap_or_default(),
        // One that cannot be read must not become a webhook for all tenants.
        tenant: row.optional_word("tenant")?,
        own_only: row.flag("own_only")?,
        secret: row.word("secret")?,
        previous_secret: row.text("previous_secret")?,
        previous_until: row.time("previous_until")?,
        disabled_at: row.time("disabled_at")?,
        disabled_for: row.text("disabled_for")?,
        last_success_at: row.time("last_success_at")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        created_by: row.word("created_by")?,
    })
}
