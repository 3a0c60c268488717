//! `chat.alert`: tells a chat, ntfy or a webhook what has happened, once.
//!
//! ```text
//! (no alert) --raised: sent--> open --raised within the window: counted--> open
//!                               |  '--raised after it: sent--> open
//!                               '--resolved: sent--> (no alert)
//! ```
//!
//! Alerts of one key are told apart by tenant and account. Which job tells of one is noted before it is sent, so that of many
//! at once one does, and again when it was; it may be sent twice if the worker dies in between. A job that has not told of it
//! after some minutes, or never will, leaves it to the next one.

mod forms;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fourmi_egress::{DirectError, EgressError};
use fourmi_kinds::{ChatAlert, ChatAlerted};
use fourmi_model::{ErrorClass, Failure, LogLevel, NextStep, ParkReason, TenantName};
use fourmi_records::OpenAlert;
use fourmi_runtime::Context;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;

use self::forms::{Message, Standing};
use crate::{
    account::{Account, account},
    office::{Desk, Office, records_unavailable},
    webhook::{read, retry_after},
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The wait after a first failed attempt; twice as long after each other.
const FIRST_DELAY: Duration = Duration::from_secs(5);

/// The longest wait, but for chance.
const LONGEST_DELAY: Duration = Duration::from_secs(3_600);

/// The longest wait that an answer may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(6 * 3_600);

/// Where alerts go, as the operator writes it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ChatAccount {
    /// An incoming webhook of Slack, Mattermost or Rocket.Chat.
    Slack { url: String },
    /// A topic of a server of ntfy.
    Ntfy {
        url: String,
        topic: String,
        #[serde(default)]
        token: Option<String>,
    },
    /// Any other address that takes JSON.
    Webhook { url: String },
}

impl Account for ChatAccount {
    const WHAT: &'static str = "an account with a chat, ntfy or a webhook";
    const DOCUMENT: &'static str = "docs/kinds/chat.alert.md";
}

/// An alert that is being told of.
struct Telling<'a> {
    office: &'a Office,
    desk: &'a Desk,
    context: &'a Context,
    job: &'a ChatAlert,
    account: ChatAccount,
}

/// Sends an alert, or counts it.
pub(crate) async fn run(office: Arc<Office>, job: ChatAlert, context: Context) -> Result<ChatAlerted, Failure> {
    let desk = office.desk(context.settings()).await?;
    let account = account(&context, &job.account).await?;
    let telling = Telling { office: &office, desk: &desk, context: &context, job: &job, account };
    let Some(key) = &job.dedup_key else {
        telling.send(Standing::Single).await?;
        return Ok(ChatAlerted { sent: true, times: 0 });
    };
    let tenant = context.tenant().await?;
    match job.resolve {
        true => telling.resolve(tenant.as_ref(), key).await,
        false => telling.raise(tenant.as_ref(), key).await,
    }
}

impl Telling<'_> {
    async fn raise(&self, tenant: Option<&TenantName>, key: &str) -> Result<ChatAlerted, Failure> {
        let (records, id) = (&self.desk.records, self.context.job_id().to_string());
        let (named, window) = ((&*self.job.account, key), SignedDuration::from_secs(self.job.window_s.into()));
        let raised = records.raise_alert(tenant, named, &id, window, Timestamp::now()).await;
        let alert = raised.map_err(records_unavailable)?;
        // Another tells of it, or its cause is gone already.
        if alert.sent_by != id || alert.times == 0 {
            return Ok(ChatAlerted { sent: false, times: alert.times });
        }
        // An earlier run has told of it, and died then.
        if alert.told {
            return Ok(ChatAlerted { sent: true, times: alert.times });
        }
        let sent = self.send(Standing::of_open(&alert)).await;
        match &sent {
            Ok(()) => self.note_told(tenant, named, &id).await,
            // Nobody was told: the next one must not be kept back for it.
            Err(failure) if self.is_last(failure) => {
                records.withdraw_alert(tenant, named, &id).await.map_err(records_unavailable)?;
            }
            Err(_) => {}
        }
        sent.map(|()| ChatAlerted { sent: true, times: alert.times })
    }

    /// The message is sent, whether or not that can be noted: to fail now would be to send it again.
    async fn note_told(&self, tenant: Option<&TenantName>, named: (&str, &str), id: &str) {
        if let Err(error) = self.desk.records.note_alert_told(tenant, named, id, Timestamp::now()).await {
            self.context.log(LogLevel::Warn, format!("that the alert was sent cannot be noted: {error}"));
        }
    }

    /// Whether the job is over after this failure.
    fn is_last(&self, failure: &Failure) -> bool {
        match failure.next {
            NextStep::GiveUp => true,
            NextStep::Retry { .. } => self.context.is_last_attempt(),
            NextStep::Park { .. } | NextStep::Cancelled => false,
        }
    }

    async fn resolve(&self, tenant: Option<&TenantName>, key: &str) -> Result<ChatAlerted, Failure> {
        let (records, named) = (&self.desk.records, (&*self.job.account, key));
        let Some(alert) = records.open_alert(tenant, named).await.map_err(records_unavailable)? else {
            return Ok(ChatAlerted { sent: false, times: 0 });
        };
        self.send(Standing::Resolved { since: alert.opened_at, until: Timestamp::now(), times: alert.times }).await?;
        records.close_alert(tenant, named, &alert).await.map_err(records_unavailable)?;
        Ok(ChatAlerted { sent: true, times: alert.times })
    }

    async fn send(&self, standing: Standing) -> Result<(), Failure> {
        let Message { url, headers, body } = forms::message(&self.account, self.job, &standing).map_err(|wrong| {
            let message =
                format!("secrets/{} of the data folder: {wrong} ({})", self.job.account, ChatAccount::DOCUMENT);
            Failure::park(ParkReason::NotConfigured, message)
        })?;
        let breakers = &self.office.breakers;
        breakers.admit(&self.job.account)?;
        let asked = Instant::now();
        let answer = self.desk.direct.post(&url, headers, body, PATIENCE).await;
        if let Ok(answer) = &answer {
            breakers.took(&self.job.account, asked.elapsed(), answer.status().as_str());
        }
        match &answer {
            Ok(answer) if answer.status().is_server_error() => breakers.failed(&self.job.account),
            Err(DirectError::TimedOut(_) | DirectError::Http(_)) => breakers.failed(&self.job.account),
            _ => breakers.answered(&self.job.account),
        }
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(self.refused(answer).await),
            Err(error) => Err(self.unanswered(&error)),
        }
    }

    fn unanswered(&self, error: &DirectError) -> Failure {
        let failure = match error {
            DirectError::NotHttps(_) | DirectError::Egress(EgressError::Forbidden { .. }) => {
                let message = format!(
                    "the address of {} is not https, or not of the public internet; the latter you can open \
                     (FOURMI_EGRESS_ALLOW)",
                    self.job.account
                );
                // The address may hold a secret.
                return Failure::park(ParkReason::NotConfigured, message);
            }
            DirectError::TimedOut(_) => {
                Failure::retry_after(self.delay(), "chat_timeout", "there was no answer in time")
                    .class(ErrorClass::Timeout)
            }
            DirectError::Egress(_) | DirectError::Http(_) => {
                Failure::retry_after(self.delay(), "chat_unreachable", "the address cannot be reached")
                    .class(ErrorClass::Unavailable)
            }
        };
        failure.because(error)
    }

    async fn refused(&self, answer: Response) -> Failure {
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER);
        let asked = asked.and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
        let excerpt = read(answer).await;
        let failure = match status {
            StatusCode::TOO_MANY_REQUESTS => {
                let delay = self.delay().max(asked.unwrap_or_default().min(LONGEST_ASKED));
                Failure::retry_after(delay, "http_429", "the other side asks to slow down")
            }
            // Nothing of the alert is wrong: the address or its token is.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
                let message = format!("the address or the token of {} works no more ({status})", self.job.account);
                Failure::park(ParkReason::NotConfigured, message)
            }
            _ if status.is_client_error() => {
                Failure::permanent("chat_refused", format!("the other side refuses the alert ({status})"))
            }
            _ => {
                let delay = self.delay().max(asked.unwrap_or_default().min(LONGEST_ASKED));
                let code = format!("http_{}", status.as_u16());
                Failure::retry_after(delay, code, format!("the answer was {status}")).class(ErrorClass::Unavailable)
            }
        };
        if excerpt.is_empty() { failure } else { failure.because(excerpt) }
    }

    /// How long to wait after this failed attempt, with a quarter more or less by chance.
    fn delay(&self) -> Duration {
        let doublings = self.context.attempt().clamp(1, 16) - 1;
        (FIRST_DELAY * (1 << doublings)).min(LONGEST_DELAY).mul_f64(0.75 + rand::random::<f64>() / 2.0)
    }
}

impl Standing {
    fn of_open(alert: &OpenAlert) -> Self {
        Self::Open { since: alert.opened_at, times: alert.times }
    }
}
