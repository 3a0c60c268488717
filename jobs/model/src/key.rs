//! API keys as everyone reads them: without their secrets.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Scopes, TenantName};

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyInfo {
    /// Its id, which it keeps when its secret changes.
    pub id: String,
    /// What it is for, for people.
    pub name: String,
    /// The beginning of its secret, to recognise it by.
    pub prefix: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The tenant whose jobs and files it sees; without one, those of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Whether it sees only what was submitted with it, as the key of a device should that may be stolen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub device: bool,
    /// How often it may ask, such as `100/60` (in 60 seconds); without this, as often as the server's settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<String>,
    /// When it was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// The id of the key that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to within half a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_used_at: Option<Timestamp>,
    /// Until when the secret that it had before is valid too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub previous_until: Option<Timestamp>,
}

/// A new secret of an API key: it is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewSecret {
    /// The key.
    pub key: KeyInfo,
    /// The secret, to be sent as `Authorization: Bearer <secret>`. Nobody can read it again.
    pub secret: String,
}
