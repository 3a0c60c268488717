//! Addresses that get nothing any more, as everyone reads them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Channel, SuppressionReason, TenantName};

/// The longest mail address, in bytes (RFC 5321, 4.5.3.1.3, without the brackets of a path).
const MAX_MAIL_BYTES: usize = 254;

/// The longest part of it before the `@`, in bytes (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

/// The longest label of a domain, in bytes (RFC 1035, 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// The longest name of an owner of devices, in characters.
const MAX_OWNER_CHARS: usize = 200;

/// An address that gets nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuppressionInfo {
    /// The tenant whose messages it does not get; without one, it gets those of nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The way by which it is reached.
    pub channel: Channel,
    /// The address, as it is compared.
    pub address: String,
    /// Why.
    pub reason: SuppressionReason,
    /// What a person should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Since when.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// The id of who said so; nobody, if it was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl Channel {
    /// An address of this channel as it is compared: numbers in the form of E.164, mail addresses in lower case, owners of
    /// devices as the app calls them. `None` if it is no address.
    pub fn address(self, text: &str) -> Option<String> {
        let text = text.trim();
        match self {
            Self::Sms => is_number(text).then(|| text.to_owned()),
            Self::Mail => is_mail_address(text).then(|| text.to_ascii_lowercase()),
            Self::Push => {
                let is_short = (1..=MAX_OWNER_CHARS).contains(&text.chars().count());
                (is_short && !text.contains(char::is_control)).then(|| text.to_owned())
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|c| c.is_ascii_digit())
}

/// Whether it is an address to which a mail can be sent, in ASCII: a dot-atom, `@` and a domain of at least two labels
/// (RFC 5321, 4.1.2). Quoted names and addresses by number are left out: nobody has such a letter box.
pub fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_atom = |atom: &str| {
        !atom.is_empty() && atom.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&c))
    };
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_MAIL_BYTES
        && local.len() <= MAX_LOCAL_BYTES
        && local.split('.').all(is_atom)
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_one_form() {
        for (channel, text, address) in [
            (Channel::Sms, " +33612345678 ", Some("+33612345678")),
            (Channel::Sms, "0612345678", None),
            (Channel::Sms, "+0612345678", None),
            (Channel::Sms, "+336 12", None),
            (Channel::Mail, "Ada.Lovelace+news@Example.ORG", Some("ada.lovelace+news@example.org")),
            (Channel::Mail, "Ada <ada@example.org>", None),
            (Channel::Push, "user 7", Some("user 7")),
            (Channel::Push, "", None),
            (Channel::Push, "a\nb", None),
        ] {
            assert_eq!(channel.address(text).as_deref(), address, "{text}");
        }
    }

    #[test]
    fn what_is_no_mail_address_is_told_apart() {
        let long = format!("{}@example.org", "a".repeat(65));
        for wrong in [
            "",
            "@",
            "ada",
            "ada@",
            "@example.org",
            "ada@example",
            "ada@exa_mple.org",
            "a b@example.org",
            "ada@-a.org",
            "ada@example.org\r\nBcc: eve@example.org",
            "ada@[127.0.0.1]",
            ".ada@example.org",
            "a..b@example.org",
            "ada@example..org",
            "adá@example.org",
            "\"a b\"@example.org",
            "ada@example.org,eve@example.org",
            &long,
        ] {
            assert!(!is_mail_address(wrong), "{wrong}");
        }
        for right in ["ada@example.org", "o'neil@xn--bcher-kva.example", "a@b.co", "a=b@sub.example.org"] {
            assert!(is_mail_address(right), "{right}");
        }
    }
}
