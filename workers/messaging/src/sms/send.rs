//! `sms.send`: sends a text message, once.

use std::{sync::Arc, time::Duration};

use fourmi_kinds::{SmsReceipt, SmsSend, SmsSent, SmsSize, sms_tag};
use fourmi_model::{ErrorClass, Failure, LogLevel, NextStep, ParkReason, Progress, SmsState};
use fourmi_records::{NewSms, NumberLimit, SmsBegin, SmsIntent};
use fourmi_runtime::Context;
use jiff::Timestamp;

use super::{
    AnyProvider,
    account::{SmsAccount, thousandths},
    policy,
    provider::{Found, Message, Provider, Trouble},
};
use crate::{
    account::account,
    breaker::Breakers,
    office::{Desk, Office, records_unavailable},
};

/// How long after a message that may have been sent the provider is asked for it: the shortest wait, if the window in which
/// it is asked is not shorter still.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The window is looked through in so many steps at most, each twice as long as the one before.
const SHORTEST_STEP: u32 = 16;

/// When it is asked for the first time whether the message has arrived.
const FIRST_RECEIPT: Duration = Duration::from_secs(10);

/// Sends a message, or finds out that it was sent.
pub(crate) async fn run(office: Arc<Office>, job: SmsSend, context: Context) -> Result<SmsSent, Failure> {
    let desk = office.desk(context.settings()).await?;
    let account: SmsAccount = account(&context, &job.account).await?;
    let provider = AnyProvider::of(&office, &desk, &job.account, &account);
    let sending = Sending {
        breakers: &office.breakers,
        desk: &desk,
        account: &account,
        provider: &provider,
        job: &job,
        context: &context,
    };
    let known = desk.records.sms(context.job_id()).await.map_err(records_unavailable)?;
    let sent = match known {
        Some(intent) if intent.is_denied() => sending.begin_unless_found(intent).await?,
        Some(intent) if !matches!(intent.state, SmsState::Unsent | SmsState::Refused) => {
            sending.go_on_with(intent).await?
        }
        _ => sending.begin().await?,
    };
    sending.conclude(sent).await
}

/// A message on its way to a provider.
struct Sending<'a, P> {
    breakers: &'a Breakers,
    desk: &'a Desk,
    account: &'a SmsAccount,
    provider: &'a P,
    job: &'a SmsSend,
    context: &'a Context,
}

impl<P: Provider + Sync> Sending<'_, P> {
    /// Notes that the message is being sent, and sends it.
    async fn begin(&self) -> Result<SmsIntent, Failure> {
        let tenant = self.context.tenant().await?;
        let now = Timestamp::now();
        self.is_in("policy", 20.0);
        let checked = policy::check(self.desk, self.account, self.job, tenant.as_ref(), now).await;
        checked.map_err(|failure| failure.in_stage("policy"))?;
        let message = Message {
            to: self.job.to.clone(),
            sender: policy::sender(self.account, self.job),
            tag: sms_tag(self.context.job_id()),
            purpose: self.job.purpose,
            expires_at: self.job.expires_at,
            text: self.job.sent_text(),
        };
        let new = NewSms {
            job: self.context.job_id().clone(),
            run: self.context.run(),
            account: self.job.account.clone(),
            recipient: message.to.clone(),
            tag: message.tag.clone(),
            credits: self.estimate(&message.text),
            limit: self.account.monthly_limit(tenant.as_ref()),
            number_limits: policy::number_limits(self.account),
            tenant,
            now,
        };
        if self.context.is_cancelled() {
            return Err(Failure::cancelled());
        }
        match self.desk.records.begin_sms(&new).await.map_err(records_unavailable)? {
            SmsBegin::Send(intent) => self.send(intent, &message).await,
            SmsBegin::Known(intent) => self.go_on_with(intent).await,
            SmsBegin::TooDear(spent) => Err(too_dear(&new, spent).in_stage("policy")),
            SmsBegin::TooMany { limit, sent } => Err(too_many(limit, sent).in_stage("policy")),
        }
    }

    /// Sends a message of which a person has said that it was not sent, unless the provider has it by now.
    async fn begin_unless_found(&self, intent: SmsIntent) -> Result<SmsIntent, Failure> {
        self.is_in("lookup", 10.0);
        match self.provider.find(&intent.tag).await {
            Ok(Some(found)) => self.correct(intent, found).await,
            Ok(None) => self.begin().await,
            Err(trouble) => match trouble.failure() {
                // It says no more of any message, so that what the person says counts.
                failure if failure.next == NextStep::GiveUp => self.begin().await,
                failure => Err(failure.in_stage("lookup")),
            },
        }
    }

    async fn send(&self, intent: SmsIntent, message: &Message) -> Result<SmsIntent, Failure> {
        self.is_in("send", 40.0);
        match self.provider.send(message).await {
            Ok(found) => {
                self.note_credits(&found);
                self.accept(intent, found).await
            }
            Err(Trouble::Nothing(failure)) => {
                let state = match failure.next {
                    NextStep::GiveUp => SmsState::Refused,
                    _ => SmsState::Unsent,
                };
                // If this cannot be noted, the next run asks the provider, which does not have it.
                self.desk.records.settle_sms(&intent, state, None, 0).await.map_err(records_unavailable)?;
                Err(failure.in_stage("send"))
            }
            Err(Trouble::Unknown(failure)) => Err(self.in_doubt(&intent, self.later(Duration::ZERO, &failure))),
        }
    }

    /// Goes on with what an earlier run has begun, and sends nothing.
    async fn go_on_with(&self, intent: SmsIntent) -> Result<SmsIntent, Failure> {
        match intent.state {
            SmsState::Sending => {}
            SmsState::Accepted | SmsState::Delivered | SmsState::Undelivered => return Ok(intent),
            // By a run of a higher number: Redis has lost its last moments, and the numbers of runs with them.
            SmsState::Unsent | SmsState::Refused => return Err(seen_to_by_another()),
        }
        self.is_in("lookup", 60.0);
        match self.provider.find(&intent.tag).await {
            Ok(Some(found)) => self.accept(intent, found).await,
            Ok(None) => Err(self.not_found(&intent)),
            // The provider would say no more of another message than of this.
            Err(trouble) => match trouble.failure() {
                failure if failure.next == NextStep::GiveUp => Err(self.not_found(&intent).because(failure)),
                failure => Err(self.in_doubt(&intent, failure.in_stage("lookup"))),
            },
        }
    }

    /// Notes that the provider has the message.
    async fn accept(&self, intent: SmsIntent, found: Found) -> Result<SmsIntent, Failure> {
        let credits = found.credits.map_or(intent.credits, thousandths);
        let settled = self.desk.records.settle_sms(&intent, SmsState::Accepted, Some(&found.id), credits).await;
        if settled.map_err(records_unavailable)? {
            return Ok(SmsIntent { state: SmsState::Accepted, provider_id: Some(found.id), credits, ..intent });
        }
        // A person, or another run, was faster.
        let known = self.desk.records.sms(&intent.job).await.map_err(records_unavailable)?;
        match known {
            Some(known) if known.is_denied() => self.correct(known, found).await,
            Some(known) if matches!(known.state, SmsState::Accepted | SmsState::Delivered | SmsState::Undelivered) => {
                Ok(known)
            }
            _ => Err(seen_to_by_another()),
        }
    }

    /// Notes that the provider has a message of which a person has said that it was not sent.
    async fn correct(&self, intent: SmsIntent, found: Found) -> Result<SmsIntent, Failure> {
        let credits = found.credits.map_or_else(|| self.estimate(&self.job.sent_text()), thousandths);
        let corrected = self.desk.records.correct_sms(&intent, &found.id, credits).await;
        if !corrected.map_err(records_unavailable)? {
            return Err(seen_to_by_another());
        }
        self.context
            .log(LogLevel::Warn, "the provider has the message that was said not to be sent; it is not sent again");
        Ok(SmsIntent { state: SmsState::Accepted, provider_id: Some(found.id), credits, ..intent })
    }

    /// What a text is taken to cost, in thousandths of a credit.
    fn estimate(&self, text: &str) -> u64 {
        thousandths(f64::from(SmsSize::of(text).segments) * self.account.credits_per_segment)
    }

    /// The provider does not know the message: it may still come to know it, or a person has to find out.
    fn not_found(&self, intent: &SmsIntent) -> Failure {
        let elapsed = Duration::try_from(Timestamp::now().duration_since(intent.changed_at)).unwrap_or_default();
        if elapsed < self.account.lookup_window() {
            let failure = Failure::retry("unconfirmed", "the provider does not know the message (yet)");
            return self.in_doubt(intent, self.later(elapsed, &failure));
        }
        self.uncertain(intent, "did not answer, and does not know its tag")
    }

    /// A failure while nobody knows whether the message was sent. The job must not end by it, as if it was not.
    fn in_doubt(&self, intent: &SmsIntent, failure: Failure) -> Failure {
        match failure.next {
            NextStep::Retry { .. } if self.context.is_last_attempt() => {
                self.uncertain(intent, "cannot be asked any more for its tag").because(failure)
            }
            _ => failure,
        }
    }

    /// A person has to find out whether the message was sent.
    fn uncertain(&self, intent: &SmsIntent, why: &str) -> Failure {
        let id = self.context.job_id();
        let message = format!(
            "nobody knows whether the message was sent: the provider {why} {}. Look into its own list, and say `fourmi sms \
             decide {id} --sent` or `--not-sent`",
            intent.tag
        );
        Failure::park(ParkReason::Uncertain, message).in_stage("lookup")
    }

    /// Asks the provider for the message after a while: as long as it is gone already, within the window.
    fn later(&self, elapsed: Duration, why: &Failure) -> Failure {
        let window = self.account.lookup_window();
        let shortest = FIRST_LOOK.min(window / SHORTEST_STEP);
        let wait = elapsed.max(shortest).min(window.saturating_sub(elapsed)).max(Duration::from_millis(50));
        let message = format!("{}; before anything else is done, the provider is asked for the message", why.message);
        let failure = Failure::retry_after(wait, "unconfirmed", message).class(ErrorClass::Unavailable);
        let failure = failure.in_stage("lookup");
        match &why.cause {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    }

    /// The provider has the message: what became of it is for another job.
    async fn conclude(&self, intent: SmsIntent) -> Result<SmsSent, Failure> {
        if intent.provider_id.is_some() && self.account.receipts {
            let receipt = SmsReceipt { message: intent.job.clone() };
            self.context.enqueue("receipt", &receipt).delay(FIRST_RECEIPT).send().await?;
        }
        self.is_in("accepted", 100.0);
        let SmsSize { encoding, characters, segments } = SmsSize::of(&self.job.sent_text());
        Ok(SmsSent {
            provider: self.provider.name().to_owned(),
            ids: intent.provider_id.into_iter().collect(),
            encoding,
            characters,
            segments,
            credits: intent.credits as f64 / 1000.0,
            recipient: intent.recipient,
            state: intent.state,
        })
    }

    fn note_credits(&self, found: &Found) {
        if let Some(left) = found.credits_left {
            self.breakers.credits(&self.job.account, (left * 1000.0).round() as i64);
        }
        if let (Some(left), Some(low)) = (found.credits_left, self.account.low_credits)
            && left < low
        {
            let account = &self.job.account;
            tracing::warn!(provider.account = account, credits.left = left, "few credits are left with the provider");
            self.context.log(LogLevel::Warn, format!("the account {account} has {left} credits left"));
        }
    }

    fn is_in(&self, stage: &str, percent: f32) {
        self.context.progress(Progress { stage: stage.to_owned(), percent, ..Progress::default() });
    }
}

/// What is noted is not what this run knows of the message: the next one looks again.
fn seen_to_by_another() -> Failure {
    Failure::retry("unconfirmed", "somebody else sees to the message; it is looked again what became of it")
}

fn too_many(NumberLimit { within, most }: NumberLimit, sent: u64) -> Failure {
    let hours = within.as_hours();
    let message = format!("the number has got {sent} messages within {hours} h, and gets no more than {most}");
    Failure::permanent("number_limit", message).class(ErrorClass::QuotaExhausted)
}

fn too_dear(new: &NewSms, spent: u64) -> Failure {
    let credits = |thousandths: u64| thousandths as f64 / 1000.0;
    let limit = new.limit.map(credits).unwrap_or_default();
    let message = format!(
        "{} has spent {} of the {limit} credits that it may spend this month with the account {}, and the message would take {}",
        new.tenant.as_ref().map_or("who has no tenant", |tenant| tenant.as_str()),
        credits(spent),
        new.account,
        credits(new.credits)
    );
    Failure::permanent("spending_limit", message).class(ErrorClass::QuotaExhausted)
}
