//! What a kind is, and the list of all of them.

use std::{collections::BTreeMap, sync::LazyLock};

use fourmi_model::{KindName, Policy, QueueName};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    AudioDerive, AudioExtract, AudioLive, ChatAlert, DatasetAnalyze, DatasetProbe, HealthProbe, HostMetrics,
    MailNotice, MailSend, MaintenanceRetention, MediaProbe, PushFanout, PushSend, SmsReceipt, SmsSend, StatsRollup,
    WebhookDeliver,
};

/// Every kind that this build knows.
///
/// # Panics
/// At first use, if two kinds have one name or a name is malformed: a mistake of the programmer that no test misses.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
        Catalogue::default()
            .with::<AudioDerive>()
            .with::<AudioExtract>()
            .with::<AudioLive>()
            .with::<ChatAlert>()
            .with::<DatasetAnalyze>()
            .with::<DatasetProbe>()
            .with::<HealthProbe>()
            .with::<HostMetrics>()
            .with::<MailNotice>()
            .with::<MailSend>()
            .with::<MaintenanceRetention>()
            .with::<MediaProbe>()
            .with::<PushFanout>()
            .with::<PushSend>()
            .with::<SmsReceipt>()
            .with::<SmsSend>()
            .with::<StatsRollup>()
            .with::<WebhookDeliver>()
    });
    &CATALOGUE
}

/// A kind of job: implemented by the type of its payload.
pub trait JobKind: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The stable name, such as `audio.extract`. Jobs outlive deploys: a name is never reused for something else.
    const NAME: &'static str;
    /// The queue that its jobs wait in, and so the class of worker that runs them.
    const QUEUE: &'static str;
    /// Grows when the payload changes in a way that older workers would misread.
    const SCHEMA_VERSION: u32 = 1;
    /// What it does, in one line.
    const SUMMARY: &'static str;
    /// Who submits its jobs.
    const AUDIENCE: Audience = Audience::Everyone;
    /// What a successful job gives.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// How its jobs are treated.
    fn policy() -> Policy {
        Policy::default()
    }

    /// What the type alone cannot say about a payload.
    ///
    /// # Errors
    /// The first mistake, by the path of the field.
    fn validate(&self) -> Result<(), InvalidPayload> {
        Ok(())
    }
}

/// Who submits the jobs of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever may submit jobs.
    Everyone,
    /// Who sees the jobs of others: no people of the role `user`, and no keys of devices, which may be stolen.
    Staff,
    /// Who steers the queues of the whole platform.
    Operators,
    /// The platform itself, and nobody else.
    Platform,
}

/// A payload that its kind does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct InvalidPayload {
    /// The field, such as `source.upload`; empty for the payload as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl InvalidPayload {
    /// A mistake in the field at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// What is known about a kind without its type.
#[derive(Debug, Clone)]
pub struct KindInfo {
    /// The stable name.
    pub name: KindName,
    /// The queue that its jobs wait in.
    pub queue: QueueName,
    /// The version of the payload's schema.
    pub schema_version: u32,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Who submits its jobs.
    pub audience: Audience,
    /// How its jobs are treated.
    pub policy: Policy,
    /// JSON Schema (2020-12) of the payload.
    pub payload_schema: Schema,
    /// JSON Schema (2020-12) of the result.
    pub result_schema: Schema,
    check: fn(&str) -> Result<Box<RawValue>, InvalidPayload>,
}

impl KindInfo {
    fn of<K: JobKind>() -> Self {
        #[expect(clippy::expect_used, reason = "names are constants, and every test that touches a kind checks them")]
        let (name, queue) = (K::NAME.parse().expect("kind name"), K::QUEUE.parse().expect("queue name"));
        Self {
            name,
            queue,
            schema_version: K::SCHEMA_VERSION,
            summary: K::SUMMARY,
            audience: K::AUDIENCE,
            policy: K::policy(),
            // A caller writes the payload and reads the result.
            payload_schema: SchemaSettings::draft2020_12()
                .for_deserialize()
                .into_generator()
                .into_root_schema_for::<K>(),
            result_schema: SchemaSettings::draft2020_12()
                .for_serialize()
                .into_generator()
                .into_root_schema_for::<K::Output>(),
            check: check::<K>,
        }
    }

    /// Reads a payload as JSON and gives it back in the kind's own writing, so that equal payloads are equal texts.
    ///
    /// # Errors
    /// The first mistake, by the path of the field.
    pub fn check(&self, payload: &str) -> Result<Box<RawValue>, InvalidPayload> {
        (self.check)(payload)
    }
}

fn check<K: JobKind>(payload: &str) -> Result<Box<RawValue>, InvalidPayload> {
    // serde would take a list for an object's fields in order, which no schema says.
    if payload.trim_start().starts_with('[') {
        return Err(InvalidPayload::new("", "must be an object"));
    }
    let mut reader = serde_json::Deserializer::from_str(payload);
    let value: K = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        InvalidPayload::new(path, without_place(&error.into_inner()))
    })?;
    reader.end().map_err(|error| InvalidPayload::new("", without_place(&error)))?;
    value.validate()?;
    serde_json::value::to_raw_value(&value).map_err(|error| InvalidPayload::new("", error.to_string()))
}

/// What is wrong, without its line and column: they say nothing to a caller whose payload is a part of something larger.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// Kinds by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    kinds: BTreeMap<String, KindInfo>,
}

impl Catalogue {
    /// This catalogue and one kind more.
    ///
    /// # Panics
    /// If the name is taken.
    #[must_use]
    pub fn with<K: JobKind>(mut self) -> Self {
        let earlier = self.kinds.insert(K::NAME.to_owned(), KindInfo::of::<K>());
        assert!(earlier.is_none(), "two kinds are named {}", K::NAME);
        self
    }

    /// The kind of that name.
    pub fn get(&self, name: &str) -> Option<&KindInfo> {
        self.kinds.get(name)
    }

    /// All kinds, by name.
    pub fn iter(&self) -> impl Iterator<Item = &KindInfo> {
        self.kinds.values()
    }

    /// The queues that these kinds wait in, each once, and last that of external jobs, whose kinds are in no build.
    pub fn queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<_> = self.kinds.values().map(|kind| kind.queue.clone()).collect();
        queues.sort();
        queues.dedup();
        queues.push(QueueName::external());
        queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "two kinds are named media.probe")]
    fn a_name_is_given_once() {
        let _ = Catalogue::default().with::<MediaProbe>().with::<MediaProbe>();
    }

    #[test]
    fn no_kind_takes_a_name_or_the_queue_of_external_ones() {
        for kind in catalogue().iter() {
            assert!(!kind.name.is_external() && kind.queue != QueueName::external(), "{}", kind.name);
        }
    }

    #[test]
    fn equal_payloads_become_equal_texts() {
        let kind = catalogue().get("media.probe").unwrap();
        let file = "file-6f9619ff8b86d011b42d00c04fc964ff";
        let one = kind.check(&format!(r#"{{"source":{{"upload":"{file}"}}}}"#)).unwrap();
        let other = kind.check(&format!("{{ \"source\" : {{ \"upload\":\t\"{file}\" }} }}\n")).unwrap();
        assert_eq!(one.get(), other.get());
    }

    #[test]
    fn a_mistake_is_named_by_its_path() {
        let kind = catalogue().get("audio.extract").unwrap();
        let file = "file-6f9619ff8b86d011b42d00c04fc964ff";
        for (payload, path) in [
            (r#"{"source":{"upload":7}}"#.to_owned(), "source.upload"),
            (format!(r#"{{"source":{{"upload":"{file}"}},"colour":"red"}}"#), "colour"),
            (format!(r#"{{"source":{{"upload":"{file}"}},"sample_rate":7}}"#), "sample_rate"),
            (format!(r#"{{"source":{{"upload":"{file}"}},"trim":{{"start_ms":9,"end_ms":9}}}}"#), "trim.end_ms"),
            (String::new(), ""),
            ("[]".to_owned(), ""),
            ("{}x".to_owned(), ""),
            (format!(r#"[{{"upload":"{file}"}}]"#), ""),
        ] {
            let mistake = kind.check(&payload).unwrap_err();
            assert_eq!(mistake.path, path, "{payload}: {mistake}");
            assert!(!mistake.message.contains(" line "), "{mistake}");
        }
    }
}
