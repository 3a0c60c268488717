//! `chat.alert`: something that people of a chat or a pager should know.

use std::time::Duration;

use fourmi_model::{Policy, Priority};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Audience, InvalidPayload, JobKind,
    mail_send::{check_account, check_line},
};

/// The longest title, in characters.
const MAX_TITLE_CHARS: usize = 250;

/// The longest text, in characters.
const MAX_TEXT_CHARS: usize = 8_000;

/// The longest address, in characters.
const MAX_LINK_CHARS: usize = 2_000;

/// The longest key, in characters.
const MAX_KEY_CHARS: usize = 200;

/// How long an alert is not repeated if nothing is said, in seconds: an hour.
const WINDOW_S: u32 = 3_600;

/// The longest that it may be: a week.
const MAX_WINDOW_S: u32 = 7 * 86_400;

/// Sends an alert by an account of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatAlert {
    /// The name of the account: a secret of the operator.
    #[serde(default = "chat")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub account: String,
    /// What has happened, in one line.
    #[schemars(length(min = 1, max = 250))]
    pub title: String,
    /// The rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8_000))]
    pub text: Option<String>,
    /// How grave it is.
    #[serde(default)]
    pub severity: Severity,
    /// Where to read more: an address of http or https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2_000))]
    pub link: Option<String>,
    /// What alerts of one cause have in common: while one of them is open, others are counted and not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub dedup_key: Option<String>,
    /// After how many seconds an open alert is sent again if its cause is still there.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 604_800))]
    pub window_s: u32,
    /// Whether the cause is gone: then one message says how long it was there and how often it was told of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolve: bool,
}

/// How grave an alert is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look when they can.
    #[default]
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// The word that stands for it everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

fn chat() -> String {
    "chat".to_owned()
}

const fn window() -> u32 {
    WINDOW_S
}

impl JobKind for ChatAlert {
    const NAME: &'static str = "chat.alert";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends an alert to a chat, to ntfy or to a webhook.";
    const AUDIENCE: Audience = Audience::Everyone;
    type Output = ChatAlerted;

    fn policy() -> Policy {
        Policy { attempts: Some(10), timeout: Duration::from_secs(40), priority: Priority::High, ..Policy::default() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        check_account(&self.account)?;
        check_line("title", &self.title, MAX_TITLE_CHARS)?;
        if self.text.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT_CHARS) {
            return Err(InvalidPayload::new("text", format!("must have {MAX_TEXT_CHARS} characters at most")));
        }
        if let Some(link) = &self.link {
            check_line("link", link, MAX_LINK_CHARS)?;
            let is_web = link.starts_with("https://") || link.starts_with("http://");
            if !is_web || !link.bytes().all(|c| c.is_ascii_graphic() && !b"<>|\"".contains(&c)) {
                return Err(InvalidPayload::new("link", "must be an address of http or https, in ASCII"));
            }
        }
        if let Some(key) = &self.dedup_key {
            check_line("dedup_key", key, MAX_KEY_CHARS)?;
        }
        if self.resolve && self.dedup_key.is_none() {
            return Err(InvalidPayload::new("dedup_key", "is missing: it says which alert is resolved"));
        }
        if !(1..=MAX_WINDOW_S).contains(&self.window_s) {
            return Err(InvalidPayload::new("window_s", format!("must be 1 to {MAX_WINDOW_S} (a week)")));
        }
        Ok(())
    }
}

/// What `chat.alert` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatAlerted {
    /// Whether a message was sent. It is not while an alert of the same key is open, or to resolve one that is not.
    pub sent: bool,
    /// How often the alert was told of since it was opened, this time included; 0 if it has no key or was not open.
    pub times: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue;

    #[test]
    fn an_alert_is_what_it_should_be() {
        let check = |more: Value| {
            let mut payload = json!({"title": "Disk nearly full"});
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            catalogue().get(ChatAlert::NAME).unwrap().check(&payload.to_string()).map(drop)
        };
        for (field, path) in [
            (json!({"title": ""}), "title"),
            (json!({"title": "a\r\nPriority: 1"}), "title"),
            (json!({"text": "x".repeat(8_001)}), "text"),
            (json!({"link": "javascript:alert(1)"}), "link"),
            (json!({"link": "https://example.org/|x"}), "link"),
            (json!({"resolve": true}), "dedup_key"),
            (json!({"dedup_key": ""}), "dedup_key"),
            (json!({"window_s": 0}), "window_s"),
            (json!({"severity": "loud"}), "severity"),
            (json!({"account": "a/b"}), "account"),
        ] {
            assert_eq!(check(field.clone()).unwrap_err().path, path, "{field}");
        }
        let full = json!({"text": "a\nb", "severity": "critical", "link": "https://example.org/", "dedup_key": "disk"});
        assert_eq!((check(json!({})), check(full)), (Ok(()), Ok(())));
    }
}
