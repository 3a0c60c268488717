//! Names and ids. Each is checked once, where it enters, and trusted afterwards.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A name or id that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    rule: &'static str,
    text: String,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, rule: &'static str, text: &str) -> Self {
        // The text comes from outside: keep enough to recognise it, not all of it.
        Self { what, rule, text: text.chars().take(80).collect() }
    }
}

/// A line of jobs served by one class of worker, such as `media`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl QueueName {
    const RULE: &str = "a lower-case letter, then up to 31 lower-case letters, digits or '_'";

    /// The queue of external jobs: those of kinds that workers of other systems have registered and lease by HTTP.
    pub fn external() -> Self {
        Self("external".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 32 && is_word(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new("queue name", Self::RULE, text))
        }
    }
}

/// The type of a job, such as `audio.extract`: dotted and stable, because jobs outlive the code that made them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindName(Arc<str>);

impl KindName {
    const RULE: &str = "two or more words of lower-case letters, digits and '_', joined by dots, 64 characters at most";

    /// How the names of kinds begin that workers of other systems register; no kind of Fourmi's own is named so.
    pub const EXTERNAL: &str = "x.";

    /// Whether workers of other systems may register a kind of this name.
    pub fn is_external(&self) -> bool {
        self.0.starts_with(Self::EXTERNAL)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KindName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 64 && text.contains('.') && text.split('.').all(is_word) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new("kind name", Self::RULE, text))
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The id of a job: `<queue>-<uuid>`. A new one carries a UUIDv7, so that ids sort by time of creation.
///
/// It names its queue, so that a job is found without an index over all queues.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    queue: QueueName,
    uuid: Uuid,
}

impl JobId {
    const RULE: &str = "a queue name, '-' and a lower-case hyphenated UUID";

    /// A new id in `queue`, unique and later than every earlier one of this process.
    pub fn new(queue: QueueName) -> Self {
        Self { queue, uuid: Uuid::now_v7() }
    }

    /// The id of the child that a job makes under `name`: the same every time, so that a repeated run makes no second
    /// child (UUIDv5 of the parent's UUID and the name).
    pub fn child(&self, queue: QueueName, name: &str) -> Self {
        Self { queue, uuid: Uuid::new_v5(&self.uuid, name.as_bytes()) }
    }

    /// The id of a known UUID in `queue`.
    pub fn from_parts(queue: QueueName, uuid: Uuid) -> Self {
        Self { queue, uuid }
    }

    /// The queue that the job is in.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// The part that is unique.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }
}

impl FromStr for JobId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("job id", Self::RULE, text);
        let (queue, uuid) = text.split_once('-').ok_or_else(invalid)?;
        let queue = queue.parse().map_err(|_| invalid())?;
        // `Uuid` reads other spellings too; an id has exactly one.
        let parsed = Uuid::try_parse(uuid).map_err(|_| invalid())?;
        if parsed.hyphenated().encode_lower(&mut Uuid::encode_buffer()) != uuid {
            return Err(invalid());
        }
        Ok(Self { queue, uuid: parsed })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.queue, self.uuid.hyphenated())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for JobId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JobId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The id of a job: its queue, a hyphen and a UUID.",
            "pattern": "^[a-z][a-z0-9_]{0,31}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            "examples": ["media-0198c0de-0000-7000-8000-000000000001"],
        })
    }
}

macro_rules! text_name {
    ($name:ident, $title:literal, $description:literal, $pattern:literal, $example:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $title.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string", "description": $description, "pattern": $pattern, "examples": [$example],
                })
            }
        }
    };
}

pub(crate) use text_name;

text_name!(QueueName, "QueueName", "A line of jobs served by one class of worker.", "^[a-z][a-z0-9_]{0,31}$", "media");
text_name!(KindName, "KindName", "The type of a job.", r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$", "audio.extract");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself_and_sorts_by_time() {
        let queue: QueueName = "media".parse().unwrap();
        let ids: Vec<JobId> = (0..100).map(|_| JobId::new(queue.clone())).collect();
        assert!(ids.is_sorted());
        for id in ids {
            assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        }
    }

    #[test]
    fn the_child_of_a_job_has_one_id() {
        let queue: QueueName = "media".parse().unwrap();
        let parent = JobId::new(queue.clone());
        assert_eq!(parent.child(queue.clone(), "probe"), parent.child(queue.clone(), "probe"));
        assert_ne!(parent.child(queue.clone(), "probe"), parent.child(queue, "encode"));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "media",
            "media-",
            "-0198c0de-0000-7000-8000-000000000001",
            "Media-0198c0de-0000-7000-8000-000000000001",
            "media-0198C0DE-0000-7000-8000-000000000001",
            "media-0198c0de00007000800000000000000 1",
            "media-{0198c0de-0000-7000-8000-000000000001}",
            "me}dia-0198c0de-0000-7000-8000-000000000001",
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
        for text in ["", "audio", "audio.", ".extract", "audio..extract", "Audio.extract", "audio.extract\n"] {
            assert!(text.parse::<KindName>().is_err(), "{text}");
        }
    }
}
