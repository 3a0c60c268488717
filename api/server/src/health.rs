//! How the parts of the platform are, asked of them at most once in a while however many want to know.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use fourmi_kinds::catalogue;
use fourmi_model::{HealthStatus, QueueName};
use fourmi_queue::{Queues, RedisHealth};
use fourmi_records::Records;
use fourmi_retention::{Reserve, room};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};

use crate::disk::Disk;

/// For how long an answer stands.
const FRESH: Duration = Duration::from_secs(1);

/// The longest that a part may take to answer.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Room for files below which the platform is not well.
const LITTLE_ROOM: Reserve = Reserve::new(1 << 30);

/// How a part of the platform is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Part {
    /// The part.
    pub(crate) status: HealthStatus,
    /// How long it takes to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<f64>,
    /// What is wrong, or how it is, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// How the platform is, part by part.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// The platform as a whole.
    pub(crate) status: HealthStatus,
    /// Redis, which holds the jobs.
    pub(crate) redis: Part,
    /// The database of what jobs leave behind.
    pub(crate) records: Part,
    /// The files.
    pub(crate) files: Part,
    /// The worker processes, by queue.
    pub(crate) workers: Vec<QueueWorkers>,
}

/// The worker processes of a queue.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct QueueWorkers {
    /// The queue.
    pub(crate) queue: QueueName,
    /// `degraded` if jobs wait and nobody runs them; `not_configured` if nobody does and none wait.
    pub(crate) status: HealthStatus,
    /// Processes that live.
    pub(crate) processes: usize,
    /// Jobs that they may run at the same time.
    pub(crate) slots: u32,
    /// Jobs that they run.
    pub(crate) busy: u32,
}

/// Asks the parts.
#[derive(Clone)]
pub struct Checkup {
    parts: Arc<Parts>,
    newest: Arc<Mutex<Option<Answer>>>,
}

/// When a report was made, and the report.
type Answer = (Instant, Arc<Report>);

struct Parts {
    queues: Queues,
    records: Records,
    files: PathBuf,
    disk: Disk,
}

impl Checkup {
    /// Of these parts; `files` is the folder of the files.
    pub fn new(queues: Queues, records: Records, files: PathBuf, disk: Disk) -> Self {
        Self { parts: Arc::new(Parts { queues, records, files, disk }), newest: Arc::default() }
    }

    /// How the platform is, or was less than a second ago.
    pub(crate) async fn report(&self) -> Arc<Report> {
        let mut newest = self.newest.lock().await;
        if let Some((_, report)) = newest.as_ref().filter(|(asked, _)| asked.elapsed() < FRESH) {
            return Arc::clone(report);
        }
        let report = Arc::new(self.parts.ask().await);
        *newest = Some((Instant::now(), Arc::clone(&report)));
        report
    }
}

impl Parts {
    async fn ask(&self) -> Report {
        let (redis, records, files, workers) = tokio::join!(self.redis(), self.records(), self.files(), self.workers());
        let workers = workers.unwrap_or_default();
        let others = [records.status, files.status].into_iter().chain(workers.iter().map(|queue| queue.status));
        // Without records and files jobs still run.
        let others =
            others.max().map_or(HealthStatus::Ok, |worst| worst.clamp(HealthStatus::Ok, HealthStatus::Degraded));
        Report { status: redis.status.max(others), redis, records, files, workers }
    }

    async fn redis(&self) -> Part {
        match timeout(LONGEST, self.queues.health()).await {
            Ok(Ok(health)) => judge(&health),
            Ok(Err(error)) => down("Redis", &error),
            Err(_) => down("Redis", &"no answer"),
        }
    }

    async fn records(&self) -> Part {
        let asked = Instant::now();
        match timeout(LONGEST, self.records.ping()).await {
            Ok(Ok(_)) => {
                Part { status: HealthStatus::Ok, latency_ms: Some(milliseconds(asked.elapsed())), detail: None }
            }
            Ok(Err(error)) => down("the records", &error),
            Err(_) => down("the records", &"no answer"),
        }
    }

    async fn files(&self) -> Part {
        let folder = self.files.clone();
        let asked = Instant::now();
        match timeout(LONGEST, tokio::task::spawn_blocking(move || room(&folder))).await {
            Ok(Ok(Ok(room))) => {
                let is_full = self.disk.is_full();
                let is_tight = is_full || room.free < LITTLE_ROOM.of(room);
                let why = if is_full { "; a disk is full: new jobs and files are refused" } else { "" };
                Part {
                    status: if is_tight { HealthStatus::Degraded } else { HealthStatus::Ok },
                    latency_ms: Some(milliseconds(asked.elapsed())),
                    detail: Some(format!("{} MiB free{why}", room.free >> 20)),
                }
            }
            Ok(Ok(Err(error))) => down("the folder of files", &error),
            _ => down("the folder of files", &"no answer"),
        }
    }

    async fn workers(&self) -> Option<Vec<QueueWorkers>> {
        let mut all = Vec::new();
        for queue in catalogue().queues() {
            let asked = async { tokio::join!(self.queues.workers(&queue), self.queues.counts(&queue)) };
            let (Ok(workers), Ok(counts)) = timeout(LONGEST, asked).await.ok()? else { return None };
            let waiting = counts.0.get(&fourmi_model::State::Waiting).copied().unwrap_or(0);
            let status = match (workers.is_empty(), waiting) {
                (false, _) => HealthStatus::Ok,
                (true, 0) => HealthStatus::NotConfigured,
                (true, _) => HealthStatus::Degraded,
            };
            let (slots, busy) = workers.iter().fold((0, 0), |(slots, busy), it| (slots + it.slots, busy + it.busy));
            all.push(QueueWorkers { queue, status, processes: workers.len(), slots, busy });
        }
        Some(all)
    }
}

fn judge(health: &RedisHealth) -> Part {
    // From nine tenths on, jobs are refused.
    let full = health.max_memory.is_some_and(|most| health.used_memory >= most / 10 * 9);
    Part {
        status: if full { HealthStatus::Degraded } else { HealthStatus::Ok },
        latency_ms: Some(milliseconds(health.latency)),
        detail: full.then(|| "its memory is nearly full: new jobs are refused".to_owned()),
    }
}

/// Why it is down is for the log: it may hold addresses.
fn down(what: &str, why: &dyn std::fmt::Display) -> Part {
    tracing::warn!(%why, "{what}: not well");
    Part {
        status: HealthStatus::Down,
        latency_ms: None,
        detail: Some("it does not answer as it should; the log says why".to_owned()),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
