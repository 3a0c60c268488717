//! Devices that take push notifications.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::{
    DevicePlatform, TenantName, TokenKind,
    id::{InvalidName, text_name},
};

/// The id of a device: `device-` and a UUIDv7 without hyphens, so that ids sort by time of registration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    const RULE: &str = "'device-' and 32 lower-case hexadecimal digits";

    /// A new id.
    pub fn random() -> Self {
        Self(format!("device-{}", Uuid::now_v7().simple()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.strip_prefix("device-") {
            Some(digits) if digits.len() == 32 && digits.bytes().all(is_digit) => Ok(Self(text.into())),
            _ => Err(InvalidName::new("device id", Self::RULE, text)),
        }
    }
}

text_name!(
    DeviceId,
    "DeviceId",
    "The id of a device.",
    "^device-[0-9a-f]{32}$",
    "device-0198c0de000070008000000000000001"
);

/// A device, as everyone reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceInfo {
    /// The id, which stays while the token does.
    pub id: DeviceId,
    /// The tenant that it belongs to; without one, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Whoever uses it, as the app calls them.
    pub owner: String,
    /// What it is.
    pub platform: DevicePlatform,
    /// What sort of address its token is.
    pub token_kind: TokenKind,
    /// The beginning and the end of its token: whoever knows all of it can be taken for the device.
    pub token: String,
    /// The version of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// The language of its user, as a tag of BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Messages to it that failed since it was registered last.
    pub failures: u64,
    /// When it was registered first.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// When it was registered last: apps do so at every start.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub seen_at: Timestamp,
}

impl DeviceInfo {
    /// A token as it may be shown: its beginning and its end, nothing of a short one.
    pub fn shortened(token: &str) -> String {
        let characters: Vec<char> = token.chars().collect();
        match characters.len() {
            ..16 => "…".to_owned(),
            length => characters[..4].iter().chain(['…'].iter()).chain(&characters[length - 4..]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let id = DeviceId::random();
        assert_eq!(id.as_str().parse::<DeviceId>().unwrap(), id);
        for text in ["", "device-1", "hook-0198c0de000070008000000000000001", "device-0198C0DE000070008000000000000001"]
        {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
    }

    #[test]
    fn of_a_token_little_is_shown() {
        assert_eq!(DeviceInfo::shortened("abcdefghijklmnopqrstuvwxyz"), "abcd…wxyz");
        assert_eq!(DeviceInfo::shortened("abcdefghijklmno"), "…");
    }
}
