//! OVHcloud: its signatures, its clock, and its calls (`https://eu.api.ovh.com/console/?section=%2Fsms`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use fourmi_kinds::SmsPurpose;
use fourmi_model::{ErrorClass, Failure, ParkReason, SmsState};
use jiff::Timestamp;
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha1::{Digest, Sha1};

use super::{
    account::OvhAccount,
    line::{Answer, Line, excerpt},
    provider::{Delivery, Found, Message, Provider, Trouble, refused, unreadable},
};

/// How long OVHcloud tries to deliver if nothing is said, in minutes: two days.
const VALIDITY_MINUTES: u64 = 2880;

/// The clocks of the servers, by their addresses: seconds by which each is ahead of ours. A kiosk's clock drifts.
#[derive(Default)]
pub(crate) struct Clocks {
    ahead: Mutex<HashMap<String, i64>>,
}

/// The service of an account with OVHcloud.
pub(super) struct Ovh<'a> {
    pub(super) line: Line<'a>,
    pub(super) account: &'a OvhAccount,
    pub(super) clocks: &'a Clocks,
}

/// `POST /sms/{serviceName}/jobs`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewJob<'a> {
    message: &'a str,
    receivers: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
    sender_for_response: bool,
    no_stop_clause: bool,
    priority: &'static str,
    validity_period: u64,
    charset: &'static str,
    tag: &'a str,
}

/// `sms.SmsSendingReportUser`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    ids: Vec<i64>,
    #[serde(default)]
    valid_receivers: Vec<String>,
    #[serde(default)]
    invalid_receivers: Vec<String>,
    total_credits_removed: f64,
    #[serde(default)]
    credits_left: Option<f64>,
}

/// `sms.Outgoing`, what matters of it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing {
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    ptt: Option<i64>,
    #[serde(default)]
    delivered_at: Option<Timestamp>,
    #[serde(default)]
    credits: Option<f64>,
}

/// `sms.Account`, what matters of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    #[serde(default)]
    credits_left: Option<f64>,
}

/// An answer that is an error.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    message: String,
    error_code: String,
}

impl Said {
    fn of(answer: &Answer) -> Self {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    fn is_of_time(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.error_code == "QUERY_TIME_OUT" || message.contains("out of time") || message.contains("timestamp")
    }
}

impl Provider for Ovh<'_> {
    fn name(&self) -> &'static str {
        "ovh"
    }

    async fn send(&self, message: &Message) -> Result<Found, Trouble> {
        let minutes =
            message.valid_for().map_or(VALIDITY_MINUTES, |time| (time.as_secs() / 60).clamp(1, VALIDITY_MINUTES));
        let job = NewJob {
            message: &message.text,
            receivers: [&message.to],
            sender: message.sender.as_deref(),
            sender_for_response: message.sender.is_none(),
            no_stop_clause: message.purpose != SmsPurpose::Marketing,
            priority: "high",
            validity_period: minutes,
            charset: "UTF-8",
            tag: &message.tag,
        };
        let body = serde_json::to_string(&job).map_err(|error| refused("invalid_message", error.to_string()))?;
        let answer = self.signed(Method::POST, &self.path("jobs"), Some(body)).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(&answer));
        }
        let report: Report = serde_json::from_slice(&answer.body).map_err(|_| unreadable("the message"))?;
        report.accepted()
    }

    async fn find(&self, tag: &str) -> Result<Option<Found>, Trouble> {
        let ids: Vec<i64> = self.get(&self.path(&format!("outgoing?tag={tag}"))).await?;
        for id in ids {
            let outgoing = self.outgoing(&id.to_string()).await?;
            if let Some(outgoing) = outgoing.filter(|outgoing| outgoing.tag.as_deref() == Some(tag)) {
                return Ok(Some(Found { id: id.to_string(), credits: outgoing.credits, credits_left: None }));
            }
        }
        Ok(None)
    }

    async fn credits_left(&self) -> Result<Option<f64>, Trouble> {
        let service: Service = self.get(&format!("/sms/{}", self.account.service)).await?;
        Ok(service.credits_left)
    }

    async fn delivery(&self, id: &str, _: &str) -> Result<Delivery, Trouble> {
        Ok(delivery_of(self.outgoing(id).await?.unwrap_or_default()))
    }
}

impl Report {
    /// A message that costs nothing is one that is not sent, and so is one whose number is not taken.
    fn accepted(self) -> Result<Found, Trouble> {
        if !self.invalid_receivers.is_empty() {
            return Err(refused("invalid_number", "the provider takes no messages for this number"));
        }
        let is_sent = !self.valid_receivers.is_empty() && self.total_credits_removed > 0.0;
        match self.ids.first() {
            Some(id) if is_sent => Ok(Found {
                id: id.to_string(),
                credits: Some(self.total_credits_removed),
                credits_left: self.credits_left,
            }),
            _ => Err(no_credit("the provider has charged nothing, and so sent nothing")),
        }
    }
}

fn no_credit(message: &str) -> Trouble {
    let message = format!("{message}: the account needs credits; replay the job when it has them");
    Trouble::Nothing(Failure::permanent("no_credit", message).class(ErrorClass::QuotaExhausted))
}

impl Ovh<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/sms/{}/{rest}", self.account.service)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let answer = self.signed(Method::GET, path, None).await?;
        self.read(&answer)
    }

    /// A message that went out. One that is pending is among the jobs of the service alone, and comes here later.
    async fn outgoing(&self, id: &str) -> Result<Option<Outgoing>, Trouble> {
        let answer = self.signed(Method::GET, &self.path(&format!("outgoing/{id}")), None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(&answer).map(Some)
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Trouble> {
        if !answer.status.is_success() {
            return Err(self.refusal(answer));
        }
        serde_json::from_slice(&answer.body).map_err(|_| unreadable("a question"))
    }

    /// Asks with a signature; again with a fresh time if the server says that it is another. It has then done nothing.
    async fn signed(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer, Trouble> {
        let url = format!("{}{path}", self.account.base());
        let ahead = match self.clocks.ahead(self.account.base()) {
            Some(ahead) => ahead,
            None => self.set_clock().await?,
        };
        let answer = self.signed_at(method.clone(), &url, body.clone(), ahead).await?;
        if !is_of_time(&answer) {
            return Ok(answer);
        }
        let ahead = self.set_clock().await?;
        let answer = self.signed_at(method, &url, body, ahead).await?;
        if is_of_time(&answer) {
            let message = "the provider's clock and ours differ, though it was just asked for the time";
            return Err(Trouble::Nothing(Failure::retry("clock_skew", message)));
        }
        Ok(answer)
    }

    async fn signed_at(&self, method: Method, url: &str, body: Option<String>, ahead: i64) -> Result<Answer, Trouble> {
        let time = Timestamp::now().as_second() + ahead;
        let signature = signature(self.account, method.as_str(), url, body.as_deref().unwrap_or_default(), time);
        let key = |key: &str| self.line.header(HeaderValue::from_str(key));
        let mut headers = HeaderMap::new();
        headers.insert("x-ovh-application", key(&self.account.application_key)?);
        headers.insert("x-ovh-consumer", key(&self.account.consumer_key)?);
        headers.insert("x-ovh-timestamp", HeaderValue::from(time));
        headers.insert("x-ovh-signature", key(&signature)?);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.line.ask(method, url, headers, body).await
    }

    /// Asks for the time; gives the seconds by which the server is ahead. Nothing that matters is done by it.
    async fn set_clock(&self) -> Result<i64, Trouble> {
        let url = format!("{}/auth/time", self.account.base());
        let answer = self.line.ask(Method::GET, &url, HeaderMap::new(), None).await;
        let answer = answer.map_err(|trouble| Trouble::Nothing(trouble.failure()))?;
        let time: i64 = serde_json::from_slice(&answer.body).map_err(|_| {
            Trouble::Nothing(Failure::retry("provider_unavailable", "the provider does not say what time it has"))
        })?;
        let ahead = time - Timestamp::now().as_second();
        self.clocks.set(self.account.base(), ahead);
        Ok(ahead)
    }

    /// What an answer of 400 to 499 means: that nothing was done.
    fn refusal(&self, answer: &Answer) -> Trouble {
        let said = Said::of(answer);
        let (status, words) = (answer.status, said.message.to_ascii_lowercase());
        let is_of_keys = matches!(
            said.error_code.as_str(),
            "INVALID_CREDENTIAL" | "NOT_CREDENTIAL" | "NOT_GRANTED_CALL" | "INVALID_KEY" | "INVALID_SIGNATURE"
        );
        let message = format!("the provider answered {status}: {}", excerpt(&said.message));
        if is_of_keys {
            return self.line.keys_are_wrong(&excerpt(&said.message));
        }
        if words.contains("sender") {
            return refused("sender_not_validated", format!("{message}; have the sender approved by the provider"));
        }
        if status == StatusCode::PAYMENT_REQUIRED || words.contains("credit") {
            return no_credit(&message);
        }
        if status == StatusCode::NOT_FOUND {
            return self.service_is_wrong(&excerpt(&said.message));
        }
        if words.contains("receiver") || words.contains("number") {
            return refused("invalid_number", message);
        }
        match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => self.line.keys_are_wrong(&excerpt(&said.message)),
            _ => refused("provider_refused", message),
        }
    }

    /// The operator has to see to the name of the service.
    fn service_is_wrong(&self, said: &str) -> Trouble {
        let (service, account) = (&self.account.service, self.line.account);
        let message = format!(
            "the provider does not know the service {service} (404): write one that `GET /sms` lists into secrets/{account}. \
             It said: {said}"
        );
        Trouble::Nothing(Failure::park(ParkReason::NotConfigured, message))
    }
}

fn is_of_time(answer: &Answer) -> bool {
    !answer.status.is_success() && Said::of(answer).is_of_time()
}

impl Clocks {
    fn ahead(&self, base: &str) -> Option<i64> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).get(base).copied()
    }

    fn set(&self, base: &str, ahead: i64) {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).insert(base.to_owned(), ahead);
    }
}

/// `$1$` and the SHA-1 of both secrets, the method, the address, the body to the byte, and the time
/// (<https://help.ovhcloud.com/csm/en-api-getting-started-ovhcloud-api>).
fn signature(account: &OvhAccount, method: &str, url: &str, body: &str, time: i64) -> String {
    let OvhAccount { application_secret, consumer_key, .. } = account;
    let signed = format!("{application_secret}+{consumer_key}+{method}+{url}+{body}+{time}");
    let digits: String = Sha1::digest(signed.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("$1${digits}")
}

fn delivery_of(outgoing: Outgoing) -> Delivery {
    let (state, reason) = match outgoing.ptt {
        Some(4) => (SmsState::Delivered, None),
        Some(ptt) => meaning(ptt).map_or((SmsState::Accepted, None), |why| (SmsState::Undelivered, Some(why))),
        None => (SmsState::Accepted, None),
    };
    Delivery {
        state,
        code: outgoing.ptt.map(|ptt| ptt.to_string()),
        reason,
        delivered_at: outgoing.delivered_at.filter(|_| state == SmsState::Delivered),
        is_number_dead: outgoing.ptt == Some(23),
    }
}

/// Why a message will never arrive, by its `ptt`; `None` while it may.
fn meaning(ptt: i64) -> Option<&'static str> {
    Some(match ptt {
        5 => "it could not be delivered",
        6 => "nobody knows what became of it",
        8 => "it was not delivered in time",
        20 => "it cannot be delivered in this form",
        21 => "whoever gets it has no credit",
        23 => "the number is not given out, or blacklisted",
        24 => "the telephone was off or away",
        25 => "the network of the operator failed",
        26 => "the telephone could not take it for a while",
        27 => "the telephone cannot take it",
        28 => "the operator takes it for spam",
        29 => "the operator refuses what it says",
        33 => "a parental lock keeps it out",
        39 => "the operator failed",
        73 | 74 | 76 | 202 => "there is no way to the operator",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> OvhAccount {
        serde_json::from_str(
            r#"{"application_key": "7kbG7Bk7S9Nt7ZSV", "application_secret": "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF",
                "consumer_key": "MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1", "service": "sms-xx12345-1"}"#,
        )
        .unwrap()
    }

    /// The keys are those of OVHcloud's own guide; the digits are of `printf '%s' '…' | sha1sum`.
    #[test]
    fn a_signature_is_of_secrets_method_address_body_and_time() {
        let get = signature(&account(), "GET", "https://eu.api.ovh.com/1.0/domains/", "", 1_366_560_945);
        assert_eq!(get, "$1$d3705e8afb27a0d2970a322b96550abfc67bb798");
        let body = r#"{"message":"Prêt","receivers":["+33612345678"]}"#;
        let post =
            signature(&account(), "POST", "https://eu.api.ovh.com/1.0/sms/sms-xx12345-1/jobs", body, 1_457_018_875);
        assert_eq!(post, "$1$7f0b9dc2058c91fa094cbb72e7b9df94a31aadad");
    }

    #[test]
    fn a_report_is_a_success_only_if_somebody_pays() {
        let report = |text: &str| serde_json::from_str::<Report>(text).unwrap().accepted();
        let sent = r#"{"ids":[27814656],"validReceivers":["+33612345678"],"invalidReceivers":[],"totalCreditsRemoved":2,
            "creditsLeft":98.5,"tag":"t"}"#;
        let found = Found { id: "27814656".to_owned(), credits: Some(2.0), credits_left: Some(98.5) };
        assert_eq!(report(sent).unwrap(), found);
        let code = |text| match report(text) {
            Err(Trouble::Nothing(failure)) => failure.code,
            other => panic!("{other:?}"),
        };
        let invalid = r#"{"ids":[],"validReceivers":[],"invalidReceivers":["+33612345678"],"totalCreditsRemoved":0}"#;
        assert_eq!(code(invalid), "invalid_number");
        let free = r#"{"ids":[1],"validReceivers":["+33612345678"],"invalidReceivers":[],"totalCreditsRemoved":0}"#;
        assert_eq!(code(free), "no_credit");
    }

    #[test]
    fn receipts_are_read_by_their_code() {
        let read = |ptt| {
            let delivery = delivery_of(Outgoing { tag: None, ptt, delivered_at: None, credits: None });
            (delivery.state, delivery.is_number_dead)
        };
        assert_eq!(delivery_of(Outgoing::default()).state, SmsState::Accepted, "it is pending");
        for pending in [None, Some(1), Some(2), Some(3), Some(9999)] {
            assert_eq!(read(pending), (SmsState::Accepted, false), "{pending:?}");
        }
        assert_eq!(read(Some(4)), (SmsState::Delivered, false));
        for failed in [5, 6, 8, 20, 21, 24, 28, 39, 202] {
            assert_eq!(read(Some(failed)), (SmsState::Undelivered, false), "{failed}");
        }
        assert_eq!(read(Some(23)), (SmsState::Undelivered, true));
    }
}
