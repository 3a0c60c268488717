//! `push.send`: a notification to a device, or to all devices of somebody, each of which is sent to until it has it, and no
//! longer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fourmi_kinds::{PushOutcome, PushSend, PushSent, PushState, PushTarget};
use fourmi_model::{DeviceId, ErrorClass, Failure, LogLevel, NextStep, ParkReason, TenantName, TokenKind};
use fourmi_records::{Addressee, Broadcast, Device, DeviceFilter, RecordsError};
use fourmi_runtime::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    fcm::{Message, Projects, Verdict},
    office::{Desk, Office},
};

/// The most devices of one person that are sent to.
const MOST_DEVICES: usize = 200;

/// The wait before the second attempt; FCM asks for ten seconds at least. It doubles with every further one.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// The wait after too many messages, if FCM does not say how long; it doubles, too.
const LIMITED_WAIT: Duration = Duration::from_secs(60);

/// The longest wait, unless FCM asks for another.
const LONGEST_WAIT: Duration = Duration::from_secs(22 * 60);

/// The most that all waits of a job are together: after an hour FCM asks to give up. What it waits for somebody, or for a
/// provider to be back, is not among them.
const MOST_WAITED: Duration = Duration::from_secs(3_600);

/// What the next run needs to know.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    /// What has become of devices that are not to be sent to again.
    done: Vec<PushOutcome>,
    /// How long it has waited between attempts.
    waited_ms: u64,
}

/// Somebody who gets it: a device that is registered, or nothing but a token.
struct Recipient {
    device: Option<Device>,
    /// Whether it was named by its token, and is told of so.
    is_token: bool,
    kind: TokenKind,
    token: String,
}

/// Sends a notification to whoever has not got it yet.
pub(crate) async fn run(
    office: Arc<Office>,
    projects: Arc<Projects>,
    job: PushSend,
    context: Context,
) -> Result<PushSent, Failure> {
    let desk = office.desk(context.settings()).await?;
    let project = projects.get(&context, &job.account).await?;
    let tenant = context.tenant().await?;
    let mut noted = noted(&desk, &context).await?;
    let recipients = recipients(&desk, &job, tenant.as_ref()).await;
    let recipients = match recipients {
        Ok(recipients) => recipients,
        // All of its devices are gone meanwhile, but not before some got it.
        Err(failure) if noted.done.is_empty() || !matches!(failure.code.as_str(), "no_devices") => return Err(failure),
        Err(_) => Vec::new(),
    };
    let is_done = |recipient: &Recipient| noted.done.iter().any(|outcome| outcome.device.as_ref() == recipient.id());
    let is_several = recipients.len() + noted.done.len() > 1;
    let left: Vec<_> = recipients.into_iter().filter(|recipient| !is_done(recipient)).collect();
    if left.is_empty() {
        return conclude(noted.done);
    }
    office.breakers.admit(&job.account)?;
    let sending = Sending { office: &office, desk: &desk, account: &job.account, context: &context };
    let message = Message::write(&job.content(), Timestamp::now());
    let mut verdicts: FuturesUnordered<_> = left
        .iter()
        .map(async |recipient| {
            let asked = Instant::now();
            let sent = project.send(&desk, &message, recipient.kind, &recipient.token).await;
            office.breakers.took(&job.account, asked.elapsed(), sent.code());
            (recipient, sent)
        })
        .collect();
    let mut postponed = None;
    while let Some((recipient, verdict)) = verdicts.next().await {
        match sending.settle(recipient, verdict).await? {
            Ok(outcome) => {
                noted.done.push(outcome);
                if is_several {
                    sending.note(&noted).await?;
                }
            }
            Err(failure) => postponed = Some(worse(postponed, failure)),
        }
    }
    match postponed {
        Some(failure) => Err(sending.postpone(noted, failure).await?),
        None => conclude(noted.done),
    }
}

/// What earlier runs have left.
async fn noted(desk: &Desk, context: &Context) -> Result<Noted, Failure> {
    // A first run has nothing to go on with.
    if context.run() == 1 {
        return Ok(Noted::default());
    }
    let noted = desk.records.broadcast(context.job_id()).await.map_err(|error| records_failure(&error))?;
    let noted: Noted = noted.and_then(|noted| serde_json::from_str(&noted.place).ok()).unwrap_or_default();
    Ok(noted.at_attempt(context.attempt()))
}

impl Noted {
    /// What of it an attempt goes on with. The first one comes after others only if somebody has the job done anew: then those
    /// are sent to again that FCM has refused, for what was wrong may have been set right.
    fn at_attempt(mut self, attempt: u32) -> Self {
        if attempt <= 1 {
            self.done.retain(|outcome| outcome.state != PushState::Failed);
            self.waited_ms = 0;
        }
        self
    }

    /// Waits once more; `false` if that would be too long.
    fn wait(&mut self, ms: u64) -> bool {
        self.waited_ms = self.waited_ms.saturating_add(ms);
        u128::from(self.waited_ms) <= MOST_WAITED.as_millis()
    }
}

/// Who gets it.
async fn recipients(desk: &Desk, job: &PushSend, tenant: Option<&TenantName>) -> Result<Vec<Recipient>, Failure> {
    let found = match &job.to {
        PushTarget::Token(token) => return by_token(desk, tenant, TokenKind::Registration, token).await,
        PushTarget::Installation(token) => return by_token(desk, tenant, TokenKind::Installation, token).await,
        PushTarget::Device(id) => desk.records.addressees_of(tenant, std::slice::from_ref(id)).await,
        PushTarget::Owner(owner) => {
            let filter = DeviceFilter { tenant: tenant.cloned(), owners: vec![owner.clone()], platform: None };
            desk.records.addressees(&filter, None, MOST_DEVICES).await
        }
    };
    let found = found.map_err(|error| records_failure(&error))?;
    if found.is_empty() {
        let message = "no device is registered that it could go to";
        return Err(Failure::permanent("no_devices", message).class(ErrorClass::NotFound));
    }
    let wanted: Vec<_> = found.into_iter().filter(|addressee| !addressee.suppressed).map(Recipient::of).collect();
    if wanted.is_empty() { Err(suppressed()) } else { Ok(wanted) }
}

/// Whoever has a token, which may be that of a device.
async fn by_token(
    desk: &Desk,
    tenant: Option<&TenantName>,
    kind: TokenKind,
    token: &str,
) -> Result<Vec<Recipient>, Failure> {
    let found = desk.records.addressee_of_token(tenant, kind, token).await;
    let found = found.map_err(|error| records_failure(&error))?;
    if found.as_ref().is_some_and(|addressee| addressee.suppressed) {
        return Err(suppressed());
    }
    let device = found.map(|addressee| addressee.device);
    Ok(vec![Recipient { device, is_token: true, kind, token: token.to_owned() }])
}

fn suppressed() -> Failure {
    let message = "its owner wants no push notifications";
    Failure::permanent("suppressed_by_preference", message).class(ErrorClass::Forbidden)
}

impl Recipient {
    fn of(addressee: Addressee) -> Self {
        let device = addressee.device;
        Self { kind: device.token_kind, token: device.token.clone(), is_token: false, device: Some(device) }
    }

    fn id(&self) -> Option<&DeviceId> {
        self.device.as_ref().filter(|_| !self.is_token).map(|device| &device.id)
    }
}

/// A run that sends.
struct Sending<'a> {
    office: &'a Office,
    desk: &'a Desk,
    account: &'a str,
    context: &'a Context,
}

impl Sending<'_> {
    /// What a verdict means: an outcome, or a failure after which the device is sent to again.
    async fn settle(&self, recipient: &Recipient, verdict: Verdict) -> Result<Result<PushOutcome, Failure>, Failure> {
        tell_breaker(self.office, self.account, &verdict);
        tell_operator(self.account, self.context, &verdict);
        let outcome = |state, error: Option<&str>| PushOutcome {
            device: recipient.id().cloned(),
            state,
            message: None,
            error: error.map(str::to_owned),
        };
        Ok(match verdict {
            Verdict::Sent(message) => Ok(PushOutcome { message: Some(message), ..outcome(PushState::Sent, None) }),
            Verdict::Gone => {
                self.forget(recipient).await?;
                Ok(outcome(PushState::Invalid, Some("token_invalid")))
            }
            Verdict::Foreign => {
                self.forget(recipient).await?;
                Ok(outcome(PushState::Invalid, Some("sender_mismatch")))
            }
            Verdict::Refused(words) => {
                self.context.log(LogLevel::Error, format!("FCM does not take the message: {words}"));
                self.count(recipient).await?;
                Ok(outcome(PushState::Failed, Some("payload_refused")))
            }
            Verdict::Credentials => {
                self.count(recipient).await?;
                Ok(outcome(PushState::Failed, Some("third_party_auth")))
            }
            Verdict::Limited(after) => {
                let wait = after.unwrap_or_else(|| growing(LIMITED_WAIT, self.context.attempt())).max(FIRST_WAIT);
                Err(Failure::retry_after(wait, "rate_limited", "FCM takes no more messages for a while"))
            }
            Verdict::Unavailable { after, cause, .. } => {
                self.count(recipient).await?;
                Err(unavailable(after, self.context.attempt()).because(cause))
            }
            Verdict::Misconfigured(reason) => Err(misconfigured(self.account, &reason)),
        })
    }

    /// Deletes a device that FCM does not know any more.
    async fn forget(&self, recipient: &Recipient) -> Result<(), Failure> {
        let Some(device) = &recipient.device else { return Ok(()) };
        let removed = self.desk.records.remove_tokens(std::slice::from_ref(device)).await;
        removed.map(drop).map_err(|error| records_failure(&error))
    }

    async fn count(&self, recipient: &Recipient) -> Result<(), Failure> {
        let Some(device) = &recipient.device else { return Ok(()) };
        let counted = self.desk.records.devices_failed(std::slice::from_ref(&device.id)).await;
        counted.map_err(|error| records_failure(&error))
    }

    /// The failure after which the devices that are left are sent to again, unless that would be too late.
    async fn postpone(&self, mut noted: Noted, failure: Failure) -> Result<Failure, Failure> {
        let NextStep::Retry { after_ms: Some(after_ms) } = failure.next else { return Ok(failure) };
        if !noted.wait(after_ms) {
            let message = format!("{}; after an hour of waiting FCM asks to give up", failure.message);
            return Ok(Failure { next: NextStep::GiveUp, message, ..failure });
        }
        self.note(&noted).await?;
        Ok(failure)
    }

    /// Remembers for the next run what is done.
    async fn note(&self, noted: &Noted) -> Result<(), Failure> {
        let place = serde_json::to_string(noted).unwrap_or_default();
        let noted = Broadcast { place, ..Broadcast::default() };
        save(self.desk, self.context, &noted).await
    }
}

/// Notes how far the job is.
///
/// # Errors
/// A retryable failure if the records do not answer, or another run is at work.
pub(crate) async fn save(desk: &Desk, context: &Context, noted: &Broadcast) -> Result<(), Failure> {
    let saved = desk.records.save_broadcast(context.job_id(), context.run(), noted, Timestamp::now()).await;
    match saved.map_err(|error| records_failure(&error))? {
        true => Ok(()),
        false => Err(Failure::retry("lease_lost", "the run has lost its lease: another is at work")),
    }
}

/// What became of all: a success if somebody has got it.
fn conclude(devices: Vec<PushOutcome>) -> Result<PushSent, Failure> {
    let none_sent = devices.iter().all(|outcome| outcome.state != PushState::Sent);
    let error = devices.iter().find_map(|outcome| outcome.error.clone()).filter(|_| none_sent);
    let Some(code) = error else { return Ok(PushSent { devices }) };
    let (class, message) = match code.as_str() {
        "token_invalid" => (ErrorClass::NotFound, "FCM does not know the device any more; it is registered no longer"),
        "sender_mismatch" => {
            (ErrorClass::NotConfigured, "the device belongs to another project of Firebase; it is registered no longer")
        }
        "third_party_auth" => (
            ErrorClass::NotConfigured,
            "APNs or the web push service does not take what Firebase has: check its keys in the console of Firebase",
        ),
        _ => (ErrorClass::InvalidInput, "FCM cannot read the message: see the log of the job"),
    };
    Err(Failure::permanent(code, message).class(class))
}

/// Of two failures, the one after which the next run comes later.
fn worse(one: Option<Failure>, other: Failure) -> Failure {
    let wait = |failure: &Failure| match failure.next {
        NextStep::Retry { after_ms } => after_ms.unwrap_or(0),
        // It waits for somebody.
        _ => u64::MAX,
    };
    match one {
        Some(one) if wait(&one) >= wait(&other) => one,
        _ => other,
    }
}

fn unavailable(after: Option<Duration>, attempt: u32) -> Failure {
    let wait = growing(FIRST_WAIT, attempt).max(after.unwrap_or_default());
    let failure = Failure::retry_after(wait, "provider_unavailable", "FCM does not answer as it should");
    failure.class(ErrorClass::Unavailable)
}

/// The job waits until the operator has changed the account.
pub(crate) fn misconfigured(account: &str, reason: &str) -> Failure {
    let message =
        format!("the account {account} does not work: {reason}; set it right, and write secrets/{account} anew");
    Failure::park(ParkReason::NotConfigured, message)
}

/// A wait that doubles with every attempt, longer by up to four tenths by chance.
pub(crate) fn growing(first: Duration, attempt: u32) -> Duration {
    let doublings = attempt.clamp(1, 16) - 1;
    (first * (1 << doublings)).min(LONGEST_WAIT).mul_f64(1.0 + rand::random::<f64>() * 0.4)
}

/// Whatever FCM says, it is there; unless it is not.
pub(crate) fn tell_breaker(office: &Office, account: &str, verdict: &Verdict) {
    match verdict {
        Verdict::Unavailable { .. } => office.breakers.failed(account),
        _ => office.breakers.answered(account),
    }
}

/// Things that somebody has to set right.
pub(crate) fn tell_operator(account: &str, context: &Context, verdict: &Verdict) {
    let text = match verdict {
        Verdict::Foreign => "a device is registered with another project of Firebase than that of the account",
        Verdict::Credentials => "APNs or the web push service refuses what Firebase has: check its keys in the console",
        Verdict::Misconfigured(_) => "the account with FCM does not work",
        _ => return,
    };
    tracing::error!(provider.account = account, job.id = %context.job_id(), "{text}");
    context.log(LogLevel::Error, text);
}

pub(crate) fn records_failure(error: &RecordsError) -> Failure {
    let failure = Failure::retry("records_unavailable", "the records cannot be used now");
    failure.class(ErrorClass::Unavailable).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_begin_with_ten_seconds_and_end_within_an_hour() {
        let shortest = growing(FIRST_WAIT, 1);
        assert!((10.0..=14.0).contains(&shortest.as_secs_f64()), "{shortest:?}");
        let longest: f64 = (0..8).map(|n| f64::from(10 << n) * 1.4).sum();
        assert!(longest <= 3_600.0, "{longest}");
        let growing = growing(FIRST_WAIT, u32::MAX);
        assert!(growing >= LONGEST_WAIT && growing <= LONGEST_WAIT.mul_f64(1.4));
    }

    fn outcome(state: PushState, error: Option<&str>) -> PushOutcome {
        PushOutcome { device: Some(DeviceId::random()), state, message: None, error: error.map(str::to_owned) }
    }

    #[test]
    fn what_was_refused_is_sent_again_if_the_job_begins_anew() {
        let (sent, gone) = (outcome(PushState::Sent, None), outcome(PushState::Invalid, Some("token_invalid")));
        let refused = outcome(PushState::Failed, Some("third_party_auth"));
        let noted = Noted { done: vec![sent.clone(), refused, gone.clone()], waited_ms: 7 };
        assert_eq!(noted.clone().at_attempt(2), noted);
        assert_eq!(noted.at_attempt(1), Noted { done: vec![sent, gone], waited_ms: 0 });
    }

    #[test]
    fn all_waits_are_an_hour_together() {
        let mut noted = Noted::default();
        assert!(noted.wait(3_599_000) && noted.wait(1_000));
        assert!(!noted.wait(1) && !Noted::default().wait(u64::MAX));
    }

    #[test]
    fn a_success_is_that_somebody_has_got_it() {
        let (sent, gone) = (outcome(PushState::Sent, None), outcome(PushState::Invalid, Some("token_invalid")));
        assert_eq!(conclude(vec![gone.clone(), sent]).unwrap().devices.len(), 2);
        assert_eq!(conclude(vec![gone]).unwrap_err().code, "token_invalid");
    }
}
