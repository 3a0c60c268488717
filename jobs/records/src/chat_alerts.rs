//! Alerts that are open: told of once, and counted until their cause is gone.

use fourmi_model::TenantName;
use jiff::{SignedDuration, Timestamp};

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, label},
    statement::{Statement, query_of},
    store::{Change, reading, writing},
    suppressions::tenant_text,
};

/// An alert of which nothing was heard for so long is not open any more.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long a job that is to tell of an alert has time, from each of its attempts on: the worker may die, and the job may be
/// cancelled or wait for hours. Then the next one tells of it.
const CLAIM: SignedDuration = SignedDuration::from_mins(5);

/// An alert that is open. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAlert {
    /// When it was raised first.
    pub opened_at: Timestamp,
    /// The job that tells of it.
    pub sent_by: String,
    /// Whether that job has told of it.
    pub told: bool,
    /// How often it was raised; 0 if it was resolved before that job could tell of it.
    pub times: u64,
}

/// Who comes when nobody was told for long enough, and nobody else is about to tell, tells of it. The same job may ask twice,
/// and counts once. What was resolved is opened anew by any other job.
const RAISE: &str = "\
INSERT INTO chat_alerts (tenant, account, key, opened_at, sent_at, sent_by, times, claimed_until) \
VALUES ($1, $2, $3, $4, 0, $5, 1, $7) \
ON CONFLICT (tenant, account, key) DO UPDATE SET \
opened_at = CASE WHEN chat_alerts.times = 0 AND chat_alerts.sent_by <> $5 THEN $4 ELSE chat_alerts.opened_at END, \
sent_at = CASE WHEN chat_alerts.times = 0 AND chat_alerts.sent_by <> $5 THEN 0 ELSE chat_alerts.sent_at END, \
times = chat_alerts.times + CASE WHEN chat_alerts.sent_by = $5 THEN 0 ELSE 1 END, \
claimed_until = CASE \
  WHEN chat_alerts.sent_by = $5 AND (chat_alerts.times = 0 OR chat_alerts.claimed_until = 0) THEN chat_alerts.claimed_until \
  WHEN chat_alerts.sent_by = $5 OR chat_alerts.times = 0 THEN $7 \
  WHEN chat_alerts.sent_at <= $6 AND chat_alerts.claimed_until <= $4 THEN $7 \
  ELSE chat_alerts.claimed_until END, \
sent_by = CASE WHEN chat_alerts.times = 0 OR (chat_alerts.sent_at <= $6 AND chat_alerts.claimed_until <= $4) THEN $5 \
  ELSE chat_alerts.sent_by END \
RETURNING key AS id, opened_at, sent_by, times, claimed_until";

const FIND: &str = "\
SELECT key AS id, opened_at, sent_by, times, claimed_until FROM chat_alerts \
WHERE tenant = $1 AND account = $2 AND key = $3 AND times > 0";

const TOLD: &str = "\
UPDATE chat_alerts SET sent_at = $5, claimed_until = 0 \
WHERE tenant = $1 AND account = $2 AND key = $3 AND sent_by = $4 AND times > 0";

const CLOSE: &str = "\
DELETE FROM chat_alerts WHERE tenant = $1 AND account = $2 AND key = $3 AND opened_at = $4 AND claimed_until = 0";

/// Of an alert that a job is still to tell of.
const CLOSE_UNTOLD: &str = "\
UPDATE chat_alerts SET times = 0 WHERE tenant = $1 AND account = $2 AND key = $3 AND opened_at = $4 AND times > 0";

const WITHDRAW: &str = "\
DELETE FROM chat_alerts WHERE tenant = $1 AND account = $2 AND key = $3 AND sent_by = $4 AND sent_at = 0";

/// Of an alert of which others have told before: it stays open.
const WITHDRAW_AGAIN: &str = "\
UPDATE chat_alerts SET claimed_until = 0, sent_by = '' \
WHERE tenant = $1 AND account = $2 AND key = $3 AND sent_by = $4 AND claimed_until > 0";

/// An alert that nobody was told of is as old as it was raised.
const FORGET: &str = "DELETE FROM chat_alerts WHERE sent_at < $1 AND opened_at < $1";

impl Records {
    /// Raises an alert for a job. It is for the job named in the answer to tell of it, unless it has: for this one if nobody was
    /// told of an alert of the key within the window, and no other job is about to tell.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn raise_alert(
        &self,
        tenant: Option<&TenantName>,
        (account, key): (&str, &str),
        job: &str,
        window: SignedDuration,
        now: Timestamp,
    ) -> Result<OpenAlert, RecordsError> {
        let since = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let claimed_until = now.checked_add(CLAIM).unwrap_or(Timestamp::MAX);
        let raise = named(RAISE, tenant, account, key).with(now).with(job).with(since).with(claimed_until);
        let forget = now.checked_sub(FORGOTTEN).unwrap_or(Timestamp::MIN);
        let forget = || Statement::of(FORGET).with(forget);
        writing!(self, |db| {
            db.run(forget()).await?;
            alert(&query_of!(raise).fetch_one(&mut *db).await?)?
        })
    }

    /// The alert of a key that is open.
    ///
    /// # Errors
    /// If the database does not answer, or it cannot be read.
    pub async fn open_alert(
        &self,
        tenant: Option<&TenantName>,
        (account, key): (&str, &str),
    ) -> Result<Option<OpenAlert>, RecordsError> {
        let find = named(FIND, tenant, account, key);
        reading!(self, |db| query_of!(find).fetch_optional(db).await?.map(|row| alert(&row)).transpose()?)
    }

    /// Notes that a job has told of an alert. `false` if it was not for this job to tell, or it was resolved meanwhile.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn note_alert_told(
        &self,
        tenant: Option<&TenantName>,
        (account, key): (&str, &str),
        job: &str,
        now: Timestamp,
    ) -> Result<bool, RecordsError> {
        let told = named(TOLD, tenant, account, key).with(job).with(now);
        writing!(self, |db| query_of!(told).execute(db).await?.rows_affected() > 0)
    }

    /// Closes an alert, unless another was opened since this one. A job that has yet to tell of it finds that out when it
    /// raises it again.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn close_alert(
        &self,
        tenant: Option<&TenantName>,
        (account, key): (&str, &str),
        alert: &OpenAlert,
    ) -> Result<bool, RecordsError> {
        let of = |statement| named(statement, tenant, account, key).with(alert.opened_at);
        writing!(self, |db| db.run(of(CLOSE)).await? > 0 || db.run(of(CLOSE_UNTOLD)).await? > 0)
    }

    /// Takes back an alert that a job could not tell of, so that the next one is told of.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn withdraw_alert(
        &self,
        tenant: Option<&TenantName>,
        (account, key): (&str, &str),
        job: &str,
    ) -> Result<bool, RecordsError> {
        let of = |statement| named(statement, tenant, account, key).with(job);
        writing!(self, |db| db.run(of(WITHDRAW)).await? > 0 || db.run(of(WITHDRAW_AGAIN)).await? > 0)
    }
}

fn named(statement: &str, tenant: Option<&TenantName>, account: &str, key: &str) -> Statement {
    Statement::of(statement).with(tenant_text(tenant)).with(account).with(&*label(key))
}

fn alert(row: &dyn Cells) -> Result<OpenAlert, RecordsError> {
    let row = Columns::of("alert of", row)?;
    Ok(OpenAlert {
        opened_at: row.time("opened_at")?.unwrap_or_default(),
        sent_by: row.word("sent_by")?,
        told: row.number::<u64>("claimed_until")? == 0,
        times: row.number("times")?,
    })
}
