//! What a scheduler counts, for Prometheus.

use fourmi_model::FireOutcome;
use fourmi_queue::Queues;
use fourmi_telemetry::metrics::{ANSWER_SECONDS, Snapshot};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// What a scheduler counts.
pub struct Metrics {
    counted: Registry,
    ticks: Family<OfTick, Counter>,
    lag: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTick {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut counted = Registry::default();
        let (ticks, lag) = (Family::<OfTick, Counter>::default(), Histogram::new(ANSWER_SECONDS));
        counted.register("fourmi_schedule_ticks", "Ticks, by what became of them", ticks.clone());
        counted.register("fourmi_schedule_lag_seconds", "How long after they were due jobs were made", lag.clone());
        Self { counted, ticks, lag }
    }
}

impl Metrics {
    /// Something became of a tick.
    pub(crate) fn tick(&self, outcome: FireOutcome) {
        self.ticks.get_or_create(&OfTick { outcome: outcome.as_str() }).inc();
    }

    /// A job was made that was due at this time.
    pub(crate) fn made(&self, due_at: Timestamp, now: Timestamp) {
        self.lag.observe(now.duration_since(due_at).as_secs_f64().max(0.0));
    }

    /// The page of this moment.
    pub async fn page(&self, queues: &Queues) -> String {
        let mut snapshot = Snapshot::of_this_process();
        snapshot.redis(queues).await;
        snapshot.page(&self.counted)
    }
}
