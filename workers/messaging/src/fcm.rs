//! Firebase Cloud Messaging, HTTP v1: what is sent, and what its answers mean
//! (<https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fourmi_kinds::{PushContent, PushPriority};
use fourmi_model::{Failure, HealthStatus, ParkReason, TokenKind};
use fourmi_runtime::Context;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    account::{Account, account},
    answer::read_body,
    check::Finding,
    google::{Access, MOST_READ, NoAccess, ServiceAccount},
    office::Desk,
    pacer::Pacer,
    webhook::retry_after,
};

/// What Google is asked to allow.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// How long an answer is waited for; FCM asks for ten seconds at least.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// The token of a message that is for nobody.
const NOBODY: &str = "fourmi-check";

/// How FCM calls its own errors among the details of an error.
const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";

/// A service account of Firebase, as Google gives it, and what an operator may add.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct FcmAccount {
    #[serde(flatten)]
    service: ServiceAccount,
    /// Where FCM is.
    #[serde(default = "google")]
    fcm_url: String,
    /// The quota of the project.
    #[serde(default = "quota")]
    messages_per_minute: u32,
}

fn google() -> String {
    "https://fcm.googleapis.com".to_owned()
}

fn quota() -> u32 {
    600_000
}

impl Account for FcmAccount {
    const WHAT: &'static str = "the JSON file of a service account of Firebase";
    const DOCUMENT: &'static str = "docs/kinds/push.send.md";
}

/// The projects that are sent to, by account.
#[derive(Default)]
pub(crate) struct Projects {
    by_account: Mutex<HashMap<String, Arc<Project>>>,
}

/// A project of Firebase, with access to it.
pub(crate) struct Project {
    account: FcmAccount,
    access: Access,
    url: String,
    /// For broadcasts.
    pub(crate) pacer: Pacer,
}

/// A message, written but for whom it goes to.
pub(crate) struct Message {
    before: String,
    after: String,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken; FCM's name for it.
    Sent(String),
    /// The token is none, or none any more: to be deleted.
    Gone,
    /// The token is of another project: to be deleted, and somebody told.
    Foreign,
    /// FCM cannot read the message: a mistake in it.
    Refused(String),
    /// What Firebase has for APNs or web push is wrong: somebody must be told, and trying again is in vain.
    Credentials,
    /// Too many messages; how long to wait, if FCM says it.
    Limited(Option<Duration>),
    /// FCM does not answer as it should.
    Unavailable {
        /// How long to wait, if FCM says it.
        after: Option<Duration>,
        /// Whether it may have been taken all the same.
        doubtful: bool,
        /// Why.
        cause: String,
    },
    /// The account may not send, or not there: nothing changes until somebody does something.
    Misconfigured(String),
}

impl Verdict {
    /// It in one word.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::Gone => "unregistered",
            Self::Foreign => "sender_id_mismatch",
            Self::Refused(_) => "invalid_argument",
            Self::Credentials => "third_party_auth_error",
            Self::Limited(_) => "quota_exceeded",
            Self::Unavailable { .. } => "unavailable",
            Self::Misconfigured(_) => "misconfigured",
        }
    }
}

impl Projects {
    /// The project of an account, as the operator has written it now.
    ///
    /// # Errors
    /// The job is parked as `not_configured` if there is none, or it is malformed.
    pub(crate) async fn get(&self, context: &Context, name: &str) -> Result<Arc<Project>, Failure> {
        self.of(name, account(context, name).await?)
    }

    /// The project of an account that is written so.
    ///
    /// # Errors
    /// `not_configured` if it cannot be used.
    pub(crate) fn of(&self, name: &str, written: FcmAccount) -> Result<Arc<Project>, Failure> {
        let mut known = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(project) = known.get(name)
            && project.account == written
        {
            return Ok(project.clone());
        }
        let project = Project::open(written).map_err(|reason| {
            let message = format!("secrets/{name} of the data folder: {reason} ({})", FcmAccount::DOCUMENT);
            Failure::park(ParkReason::NotConfigured, message)
        })?;
        let project = Arc::new(project);
        known.insert(name.to_owned(), project.clone());
        Ok(project)
    }
}

impl Project {
    fn open(account: FcmAccount) -> Result<Self, String> {
        let id = &account.service.project_id;
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)) {
            return Err("its project_id is none".to_owned());
        }
        let url = format!("{}/v1/projects/{id}/messages:send", account.fcm_url.trim_end_matches('/'));
        let access = Access::new(account.service.clone(), SCOPE)?;
        Ok(Self { access, url, pacer: Pacer::new(account.messages_per_minute), account })
    }

    /// Sends a message to a device, once; with a new token if the one at hand does not open any more.
    pub(crate) async fn send(&self, desk: &Desk, message: &Message, kind: TokenKind, token: &str) -> Verdict {
        let body = message.to(kind, token);
        let mut stale = None;
        loop {
            let header = match self.access.header(desk, stale.as_ref()).await {
                Ok(header) => header,
                Err(NoAccess::Refused(reason)) => return Verdict::Misconfigured(reason),
                Err(NoAccess::Unavailable(cause)) => {
                    return Verdict::Unavailable { after: None, doubtful: false, cause };
                }
            };
            match self.post(desk, header.clone(), body.clone()).await {
                Answer::Verdict(verdict) => return verdict,
                Answer::Unauthenticated if stale.is_none() => stale = Some(header),
                Answer::Unauthenticated => {
                    return Verdict::Misconfigured("FCM does not take the tokens that Google gives it".to_owned());
                }
            }
        }
    }

    /// Whether FCM would take messages of the project: asked with a message that is for nobody, and is only looked at.
    pub(crate) async fn check(&self, desk: &Desk) -> Finding {
        let data = BTreeMap::from([("check".to_owned(), "1".to_owned())]);
        let content = PushContent {
            title: None,
            body: None,
            image: None,
            data: &data,
            priority: PushPriority::Normal,
            ttl_s: 0,
            collapse_key: None,
            link: None,
            validate_only: true,
        };
        let message = Message::write(&content, Timestamp::now());
        match self.send(desk, &message, TokenKind::Registration, NOBODY).await {
            // That it is nobody's token is said by who has let the account in.
            Verdict::Sent(_) | Verdict::Gone | Verdict::Foreign | Verdict::Refused(_) => Finding::well(),
            Verdict::Limited(_) => Finding::bad(HealthStatus::Degraded, "FCM takes no more messages for a while"),
            Verdict::Credentials => {
                Finding::bad(HealthStatus::Degraded, "APNs or the web push service refuses what Firebase has")
            }
            Verdict::Unavailable { cause, .. } => Finding::bad(HealthStatus::Down, cause),
            Verdict::Misconfigured(reason) => Finding::bad(HealthStatus::NotConfigured, reason),
        }
    }

    async fn post(&self, desk: &Desk, authorization: HeaderValue, body: String) -> Answer {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json), (AUTHORIZATION, authorization)]);
        let answer = match desk.multiplexed.post(&self.url, headers, body, PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => {
                let (doubtful, cause) = (error.is_doubtful(), error.to_string());
                return Answer::Verdict(Verdict::Unavailable { after: None, doubtful, cause });
            }
        };
        let status = answer.status().as_u16();
        let after = asked_wait(answer.headers(), Timestamp::now());
        match read_body(answer, MOST_READ).await {
            Ok(body) => judge(status, &body, after),
            Err(error) => {
                let cause = error.without_url().to_string();
                Answer::Verdict(Verdict::Unavailable { after, doubtful: true, cause })
            }
        }
    }
}

impl Message {
    /// Writes a message whose life begins at `now`.
    pub(crate) fn write(content: &PushContent<'_>, now: Timestamp) -> Self {
        let validate_only = content.validate_only;
        let message = message(content, now).to_string();
        // An object that is not empty, of which the beginning is put off.
        Self {
            before: format!("{{\"validate_only\":{validate_only},\"message\":{{"),
            after: format!(",{}}}", message.strip_prefix('{').unwrap_or(&message)),
        }
    }

    fn to(&self, kind: TokenKind, token: &str) -> String {
        let name = match kind {
            TokenKind::Registration => "token",
            TokenKind::Installation => "fid",
        };
        format!("{}\"{name}\":{}{}", self.before, Value::from(token), self.after)
    }
}

/// The fields of a message beside whom it goes to.
fn message(content: &PushContent<'_>, now: Timestamp) -> Value {
    let (is_shown, is_urgent) = (content.is_shown(), content.priority >= PushPriority::High);
    let ttl = content.ttl_s;
    let mut android = json!({"priority": if is_urgent { "HIGH" } else { "NORMAL" }, "ttl": format!("{ttl}s")});
    // APNs refuses what shows nothing and is urgent.
    let apns_priority = if is_urgent && is_shown { "10" } else { "5" };
    // 0 has APNs try once.
    let expiration = if ttl == 0 { 0 } else { now.as_second() + i64::from(ttl) };
    let mut apns = json!({
        "headers": {"apns-priority": apns_priority, "apns-expiration": expiration.to_string()},
        "payload": {"aps": if is_shown { json!({"sound": "default"}) } else { json!({"content-available": 1}) }},
    });
    let urgency = match content.priority {
        PushPriority::Low => "low",
        PushPriority::Normal => "normal",
        PushPriority::High | PushPriority::Urgent => "high",
    };
    let mut web = json!({"headers": {"TTL": ttl.to_string(), "Urgency": urgency}});
    if let Some(key) = content.collapse_key {
        android["collapse_key"] = key.into();
        apns["headers"]["apns-collapse-id"] = key.into();
    }
    if let Some(link) = content.link.filter(|link| link.starts_with("https://")) {
        web["fcm_options"] = json!({"link": link});
    }
    let mut message = json!({"android": android, "apns": apns, "webpush": web});
    let shown = [("title", content.title), ("body", content.body), ("image", content.image)];
    if is_shown {
        message["notification"] = shown.iter().filter_map(|(name, text)| Some((*name, (*text)?))).collect();
    }
    let data = content.all_data();
    if !data.is_empty() {
        message["data"] = json!(data);
    }
    message
}

/// How long an answer asks to wait: an hour at most, whatever it says.
fn asked_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?;
    Some(retry_after(asked, now)?.min(LONGEST_WAIT))
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Verdict(Verdict),
    /// The token of OAuth 2 does not open.
    Unauthenticated,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    name: String,
    #[serde(default)]
    error: GoogleError,
}

#[derive(Default, Deserialize)]
struct GoogleError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "@type", default)]
    sort: String,
    #[serde(rename = "errorCode", default)]
    code: String,
    #[serde(rename = "fieldViolations", default)]
    violations: Vec<Violation>,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    field: String,
}

impl GoogleError {
    /// FCM's own word, which says more than the status.
    fn code(&self) -> &str {
        let own = self.details.iter().find(|detail| detail.sort == FCM_ERROR);
        own.map_or("", |detail| detail.code.as_str())
    }

    /// Whether the token is what is wrong. FCM says so in words where it does not name the field.
    fn is_about_the_token(&self) -> bool {
        let mut fields = self.details.iter().flat_map(|detail| &detail.violations);
        fields.any(|violation| matches!(violation.field.as_str(), "message.token" | "message.fid"))
            || self.message.contains("not a valid FCM registration token")
    }

    /// What it says, in one line, for who can set things right.
    fn in_words(&self, status: u16) -> String {
        let text = self.message.chars().map(|c| if c.is_control() { ' ' } else { c });
        format!("{status} {} {}", self.code(), text.take(300).collect::<String>())
    }
}

fn judge(status: u16, body: &[u8], after: Option<Duration>) -> Answer {
    let parsed: Body = serde_json::from_slice(body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Answer::Verdict(Verdict::Sent(parsed.name));
    }
    let error = parsed.error;
    let unavailable = |cause| Verdict::Unavailable { after, doubtful: false, cause };
    let words = error.in_words(status);
    Answer::Verdict(match (error.code(), status) {
        ("UNREGISTERED", _) => Verdict::Gone,
        ("SENDER_ID_MISMATCH", _) => Verdict::Foreign,
        ("INVALID_ARGUMENT", _) | (_, 400) if error.is_about_the_token() => Verdict::Gone,
        ("INVALID_ARGUMENT", _) => Verdict::Refused(words),
        ("QUOTA_EXCEEDED", _) => Verdict::Limited(after),
        ("UNAVAILABLE" | "INTERNAL", _) => unavailable(words),
        ("THIRD_PARTY_AUTH_ERROR", _) => Verdict::Credentials,
        // Without a word of FCM's own.
        (_, 401) => return Answer::Unauthenticated,
        (_, 429) => Verdict::Limited(after),
        (_, 400) => Verdict::Refused(words),
        (_, 403) => Verdict::Misconfigured(format!("the account may not send messages of its project ({words})")),
        (_, 404) => Verdict::Misconfigured(format!("FCM does not know the project ({words})")),
        (_, _) => unavailable(words),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str, field: Option<&str>) -> Verdict {
        let mut details = vec![json!({"@type": FCM_ERROR, "errorCode": code})];
        if code.is_empty() {
            details.clear();
        }
        if let Some(field) = field {
            let violations = json!([{"field": field, "description": "wrong"}]);
            details.push(json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}));
        }
        let body = json!({"error": {"code": status, "message": "m", "status": "S", "details": details}});
        match judge(status, body.to_string().as_bytes(), Some(Duration::from_secs(7))) {
            Answer::Verdict(verdict) => verdict,
            Answer::Unauthenticated => panic!("unauthenticated"),
        }
    }

    #[test]
    fn every_row_of_the_table_means_what_it_says() {
        let after = Some(Duration::from_secs(7));
        assert_eq!(error(400, "INVALID_ARGUMENT", Some("message.token")), Verdict::Gone);
        assert!(matches!(error(400, "INVALID_ARGUMENT", Some("message.data")), Verdict::Refused(_)));
        assert!(matches!(error(400, "INVALID_ARGUMENT", None), Verdict::Refused(_)));
        assert_eq!(error(404, "UNREGISTERED", None), Verdict::Gone);
        assert_eq!(error(403, "SENDER_ID_MISMATCH", None), Verdict::Foreign);
        assert_eq!(error(429, "QUOTA_EXCEEDED", None), Verdict::Limited(after));
        assert_eq!(error(401, "THIRD_PARTY_AUTH_ERROR", None), Verdict::Credentials);
        for (status, code) in [(503, "UNAVAILABLE"), (500, "INTERNAL"), (502, "")] {
            let verdict = error(status, code, None);
            assert!(matches!(verdict, Verdict::Unavailable { after: Some(_), doubtful: false, .. }), "{verdict:?}");
        }
        // FCM's own word counts, not the status.
        assert_eq!(error(400, "UNREGISTERED", None), Verdict::Gone);
        assert!(matches!(error(404, "", None), Verdict::Misconfigured(_)), "the project may be unknown");
        assert!(matches!(error(403, "", None), Verdict::Misconfigured(_)));
        assert_eq!(error(429, "", None), Verdict::Limited(after));
        assert_eq!(judge(401, b"{}", None), Answer::Unauthenticated);
        assert_eq!(judge(200, br#"{"name":"n"}"#, None), Answer::Verdict(Verdict::Sent("n".to_owned())));
        assert!(matches!(judge(502, b"<html>", None), Answer::Verdict(Verdict::Unavailable { .. })));
    }

    #[test]
    fn no_answer_asks_for_more_than_an_hour() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (value, seconds) in [
            ("20", Some(20)),
            ("18446744073709551615", Some(3_600)),
            ("Mon, 02 Jan 9026 03:05:05 GMT", Some(3_600)),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(asked_wait(&headers, now).map(|wait| wait.as_secs()), seconds, "{value}");
        }
        assert_eq!(asked_wait(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_message_is_what_fcm_reads() {
        let data = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let content = PushContent {
            title: Some("Salut"),
            body: None,
            image: None,
            data: &data,
            priority: PushPriority::Urgent,
            ttl_s: 3_600,
            collapse_key: Some("waste_42"),
            link: Some("https://example.org/42"),
            validate_only: true,
        };
        let now = Timestamp::from_second(1_000).unwrap();
        let read = |content: &PushContent<'_>, kind| -> Value {
            serde_json::from_str(&Message::write(content, now).to(kind, "a\"b")).unwrap()
        };
        let expected = json!({"validate_only": true, "message": {
            "token": "a\"b",
            "notification": {"title": "Salut"},
            "data": {"k": "v", "link": "https://example.org/42"},
            "android": {"priority": "HIGH", "ttl": "3600s", "collapse_key": "waste_42"},
            "apns": {
                "headers": {"apns-priority": "10", "apns-expiration": "4600", "apns-collapse-id": "waste_42"},
                "payload": {"aps": {"sound": "default"}},
            },
            "webpush": {
                "headers": {"TTL": "3600", "Urgency": "high"},
                "fcm_options": {"link": "https://example.org/42"},
            },
        }});
        assert_eq!(read(&content, TokenKind::Registration), expected);
        let silent = PushContent { title: None, ..content };
        let silent = read(&silent, TokenKind::Installation);
        assert_eq!(silent["message"]["fid"], "a\"b");
        assert_eq!(silent["message"]["apns"]["payload"]["aps"], json!({"content-available": 1}));
        assert_eq!(silent["message"]["apns"]["headers"]["apns-priority"], "5");
        assert!(silent["message"].get("notification").is_none());
    }
}
