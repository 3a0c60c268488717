//! `sms.send`: a text message.

use std::time::Duration;

use fourmi_model::{Backoff, JobId, Policy, Priority, SmsState};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_SEGMENTS, SmsEncoding, SmsSize, mobile_number, transliterate};
use crate::{InvalidPayload, JobKind};

/// The account of who names none.
const ACCOUNT: &str = "sms";

/// What a part is taken to cost if its account says nothing of it, in credits of the provider: as much as one of OVHcloud to
/// a French number does.
pub const SMS_CREDITS_PER_SEGMENT: f64 = 1.0;

/// The digits of a UUIDv7 that say when it was made, in hexadecimal.
const TIME_DIGITS: usize = 12;

/// The most letters of a sender's name.
const MAX_SENDER: usize = 11;

/// Runs that may fail before the job is given up.
pub const SMS_ATTEMPTS: u32 = 25;

/// What a provider knows the message of a job by: the last 20 digits of the job's id, those that were drawn. OVHcloud takes
/// no more characters (<https://docs.ovh.com/ie/en/sms/send_sms_messages_via_url_-_http2sms/>).
pub fn sms_tag(job: &JobId) -> String {
    job.uuid().simple().to_string().split_off(TIME_DIGITS)
}

/// Sends a text message to a mobile telephone, once: what a run may have sent is never sent by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmsSend {
    /// The number of a mobile telephone, in the form of E.164.
    #[schemars(regex(pattern = r"^\+[1-9][0-9]{6,14}$"))]
    pub to: String,
    /// What it says; up to six parts (918 characters, or 402 if one of them is not in GSM 03.38).
    #[schemars(length(min = 1, max = 918))]
    pub text: String,
    /// What it is for, which decides when it may be sent.
    pub purpose: SmsPurpose,
    /// The account with a provider: the name of an operator's secret.
    #[serde(default = "default_account")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub account: String,
    /// The name that is shown as the sender, if not that of the account: up to 11 letters and digits, which the provider has
    /// approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9]{1,11}$"))]
    pub sender: Option<String>,
    /// Nobody needs it after this: it is not sent any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
    /// Whether characters that would double the price are replaced by some that read alike: `ê` by `e`, `’` by `'`.
    #[serde(default)]
    pub transliterate: bool,
}

/// What a text message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsPurpose {
    /// Whoever gets it waits for it: sent at any time.
    Transactional,
    /// Advertising: sent on working days between 8 and 20 o'clock, with what to answer to get no more.
    Marketing,
}

fn default_account() -> String {
    ACCOUNT.to_owned()
}

impl SmsSend {
    /// A message that is sent at any time, from the account of who names none.
    pub fn of(to: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            to: to.into(),
            text: text.into(),
            purpose: SmsPurpose::Transactional,
            account: default_account(),
            sender: None,
            expires_at: None,
            transliterate: false,
        }
    }

    /// What is sent.
    pub fn sent_text(&self) -> String {
        if self.transliterate { transliterate(&self.text) } else { self.text.clone() }
    }
}

impl JobKind for SmsSend {
    const NAME: &'static str = "sms.send";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends a text message to a mobile telephone, once.";
    type Output = SmsSent;

    fn policy() -> Policy {
        Policy {
            attempts: Some(SMS_ATTEMPTS),
            backoff: Backoff { base: Duration::from_secs(4), cap: Duration::from_secs(15 * 60) },
            timeout: Duration::from_secs(90),
            priority: Priority::High,
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        mobile_number(&self.to).map_err(|mistake| InvalidPayload::new("to", mistake))?;
        if self.text.trim().is_empty() {
            return Err(InvalidPayload::new("text", "must say something"));
        }
        let SmsSize { segments, encoding, .. } = SmsSize::of(&self.sent_text());
        if segments > MAX_SEGMENTS {
            let advice = match encoding {
                SmsEncoding::Ucs2 if !self.transliterate => "; transliterate may make it shorter",
                _ => "",
            };
            let message = format!("takes {segments} parts, and must not take more than {MAX_SEGMENTS}{advice}");
            return Err(InvalidPayload::new("text", message));
        }
        if !is_account(&self.account) {
            return Err(InvalidPayload::new("account", "must be 1 to 64 letters, digits, _ and -"));
        }
        if self.sender.as_deref().is_some_and(|sender| !is_sender(sender)) {
            return Err(InvalidPayload::new("sender", "must be up to 11 letters and digits, not digits alone"));
        }
        Ok(())
    }
}

fn is_account(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

fn is_sender(name: &str) -> bool {
    (1..=MAX_SENDER).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric())
        && name.bytes().any(|c| c.is_ascii_alphabetic())
}

/// What `sms.send` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SmsSent {
    /// The provider that has it: `ovh` or `http`.
    pub provider: String,
    /// The ids that the provider has given it; none if a person has said that it was sent.
    pub ids: Vec<String>,
    /// The alphabet in which it was sent.
    pub encoding: SmsEncoding,
    /// What its characters take of the room.
    pub characters: u32,
    /// The parts in which it was sent.
    pub segments: u32,
    /// What it has cost, in credits of the provider.
    pub credits: f64,
    /// The number.
    pub recipient: String,
    /// What is known of it: `accepted`, and `delivered` or `undelivered` if that came to be known before the job was over.
    pub state: SmsState,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue;

    #[test]
    fn a_tag_is_what_was_drawn_of_an_id() {
        let id: JobId = "messaging-0198c0de-1234-7abc-8def-0123456789ab".parse().unwrap();
        assert_eq!(sms_tag(&id), "7abc8def0123456789ab");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_when_it_is_submitted() {
        let kind = catalogue().get(SmsSend::NAME).unwrap();
        let payload = |more: serde_json::Value| {
            let mut payload = json!({"to": "+33612345678", "text": "Hello", "purpose": "transactional"});
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            kind.check(&payload.to_string())
        };
        for right in [
            json!({}),
            json!({"sender": "Fourmi2", "account": "sms-2", "expires_at": "2026-11-29T12:00:00Z"}),
            json!({"text": "ê".repeat(402)}),
            json!({"text": "ê".repeat(918), "transliterate": true}),
            json!({"purpose": "marketing"}),
        ] {
            payload(right.clone()).unwrap_or_else(|mistake| panic!("{right}: {mistake}"));
        }
        for (wrong, path) in [
            (json!({"to": "+33123456789"}), "to"),
            (json!({"to": "0612345678"}), "to"),
            (json!({"text": ""}), "text"),
            (json!({"text": " \n"}), "text"),
            (json!({"text": "a".repeat(919)}), "text"),
            (json!({"text": "ê".repeat(403)}), "text"),
            (json!({"sender": "123456"}), "sender"),
            (json!({"sender": "TwelveLetter"}), "sender"),
            (json!({"sender": "Café"}), "sender"),
            (json!({"account": "../api-key"}), "account"),
            (json!({"purpose": "spam"}), "purpose"),
            (json!({"tag": "mine"}), "tag"),
        ] {
            assert_eq!(payload(wrong.clone()).unwrap_err().path, path, "{wrong}");
        }
    }
}
