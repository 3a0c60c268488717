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

/// An alert that is open. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAlert {
    /// When it was raised first.
    pub opened_at: Timestamp,
    /// The job that tells of it.
    pub sent_by: String,
    /// How often it was raised.
    pub times: u64,
}

/// Who has waited long enough tells of it again. The same job may ask twice, and counts once.
const RAISE: &str = "\
INSERT INTO chat_alerts (tenant, account, key, opened_at, sent_at, sent_by, times) VALUES ($1, $2, $3, $4, $4, $5, 1) \
ON CONFLICT (tenant, account, key) DO UPDATE SET \
times = chat_alerts.times + CASE WHEN chat_alerts.sent_by = $5 THEN 0 ELSE 1 END, \
sent_at = CASE WHEN chat_alerts.sent_at <= $6 THEN $4 ELSE chat_alerts.sent_at END, \
sent_by = CASE WHEN chat_alerts.sent_at <= $6 THEN $5 ELSE chat_alerts.sent_by END \
RETURNING key AS id, opened_at, sent_by, times";

const FIND: &str = "SELECT key AS id, chat_alerts.* FROM chat_alerts WHERE tenant = $1 AND account = $2 AND key = $3";

const CLOSE: &str = "\
DELETE FROM chat_alerts WHERE tenant = $1 AND account = $2 AND key = $3 AND opened_at = $4";

const WITHDRAW: &str = "\
DELETE FROM chat_alerts WHERE tenant = $1 AND account = $2 AND key = $3 AND sent_by = $4";

impl Records {
    /// Raises an alert for a job. It is for the job named in the answer to tell of it: for this one if no alert of the key is
    /// open, or was told of within the window.
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
        let raise = named(RAISE, tenant, account, key).with(now).with(job).with(since);
        let forget = now.checked_sub(FORGOTTEN).unwrap_or(Timestamp::MIN);
        let forget = || Statement::of("DELETE FROM chat_alerts WHERE sent_at < $1").with(forget);
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

    /// Closes an alert, unless another was opened since this one.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn close_alert(
        &self,
        tenant: Option<&TenantName>,
        (account, key): (&str, &str),
        alert: &OpenAlert,
    ) -> Result<bool, RecordsError> {
        let close = named(CLOSE, tenant, account, key).with(alert.opened_at);
        writing!(self, |db| query_of!(close).execute(db).await?.rows_affected() > 0)
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
        let withdraw = named(WITHDRAW, tenant, account, key).with(job);
        writing!(self, |db| query_of!(withdraw).execute(db).await?.rows_affected() > 0)
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
        times: row.number("times")?,
    })
}
