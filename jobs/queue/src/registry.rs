//! The worker processes of a queue: what each says of itself every second, and what it is told then.

use std::{collections::HashMap, time::Duration};

use fourmi_model::{JobId, MAX_WORKER_JOBS, QueueName, WorkerInfo};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    QueueError, Queues, Transitions,
    link::Link,
    queues::milliseconds,
    read::{meta_key, timestamp},
    scripts,
};

/// A process that has been silent for this long is dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// What a worker process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// Jobs that it may run at the same time: its share of the queue's slots if they are set, else its own.
    pub slots: u32,
    /// Whether it shall fetch no more jobs, and end when its runs have.
    pub drain: bool,
}

impl Transitions {
    /// Says that a worker process lives; to be repeated every second. Processes that have been silent for 15 seconds are
    /// forgotten.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn beat(&self, worker: &WorkerInfo) -> Result<Orders, QueueError> {
        let mut call = self.call(&scripts::BEAT);
        call.arg(&worker.name).arg(milliseconds(SILENCE)).arg(worker.slots).arg(u8::from(worker.draining));
        let kinds: Vec<String> = worker.kinds.iter().map(|(kind, version)| format!("{kind}:{version}")).collect();
        let jobs = worker.jobs.iter().take(MAX_WORKER_JOBS).map(|id| id.uuid().hyphenated().to_string());
        call.arg("host").arg(&worker.host).arg("pid").arg(worker.pid).arg("version").arg(&worker.version);
        call.arg("kinds").arg(kinds.join(" ")).arg("busy").arg(worker.busy);
        call.arg("jobs").arg(jobs.collect::<Vec<_>>().join(" "));
        call.arg("memory").arg(worker.memory_bytes).arg("cpu").arg(format!("{:.1}", worker.cpu_percent));
        call.arg("start").arg(worker.started_at.as_millisecond());
        let (slots, drain): (u32, u8) = self.link().invoke(&call).await?;
        Ok(Orders { slots, drain: drain == 1 })
    }

    /// Says that a worker process ends: it is forgotten at once.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn leave(&self, worker: &str) -> Result<(), QueueError> {
        let mut call = self.call(&scripts::LEAVE);
        let _known: u8 = self.link().invoke(call.arg(worker)).await?;
        Ok(())
    }
}

impl Queues {
    /// The live worker processes of a queue, by name; 1,000 at most.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn workers(&self, queue: &QueueName) -> Result<Vec<WorkerInfo>, QueueError> {
        workers(self.link(), queue).await
    }
}

/// Name, last sign of life (ms), whether it drains, fields.
type Entry = (String, f64, u8, HashMap<String, String>);

pub(crate) async fn workers(link: &Link, queue: &QueueName) -> Result<Vec<WorkerInfo>, QueueError> {
    let mut call = scripts::WORKERS.key(meta_key(queue));
    let entries: Vec<Entry> = link.invoke(call.arg(milliseconds(SILENCE))).await?;
    let mut workers: Vec<_> = entries.into_iter().map(|entry| worker(queue, entry)).collect();
    workers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(workers)
}

/// What cannot be read of a worker is left out: one of another version must not hide the others.
fn worker(queue: &QueueName, (name, last_seen, draining, fields): Entry) -> WorkerInfo {
    let text = |name: &str| fields.get(name).map_or("", String::as_str);
    let number = |name: &str| text(name).parse().unwrap_or(0);
    let kind = |entry: &str| {
        let (kind, version) = entry.split_once(':')?;
        Some((kind.parse().ok()?, version.parse().ok()?))
    };
    let id = |uuid: &str| Uuid::try_parse(uuid).ok().map(|uuid| JobId::from_parts(queue.clone(), uuid));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a score is a time in ms")]
    let last_seen = timestamp(last_seen as u64).unwrap_or_default();
    WorkerInfo {
        queue: queue.clone(),
        host: text("host").to_owned(),
        pid: number("pid"),
        version: text("version").to_owned(),
        kinds: text("kinds").split_whitespace().filter_map(kind).collect(),
        slots: number("slots"),
        busy: number("busy"),
        jobs: text("jobs").split_whitespace().filter_map(id).collect(),
        memory_bytes: text("memory").parse().unwrap_or(0),
        cpu_percent: text("cpu").parse().unwrap_or(0.0),
        started_at: text("start").parse().ok().and_then(timestamp).unwrap_or(Timestamp::UNIX_EPOCH),
        last_seen,
        draining: draining == 1,
        name,
    }
}
