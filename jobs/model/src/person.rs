//! People as everyone reads them: who they are, what they may do, where they are logged in.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    Scope, Scopes, TenantName, UnknownWord,
    id::{InvalidName, text_name},
};

/// The id of a person: `user-` and a UUIDv7 without hyphens, so that ids sort by time of creation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    const RULE: &str = "'user-' and 32 lower-case hexadecimal digits";

    /// A new id.
    pub fn random() -> Self {
        Self(format!("user-{}", Uuid::now_v7().simple()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.strip_prefix("user-") {
            Some(digits) if digits.len() == 32 && digits.bytes().all(is_digit) => Ok(Self(text.into())),
            _ => Err(InvalidName::new("user id", Self::RULE, text)),
        }
    }
}

text_name!(UserId, "UserId", "The id of a person.", "^user-[0-9a-f]{32}$", "user-0198c0de000070008000000000000001");

/// What a person is on the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submits jobs and files of a tenant, and sees their own.
    User,
    /// Sees all jobs and files of a tenant, and looks after its people and keys.
    Admin,
    /// Runs the platform: belongs to no tenant and may do everything.
    SuperAdmin,
}

impl Role {
    /// Every role, the one with the least rights first.
    pub const ALL: &[Self] = &[Self::User, Self::Admin, Self::SuperAdmin];

    /// The word that stands for it everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::SuperAdmin => "super_admin",
        }
    }

    /// What people of this role may do.
    pub fn scopes(self) -> Scopes {
        let own = [
            Scope::JobsSubmit,
            Scope::JobsRead,
            Scope::JobsControl,
            Scope::FilesWrite,
            Scope::FilesRead,
            Scope::WebhooksWrite,
            Scope::SchedulesWrite,
        ];
        match self {
            Self::User => own.into_iter().collect(),
            Self::Admin => {
                let more = [Scope::JobsWork, Scope::KeysAdmin, Scope::UsersAdmin, Scope::AuditRead];
                own.into_iter().chain(more).collect()
            }
            Self::SuperAdmin => Scopes::all(),
        }
    }

    /// Whether people of this role see only what they submitted themselves.
    pub const fn sees_own_only(self) -> bool {
        matches!(self, Self::User)
    }

    /// Whether people of this role belong to a tenant.
    pub const fn is_of_a_tenant(self) -> bool {
        !matches!(self, Self::SuperAdmin)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|role| role.as_str()).collect();
            UnknownWord::new(text, &known)
        })
    }
}

/// The language in which the platform writes to a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// French.
    #[serde(rename = "fr")]
    French,
}

/// What a link in a mail to a person is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPurpose {
    /// To show that somebody reads the mail of an address.
    ConfirmEmail,
    /// To choose a new password.
    ResetPassword,
    /// To choose a first password.
    Invitation,
}

impl LinkPurpose {
    /// Every purpose.
    pub const ALL: &[Self] = &[Self::ConfirmEmail, Self::ResetPassword, Self::Invitation];

    /// The word that stands for it everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmEmail => "confirm_email",
            Self::ResetPassword => "reset_password",
            Self::Invitation => "invitation",
        }
    }

    /// The page of the app that the link leads to.
    pub const fn page(self) -> &'static str {
        match self {
            Self::ConfirmEmail => "confirm-email",
            Self::ResetPassword => "reset-password",
            Self::Invitation => "accept-invitation",
        }
    }
}

impl FromStr for LinkPurpose {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|purpose| purpose.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|purpose| purpose.as_str()).collect();
            UnknownWord::new(text, &known)
        })
    }
}

/// What people say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// What they are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub name: Option<String>,
    /// The language in which the platform writes to them.
    #[serde(default)]
    pub language: Language,
    /// Where they are, as an IANA time zone such as `Europe/Paris`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Their telephone number, in international form (E.164), such as `+33612345678`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What apps want to remember of them, such as which notifications they want: 16 KiB at most.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub preferences: Map<String, Value>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserInfo {
    /// The id, which never changes; jobs and files name it as `submitted_by`.
    pub id: UserId,
    /// The name to log in with: one of their own, else their e-mail address.
    pub username: String,
    /// The e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the address was confirmed by whoever reads its mail.
    pub email_confirmed: bool,
    /// What the person is on the platform.
    pub role: Role,
    /// The tenant; super admins have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Whether the person may log in.
    pub active: bool,
    /// Whether there is a password: one who was invited chooses it later.
    pub has_password: bool,
    /// Whether a second factor is asked for at login.
    pub second_factor: bool,
    /// What they say of themselves.
    #[serde(flatten)]
    pub profile: Profile,
    /// When the account was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// Who made it, if not the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When the person logged in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_login_at: Option<Timestamp>,
}

/// Where somebody is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionInfo {
    /// The id.
    pub id: String,
    /// Whether it is the one that asks.
    pub current: bool,
    /// What the device is called, as said at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The program that logged in, in its own words (`User-Agent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The address that it was used from last.
    pub address: String,
    /// When it began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// When its tokens were renewed last.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub refreshed_at: Timestamp,
    /// When it ends, unless it is renewed before.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let id = UserId::random();
        assert_eq!(id.as_str().parse::<UserId>().unwrap(), id);
        for text in ["", "user-", "user-0198C0DE000070008000000000000001", "key-0198c0de000070008000000000000001"] {
            assert!(text.parse::<UserId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_higher_role_may_do_what_a_lower_one_may() {
        let [user, admin, super_admin] = [Role::User, Role::Admin, Role::SuperAdmin].map(Role::scopes);
        assert!(admin.covers(user) && super_admin.covers(admin) && !user.covers(admin) && !admin.covers(super_admin));
        assert!(admin.iter().all(Scope::is_for_tenants));
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().unwrap(), *role);
        }
    }
}
