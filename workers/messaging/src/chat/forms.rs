//! How alerts are written: for Slack and its like, for ntfy, and as plain JSON.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use fourmi_kinds::{ChatAlert, Severity};
use jiff::{SignedDuration, Timestamp};
use reqwest::{
    Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::json;

use super::ChatAccount;

/// The longest body that ntfy takes for a message, in bytes; a longer one becomes an attachment.
const NTFY_BYTES: usize = 4_096;

/// How an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no key, and so no story.
    Single,
    /// Its cause is there.
    Open { since: Timestamp, times: u64 },
    /// Its cause is gone.
    Resolved { since: Timestamp, until: Timestamp, times: u64 },
}

/// What is posted.
pub(super) struct Message {
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// An alert in the form of an account.
///
/// # Errors
/// What is wrong with the account, without what stands there.
pub(super) fn message(account: &ChatAccount, job: &ChatAlert, standing: &Standing) -> Result<Message, &'static str> {
    match account {
        ChatAccount::Slack { url } => Ok(json(url, &slack(job, standing))),
        ChatAccount::Webhook { url } => Ok(json(url, &plain(job, standing))),
        ChatAccount::Ntfy { url, topic, token } => ntfy((url, topic, token.as_deref()), job, standing),
    }
}

fn json(url: &str, body: &serde_json::Value) -> Message {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    Message { url: url.to_owned(), headers, body: body.to_string() }
}

/// The text and the story of an alert, each of which may be empty.
fn body(job: &ChatAlert, standing: &Standing) -> String {
    let parts = [job.text.clone(), story(standing)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn title(job: &ChatAlert, standing: &Standing) -> String {
    match standing {
        Standing::Resolved { .. } => format!("Resolved: {}", job.title),
        Standing::Single | Standing::Open { .. } => job.title.clone(),
    }
}

fn story(standing: &Standing) -> Option<String> {
    match *standing {
        Standing::Resolved { since, until, times } => {
            Some(format!("It was open for {}, and told of {}.", lasting(until.duration_since(since)), often(times)))
        }
        Standing::Open { since, times } if times > 1 => {
            Some(format!("Open since {since:.0}, told of {}.", often(times)))
        }
        Standing::Single | Standing::Open { .. } => None,
    }
}

fn often(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

/// A length of time in two units at most.
fn lasting(duration: SignedDuration) -> String {
    let seconds = Duration::try_from(duration).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// An incoming webhook: `text` is all that some show, the attachment what others make of it.
fn slack(job: &ChatAlert, standing: &Standing) -> serde_json::Value {
    let colour = match (standing, job.severity) {
        (Standing::Resolved { .. }, _) => "#2eb67d",
        (_, Severity::Info) => "#36a2eb",
        (_, Severity::Warning) => "#ecb22e",
        (_, Severity::Critical) => "#e01e5a",
    };
    let title = escaped(&title(job, standing));
    let mut attachment = json!({"color": colour, "fallback": title, "text": escaped(&body(job, standing))});
    if let Some(link) = &job.link {
        attachment["title"] = json!("More");
        attachment["title_link"] = json!(link);
    }
    json!({"text": format!("*{title}*"), "attachments": [attachment]})
}

/// The three characters that mean something to Slack: no text of an alert calls a whole channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn plain(job: &ChatAlert, standing: &Standing) -> serde_json::Value {
    let (state, since, times) = match *standing {
        Standing::Single => ("single", None, None),
        Standing::Open { since, times } => ("open", Some(since), Some(times)),
        Standing::Resolved { since, times, .. } => ("resolved", Some(since), Some(times)),
    };
    json!({
        "title": job.title,
        "text": job.text,
        "severity": job.severity,
        "link": job.link,
        "dedup_key": job.dedup_key,
        "state": state,
        "since": since,
        "times": times,
    })
}

/// A message of ntfy (<https://docs.ntfy.sh/publish/>): its text is the body, the rest stands in headers.
fn ntfy(
    (url, topic, token): (&str, &str, Option<&str>),
    job: &ChatAlert,
    standing: &Standing,
) -> Result<Message, &'static str> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if topic.is_empty() || topic.len() > 64 || !topic.bytes().all(is_plain) {
        return Err("topic must be 1 to 64 letters, digits, hyphens or underscores");
    }
    Url::parse(url).map_err(|_| "url is no address")?;
    let (priority, tag) = match (standing, job.severity) {
        (Standing::Resolved { .. }, _) => ("3", "white_check_mark"),
        (_, Severity::Info) => ("2", "information_source"),
        (_, Severity::Warning) => ("4", "warning"),
        (_, Severity::Critical) => ("5", "rotating_light"),
    };
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("title", &header_text(&title(job, standing)));
    put("priority", priority);
    put("tags", tag);
    if let Some(link) = &job.link {
        put("click", link);
    }
    if let Some(token) = token {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "token cannot stand in a header")?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let body = match body(job, standing) {
        // An empty message would be shown as "triggered".
        body if body.is_empty() => job.title.clone(),
        body => cut(body),
    };
    Ok(Message { url: format!("{}/{topic}", url.trim_end_matches('/')), headers, body })
}

/// A text as it may stand in a header: what is not ASCII as an encoded word (RFC 2047), which ntfy reads.
fn header_text(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_owned(),
        false => format!("=?UTF-8?B?{}?=", BASE64_STANDARD.encode(text)),
    }
}

/// As much of a text as ntfy takes.
fn cut(mut text: String) -> String {
    const MARK: &str = "…";
    if text.len() > NTFY_BYTES {
        let end = (0..=NTFY_BYTES - MARK.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(more: serde_json::Value) -> ChatAlert {
        let mut alert = json!({"title": "Disk <full>"});
        alert.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(alert).unwrap()
    }

    fn resolved() -> Standing {
        let since: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        Standing::Resolved { since, until: since + SignedDuration::from_secs(3_600 + 125), times: 3 }
    }

    #[test]
    fn slack_is_told_nothing_that_it_obeys() {
        let account = ChatAccount::Slack { url: "https://hooks.example.org/x".to_owned() };
        let job = alert(json!({"text": "<!channel> & more", "link": "https://example.org/d"}));
        let body = message(&account, &job, &Standing::Single).unwrap().body;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["text"], "*Disk &lt;full&gt;*");
        assert_eq!(body["attachments"][0]["text"], "&lt;!channel&gt; &amp; more");
        assert_eq!(body["attachments"][0]["title_link"], "https://example.org/d");
        let gone = message(&account, &alert(json!({})), &resolved()).unwrap().body;
        assert!(gone.contains("Resolved: Disk") && gone.contains("open for 1 h 2 min, and told of 3 times"), "{gone}");
    }

    #[test]
    fn ntfy_takes_what_fits() {
        let account = |topic: &str| ChatAccount::Ntfy {
            url: "https://ntfy.example.org/".to_owned(),
            topic: topic.to_owned(),
            token: Some("tk_x".to_owned()),
        };
        let job = alert(json!({"title": "Mémoire", "text": "é".repeat(4_000), "severity": "critical"}));
        let Message { url, headers, body } = message(&account("ops"), &job, &Standing::Single).unwrap();
        assert_eq!(url, "https://ntfy.example.org/ops");
        assert_eq!(headers["title"], format!("=?UTF-8?B?{}?=", BASE64_STANDARD.encode("Mémoire")));
        assert_eq!(
            (&headers["priority"], &headers["authorization"]),
            (&"5".parse().unwrap(), &"Bearer tk_x".parse().unwrap())
        );
        assert!(body.len() <= NTFY_BYTES && body.len() > NTFY_BYTES - 4 && body.ends_with("é…"), "{}", body.len());
        assert_eq!(message(&account("ops"), &alert(json!({})), &Standing::Single).unwrap().body, "Disk <full>");
        assert!(message(&account("a/b"), &job, &Standing::Single).is_err());
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h")] {
            assert_eq!(lasting(SignedDuration::from_secs(seconds)), text);
        }
    }
}
