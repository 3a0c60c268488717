//! In which words a stream tells what happens.

use std::sync::Arc;

use fourmi_model::{Job, JobId, LogLine, Progress};
use fourmi_queue::{Gap, GapReason};
use jiff::Timestamp;
use salvo::sse::SseEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::processing::Processing;

/// In which words a stream tells what happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline, extend("default" = "fourmi"))]
pub(crate) enum Vocabulary {
    /// Its own.
    #[default]
    Fourmi,
    /// `processing_started` and its like.
    Processing,
}

impl std::str::FromStr for Vocabulary {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fourmi" => Ok(Self::Fourmi),
            "processing" => Ok(Self::Processing),
            _ => Err("must be \"fourmi\" or \"processing\""),
        }
    }
}

/// What a client is told.
pub(crate) enum Told {
    /// A job as it is.
    Snapshot(Job),
    /// A job that has entered another state.
    State(Job),
    /// A job that has come further.
    Progress(Far),
    /// A line of a job's log, and how many before it are gone.
    Line(LogLine, u64),
    /// All jobs that there are have been given; what follows is new.
    Live(Live),
    /// Something was missed.
    Gap(Missed),
}

/// Progress of a run, as the event `progress` carries it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Far {
    pub(crate) id: JobId,
    pub(crate) version: u64,
    pub(crate) run: u64,
    #[serde(serialize_with = "shared")]
    pub(crate) progress: Arc<Progress>,
}

fn shared<S: Serializer>(progress: &Arc<Progress>, serializer: S) -> Result<S::Ok, S::Error> {
    progress.as_ref().serialize(serializer)
}

/// The end of a snapshot, as the event `live` carries it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Live {
    /// Jobs that were given.
    pub(crate) jobs: usize,
    /// Whether there are more.
    pub(crate) more: bool,
}

/// What was missed, as the event `gap` carries it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Missed {
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    reason: &'static str,
}

impl Missed {
    /// What a feed has missed.
    pub(crate) fn by(gap: &Gap) -> Self {
        let reason = match gap.reason {
            GapReason::SlowReader => "slow_reader",
            GapReason::Interrupted => "interrupted",
        };
        Self { since: gap.since, missed: gap.missed, reason }
    }

    /// What happened while the client was away.
    pub(crate) fn while_away(since: Timestamp) -> Self {
        Self { since, missed: None, reason: "reconnected" }
    }
}

/// A line of the log, as the event `log` carries it.
#[derive(Serialize)]
struct LogEvent {
    #[serde(flatten)]
    line: LogLine,
    /// Lines before it that are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// Tells in one vocabulary.
pub(crate) enum Teller {
    Fourmi,
    Processing(Processing),
}

impl Teller {
    pub(crate) fn of(vocabulary: Vocabulary) -> Self {
        match vocabulary {
            Vocabulary::Fourmi => Self::Fourmi,
            Vocabulary::Processing => Self::Processing(Processing::default()),
        }
    }

    /// Whether it can tell of the progress of a job only after it was told of the job.
    pub(crate) fn must_meet(&self, id: &JobId) -> bool {
        matches!(self, Self::Processing(processing) if !processing.knows(id))
    }

    /// Notes a job of which the client knows.
    pub(crate) fn meet(&mut self, job: &Job) {
        if let Self::Processing(processing) = self {
            processing.meet(job);
        }
    }

    /// The events that tell it; once the last of them is there, the client has seen everything up to `id`.
    pub(crate) fn tell(&mut self, told: &Told, id: Option<String>) -> Vec<SseEvent> {
        let mut events = match self {
            Self::Fourmi => vec![plain(told)],
            Self::Processing(processing) => processing.tell(told),
        };
        if let Some((id, last)) = id.zip(events.pop()) {
            events.push(last.id(id));
        }
        events
    }
}

fn plain(told: &Told) -> SseEvent {
    match told {
        Told::Snapshot(job) => event("snapshot", job),
        Told::State(job) => event("state", job),
        Told::Progress(far) => event("progress", far),
        Told::Line(line, missed) => {
            event("log", &LogEvent { line: line.clone(), missed: Some(*missed).filter(|missed| *missed > 0) })
        }
        Told::Live(live) => event("live", live),
        Told::Gap(gap) => event("gap", gap),
    }
}

/// An event of this name.
pub(super) fn event(name: &str, data: &impl Serialize) -> SseEvent {
    match serde_json::to_string(data) {
        Ok(data) => SseEvent::default().name(name).text(data),
        // The types of the model always become JSON; without data, a client ignores the event.
        Err(error) => SseEvent::default().comment(format!(" {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_block_with_its_place_as_id() {
        let id: JobId = "media-0198c0de-0000-7000-8000-000000000001".parse().unwrap();
        let progress = Arc::new(Progress { stage: "encode".into(), percent: 12.5, ..Progress::default() });
        let far = Told::Progress(Far { id: id.clone(), version: 7, run: 1, progress });
        let text = |told: &Told, id: &str| Teller::Fourmi.tell(told, Some(id.to_owned())).pop().unwrap().to_string();
        let data = format!(r#"{{"id":"{id}","version":7,"run":1,"progress":{{"stage":"encode","percent":12.5}}}}"#);
        assert_eq!(text(&far, "7.0"), format!("event: progress\ndata: {data}\nid: 7.0\n\n"));
        let line = r#"{"n":3,"time":"2026-01-01T00:00:00Z","run":1,"level":"warn","text":"slow"}"#;
        let told = Told::Line(serde_json::from_str(line).unwrap(), 0);
        assert_eq!(text(&told, "7.3"), format!("event: log\ndata: {line}\nid: 7.3\n\n"));
        let gap = Gap { since: Timestamp::UNIX_EPOCH, missed: Some(2), reason: GapReason::SlowReader };
        let data = r#"{"since":"1970-01-01T00:00:00Z","missed":2,"reason":"slow_reader"}"#;
        assert_eq!(text(&Told::Gap(Missed::by(&gap)), "0"), format!("event: gap\ndata: {data}\nid: 0\n\n"));
        let live = Told::Live(Live { jobs: 3, more: false });
        assert_eq!(text(&live, "1"), "event: live\ndata: {\"jobs\":3,\"more\":false}\nid: 1\n\n");
    }
}
