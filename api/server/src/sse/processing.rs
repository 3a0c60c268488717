//! The vocabulary `processing`: the five messages that interfaces of analysis platforms know, about datasets.
//!
//! A dataset is what the payload names as `dataset_id`, or else the job itself.

use std::collections::HashMap;

use fourmi_model::{Job, JobId, Progress, State};
use salvo::sse::SseEvent;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::vocabulary::{Told, event};

/// Jobs that are remembered at most.
const JOBS: usize = 10_000;

/// Kinds that explain; so does a job whose result holds a list of explanations.
const EXPLAINS: &str = "explain.";

/// One message, as it is sent.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message<'a> {
    ProcessingStarted { dataset_id: &'a Value, config: Value, user_id: Value },
    ProcessingProgress { dataset_id: &'a Value, stage: &'a str, progress: f32, message: &'a str },
    ProcessingCompleted { dataset_id: &'a Value, result: &'a Value },
    RagCompleted { dataset_id: &'a Value, explanations: &'a [Value] },
    ProcessingError { dataset_id: &'a Value, error: &'a str },
}

impl Message<'_> {
    fn event(&self) -> SseEvent {
        let name = match self {
            Self::ProcessingStarted { .. } => "processing_started",
            Self::ProcessingProgress { .. } => "processing_progress",
            Self::ProcessingCompleted { .. } => "processing_completed",
            Self::RagCompleted { .. } => "rag_completed",
            Self::ProcessingError { .. } => "processing_error",
        };
        event(name, self)
    }
}

/// Tells in this vocabulary.
#[derive(Default)]
pub(crate) struct Processing(HashMap<Uuid, Dataset>);

/// What is remembered of a job that is not over.
struct Dataset {
    id: Value,
    started: bool,
}

impl Dataset {
    fn of(job: &Job) -> Self {
        let named = job.payload.get("dataset_id").filter(|id| id.is_string() || id.is_number());
        Self { id: named.cloned().unwrap_or_else(|| Value::String(job.id.to_string())), started: false }
    }
}

impl Processing {
    pub(super) fn knows(&self, id: &JobId) -> bool {
        self.0.contains_key(&id.uuid())
    }

    /// Notes a job that the client was told of before.
    pub(super) fn meet(&mut self, job: &Job) {
        let started = job.state == State::Running;
        self.0.insert(job.id.uuid(), Dataset { started, ..Dataset::of(job) });
    }

    pub(super) fn tell(&mut self, told: &Told) -> Vec<SseEvent> {
        match told {
            Told::Snapshot(job) => self.job(job, true),
            Told::State(job) => self.job(job, false),
            Told::Progress(far) => {
                let dataset = self.0.get(&far.id.uuid());
                dataset.map(|dataset| progress(&dataset.id, &far.progress)).into_iter().collect()
            }
            Told::Line(..) => Vec::new(),
            // There are no words for it; a comment is there to carry the place.
            Told::Live(_) => vec![SseEvent::default().comment(" live")],
            Told::Gap(gap) => {
                let text = serde_json::to_string(gap).unwrap_or_default();
                vec![SseEvent::default().comment(format!(" gap {text}"))]
            }
        }
    }

    fn job(&mut self, job: &Job, is_snapshot: bool) -> Vec<SseEvent> {
        if self.0.len() >= JOBS {
            self.0.clear();
        }
        let dataset = self.0.entry(job.id.uuid()).or_insert_with(|| Dataset::of(job));
        let mut messages = Vec::new();
        // A short run may be over before anybody was told that it had started; a snapshot of what is over is its end only.
        let has_run = job.state == State::Running || (job.state.is_final() && job.run > 0 && !is_snapshot);
        if has_run && !std::mem::replace(&mut dataset.started, true) {
            messages.push(started(&dataset.id, job));
        }
        let id = &dataset.id;
        match job.state {
            State::Succeeded => {
                let explanations = job.result.as_ref().and_then(|result| result.get("explanations"));
                let explains = job.kind.as_str().starts_with(EXPLAINS);
                let explanations = explanations.and_then(Value::as_array).map(Vec::as_slice);
                if let Some(explanations) = explanations.or(explains.then_some(&[])) {
                    messages.push(Message::RagCompleted { dataset_id: id, explanations }.event());
                }
                let result = job.result.as_ref().unwrap_or(&Value::Null);
                messages.push(Message::ProcessingCompleted { dataset_id: id, result }.event());
            }
            State::Failed | State::Cancelled => {
                let error = job.error.as_ref().map(|error| error.message.as_str()).filter(|text| !text.is_empty());
                let error = error.or(job.error.as_ref().map(|error| error.code.as_str()));
                let error = error.unwrap_or(job.state.as_str());
                messages.push(Message::ProcessingError { dataset_id: id, error }.event());
            }
            State::Running if is_snapshot => messages.extend(job.progress.as_ref().map(|far| progress(id, far))),
            _ => {}
        }
        if job.state.is_final() {
            self.0.remove(&job.id.uuid());
        }
        messages
    }
}

fn started(dataset_id: &Value, job: &Job) -> SseEvent {
    let payload = &job.payload;
    let config = payload.get("config").filter(|config| config.is_object()).cloned().unwrap_or_else(|| {
        let mut rest = payload.clone();
        if let Some(fields) = rest.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "dataset_id" | "user_id"));
        }
        rest
    });
    let user = job.submitted_by.clone().or_else(|| job.tenant.as_ref().map(ToString::to_string));
    let named = payload.get("user_id").filter(|id| id.is_string() || id.is_number()).cloned();
    let user_id = named.unwrap_or_else(|| user.map_or(Value::Null, Value::String));
    Message::ProcessingStarted { dataset_id, config, user_id }.event()
}

fn progress(dataset_id: &Value, far: &Progress) -> SseEvent {
    let Progress { stage, percent, message, .. } = far;
    Message::ProcessingProgress { dataset_id, stage, progress: *percent, message }.event()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::sse::vocabulary::{Far, Live};

    fn job(state: &str, more: Value) -> Job {
        let mut job = json!({
            "id": "insight-0198c0de-0000-7000-8000-000000000001", "kind": "cluster.build", "schema_version": 1,
            "queue": "insight", "state": state, "version": 2, "priority": "normal", "run": 1, "attempts": 1, "crashes": 0,
            "created_at": "2026-01-01T00:00:00Z", "submitted_by": "key-1",
            "payload": {"dataset_id": "votes-7", "clusters": 4},
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    fn told(processing: &mut Processing, told: &Told) -> Vec<Value> {
        let data = |event: &SseEvent| {
            let text = event.to_string();
            let data: Value = serde_json::from_str(text.lines().find_map(|line| line.strip_prefix("data: "))?).unwrap();
            assert!(text.contains(&format!("event: {}\n", data["type"].as_str().unwrap())), "{text}");
            Some(data)
        };
        processing.tell(told).iter().filter_map(data).collect()
    }

    #[test]
    fn the_five_messages_have_their_shapes() {
        let mut words = Processing::default();
        assert!(told(&mut words, &Told::Snapshot(job("waiting", json!({"run": 0})))).is_empty());
        let started = json!({"type": "processing_started", "dataset_id": "votes-7", "config": {"clusters": 4}, "user_id": "key-1"});
        assert_eq!(told(&mut words, &Told::State(job("running", json!({})))), [started]);
        assert!(told(&mut words, &Told::State(job("running", json!({"version": 3})))).is_empty(), "it is said once");
        let far = Progress {
            stage: "clustering".into(),
            percent: 75.5,
            message: "Performing clustering...".into(),
            ..Progress::default()
        };
        let id = job("running", json!({})).id;
        let far = Told::Progress(Far { id, version: 4, run: 1, progress: Arc::new(far) });
        let progress = json!({"type": "processing_progress", "dataset_id": "votes-7", "stage": "clustering", "progress": 75.5, "message": "Performing clustering..."});
        assert_eq!(told(&mut words, &far), [progress]);
        let done = job("succeeded", json!({"result": {"k": 4, "explanations": ["a"]}}));
        let rag = json!({"type": "rag_completed", "dataset_id": "votes-7", "explanations": ["a"]});
        let completed =
            json!({"type": "processing_completed", "dataset_id": "votes-7", "result": {"k": 4, "explanations": ["a"]}});
        assert_eq!(told(&mut words, &Told::State(done)), [rag, completed]);
        assert!(words.0.is_empty());
        assert!(told(&mut words, &Told::Live(Live { jobs: 1, more: false })).is_empty());
    }

    #[test]
    fn a_job_names_itself_and_a_short_run_starts_before_it_ends() {
        let mut words = Processing::default();
        let error = json!({"code": "bad_data", "class": "invalid_input", "message": "no rows", "retryable": false});
        let failed = job("failed", json!({"payload": {"config": {"k": 1}, "user_id": 12}, "error": error}));
        let id = failed.id.to_string();
        let started = json!({"type": "processing_started", "dataset_id": id, "config": {"k": 1}, "user_id": 12});
        let error = json!({"type": "processing_error", "dataset_id": id, "error": "no rows"});
        assert_eq!(told(&mut words, &Told::State(failed)), [started, error]);
        let cancelled = job("cancelled", json!({"run": 0}));
        let error = json!({"type": "processing_error", "dataset_id": "votes-7", "error": "cancelled"});
        assert_eq!(told(&mut words, &Told::State(cancelled)), [error]);
        let explained = job("succeeded", json!({"kind": "explain.cluster"}));
        let types: Vec<_> = told(&mut words, &Told::Snapshot(explained)).iter().map(|it| it["type"].clone()).collect();
        assert_eq!(types, ["rag_completed", "processing_completed"]);
    }
}
