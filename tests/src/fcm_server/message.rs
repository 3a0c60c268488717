//! What FCM reads of a message, field by field: it refuses what it does not know.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    #[serde(default)]
    validate_only: bool,
    message: Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    token: Option<String>,
    fid: Option<String>,
    topic: Option<String>,
    condition: Option<String>,
    notification: Option<Notification>,
    #[serde(default)]
    data: BTreeMap<String, String>,
    android: Option<Android>,
    apns: Option<Apns>,
    webpush: Option<Web>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notification {
    title: Option<String>,
    body: Option<String>,
    image: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Android {
    priority: String,
    ttl: String,
    collapse_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apns {
    headers: BTreeMap<String, String>,
    payload: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Web {
    headers: BTreeMap<String, String>,
    fcm_options: Option<Link>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    link: String,
}

/// Whom a message is for, and whether it is only to be looked at; or the field that is wrong.
pub(super) fn check(body: &[u8]) -> Result<(String, bool), String> {
    let sent: Sent = serde_json::from_slice(body).map_err(|error| format!("message ({error})"))?;
    let message = sent.message;
    let mut targets = [message.token, message.fid, message.topic, message.condition].into_iter().flatten();
    let (Some(target), None) = (targets.next(), targets.next()) else { return Err("message".to_owned()) };
    let mut bytes: usize = message.data.iter().map(|(key, value)| key.len() + value.len()).sum();
    if let Some(Notification { title, body, image }) = message.notification {
        bytes += [title, body, image].into_iter().flatten().map(|text| text.len()).sum::<usize>();
    }
    if bytes > 4_096 {
        return Err("message.data".to_owned());
    }
    if message.android.is_some_and(|android| !android.is_right()) {
        return Err("message.android".to_owned());
    }
    if message.apns.is_some_and(|apns| !apns.is_right()) {
        return Err("message.apns".to_owned());
    }
    if message.webpush.is_some_and(|web| !web.is_right()) {
        return Err("message.webpush".to_owned());
    }
    Ok((target, sent.validate_only))
}

impl Android {
    fn is_right(&self) -> bool {
        let ttl = self.ttl.strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok());
        matches!(self.priority.as_str(), "HIGH" | "NORMAL")
            && ttl.is_some_and(|seconds| seconds <= 2_419_200)
            && self.collapse_key.as_ref().is_none_or(|key| !key.is_empty())
    }
}

impl Apns {
    fn is_right(&self) -> bool {
        let known = ["apns-priority", "apns-expiration", "apns-collapse-id"];
        self.headers.keys().all(|name| known.contains(&name.as_str()))
            && self.headers.get("apns-priority").is_some_and(|text| matches!(text.as_str(), "5" | "10"))
            && self.headers.get("apns-expiration").is_some_and(|text| is_to_come(text))
            && self.payload["aps"].is_object()
    }
}

/// Whether a message is of use still: APNs drops what has expired, but 0 has it try once.
fn is_to_come(expiration: &str) -> bool {
    expiration.parse::<i64>().is_ok_and(|second| second == 0 || second >= Timestamp::now().as_second())
}

impl Web {
    fn is_right(&self) -> bool {
        let urgency = self.headers.get("Urgency").map(String::as_str);
        matches!(urgency, Some("very-low" | "low" | "normal" | "high"))
            && self.headers.get("TTL").is_some_and(|text| text.parse::<u32>().is_ok())
            && self.fcm_options.as_ref().is_none_or(|options| options.link.starts_with("https://"))
    }
}
