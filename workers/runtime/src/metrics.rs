//! What a worker counts, for Prometheus.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fourmi_model::QueueName;
use fourmi_queue::{BackendHandle, Load, Outcome, Queues};
use fourmi_telemetry::metrics::{Snapshot, WORK_SECONDS};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::handler::Handlers;

/// Stands for every kind that this worker does not know, and for every stage beyond [`MOST_STAGES`].
const OTHER: &str = "other";

/// Stages that are told apart. Handlers name them, and every name is kept for ever.
const MOST_STAGES: usize = 64;

/// What a worker counts.
pub(crate) struct Metrics {
    counted: Registry,
    kinds: Vec<&'static str>,
    waits: Family<OfKind, Histogram>,
    runs: Family<OfRun, Histogram>,
    stages: Family<OfStage, Histogram>,
    known_stages: Mutex<HashSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRun {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    kind: &'static str,
    stage: String,
}

fn histograms<L: Clone + Eq + std::hash::Hash>() -> Family<L, Histogram> {
    Family::new_with_constructor(|| Histogram::new(WORK_SECONDS))
}

impl Metrics {
    pub(crate) fn new(queue: &QueueName, handlers: &Handlers) -> Self {
        let mut counted = Registry::with_labels([("queue".into(), queue.to_string().into())].into_iter());
        let (waits, runs, stages) = (histograms(), histograms(), histograms());
        counted.register("fourmi_job_wait_seconds", "How long jobs waited since they could run", waits.clone());
        counted.register("fourmi_job_run_seconds", "How long runs took, by what came of them", runs.clone());
        counted.register("fourmi_job_stage_seconds", "How long the stages of runs took", stages.clone());
        let kinds = handlers.keys().copied().collect();
        Self { counted, kinds, waits, runs, stages, known_stages: Mutex::default() }
    }

    /// A run starts, of a job that has waited for so long.
    pub(crate) fn starts(self: &Arc<Self>, kind: &str, waited: Duration) -> RunMetrics {
        let kind = self.kinds.iter().find(|known| **known == kind).copied().unwrap_or(OTHER);
        self.waits.get_or_create(&OfKind { kind }).observe(waited.as_secs_f64());
        let metrics = Arc::clone(self);
        RunMetrics { metrics, kind, started: Instant::now(), stage: Mutex::default() }
    }

    /// The page of this moment.
    pub(crate) async fn page(&self, queues: &Queues, backend: &BackendHandle) -> String {
        let mut snapshot = Snapshot::of_this_process();
        snapshot.redis(queues).await;
        let Load { slots, busy, held } = backend.load();
        for (name, help, value) in [
            ("fourmi_worker_slots", "Jobs that this process may run at the same time", slots),
            ("fourmi_worker_busy_slots", "Jobs that this process runs", busy),
            (
                "fourmi_worker_held_runs",
                "Runs that this process holds: waiting for a slot, running, being settled",
                held,
            ),
        ] {
            snapshot.gauge(name, help, value as f64);
        }
        snapshot.page(&self.counted)
    }

    fn observe_stage(&self, kind: &'static str, stage: String, lasted: Duration) {
        let mut known = self.known_stages.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = known.contains(&stage) || (known.len() < MOST_STAGES && known.insert(stage.clone()));
        drop(known);
        let stage = if is_known { stage } else { OTHER.to_owned() };
        self.stages.get_or_create(&OfStage { kind, stage }).observe(lasted.as_secs_f64());
    }
}

/// What is counted of one run.
pub(crate) struct RunMetrics {
    metrics: Arc<Metrics>,
    kind: &'static str,
    started: Instant,
    stage: Mutex<Option<(String, Instant)>>,
}

impl RunMetrics {
    /// The run says in which stage it is.
    pub(crate) fn is_in(&self, stage: &str) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|(name, _)| name == stage) {
            return;
        }
        if let Some((ended, since)) = current.replace((stage.to_owned(), Instant::now())) {
            self.metrics.observe_stage(self.kind, ended, since.elapsed());
        }
    }

    /// The run has ended.
    pub(crate) fn ended(&self, outcome: &Outcome) {
        if let Some((ended, since)) = self.stage.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.metrics.observe_stage(self.kind, ended, since.elapsed());
        }
        let labels = OfRun { kind: self.kind, outcome: outcome.as_str() };
        self.metrics.runs.get_or_create(&labels).observe(self.started.elapsed().as_secs_f64());
    }
}
