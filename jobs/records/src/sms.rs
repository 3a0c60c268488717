//! Text messages, each noted before it is sent, and what they cost.

use fourmi_model::{JobId, SmsState, TenantName};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, label, whole},
    statement::{Statement, query_of},
    store::{Change, reading, writing},
};

/// A text message as it is noted: what somebody may have to pay. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsIntent {
    /// The job that sends it.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// The account with the provider.
    pub account: String,
    /// The number, in the form of E.164.
    pub recipient: String,
    /// What the provider knows it by.
    pub tag: String,
    /// What became of it.
    pub state: SmsState,
    /// The run that sends it, or has sent it.
    pub run: u64,
    /// The id that the provider has given it.
    pub provider_id: Option<String>,
    /// What it costs, or may cost while that is not known, in thousandths of a credit; nothing if it was not sent.
    pub credits: u64,
    /// What the provider says of its delivery, as a code of the provider.
    pub receipt: Option<String>,
    /// When it was noted.
    pub created_at: Timestamp,
    /// When it got its state.
    pub changed_at: Timestamp,
    /// When a person has said whether it was sent, if nobody else knew.
    pub decided_at: Option<Timestamp>,
}

impl SmsIntent {
    /// Whether a person has said that it was not sent, and no run sends it since. People can be wrong.
    pub fn is_denied(&self) -> bool {
        self.state == SmsState::Unsent && self.decided_at.is_some()
    }
}

/// A text message that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSms {
    /// The job that sends it.
    pub job: JobId,
    /// The run of it.
    pub run: u64,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// The account with the provider.
    pub account: String,
    /// The number, in the form of E.164.
    pub recipient: String,
    /// What the provider is to know it by.
    pub tag: String,
    /// What it is taken to cost, in thousandths of a credit.
    pub credits: u64,
    /// What the tenant may spend with the account in a month of UTC, in thousandths of a credit.
    pub limit: Option<u64>,
    /// How many messages of the tenant the number gets.
    pub number_limits: Vec<NumberLimit>,
    /// The time.
    pub now: Timestamp,
}

/// How many text messages of a tenant a number gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberLimit {
    /// Within so long a time.
    pub within: SignedDuration,
    /// So many at most.
    pub most: u64,
}

/// Whether a text message may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsBegin {
    /// By this run, now: it is noted as being sent.
    Send(SmsIntent),
    /// It is in the hands of another run, or was sent.
    Known(SmsIntent),
    /// It would cost more than the tenant may still spend this month; so much is spent, in thousandths of a credit.
    TooDear(u64),
    /// The number has got as many as it gets, or may have got them.
    TooMany {
        /// The first limit that is reached.
        limit: NumberLimit,
        /// How many.
        sent: u64,
    },
}

const FIND: &str = "SELECT job AS id, sms_intents.* FROM sms_intents WHERE job = $1";

const FIND_PROVIDED: &str = "\
SELECT job AS id, sms_intents.* FROM sms_intents WHERE account = $1 AND provider_id = $2 LIMIT 1";

const NOTE: &str = "\
INSERT INTO sms_intents (job, tenant, account, recipient, tag, state, run, credits, created_at, changed_at) \
VALUES ($1, $2, $3, $4, $5, 'sending', $6, $7, $8, $8) \
ON CONFLICT (job) DO UPDATE SET tag = $5, state = 'sending', run = $6, credits = $7, changed_at = $8, decided_at = NULL";

const SETTLE: &str = "\
UPDATE sms_intents SET state = $3, provider_id = $4, credits = $5, changed_at = $6, decided_at = $7 \
WHERE job = $1 AND run = $2 AND state = 'sending'";

const CORRECT: &str = "\
UPDATE sms_intents SET state = 'accepted', provider_id = $3, credits = $4, changed_at = $5 \
WHERE job = $1 AND run = $2 AND state = 'unsent' AND decided_at IS NOT NULL";

const RECEIVE: &str = "\
UPDATE sms_intents SET state = $2, receipt = $3, changed_at = $4 WHERE job = $1 AND state = 'accepted'";

const SPENT: &str = "SELECT account AS id, amount FROM spending WHERE tenant = $1 AND account = $2 AND month = $3";

const SPEND: &str = "\
INSERT INTO spending (tenant, account, month, amount) VALUES ($1, $2, $3, $4) \
ON CONFLICT (tenant, account, month) DO UPDATE SET amount = spending.amount + $4";

/// Of those that were not sent nothing came.
const COUNT: &str = "\
SELECT $2 AS id, count(*) AS messages FROM sms_intents WHERE tenant = $1 AND recipient = $2 AND created_at > $3 \
  AND state NOT IN ('unsent', 'refused')";

impl Records {
    /// What is noted of a text message.
    ///
    /// # Errors
    /// If the database does not answer, or it cannot be read.
    pub async fn sms(&self, job: &JobId) -> Result<Option<SmsIntent>, RecordsError> {
        let find = Statement::of(FIND).with(&*job.to_string());
        reading!(self, |db| query_of!(find).fetch_optional(db).await?.map(|row| intent(&row)).transpose()?)
    }

    /// The text message that a provider knows by an id.
    ///
    /// # Errors
    /// If the database does not answer, or it cannot be read.
    pub async fn sms_of_provider(&self, account: &str, id: &str) -> Result<Option<SmsIntent>, RecordsError> {
        let find = Statement::of(FIND_PROVIDED).with(account).with(&*label(id));
        reading!(self, |db| query_of!(find).fetch_optional(db).await?.map(|row| intent(&row)).transpose()?)
    }

    /// Notes that a text message is being sent, and what it may cost, unless somebody sends it already, it was sent, or a
    /// limit is reached. One run alone is told to send it, and that before anything is sent.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing must be sent.
    pub async fn begin_sms(&self, new: &NewSms) -> Result<SmsBegin, RecordsError> {
        writing!(self, |db| begin(db, new).await?)
    }

    /// Notes what became of a text message that is being sent by the run that the intent tells of: `false` if that is
    /// known by now, or another run sends it. What it costs takes the place of what it was taken to cost.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn settle_sms(
        &self,
        intent: &SmsIntent,
        state: SmsState,
        provider_id: Option<&str>,
        credits: u64,
    ) -> Result<bool, RecordsError> {
        writing!(self, |db| settle(db, intent, (state, provider_id, credits), None).await?)
    }

    /// Notes what a person has found out about a text message that is being sent by the run that the intent tells of: whether
    /// the provider has it. `false` if that is known by now, or another run sends it.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn decide_sms(&self, intent: &SmsIntent, sent: bool) -> Result<bool, RecordsError> {
        let (state, credits) = if sent { (SmsState::Accepted, intent.credits) } else { (SmsState::Unsent, 0) };
        writing!(self, |db| settle(db, intent, (state, None, credits), Some(Timestamp::now())).await?)
    }

    /// Notes that the provider has a text message of which a person has said that it was not sent ([`SmsIntent::is_denied`]):
    /// `false` if a run sends it by now, or somebody has noted it already.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn correct_sms(&self, intent: &SmsIntent, provider_id: &str, credits: u64) -> Result<bool, RecordsError> {
        writing!(self, |db| correct(db, intent, provider_id, credits).await?)
    }

    /// Notes what became of a text message that the provider has: `false` if that is known by now.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn receive_sms(&self, job: &JobId, state: SmsState, receipt: &str) -> Result<bool, RecordsError> {
        let received = Statement::of(RECEIVE)
            .with(&*job.to_string())
            .with(state.as_str())
            .with(&*label(receipt))
            .with(Timestamp::now());
        writing!(self, |db| query_of!(received).execute(db).await?.rows_affected() > 0)
    }
}

async fn begin(db: &mut impl Change, new: &NewSms) -> Result<SmsBegin, RecordsError> {
    // Nobody else counts meanwhile what this tenant has spent, or what its numbers have got, by whichever account.
    db.take_turn(&format!("sms {}", tenant_text(new.tenant.as_ref()))).await?;
    let job = new.job.to_string();
    if let Some(row) = db.row(Statement::of(FIND).with(&*job)).await? {
        let known = intent(&row)?;
        if !matches!(known.state, SmsState::Unsent | SmsState::Refused) || known.run >= new.run {
            return Ok(SmsBegin::Known(known));
        }
    }
    for limit in &new.number_limits {
        let sent = sent_to(db, new, limit.within).await?;
        if sent >= limit.most {
            return Ok(SmsBegin::TooMany { limit: *limit, sent });
        }
    }
    if let Some(limit) = new.limit {
        let spent = spent(db, new).await?;
        if spent.saturating_add(new.credits) > limit {
            return Ok(SmsBegin::TooDear(spent));
        }
    }
    spend(db, new.tenant.as_ref(), &new.account, new.now, whole(new.credits)).await?;
    let note = Statement::of(NOTE)
        .with(&*job)
        .with(tenant_text(new.tenant.as_ref()))
        .with(&*new.account)
        .with(&*new.recipient)
        .with(&*new.tag)
        .with(whole(new.run))
        .with(whole(new.credits))
        .with(new.now);
    db.run(note).await?;
    let row = db.row(Statement::of(FIND).with(&*job)).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(SmsBegin::Send(intent(&row)?))
}

/// How many text messages of its tenant the number of a new one has got, or may have got, lately.
async fn sent_to(db: &mut impl Change, new: &NewSms, within: SignedDuration) -> Result<u64, RecordsError> {
    let count = Statement::of(COUNT)
        .with(tenant_text(new.tenant.as_ref()))
        .with(&*label(&new.recipient))
        .with(new.now - within);
    let row = db.row(count).await?.ok_or(sqlx::Error::RowNotFound)?;
    Columns::of("messages to", &row)?.number("messages")
}

async fn settle(
    db: &mut impl Change,
    intent: &SmsIntent,
    (state, provider_id, credits): (SmsState, Option<&str>, u64),
    decided_at: Option<Timestamp>,
) -> Result<bool, RecordsError> {
    let settled = Statement::of(SETTLE)
        .with(&*intent.job.to_string())
        .with(whole(intent.run))
        .with(state.as_str())
        .with(provider_id.map(label).as_deref())
        .with(whole(credits))
        .with(Timestamp::now())
        .with(decided_at);
    if db.run(settled).await? == 0 {
        return Ok(false);
    }
    // In the month in which it was taken to cost something.
    let more = whole(credits) - whole(intent.credits);
    spend(db, intent.tenant.as_ref(), &intent.account, intent.changed_at, more).await?;
    Ok(true)
}

async fn correct(
    db: &mut impl Change,
    intent: &SmsIntent,
    provider_id: &str,
    credits: u64,
) -> Result<bool, RecordsError> {
    let corrected = Statement::of(CORRECT)
        .with(&*intent.job.to_string())
        .with(whole(intent.run))
        .with(&*label(provider_id))
        .with(whole(credits))
        .with(Timestamp::now());
    if db.run(corrected).await? == 0 {
        return Ok(false);
    }
    spend(db, intent.tenant.as_ref(), &intent.account, intent.changed_at, whole(credits)).await?;
    Ok(true)
}

async fn spent(db: &mut impl Change, new: &NewSms) -> Result<u64, RecordsError> {
    let spent =
        Statement::of(SPENT).with(tenant_text(new.tenant.as_ref())).with(&*new.account).with(&*month_of(new.now));
    let Some(row) = db.row(spent).await? else { return Ok(0) };
    Ok(Columns::of("spending of", &row)?.number::<i64>("amount")?.try_into().unwrap_or_default())
}

async fn spend(
    db: &mut impl Change,
    tenant: Option<&TenantName>,
    account: &str,
    time: Timestamp,
    amount: i64,
) -> Result<(), RecordsError> {
    if amount != 0 {
        let month = month_of(time);
        db.run(Statement::of(SPEND).with(tenant_text(tenant)).with(account).with(&*month).with(amount)).await?;
    }
    Ok(())
}

/// The month of UTC, as it is compared: '2026-11'.
fn month_of(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string()
}

fn tenant_text(tenant: Option<&TenantName>) -> &str {
    tenant.map_or("", TenantName::as_str)
}

fn intent(row: &dyn Cells) -> Result<SmsIntent, RecordsError> {
    let row = Columns::of("text message of", row)?;
    Ok(SmsIntent {
        job: row.word("job")?,
        tenant: row.text("tenant")?.filter(|tenant| !tenant.is_empty()).map(|_| row.word("tenant")).transpose()?,
        account: row.word("account")?,
        recipient: row.word("recipient")?,
        tag: row.word("tag")?,
        state: row.word("state")?,
        run: row.number("run")?,
        provider_id: row.text("provider_id")?,
        credits: row.number("credits")?,
        receipt: row.text("receipt")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        changed_at: row.time("changed_at")?.unwrap_or_default(),
        decided_at: row.time("decided_at")?,
    })
}
