//! Looks now and then whether the providers of accounts are well, beside what jobs meet: that a key was taken back, or credits
//! run out, is known before somebody's message has to wait.
//!
//! Of all workers one checks an account: a statement of the records says which. Nothing is sent, and nothing paid. What is
//! found does not touch the circuit breakers: a check asks another question than jobs do, and is asked even while these wait.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use fourmi_model::{Failure, HealthStatus, NextStep, ParkReason};
use fourmi_records::{Provider, ProviderCheck};
use fourmi_settings::{Environment, Messaging};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    account::parse,
    fcm::{FcmAccount, Projects},
    mail::SmtpAccount,
    office::{Desk, NOTE, Office},
    sms::{self, SmsAccount},
};

/// How often it is looked whether an account is to be checked: one that is new or another one is at once.
const LOOK: Duration = Duration::from_secs(10);

/// How often an account is checked.
const PERIOD: Duration = Duration::from_secs(60);

/// Accounts that are checked before any job has asked for them.
const USUAL: [&str; 3] = ["fcm", "sms", "smtp"];

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    status: HealthStatus,
    /// Why it is not well.
    message: Option<String>,
    /// The credits that are left, in thousandths, if the provider counts any.
    credits: Option<i64>,
}

impl Finding {
    pub(crate) const fn well() -> Self {
        Self { status: HealthStatus::Ok, message: None, credits: None }
    }

    pub(crate) fn bad(status: HealthStatus, why: impl Into<String>) -> Self {
        Self { status, message: Some(why.into()), credits: None }
    }

    /// With the credits that are left, in thousandths.
    pub(crate) fn with_credits(self, credits: i64) -> Self {
        Self { credits: Some(credits), ..self }
    }

    /// What a failure says of a provider that would fail a job.
    pub(crate) fn of(failure: Failure) -> Self {
        let status = match failure.next {
            NextStep::Park { reason: ParkReason::NotConfigured } => HealthStatus::NotConfigured,
            // It answers, but not as it should.
            NextStep::GiveUp => HealthStatus::Degraded,
            NextStep::Retry { .. } if failure.code == "rate_limited" => HealthStatus::Degraded,
            _ => HealthStatus::Down,
        };
        Self::bad(status, failure.message)
    }
}

/// An account of a sort that is checked.
enum Checked {
    Fcm(FcmAccount),
    Sms(Box<SmsAccount>),
    Smtp(SmtpAccount),
}

impl Checked {
    /// What the operator has written, if it is one.
    fn of(text: &str) -> Option<Self> {
        if let Ok((account, _)) = parse(text) {
            return Some(Self::Fcm(account));
        }
        if let Ok((account, _)) = parse(text) {
            return Some(Self::Sms(Box::new(account)));
        }
        parse(text).ok().map(|(account, _)| Self::Smtp(account))
    }
}

/// Who looks.
struct Visitor<'a> {
    office: &'a Office,
    desk: &'a Desk,
    projects: &'a Projects,
    secrets: &'a Path,
}

/// Checks the accounts that there are; for ever.
pub(crate) async fn watch(office: &Office, projects: &Projects) {
    let environment = Environment::real();
    let mut turns = interval(LOOK);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = look(office, projects, &environment).await {
            tracing::debug!(error = format_args!("{error:#}"), "providers cannot be checked now");
        }
    }
}

async fn look(office: &Office, projects: &Projects, environment: &Environment) -> anyhow::Result<()> {
    let desk = office.desk(environment).await?;
    let secrets = Messaging::read(environment)?.data.secrets();
    let visitor = Visitor { office, desk: &desk, projects, secrets: &secrets };
    let known = desk.records.providers().await?;
    let names: BTreeSet<_> = USUAL.into_iter().chain(known.iter().map(|provider| provider.account.as_str())).collect();
    let visits = names.into_iter().map(|name| {
        let known = known.iter().find(|provider| provider.account == name);
        visitor.visit(name, known)
    });
    join_all(visits).await.into_iter().collect()
}

impl Visitor<'_> {
    /// Checks an account if it is time, and nobody else does.
    async fn visit(&self, name: &str, known: Option<&Provider>) -> anyhow::Result<()> {
        let path = self.secrets.join(name);
        let Ok(written_at) = tokio::fs::metadata(&path).await.and_then(|file| file.modified()) else { return Ok(()) };
        let now = Timestamp::now();
        let due = (now - PERIOD).max(Timestamp::try_from(written_at)?);
        if known.and_then(|known| known.check_begun_at).is_some_and(|begun| begun > due) {
            return Ok(());
        }
        let Ok(text) = tokio::fs::read_to_string(&path).await else { return Ok(()) };
        let Some(account) = Checked::of(&text) else { return Ok(()) };
        if !self.desk.records.begin_provider_check(name, due, now).await? {
            return Ok(());
        }
        let asked = Instant::now();
        let Finding { status, message, credits } = self.check(name, account).await;
        let latency_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = known.and_then(|known| known.check.as_ref()).map(|check| check.status);
        if before != Some(status) {
            tell(name, status, message.as_deref());
        }
        if matches!(status, HealthStatus::Ok | HealthStatus::Degraded)
            && known.is_some_and(|known| known.down_since.is_some())
        {
            self.end_outage(name).await?;
        }
        let check = ProviderCheck { at: Timestamp::now(), status, message, latency_ms };
        Ok(self.desk.records.note_provider_check(name, &check, credits).await?)
    }

    /// A provider that answers is down only as long as some worker says so: one that has stopped would have it down for ever.
    async fn end_outage(&self, name: &str) -> anyhow::Result<()> {
        if self.office.breakers.down().iter().any(|down| down == name) {
            return Ok(());
        }
        Ok(self.desk.records.note_provider_up(name, Timestamp::now() - NOTE * 4).await?)
    }

    async fn check(&self, name: &str, account: Checked) -> Finding {
        match account {
            Checked::Fcm(account) => match self.projects.of(name, account) {
                Ok(project) => project.check(self.desk).await,
                Err(failure) => Finding::of(failure),
            },
            Checked::Sms(account) => sms::check(self.office, self.desk, name, &account).await,
            Checked::Smtp(account) => match self.desk.servers.with(name, account).await {
                Ok(server) => server.check().await,
                Err(failure) => Finding::of(failure),
            },
        }
    }
}

/// Tells the operator of what has changed.
fn tell(account: &str, status: HealthStatus, message: Option<&str>) {
    let status = status.as_str();
    match message {
        Some(message) => tracing::warn!(provider.account = account, provider.status = status, "{message}"),
        None => tracing::info!(provider.account = account, provider.status = status, "the provider is well"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_account_is_known_by_its_form() {
        let fcm = r#"{"client_email": "a", "private_key": "b", "private_key_id": "c", "project_id": "d", "token_uri": "e",
            "type": "service_account", "tenants": ["acme"]}"#;
        assert!(matches!(Checked::of(fcm), Some(Checked::Fcm(_))));
        let sms = r#"{"provider": "http", "url": "https://sms.example.org", "token": "t"}"#;
        assert!(matches!(Checked::of(sms), Some(Checked::Sms(_))));
        let smtp = r#"{"url": "smtps://mail.example.org", "from": "Fourmi <a@example.org>"}"#;
        assert!(matches!(Checked::of(smtp), Some(Checked::Smtp(_))));
        for other in [r#"{"type": "slack", "url": "https://chat.example.org"}"#, "a password", ""] {
            assert!(Checked::of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_failure_says_how_a_provider_is() {
        let status = |failure| Finding::of(failure).status;
        let limited = Failure::retry_after(Duration::from_secs(1), "rate_limited", "later");
        assert_eq!(status(limited), HealthStatus::Degraded);
        assert_eq!(status(Failure::retry("provider_unavailable", "gone")), HealthStatus::Down);
        assert_eq!(status(Failure::permanent("provider_refused", "no")), HealthStatus::Degraded);
        let refused = Failure::park(ParkReason::NotConfigured, "the keys are refused");
        assert_eq!(status(refused), HealthStatus::NotConfigured);
    }
}
