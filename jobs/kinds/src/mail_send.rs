//! `mail.send`: a mail to whom the caller names.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::{BlobId, Policy, is_mail_address};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Audience, InvalidPayload, JobKind};

/// The most recipients of a mail, those of copies among them: servers take 100 at least (RFC 5321, 4.5.3.1.8).
const MAX_RECIPIENTS: usize = 100;

/// The longest subject, in characters.
const MAX_SUBJECT_CHARS: usize = 500;

/// The longest name of a person or file, in characters.
const MAX_NAME_CHARS: usize = 200;

/// The most attachments.
const MAX_ATTACHMENTS: usize = 20;

/// The most headers of the caller's own.
const MAX_HEADERS: usize = 20;

/// The longest value of such a header, in characters: a line may have 998 (RFC 5322, 2.1.1).
const MAX_HEADER_CHARS: usize = 900;

/// Headers that a caller may set, beside those that begin with `X-`. What says who wrote, to whom and when is not among them.
const HEADERS: &[&str] = &[
    "auto-submitted",
    "comments",
    "feedback-id",
    "importance",
    "in-reply-to",
    "keywords",
    "list-id",
    "organization",
    "precedence",
    "priority",
    "references",
];

/// Sends a mail by an account of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailSend {
    /// The name of the account: a secret of the operator.
    #[serde(default = "smtp")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub account: String,
    /// Who gets it: `ada@example.org` or `Ada Lovelace <ada@example.org>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Who gets a copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<String>,
    /// Who gets a copy of which the others do not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<String>,
    /// What it is about.
    #[schemars(length(min = 1, max = 500))]
    pub subject: String,
    /// The mail as plain text. It has this, or `html`, or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The mail as HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Who gets answers, if not who sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Files that it carries: 20 MiB in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<MailAttachment>,
    /// Headers of your own: those that begin with `X-`, and some others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whether many get such a mail: then it carries a link by which its one recipient gets no more of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bulk: bool,
}

/// A file that a mail carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailAttachment {
    /// The stored file.
    pub file: BlobId,
    /// What it is called, if not as it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub name: Option<String>,
    /// The name by which the HTML shows it (`<img src="cid:photo">`). It then stands in the mail, not beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub content_id: Option<String>,
}

fn smtp() -> String {
    "smtp".to_owned()
}

impl JobKind for MailSend {
    const NAME: &'static str = "mail.send";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Sends a mail.";
    const AUDIENCE: Audience = Audience::Everyone;
    type Output = MailSent;

    fn policy() -> Policy {
        // The waits between them make a day and a night, as long as a server that is down may be.
        Policy { attempts: Some(14), timeout: Duration::from_secs(15 * 60), ..Policy::default() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        check_account(&self.account)?;
        self.check_recipients()?;
        check_line("subject", &self.subject, MAX_SUBJECT_CHARS)?;
        if let Some(address) = &self.reply_to {
            check_mailbox("reply_to", address)?;
        }
        match (&self.text, &self.html) {
            (None, None) => return Err(InvalidPayload::new("text", "is missing: a mail has a text, or html, or both")),
            (text, html) if [text, html].into_iter().flatten().any(|body| body.contains('\0')) => {
                return Err(InvalidPayload::new("text", "must not hold the character 0"));
            }
            _ => {}
        }
        self.check_attachments()?;
        self.check_headers()
    }
}

impl MailSend {
    /// Everyone who gets it, in order.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        [&self.to, &self.cc, &self.bcc].into_iter().flatten().map(String::as_str)
    }

    fn check_recipients(&self) -> Result<(), InvalidPayload> {
        for (field, list) in [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)] {
            for (place, address) in list.iter().enumerate() {
                check_mailbox(&format!("{field}[{place}]"), address)?;
            }
        }
        match self.recipients().count() {
            0 => Err(InvalidPayload::new("to", "is missing: somebody must get the mail")),
            // The link is for one: another would unsubscribe them.
            count if self.bulk && (count > 1 || self.to.is_empty()) => {
                Err(InvalidPayload::new("bulk", "is for mails with one recipient, in `to`: submit a job for each"))
            }
            count if count > MAX_RECIPIENTS => {
                Err(InvalidPayload::new("to", format!("must have {MAX_RECIPIENTS} at most, with `cc` and `bcc`")))
            }
            _ => Ok(()),
        }
    }

    fn check_attachments(&self) -> Result<(), InvalidPayload> {
        if self.attachments.len() > MAX_ATTACHMENTS {
            return Err(InvalidPayload::new("attachments", format!("must be {MAX_ATTACHMENTS} at most")));
        }
        for (place, attachment) in self.attachments.iter().enumerate() {
            if let Some(name) = &attachment.name {
                check_line(&format!("attachments[{place}].name"), name, MAX_NAME_CHARS)?;
            }
            let Some(id) = &attachment.content_id else { continue };
            let path = format!("attachments[{place}].content_id");
            let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
            if id.is_empty() || id.len() > 64 || !id.bytes().all(is_plain) {
                return Err(InvalidPayload::new(path, "must be 1 to 64 letters, digits, dots, hyphens or underscores"));
            }
            if self.html.is_none() {
                return Err(InvalidPayload::new(path, "means nothing here: the mail has no html that could show it"));
            }
        }
        Ok(())
    }

    fn check_headers(&self) -> Result<(), InvalidPayload> {
        if self.headers.len() > MAX_HEADERS {
            return Err(InvalidPayload::new("headers", format!("must be {MAX_HEADERS} at most")));
        }
        for (name, value) in &self.headers {
            let path = format!("headers.{name}");
            let lower = name.to_ascii_lowercase();
            let is_plain = lower.len() <= 64 && lower.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
            let is_own = lower.strip_prefix("x-").is_some_and(|rest| !rest.is_empty());
            if !is_plain || !(is_own || HEADERS.contains(&&*lower)) {
                let known = HEADERS.join(", ");
                return Err(InvalidPayload::new(
                    path,
                    format!("cannot be set; those can that begin with X-, and {known}"),
                ));
            }
            check_line(&path, value, MAX_HEADER_CHARS)?;
        }
        Ok(())
    }
}

/// Names of accounts are names of files in a folder of the operator's.
pub(crate) fn check_account(name: &str) -> Result<(), InvalidPayload> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(InvalidPayload::new("account", "must be 1 to 64 letters, digits, hyphens or underscores"))
}

/// What stands in one line of a head. A line break in it would begin another header.
pub(crate) fn check_line(path: &str, text: &str, most: usize) -> Result<(), InvalidPayload> {
    let chars = text.chars().count();
    if chars == 0 || chars > most {
        return Err(InvalidPayload::new(path, format!("must have 1 to {most} characters")));
    }
    if text.contains(char::is_control) {
        return Err(InvalidPayload::new(path, "must be one line without control characters"));
    }
    Ok(())
}

fn check_mailbox(path: &str, text: &str) -> Result<(), InvalidPayload> {
    check_line(path, text, MAX_NAME_CHARS + 300)?;
    let (name, address) = mailbox(text);
    if !is_mail_address(address) {
        let message = "must be an address such as ada@example.org or Ada Lovelace <ada@example.org>";
        return Err(InvalidPayload::new(path, message));
    }
    match name {
        Some(name) => check_line(path, name, MAX_NAME_CHARS),
        None => Ok(()),
    }
}

/// The name and the address of `Ada Lovelace <ada@example.org>` or `ada@example.org`, neither checked.
fn mailbox(text: &str) -> (Option<&str>, &str) {
    match text.trim().strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, address)) => {
            let name = name.trim();
            let bare = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
            (Some(bare).filter(|name| !name.is_empty()), address.trim())
        }
        None => (None, text.trim()),
    }
}

impl MailSend {
    /// The name and the address of a recipient.
    pub fn name_and_address(recipient: &str) -> (Option<&str>, &str) {
        mailbox(recipient)
    }
}

/// What `mail.send` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailSent {
    /// The id of the mail (`Message-ID`): the same for every attempt.
    pub message_id: String,
    /// The addresses for which the server has taken it.
    pub accepted: Vec<String>,
    /// The addresses that get nothing any more, and so did not get this.
    pub suppressed: Vec<String>,
    /// The addresses that the server has refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<MailRefusal>,
}

/// An address that a server has refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailRefusal {
    /// The address.
    pub address: String,
    /// What the server said.
    pub reply: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue;

    fn check(more: Value) -> Result<(), InvalidPayload> {
        let mut payload = json!({"to": ["ada@example.org"], "subject": "Hello", "text": "Hello"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        catalogue().get(MailSend::NAME).unwrap().check(&payload.to_string()).map(drop)
    }

    #[test]
    fn what_would_begin_another_header_is_refused() {
        let evil = "x\r\nBcc: eve@example.org";
        for (field, path) in [
            (json!({"subject": evil}), "subject"),
            (json!({"to": [evil]}), "to[0]"),
            (json!({"to": [format!("{evil} <ada@example.org>")]}), "to[0]"),
            (json!({"cc": ["ada@example.org\n"]}), "cc[0]"),
            (json!({"reply_to": evil}), "reply_to"),
            (json!({"headers": {"X-A": evil}}), "headers.X-A"),
            (json!({"headers": {"X-A: b\r\nBcc": "eve@example.org"}}), "headers.X-A: b\r\nBcc"),
            (json!({"headers": {"Bcc": "eve@example.org"}}), "headers.Bcc"),
            (json!({"headers": {"From": "eve@example.org"}}), "headers.From"),
            (json!({"headers": {"X-": "a"}}), "headers.X-"),
            (json!({"account": "../secret-key"}), "account"),
        ] {
            assert_eq!(check(field.clone()).unwrap_err().path, path, "{field}");
        }
    }

    #[test]
    fn a_mail_has_somebody_to_read_it_and_something_to_read() {
        let many: Vec<_> = (0..101).map(|n| format!("a{n}@example.org")).collect();
        for (field, path) in [
            (json!({"to": []}), "to"),
            (json!({"bcc": many}), "to"),
            (json!({"text": null}), "text"),
            (json!({"bulk": true, "cc": ["bob@example.org"]}), "bulk"),
            (json!({"bulk": true, "to": [], "bcc": ["bob@example.org"]}), "bulk"),
            (json!({"attachments": [{"file": BlobId::random(), "content_id": "a"}]}), "attachments[0].content_id"),
            (json!({"attachments": [{"file": BlobId::random(), "name": ""}]}), "attachments[0].name"),
        ] {
            assert_eq!(check(field.clone()).unwrap_err().path, path, "{field}");
        }
        for right in [
            json!({}),
            json!({"text": null, "html": "<p>Hello"}),
            json!({"to": [], "bcc": ["Ada, Countess <ada@example.org>"]}),
            json!({"headers": {"X-Ref": "7", "In-Reply-To": "<a@example.org>", "List-ID": "news"}, "bulk": true}),
        ] {
            assert_eq!(check(right.clone()), Ok(()), "{right}");
        }
    }

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (text, expected) in [
            ("ada@example.org", (None, "ada@example.org")),
            (" <ada@example.org>", (None, "ada@example.org")),
            ("Ada Lovelace <ada@example.org>", (Some("Ada Lovelace"), "ada@example.org")),
            ("\"Lovelace, Ada\" <ada@example.org> ", (Some("Lovelace, Ada"), "ada@example.org")),
        ] {
            assert_eq!(mailbox(text), expected);
        }
    }
}
