//! What jobs share and must not have all of: whose they are, which limits bind them, when one excludes its like.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    JobId, KindName,
    id::{InvalidName, text_name},
};

/// The most limits that a job may name, beside those of its tenant and its kind.
pub const MAX_LIMITS: usize = 2;

/// How long a job may exclude its like: thirty days at most.
pub const MAX_UNIQUE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whose a job is: the jobs of each tenant wait in lanes of their own, which take turns.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName(Arc<str>);

impl TenantName {
    const RULE: &str = "1 to 64 letters, digits, '.', '_' or '-'";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new("tenant name", Self::RULE, text))
        }
    }
}

/// What a limit is about, such as `host/example.org`, `tenant/acme` or `kind/audio.extract`; `host/*` for every value of a
/// class that has no limit of its own, `queue` for all jobs of a queue.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitName(Arc<str>);

impl LimitName {
    const RULE: &str = "'queue', or a lower-case word, '/' and 1 to 128 visible ASCII characters";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// All jobs of a queue.
    pub fn queue() -> Self {
        Self("queue".into())
    }

    /// All jobs of a tenant.
    pub fn of_tenant(tenant: &TenantName) -> Self {
        Self(format!("tenant/{tenant}").into())
    }

    /// All jobs of a kind.
    pub fn of_kind(kind: &KindName) -> Self {
        Self(format!("kind/{kind}").into())
    }

    /// The class: the word before the slash.
    pub fn class(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(class, _)| class)
    }

    /// Whether it is about every value of its class.
    pub fn is_class(&self) -> bool {
        self.0.ends_with("/*")
    }

    /// Whether a job may name it: those of its tenant, its kind and its queue bind it anyway.
    pub fn is_for_jobs(&self) -> bool {
        !self.is_class() && !matches!(self.class(), "queue" | "kind" | "tenant")
    }
}

impl FromStr for LimitName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_word = |word: &str| {
            (1..=32).contains(&word.len())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let is_value = |value: &str| (1..=128).contains(&value.len()) && value.chars().all(|c| c.is_ascii_graphic());
        let parts = text.split_once('/');
        if text == "queue" || parts.is_some_and(|(class, value)| is_word(class) && class != "queue" && is_value(value))
        {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new("limit name", Self::RULE, text))
        }
    }
}

text_name!(TenantName, "TenantName", "Whose a job is.", "^[A-Za-z0-9._-]{1,64}$", "acme");
text_name!(
    LimitName,
    "LimitName",
    "What a limit is about.",
    "^(queue|[a-z0-9_]{1,32}/[!-~]{1,128})$",
    "host/example.org"
);

/// How much of what a limit is about may happen. One without bounds binds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Jobs that may run at the same time, over all processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
    /// How many may start in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// A token bucket: it holds `burst` tokens and is full at first; a job that starts takes one; `jobs` come in `per_s` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LimitRate")]
pub struct Rate {
    /// Jobs that may start …
    #[schemars(range(min = 1, max = 1_000_000))]
    pub jobs: u32,
    /// … in so many seconds; in one if nothing is said.
    #[serde(default = "one_second", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 86_400))]
    pub per_s: u32,
    /// Jobs that may start at once after a silence; as many as `jobs` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

fn one_second() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(seconds: &u32) -> bool {
    *seconds == 1
}

/// A limit, and how far it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitState {
    /// What it is about.
    pub name: LimitName,
    /// How much of it may happen.
    #[serde(flatten)]
    pub limit: Limit,
    /// Jobs that run under it now; counted if there is a `concurrency`.
    pub running: u64,
    /// Jobs that may start now as far as the rate is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<f64>,
    /// Lanes of waiting jobs that it holds back.
    pub lanes_asleep: u64,
    /// Jobs that run under it; twenty at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<JobId>,
}

impl Limit {
    /// The first value out of range, in words.
    pub fn problem(&self) -> Option<&'static str> {
        let out = |value: u32, most: u32| !(1..=most).contains(&value);
        let Self { concurrency, rate } = self;
        if concurrency.is_some_and(|n| out(n, 1_000_000)) {
            Some("concurrency must be between 1 and 1000000")
        } else if rate.is_some_and(|rate| out(rate.jobs, 1_000_000)) {
            Some("rate.jobs must be between 1 and 1000000")
        } else if rate.is_some_and(|rate| out(rate.per_s, 86_400)) {
            Some("rate.per_s must be between 1 and 86400 (one day)")
        } else if rate.and_then(|rate| rate.burst).is_some_and(|burst| out(burst, 1_000_000)) {
            Some("rate.burst must be between 1 and 1000000")
        } else {
            None
        }
    }
}

impl Rate {
    /// Tokens a second.
    pub fn per_second(&self) -> f64 {
        f64::from(self.jobs) / f64::from(self.per_s)
    }

    /// Tokens that the bucket holds.
    pub fn capacity(&self) -> u32 {
        self.burst.unwrap_or(self.jobs)
    }
}

/// `100/m`, `5/s`, `1000/h`, `10/30s`, with `+20` behind it for a burst.
impl FromStr for Rate {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let read = || {
            let (rate, burst) = text.split_once('+').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
            let (jobs, time) = rate.split_once('/')?;
            let digits = time.find(|c: char| !c.is_ascii_digit()).unwrap_or(time.len());
            let count: u32 = if digits == 0 { 1 } else { time[..digits].parse().ok()? };
            let unit = match &time[digits..] {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            let burst = match burst {
                Some(burst) => Some(burst.parse().ok()?),
                None => None,
            };
            let rate = Self { jobs: jobs.parse().ok()?, per_s: count.checked_mul(unit)?, burst };
            Limit { concurrency: None, rate: Some(rate) }.problem().is_none().then_some(rate)
        };
        read().ok_or_else(|| InvalidName::new("rate", "such as 5/s, 100/m, 10/30s, or 5/s+20 for a burst of 20", text))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_s {
            1 => write!(f, "{}/s", self.jobs)?,
            60 => write!(f, "{}/m", self.jobs)?,
            3_600 => write!(f, "{}/h", self.jobs)?,
            seconds => write!(f, "{}/{seconds}s", self.jobs)?,
        }
        self.burst.map_or(Ok(()), |burst| write!(f, "+{burst}"))
    }
}

/// That a job excludes its like: while it holds, a second one is not accepted, and the answer names the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// How long it holds.
    pub until: UniqueUntil,
    /// Which fields of the payload make jobs of a kind (and tenant) alike, such as `source.url`; all of it if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 200)))]
    pub by: Vec<String>,
}

/// How long a job excludes its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UniqueUntil {
    /// Until its first run starts: one may wait while another runs.
    Started,
    /// Until it is over.
    Finished,
    /// For so many seconds from its acceptance, whatever becomes of it.
    ForS(u32),
}

impl Unique {
    /// The parts of a payload that make jobs alike, or the first field that the payload does not have.
    ///
    /// # Errors
    /// The position in `by` of that field.
    pub fn key_parts(&self, payload: &str) -> Result<Vec<String>, usize> {
        if self.by.is_empty() {
            return Ok(vec![payload.to_owned()]);
        }
        let payload: serde_json::Value = serde_json::from_str(payload).map_err(|_| 0_usize)?;
        let part = |(index, path): (usize, &String)| {
            let found = path.split('.').try_fold(&payload, |value, name| value.get(name));
            found.map(|value| format!("{path}={value}")).ok_or(index)
        };
        self.by.iter().enumerate().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_or_without_a_class_are_refused() {
        for name in ["host/example.org", "host/*", "queue", "kind/audio.extract", "camera/12", "a/b/c"] {
            assert_eq!(name.parse::<LimitName>().unwrap().as_str(), name);
        }
        for name in
            ["", "host", "host/", "Host/a", "/a", "host/a b", "host/é", "queue/a", &format!("h/{}", "a".repeat(129))]
        {
            assert!(name.parse::<LimitName>().is_err(), "{name}");
        }
        for name in ["", "a b", "é", "a/b", &"a".repeat(65)] {
            assert!(name.parse::<TenantName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_job_names_neither_classes_nor_what_binds_it_anyway() {
        let may = |name: &str| name.parse::<LimitName>().unwrap().is_for_jobs();
        assert!(may("host/example.org"));
        assert!(!may("host/*") && !may("queue") && !may("kind/audio.extract") && !may("tenant/acme"));
    }

    #[test]
    fn rates_read_as_they_are_written() {
        for (text, jobs, per_s, burst) in
            [("5/s", 5, 1, None), ("100/m", 100, 60, None), ("10/30s", 10, 30, None), ("1/h+3", 1, 3_600, Some(3))]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate { jobs, per_s, burst });
            assert_eq!(rate.to_string(), text);
        }
        for text in ["", "5", "0/s", "5/0s", "5/x", "-5/s", "5/s+", "5/s+0", "5/99999999999s", "5/2d"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn jobs_are_alike_by_the_fields_that_count() {
        let by = |fields: &[&str]| Unique {
            until: UniqueUntil::Finished,
            by: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        let (one, two) = (r#"{"a":{"b":1},"c":2}"#, r#"{"a":{"b":1},"c":3}"#);
        assert_eq!(by(&["a.b"]).key_parts(one), by(&["a.b"]).key_parts(two));
        assert_ne!(by(&[]).key_parts(one), by(&[]).key_parts(two));
        assert_ne!(by(&["a.b", "c"]).key_parts(one), by(&["a.b", "c"]).key_parts(two));
        assert_eq!(by(&["c", "a.x"]).key_parts(one), Err(1));
    }
}
