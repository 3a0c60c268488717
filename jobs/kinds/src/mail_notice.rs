//! `mail.notice`: a mail of the platform itself.

use std::time::Duration;

use fourmi_model::{Policy, Priority, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Audience, InvalidPayload, JobKind};

/// Sends a mail of the platform to one of its people. It names what to say and to whom by ids alone: addresses and names
/// are looked up when it is sent, and stand in no payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailNotice {
    /// Who gets it.
    pub to: UserId,
    /// What it says.
    pub notice: Notice,
    /// The id of the one-time token whose link it carries, if its notice has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^token-[0-9a-f]{32}$"))]
    pub token: Option<String>,
    /// Where it goes, if not to where they read their mail now: sealed, so that nobody reads it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_address: Option<String>,
}

/// What the platform says to its people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Here is the link that confirms the e-mail address.
    ConfirmEmail,
    /// Here is the link by which a new password is chosen.
    ResetPassword,
    /// Somebody has made an account for them; here is the link by which they take it.
    Invitation,
    /// Somebody has tried to register with their address, which has an account already.
    AlreadyRegistered,
    /// The password was changed.
    PasswordChanged,
    /// The e-mail address was changed.
    EmailChanged,
    /// The second factor was switched on or off.
    SecondFactorChanged,
    /// They were logged out everywhere.
    SessionsEnded,
    /// A webhook of theirs was disabled: its address wants no messages any more, or has taken none for days.
    WebhookDisabled,
}

impl Notice {
    /// Whether its mail carries a link, and so needs a token.
    pub const fn has_link(self) -> bool {
        matches!(self, Self::ConfirmEmail | Self::ResetPassword | Self::Invitation)
    }
}

impl MailNotice {
    /// What the address of a mail to a person is sealed for.
    pub fn seal_context(user: &UserId) -> String {
        format!("notice {user}")
    }
}

impl JobKind for MailNotice {
    const NAME: &'static str = "mail.notice";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends a mail of the platform to one of its people.";
    const AUDIENCE: Audience = Audience::Platform;
    type Output = MailNoticed;

    fn policy() -> Policy {
        Policy { attempts: Some(12), timeout: Duration::from_secs(60), priority: Priority::High, ..Policy::default() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        let mistake = match &self.token {
            None if self.notice.has_link() => "is missing: the mail carries a link",
            Some(_) if !self.notice.has_link() => "means nothing here: the mail carries no link",
            Some(token) if !is_token(token) => "must be 'token-' and 32 lower-case hexadecimal digits",
            _ => return Ok(()),
        };
        Err(InvalidPayload::new("token", mistake))
    }
}

fn is_token(text: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.strip_prefix("token-").is_some_and(|digits| digits.len() == 32 && digits.bytes().all(is_digit))
}

/// What `mail.notice` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailNoticed {
    /// The id under which the mail was handed over (`Message-ID`).
    pub message_id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue;

    #[test]
    fn a_mail_carries_the_token_of_its_link_and_no_other() {
        let token = format!("token-{}", "0a".repeat(16));
        let payload = |notice: &str, token: Option<&str>| {
            let mut payload = json!({"to": "user-0198c0de000070008000000000000001", "notice": notice});
            if let Some(token) = token {
                payload["token"] = json!(token);
            }
            catalogue().get(MailNotice::NAME).unwrap().check(&payload.to_string())
        };
        for notice in ["confirm_email", "reset_password", "invitation"] {
            assert!(payload(notice, Some(&token)).is_ok(), "{notice}");
            for wrong in [None, Some(""), Some("token-0A"), Some(&token[..37]), Some(&token.to_uppercase())] {
                assert_eq!(payload(notice, wrong).unwrap_err().path, "token", "{notice} {wrong:?}");
            }
        }
        for notice in [
            "already_registered",
            "password_changed",
            "email_changed",
            "second_factor_changed",
            "sessions_ended",
            "webhook_disabled",
        ] {
            assert!(payload(notice, None).is_ok(), "{notice}");
            assert_eq!(payload(notice, Some(&token)).unwrap_err().path, "token", "{notice}");
        }
    }

    #[test]
    fn the_platform_alone_sends_its_mails_and_messages() {
        let internal: Vec<_> = catalogue()
            .iter()
            .filter(|kind| kind.audience == Audience::Platform)
            .map(|kind| kind.name.as_str())
            .collect();
        assert_eq!(internal, [MailNotice::NAME, crate::WebhookDeliver::NAME]);
    }
}
