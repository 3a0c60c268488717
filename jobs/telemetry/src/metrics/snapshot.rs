//! What is looked up when somebody asks.

use std::{sync::atomic::AtomicU64, time::Duration};

use fourmi_queue::{Queues, RedisHealth};
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::time::timeout;

use crate::process;

/// The longest that Redis may take to say how it is.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Names and values; of a family, each time the same names.
pub type Labels = Vec<(&'static str, String)>;

/// Figures of one moment.
#[derive(Debug, Default)]
pub struct Snapshot(Registry);

impl Snapshot {
    /// The figures of this process, to which others are added.
    pub fn of_this_process() -> Self {
        let mut snapshot = Self::default();
        snapshot.gauges(
            "fourmi_build_info",
            "The version of the program; always 1",
            [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
        );
        let Some(now) = process::figures() else { return snapshot };
        for (name, help, value) in [
            ("process_cpu_seconds", "Processor time used", now.cpu.as_secs_f64()),
            (
                "fourmi_children_cpu_seconds",
                "Processor time of child processes that have ended",
                now.children_cpu.as_secs_f64(),
            ),
        ] {
            snapshot.counters(name, help, [(Labels::new(), value)]);
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use", now.resident_bytes as f64),
            (
                "fourmi_children_resident_memory_bytes",
                "Memory of child processes, and of what they have started",
                now.children_resident_bytes as f64,
            ),
            ("process_threads", "Threads", now.threads as f64),
            ("process_open_fds", "Open file descriptors", now.open_descriptors as f64),
            ("process_max_fds", "File descriptors that may be open", now.most_descriptors as f64),
            ("process_start_time_seconds", "When the process started, since 1970", now.started_at.as_secs_f64()),
        ] {
            snapshot.gauge(name, help, value);
        }
        snapshot
    }

    /// Adds a figure that may fall. The help has no full stop.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Labels::new(), value)]);
    }

    /// Adds figures of one name that may fall.
    pub fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    /// Adds figures of one name that only grow. `_total` is added to the name.
    pub fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    /// Adds how Redis is, asked now; whether it answers.
    pub async fn redis(&mut self, queues: &Queues) -> bool {
        let health = timeout(LONGEST, queues.health()).await.ok().and_then(Result::ok);
        self.gauge("fourmi_redis_up", "Whether Redis answers", f64::from(u8::from(health.is_some())));
        let Some(RedisHealth { latency, used_memory, max_memory, .. }) = health else { return false };
        self.gauge("fourmi_redis_ping_seconds", "How long Redis took to answer", latency.as_secs_f64());
        self.gauge("fourmi_redis_memory_used_bytes", "Memory that Redis uses", used_memory as f64);
        if let Some(most) = max_memory {
            self.gauge("fourmi_redis_memory_max_bytes", "Memory that Redis may use", most as f64);
        }
        true
    }

    /// The page: these figures, and those that were counted.
    pub fn page(&self, counted: &Registry) -> String {
        let mut page = String::new();
        for registry in [&self.0, counted] {
            // Writing to a text cannot fail.
            let _ = prometheus_text::encode(&mut page, registry);
        }
        page
    }
}
