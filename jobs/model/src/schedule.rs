//! Schedules: what is done again and again, and when.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    FireOutcome, JobId, KindName, LimitName, Missed, Overlap, PolicyOverrides, Priority, TenantName, Unique,
    WebhookTarget,
    id::{InvalidName, text_name},
};

/// The id of a schedule: `schedule-` and a UUIDv7 without hyphens, so that ids sort by time of creation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleId(Arc<str>);

impl ScheduleId {
    const RULE: &str = "'schedule-' and 32 lower-case hexadecimal digits";

    /// A new id.
    pub fn random() -> Self {
        Self(format!("schedule-{}", Uuid::now_v7().simple()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScheduleId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.strip_prefix("schedule-") {
            Some(digits) if digits.len() == 32 && digits.bytes().all(is_digit) => Ok(Self(text.into())),
            _ => Err(InvalidName::new("schedule id", Self::RULE, text)),
        }
    }
}

text_name!(
    ScheduleId,
    "ScheduleId",
    "The id of a schedule.",
    "^schedule-[0-9a-f]{32}$",
    "schedule-0198c0de000070008000000000000001"
);

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// A cron expression of five fields, of six with seconds first, or a nickname such as `@daily`. Either this or `every_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Seconds between two ticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u32>,
    /// The IANA time zone in which the expression is read.
    pub time_zone: String,
    /// How many seconds a job may be made after its tick, drawn for each tick.
    #[serde(default)]
    pub jitter_s: u32,
    /// No tick is before this time. Of `every_s` it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub starts_at: Option<Timestamp>,
    /// No tick is after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ends_at: Option<Timestamp>,
}

/// The job that a tick makes. Texts of its payload may name the tick: `{{tick}}`, `{{tick_local}}`, `{{tick_ms}}`,
/// `{{window_start}}` (the tick before that made a job; of the first, the tick itself), `{{window_end}}` (the tick).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledJob {
    /// The kind.
    pub kind: KindName,
    /// What it needs to know, as the kind says, with what is filled in at each tick: `{{tick}}`, `{{tick_local}}`,
    /// `{{tick_ms}}`, `{{window_start}}`, `{{window_end}}`.
    pub payload: Value,
    /// How urgent it is; by default as the kind says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// What differs from the kind's policy.
    #[serde(default, skip_serializing_if = "PolicyOverrides::is_empty")]
    pub policy: PolicyOverrides,
    /// Labels for lists, beside `schedule:` and the name of the schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
    /// What it shares with others, such as `host/example.org`: a limit of that name binds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub limits: Vec<LimitName>,
    /// Whether it excludes its like; by default as the kind says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// A run that would start so many seconds after the tick does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub deadline_s: Option<u32>,
    /// Who is told of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,
}

/// A schedule, as everyone reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleInfo {
    /// The id, which never changes.
    pub id: ScheduleId,
    /// Its name, of which a tenant has one.
    pub name: String,
    /// When it is due.
    #[serde(flatten)]
    pub rule: Rule,
    /// What it does while the job of an earlier tick is not over.
    pub overlap: Overlap,
    /// What it does about ticks for which nobody was there.
    pub missed: Missed,
    /// How many of those make a job, if all may.
    pub missed_limit: u32,
    /// Whether it makes no jobs.
    pub paused: bool,
    /// The job that it makes.
    pub job: ScheduledJob,
    /// The tenant whose jobs they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The next tick; without one there is none any more, or it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub next_tick_at: Option<Timestamp>,
    /// The newest tick that made a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_fired_at: Option<Timestamp>,
    /// The newest job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job: Option<JobId>,
    /// When it was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// The id of the key or of the person that made it; `platform` if it belongs to the platform.
    pub created_by: String,
}

/// A tick, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleFire {
    /// The tick.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub tick: Timestamp,
    /// Whether somebody asked for it, and it is no tick of the schedule's.
    pub by_hand: bool,
    /// What became of it.
    pub outcome: FireOutcome,
    /// When that was.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// The job that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Why it made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_themselves_and_sort_by_time() {
        let ids: Vec<ScheduleId> = (0..100).map(|_| ScheduleId::random()).collect();
        assert!(ids.is_sorted());
        for id in ids {
            assert_eq!(id.as_str().parse::<ScheduleId>().unwrap(), id);
        }
        for text in
            ["", "schedule-", "schedule-0198C0DE000070008000000000000001", "hook-0198c0de000070008000000000000001"]
        {
            assert!(text.parse::<ScheduleId>().is_err(), "{text}");
        }
    }
}
