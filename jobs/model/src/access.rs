//! What an API key may do.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::UnknownWord;

macro_rules! scopes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal),+ $(,)?) => {
        /// One thing that a key may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Scope {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant),+
        }

        impl Scope {
            /// Every scope, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that stands for it everywhere.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What it allows, for a person.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

scopes! {
    /// Submitting jobs and flows.
    JobsSubmit = "jobs:submit",
    /// Reading, listing and following jobs, with their payloads, results and logs.
    JobsRead = "jobs:read",
    /// Cancelling, retrying, changing and deleting jobs.
    JobsControl = "jobs:control",
    /// Registering kinds of jobs, and leasing and settling jobs of such kinds.
    JobsWork = "jobs:work",
    /// Storing and deleting files.
    FilesWrite = "files:write",
    /// Reading files and making links to them.
    FilesRead = "files:read",
    /// Reading how queues, workers and limits are.
    QueuesRead = "queues:read",
    /// Steering queues and workers, replaying and purging what failed.
    QueuesAdmin = "queues:admin",
    /// Reading the figures of the platform, for monitoring.
    MetricsRead = "metrics:read",
    /// Making, changing and revoking API keys.
    KeysAdmin = "keys:admin",
    /// Looking after people: inviting, changing, deactivating and deleting them.
    UsersAdmin = "users:admin",
    /// Reading the audit log.
    AuditRead = "audit:read",
    /// Making, changing and deleting tenants, and the keys that sign tokens.
    TenantsAdmin = "tenants:admin",
    /// Making, changing and trying webhooks, and reading what they were told.
    WebhooksWrite = "webhooks:write",
    /// Making, changing and deleting schedules, and running them now.
    SchedulesWrite = "schedules:write",
    /// The state and progress of a job by its id, without what it holds: for keys that anybody may see.
    PublicRead = "public:read",
}

impl Scope {
    /// Whether it concerns jobs and files, which belong to tenants, rather than what all tenants share.
    pub const fn is_for_tenants(self) -> bool {
        !matches!(self, Self::QueuesRead | Self::QueuesAdmin | Self::MetricsRead | Self::TenantsAdmin)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|scope| scope.as_str()).collect();
            UnknownWord::new(text, &known)
        })
    }
}

/// A set of scopes; in JSON a list of their words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// All of them.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Whether it holds this scope.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// Whether it holds all scopes of the other set.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Its scopes, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// Whether it holds none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

const fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | bit(scope)))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl JsonSchema for Scopes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let scope = generator.subschema_for::<Scope>();
        schemars::json_schema!({ "type": "array", "items": scope, "uniqueItems": true })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back_as_itself() {
        let set: Scopes = [Scope::PublicRead, Scope::JobsSubmit].into_iter().collect();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, r#"["jobs:submit","public:read"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&text).unwrap(), set);
        assert!(Scopes::all().covers(set) && !set.covers(Scopes::all()) && !set.contains(Scope::JobsRead));
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse::<Scope>().unwrap(), *scope);
        }
        assert!("jobs".parse::<Scope>().unwrap_err().to_string().contains("jobs:submit"));
    }
}
