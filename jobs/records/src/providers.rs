//! How the providers of messages were lately, and what tenants have spent with them.

use fourmi_model::{HealthStatus, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, plain, whole},
    statement::{Statement, query_of},
    store::{Change, reading, writing},
};

/// A provider, as the workers have met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The account with it.
    pub account: String,
    /// Since when it is down for the worker that met it last; it is not, if there is no time.
    pub down_since: Option<Timestamp>,
    /// How often it has answered so far.
    pub answers: u64,
    /// How often it did not answer, or said that it could not.
    pub outages: u64,
    /// When it answered last.
    pub answered_at: Option<Timestamp>,
    /// When it last did not.
    pub failed_at: Option<Timestamp>,
    /// How long its answers take, in milliseconds: the mean of the last moments in which there were some.
    pub latency_ms: Option<u64>,
    /// The code of its last answer, in its own words.
    pub last_code: Option<String>,
    /// The credits that are left with it, in thousandths.
    pub credits: Option<i64>,
    /// When this was written down.
    pub changed_at: Timestamp,
    /// When a worker has last begun to check it.
    pub check_begun_at: Option<Timestamp>,
    /// What the last check has found.
    pub check: Option<ProviderCheck>,
}

/// What a check of a provider has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderCheck {
    /// When.
    pub at: Timestamp,
    /// How it is.
    pub status: HealthStatus,
    /// Why it is not well.
    pub message: Option<String>,
    /// How long the check took, in milliseconds.
    pub latency_ms: u64,
}

/// What a worker has met of a provider since it wrote down the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Met {
    /// Since when it is down, if it is.
    pub down_since: Option<Timestamp>,
    /// Answers.
    pub answers: u64,
    /// Outages.
    pub outages: u64,
    /// When it answered last.
    pub answered_at: Option<Timestamp>,
    /// When it last did not.
    pub failed_at: Option<Timestamp>,
    /// The mean of how long its answers took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// The code of its last answer.
    pub last_code: Option<String>,
    /// The credits that are left with it, in thousandths, if it has said so.
    pub credits: Option<i64>,
}

/// What a tenant has spent with an account in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// The tenant; none, if the messages were of none.
    pub tenant: Option<TenantName>,
    /// The account.
    pub account: String,
    /// How much, in thousandths of what the account counts in.
    pub amount: i64,
}

const NOTE: &str = "\
INSERT INTO providers (account, down_since, answers, outages, answered_at, failed_at, latency_ms, last_code, credits, changed_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
ON CONFLICT (account) DO UPDATE SET down_since = excluded.down_since, answers = providers.answers + excluded.answers, \
  outages = providers.outages + excluded.outages, answered_at = coalesce(excluded.answered_at, providers.answered_at), \
  failed_at = coalesce(excluded.failed_at, providers.failed_at), \
  latency_ms = coalesce(excluded.latency_ms, providers.latency_ms), \
  last_code = coalesce(excluded.last_code, providers.last_code), \
  credits = coalesce(excluded.credits, providers.credits), changed_at = excluded.changed_at";

/// An account that no job has asked for is there from its first check on.
const BEGIN_CHECK: &str = "\
INSERT INTO providers (account, answers, outages, changed_at, check_begun_at) VALUES ($1, 0, 0, $2, $2) \
ON CONFLICT (account) DO UPDATE SET check_begun_at = excluded.check_begun_at \
WHERE providers.check_begun_at IS NULL OR providers.check_begun_at <= $3";

const NOTE_CHECK: &str = "\
UPDATE providers SET checked_at = $2, check_status = $3, check_message = $4, check_ms = $5, credits = coalesce($6, credits) \
WHERE account = $1";

const NOTE_UP: &str = "\
UPDATE providers SET down_since = NULL WHERE account = $1 AND down_since IS NOT NULL AND changed_at < $2";

const SPENT: &str = "\
SELECT account AS id, tenant, account, amount FROM spending WHERE month = $1 ORDER BY amount DESC, account, tenant LIMIT 200";

impl Records {
    /// Adds what a worker has met of a provider.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn note_provider(&self, account: &str, met: &Met, now: Timestamp) -> Result<(), RecordsError> {
        let note = Statement::of(NOTE)
            .with(account)
            .with(met.down_since)
            .with(whole(met.answers))
            .with(whole(met.outages))
            .with(met.answered_at)
            .with(met.failed_at)
            .with(met.latency_ms.map(whole))
            .with(met.last_code.as_deref())
            .with(met.credits)
            .with(now);
        writing!(self, |db| db.run(note).await.map(drop)?)
    }

    /// Whether the caller is to check a provider now: nobody has begun to since `before`. Of many who ask at once, one is.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn begin_provider_check(
        &self,
        account: &str,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<bool, RecordsError> {
        let begin = Statement::of(BEGIN_CHECK).with(account).with(now).with(before);
        writing!(self, |db| db.run(begin).await? > 0)
    }

    /// Notes what a check of a provider has found, and the credits that are left with it, in thousandths, if it has said so.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn note_provider_check(
        &self,
        account: &str,
        check: &ProviderCheck,
        credits: Option<i64>,
    ) -> Result<(), RecordsError> {
        let note = Statement::of(NOTE_CHECK)
            .with(account)
            .with(check.at)
            .with(check.status.as_str())
            .with(check.message.as_deref().map(plain).as_deref())
            .with(whole(check.latency_ms))
            .with(credits);
        writing!(self, |db| db.run(note).await.map(drop)?)
    }

    /// Notes that a provider is not down, unless a worker has said since this time that it is: one that has stopped says nothing
    /// any more.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn note_provider_up(&self, account: &str, since: Timestamp) -> Result<(), RecordsError> {
        let note = Statement::of(NOTE_UP).with(account).with(since);
        writing!(self, |db| db.run(note).await.map(drop)?)
    }

    /// The providers that workers have met or checked, by account.
    ///
    /// # Errors
    /// If the database does not answer, or one cannot be read.
    pub async fn providers(&self) -> Result<Vec<Provider>, RecordsError> {
        let question = "SELECT account AS id, providers.* FROM providers ORDER BY account LIMIT 200";
        reading!(self, |db| {
            let rows = sqlx::query(question).fetch_all(db).await?;
            rows.iter().map(|row| provider(row)).collect::<Result<_, _>>()?
        })
    }

    /// What was spent in a month (`2026-11`): most first, 200 at most.
    ///
    /// # Errors
    /// If the database does not answer, or something cannot be read.
    pub async fn spending(&self, month: &str) -> Result<Vec<Spending>, RecordsError> {
        let question = Statement::of(SPENT).with(month);
        reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            rows.iter().map(|row| spending(row)).collect::<Result<_, _>>()?
        })
    }
}

fn provider(row: &dyn Cells) -> Result<Provider, RecordsError> {
    let row = Columns::of("provider of", row)?;
    let check = match row.time("checked_at")? {
        Some(at) => Some(ProviderCheck {
            at,
            status: row.word("check_status")?,
            message: row.text("check_message")?,
            latency_ms: row.number("check_ms")?,
        }),
        None => None,
    };
    Ok(Provider {
        account: row.word("account")?,
        down_since: row.time("down_since")?,
        answers: row.number("answers")?,
        outages: row.number("outages")?,
        answered_at: row.time("answered_at")?,
        failed_at: row.time("failed_at")?,
        latency_ms: row.optional_number("latency_ms")?,
        last_code: row.text("last_code")?,
        credits: row.optional_number("credits")?,
        changed_at: row.time("changed_at")?.unwrap_or_default(),
        check_begun_at: row.time("check_begun_at")?,
        check,
    })
}

fn spending(row: &dyn Cells) -> Result<Spending, RecordsError> {
    let row = Columns::of("spending with", row)?;
    let tenant = row.text("tenant")?.filter(|tenant| !tenant.is_empty());
    Ok(Spending {
        tenant: tenant.map(|_| row.word("tenant")).transpose()?,
        account: row.word("account")?,
        amount: row.number("amount")?,
    })
}
