//! `push.send` and `push.fanout`: notifications to devices, by Firebase Cloud Messaging.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::{DeviceId, DevicePlatform, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Audience, InvalidPayload, JobKind};

/// The account if none is named.
const ACCOUNT: &str = "fcm";

/// The most bytes of a message that FCM takes.
const MAX_BYTES: usize = 4_096;

/// The longest that FCM keeps a message, in seconds: four weeks.
const MAX_TTL_S: u32 = 2_419_200;

/// How long it does, if nothing is said.
const TTL_S: u32 = MAX_TTL_S;

/// The longest collapse key, in bytes: that of APNs.
const MAX_COLLAPSE_KEY: usize = 64;

/// The longest address, in characters.
const MAX_URL_CHARS: usize = 2_048;

/// The longest owner, in characters.
const MAX_OWNER_CHARS: usize = 200;

/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;

/// The most owners of one broadcast.
const MAX_OWNERS: usize = 1_000;

/// Attempts of `push.send`: its waits of 10 s, 20 s, … end within the hour after which FCM asks to give up.
const ATTEMPTS: u32 = 9;

/// Sends a notification to a device, or to all devices of somebody. Each is sent to once: what failed for some of them is
/// tried again for these alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushSend {
    /// The name of the account with FCM, a secret of the operator.
    #[serde(default = "account", skip_serializing_if = "is_account")]
    pub account: String,
    /// Who gets it.
    pub to: PushTarget,
    /// What stands first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What stands below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The address (https) of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub image: Option<String>,
    /// What the app gets beside it. With neither title nor body, nothing is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// How urgent it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: PushPriority,
    /// How long FCM tries to deliver it to a device that is off, in seconds; four weeks if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_419_200))]
    pub ttl_s: Option<u32>,
    /// A newer message of the same key replaces one that was not delivered or read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub collapse_key: Option<String>,
    /// The address that it leads to; apps find it in their data as `link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub link: Option<String>,
    /// Whether FCM is only asked whether it would take the message.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validate_only: bool,
}

/// Sends a notification to many devices, page by page. Whatever happens to its run, the next one goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushFanout {
    /// The name of the account with FCM, a secret of the operator.
    #[serde(default = "account", skip_serializing_if = "is_account")]
    pub account: String,
    /// Who gets it.
    pub audience: PushAudience,
    /// What stands first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What stands below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The address (https) of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub image: Option<String>,
    /// What the app gets beside it. With neither title nor body, nothing is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// How urgent it is. Below `high`, it is not sent in the two minutes around every quarter of an hour, when everybody
    /// sends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: PushPriority,
    /// How long FCM tries to deliver it to a device that is off, in seconds; four weeks if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_419_200))]
    pub ttl_s: Option<u32>,
    /// A newer message of the same key replaces one that was not delivered or read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub collapse_key: Option<String>,
    /// The address that it leads to; apps find it in their data as `link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub link: Option<String>,
    /// Whether FCM is only asked whether it would take the messages.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validate_only: bool,
}

/// Who gets a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PushTarget {
    /// A device that is registered.
    Device(DeviceId),
    /// All devices of somebody, as the app calls them.
    Owner(#[schemars(length(min = 1, max = 200))] String),
    /// A registration token of FCM; the device need not be registered.
    Token(#[schemars(length(min = 1, max = 1024))] String),
    /// A Firebase installation id; the device need not be registered.
    Installation(#[schemars(length(min = 1, max = 1024))] String),
}

/// Who gets a broadcast: devices of the tenant that the job belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PushAudience {
    /// All devices.
    All,
    /// All of a platform.
    Platform(DevicePlatform),
    /// Those of these people.
    Owners(#[schemars(length(min = 1, max = 1000))] Vec<String>),
}

/// How urgent a notification is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PushPriority {
    /// It may wait until the device is in use.
    Low,
    /// It may wait a little to spare the battery.
    #[default]
    Normal,
    /// At once.
    High,
    /// At once, whatever else waits.
    Urgent,
}

/// What `push.send` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushSent {
    /// What became of each device.
    pub devices: Vec<PushOutcome>,
}

/// What became of a message to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushOutcome {
    /// The device; none if it was named by its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// What it was.
    pub state: PushState,
    /// The name that FCM has given the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it was not sent, as a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a message to a device became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PushState {
    /// FCM has taken it.
    Sent,
    /// The device is no more, and was deleted.
    Invalid,
    /// FCM does not take it.
    Failed,
}

/// What `push.fanout` gives. `targeted` is the sum of `sent`, `failed`, `invalid` and `skipped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushFannedOut {
    /// Devices that it was for.
    pub targeted: u64,
    /// Messages that FCM has taken.
    pub sent: u64,
    /// Devices that got nothing, though nothing is known against them.
    pub failed: u64,
    /// Devices that are no more, and were deleted.
    pub invalid: u64,
    /// Devices that were left out: their owners want nothing, or they were deleted meanwhile.
    pub skipped: u64,
    /// Devices that may have got it twice, at most: what was on its way when a run died.
    pub repeated: u64,
}

/// What a notification says, whoever gets it.
#[derive(Debug, Clone, Copy)]
pub struct PushContent<'a> {
    /// What stands first.
    pub title: Option<&'a str>,
    /// What stands below.
    pub body: Option<&'a str>,
    /// The address of a picture.
    pub image: Option<&'a str>,
    /// What the app gets beside it.
    pub data: &'a BTreeMap<String, String>,
    /// How urgent it is.
    pub priority: PushPriority,
    /// How long FCM tries to deliver it, in seconds.
    pub ttl_s: u32,
    /// Which messages it replaces.
    pub collapse_key: Option<&'a str>,
    /// The address that it leads to.
    pub link: Option<&'a str>,
    /// Whether FCM is only asked whether it would take it.
    pub validate_only: bool,
}

macro_rules! content {
    ($kind:ty) => {
        impl $kind {
            /// What it says.
            pub fn content(&self) -> PushContent<'_> {
                PushContent {
                    title: self.title.as_deref(),
                    body: self.body.as_deref(),
                    image: self.image.as_deref(),
                    data: &self.data,
                    priority: self.priority,
                    ttl_s: self.ttl_s.unwrap_or(TTL_S),
                    collapse_key: self.collapse_key.as_deref(),
                    link: self.link.as_deref(),
                    validate_only: self.validate_only,
                }
            }
        }
    };
}

content!(PushSend);
content!(PushFanout);

impl PushContent<'_> {
    /// Whether a person sees something.
    pub fn is_shown(&self) -> bool {
        self.title.is_some() || self.body.is_some()
    }

    /// What the app gets: the data, and the link.
    pub fn all_data(&self) -> BTreeMap<&str, &str> {
        let link = self.link.map(|link| ("link", link));
        link.into_iter().chain(self.data.iter().map(|(key, value)| (key.as_str(), value.as_str()))).collect()
    }

    fn check(&self) -> Result<(), InvalidPayload> {
        if !self.is_shown() && self.data.is_empty() {
            return Err(InvalidPayload::new("", "needs a title, a body or data"));
        }
        if !self.is_shown() && self.image.is_some() {
            return Err(InvalidPayload::new("image", "is shown with a title or a body alone"));
        }
        self.check_addresses()?;
        self.check_data()?;
        if self.ttl_s > MAX_TTL_S {
            return Err(InvalidPayload::new("ttl_s", format!("must be {MAX_TTL_S} at most (four weeks)")));
        }
        if self.collapse_key.is_some_and(|key| key.is_empty() || key.len() > MAX_COLLAPSE_KEY) {
            return Err(InvalidPayload::new("collapse_key", format!("must have 1 to {MAX_COLLAPSE_KEY} bytes")));
        }
        let bytes = self.bytes();
        if bytes > MAX_BYTES {
            let message = format!("has {bytes} bytes with its data; FCM takes {MAX_BYTES} at most (payload_too_large)");
            return Err(InvalidPayload::new("", message));
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), InvalidPayload> {
        let url = |text: &str| Url::parse(text).ok().filter(|_| text.chars().count() <= MAX_URL_CHARS);
        if self.image.is_some_and(|text| url(text).is_none_or(|url| url.scheme() != "https")) {
            return Err(InvalidPayload::new("image", "must be an https URL of 2048 characters at most"));
        }
        if self.link.is_some_and(|text| url(text).is_none()) {
            return Err(InvalidPayload::new("link", "must be a URL of 2048 characters at most"));
        }
        Ok(())
    }

    /// FCM keeps some names for itself.
    fn check_data(&self) -> Result<(), InvalidPayload> {
        let is_reserved = |key: &str| {
            key.is_empty()
                || matches!(key, "from" | "message_type" | "collapse_key")
                || key.starts_with("google.")
                || key.starts_with("gcm.")
        };
        match self.data.keys().find(|key| is_reserved(key)) {
            Some(key) => Err(InvalidPayload::new(format!("data.{key}"), "is a name that FCM keeps for itself")),
            None => Ok(()),
        }
    }

    /// What FCM counts: what is shown and what the app gets.
    fn bytes(&self) -> usize {
        let shown = [self.title, self.body, self.image].into_iter().flatten().map(str::len).sum::<usize>();
        shown + self.all_data().iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
    }
}

impl JobKind for PushSend {
    const NAME: &'static str = "push.send";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends a push notification to a device, or to all devices of somebody.";
    type Output = PushSent;

    fn policy() -> Policy {
        Policy { attempts: Some(ATTEMPTS), timeout: Duration::from_secs(120), ..Policy::default() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        check_account(&self.account)?;
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        match &self.to {
            PushTarget::Device(_) => {}
            PushTarget::Owner(owner) => check_owner("to.owner", owner)?,
            PushTarget::Token(token) | PushTarget::Installation(token)
                if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !visible(token) =>
            {
                return Err(InvalidPayload::new("to", format!("must be 1 to {MAX_TOKEN_BYTES} visible characters")));
            }
            PushTarget::Token(_) | PushTarget::Installation(_) => {}
        }
        self.content().check()
    }
}

impl JobKind for PushFanout {
    const NAME: &'static str = "push.fanout";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends a push notification to many devices.";
    const AUDIENCE: Audience = Audience::Staff;
    type Output = PushFannedOut;

    fn policy() -> Policy {
        Policy {
            timeout: Duration::from_secs(24 * 3600),
            // What is on its way when it is asked to stop is waited for, so that nobody gets it twice.
            stop_grace: Duration::from_secs(25),
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        check_account(&self.account)?;
        if let PushAudience::Owners(owners) = &self.audience {
            if owners.is_empty() || owners.len() > MAX_OWNERS {
                return Err(InvalidPayload::new("audience.owners", format!("must be 1 to {MAX_OWNERS}")));
            }
            for (place, owner) in owners.iter().enumerate() {
                check_owner(format!("audience.owners[{place}]"), owner)?;
            }
        }
        self.content().check()
    }
}

fn check_account(name: &str) -> Result<(), InvalidPayload> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(InvalidPayload::new("account", "must be 1 to 64 letters, digits, '_' and '-'")),
    }
}

fn check_owner(path: impl Into<String>, owner: &str) -> Result<(), InvalidPayload> {
    match (1..=MAX_OWNER_CHARS).contains(&owner.chars().count()) {
        true => Ok(()),
        false => Err(InvalidPayload::new(path, format!("must have 1 to {MAX_OWNER_CHARS} characters"))),
    }
}

fn account() -> String {
    ACCOUNT.to_owned()
}

fn is_account(name: &str) -> bool {
    name == ACCOUNT
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use crate::catalogue;

    fn mistake(payload: &serde_json::Value) -> String {
        catalogue().get("push.send").unwrap().check(&payload.to_string()).unwrap_err().path
    }

    #[test]
    fn what_fcm_would_refuse_is_refused_at_once() {
        let with = |more: serde_json::Value| {
            let mut payload = serde_json::json!({"to": {"owner": "anna"}, "title": "Hello"});
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            payload
        };
        let check = |payload: &serde_json::Value| catalogue().get("push.send").unwrap().check(&payload.to_string());
        assert!(check(&with(serde_json::json!({}))).is_ok());
        assert!(check(&serde_json::json!({"to": {"token": "t"}, "data": {"a": "b"}})).is_ok());
        for (more, path) in [
            (serde_json::json!({"data": {"a": 1}}), "data.a"),
            (serde_json::json!({"data": {"google.x": "1"}}), "data.google.x"),
            (serde_json::json!({"image": "http://example.org/a.png"}), "image"),
            (serde_json::json!({"link": "nowhere"}), "link"),
            (serde_json::json!({"ttl_s": 2_419_201}), "ttl_s"),
            (serde_json::json!({"collapse_key": ""}), "collapse_key"),
            (serde_json::json!({"to": {"token": "with blank"}}), "to"),
            (serde_json::json!({"to": {"owner": ""}}), "to.owner"),
            (serde_json::json!({"account": "../key"}), "account"),
            (serde_json::json!({"priority": "yesterday"}), "priority"),
        ] {
            assert_eq!(mistake(&with(more)), path);
        }
        assert_eq!(mistake(&serde_json::json!({"to": {"owner": "anna"}})), "");
    }

    #[test]
    fn a_message_has_4096_bytes_at_most() {
        let of = |bytes: usize| {
            let body = "é".repeat(bytes / 2) + if bytes % 2 == 1 { "x" } else { "" };
            serde_json::json!({"audience": "all", "body": body, "data": {"key": "value"}}).to_string()
        };
        let kind = catalogue().get("push.fanout").unwrap();
        assert!(kind.check(&of(4_088)).is_ok());
        let refused = kind.check(&of(4_089)).unwrap_err();
        assert!(refused.message.contains("payload_too_large"), "{refused}");
    }
}
