//! The figures of the platform, for Prometheus: what this process counts, and what is asked of the others when somebody
//! looks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fourmi_kinds::catalogue;
use fourmi_model::{HealthStatus, QueueName, State};
use fourmi_queue::{Figures, OutboxState, Queues, Totals};
use fourmi_records::{Connections, Provider, Records, Spending};
use fourmi_retention::{Room, room};
use fourmi_telemetry::metrics::{ANSWER_SECONDS, Labels, Snapshot};
use futures_util::future::join_all;
use jiff::{Timestamp, tz::TimeZone};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use salvo::http::Method;
use tokio::time::{Instant, timeout};

use crate::{routes::providers::from_thousandths, sse::Streams};

/// The longest that a part may take to answer.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Stands for whatever is not known: every address without a route is one.
const OTHER: &str = "other";

/// How long requests took; cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests(Family<OfRequest, Histogram>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    method: &'static str,
    route: String,
    status: u16,
}

impl Default for Requests {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(ANSWER_SECONDS)))
    }
}

impl Requests {
    /// Counts a request on a route (its pattern; nothing if there is none).
    pub(crate) fn observe(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => OTHER,
        };
        let route = if route.is_empty() { OTHER.to_owned() } else { format!("/{}", route.trim_start_matches('/')) };
        self.0.get_or_create(&OfRequest { method, route, status }).observe(took.as_secs_f64());
    }
}

/// How often callers ran into a limit of this process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LimitHits(Family<OfLimit, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLimit {
    limit: &'static str,
}

impl LimitHits {
    pub(crate) fn count(&self, limit: &'static str) {
        self.0.get_or_create(&OfLimit { limit }).inc();
    }
}

/// What the figures are made of; cheap to clone.
#[derive(Clone)]
pub struct Monitor(Arc<Parts>);

struct Parts {
    counted: Registry,
    queues: Queues,
    records: Records,
    streams: Streams,
    files: PathBuf,
}

impl Monitor {
    /// Of these parts; `files` is the folder of the files.
    pub fn new(
        requests: &Requests,
        hits: &LimitHits,
        queues: Queues,
        records: Records,
        streams: Streams,
        files: PathBuf,
    ) -> Self {
        let mut counted = Registry::default();
        let help = "How long requests took until their answer began";
        counted.register("fourmi_http_request_duration_seconds", help, requests.0.clone());
        counted.register("fourmi_limit_hits", "Requests that were refused because of a limit", hits.0.clone());
        Self(Arc::new(Parts { counted, queues, records, streams, files }))
    }

    /// The page of this moment.
    pub(crate) async fn page(&self) -> String {
        let parts = &self.0;
        let mut snapshot = Snapshot::of_this_process();
        snapshot.gauge("fourmi_sse_streams", "Open streams of events", parts.streams.count() as f64);
        let (redis, queues, records, providers, room) = tokio::join!(
            snapshot.redis(&parts.queues),
            parts.queues(),
            parts.records(),
            parts.providers(),
            parts.room()
        );
        if redis {
            add_queues(&mut snapshot, &queues);
        }
        add_records(&mut snapshot, records, parts.records.connections());
        if let Some((providers, spending)) = providers {
            add_providers(&mut snapshot, &providers, &spending);
        }
        if let Some(room) = room {
            snapshot.gauge("fourmi_files_free_bytes", "Room for files", room.free as f64);
            snapshot.gauge("fourmi_files_size_bytes", "Size of the disk of the files", room.all as f64);
        }
        snapshot.page(&parts.counted)
    }
}

impl Parts {
    /// The queues that could be asked.
    async fn queues(&self) -> Vec<(QueueName, Figures)> {
        let ask = |queue: QueueName| async move {
            let figures = timeout(LONGEST, self.queues.figures(&queue)).await;
            Some((queue, figures.ok()?.ok()?))
        };
        join_all(catalogue().queues().into_iter().map(ask)).await.into_iter().flatten().collect()
    }

    /// How long the records take to answer; `None` if they do not.
    async fn records(&self) -> Option<Duration> {
        let asked = Instant::now();
        timeout(LONGEST, self.records.ping()).await.ok()?.ok()?;
        Some(asked.elapsed())
    }

    /// How the providers of messages are, and what was spent with them this month; `None` if the records do not say.
    async fn providers(&self) -> Option<(Vec<Provider>, Vec<Spending>)> {
        let month = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string();
        let asked = async { tokio::try_join!(self.records.providers(), self.records.spending(&month)) };
        timeout(LONGEST, asked).await.ok()?.ok()
    }

    async fn room(&self) -> Option<Room> {
        let folder = self.files.clone();
        timeout(LONGEST, tokio::task::spawn_blocking(move || room(&folder))).await.ok()?.ok()?.ok()
    }
}

/// One figure of a queue, or several with a label more.
type Of = fn(&Figures) -> f64;

fn add_queues(snapshot: &mut Snapshot, queues: &[(QueueName, Figures)]) {
    let of = |queue: &QueueName| ("queue", queue.to_string());
    let states = queues.iter().flat_map(|(queue, it)| {
        let count = |state: &State| it.counts.0.get(state).copied().unwrap_or(0) as f64;
        State::ALL.iter().map(move |state| (vec![of(queue), ("state", state.to_string())], count(state)))
    });
    snapshot.gauges("fourmi_queue_jobs", "Jobs by state", states);
    let parked = queues.iter().flat_map(|(queue, it)| {
        let labels = |reason: &str| vec![of(queue), ("reason", reason.to_owned())];
        it.parked.iter().map(move |(reason, count)| (labels(reason.as_str()), *count as f64))
    });
    snapshot.gauges("fourmi_queue_parked_jobs", "Parked jobs by what they wait for", parked);

    let each = |of_queue: Of| {
        queues.iter().map(move |(queue, it)| (vec![("queue", queue.to_string())], of_queue(it))).collect::<Vec<_>>()
    };
    let gauges: [(&str, &str, Of); 7] = [
        ("fourmi_queue_oldest_waiting_age_seconds", "Age of the oldest job at the head of a lane", |it| {
            it.oldest_waiting.as_secs_f64()
        }),
        ("fourmi_queue_paused", "Whether no job is started", |it| f64::from(u8::from(it.paused))),
        ("fourmi_queue_workers", "Live worker processes", |it| it.workers.len() as f64),
        ("fourmi_queue_slots", "Slots of live worker processes", |it| {
            it.workers.iter().map(|worker| f64::from(worker.slots)).sum()
        }),
        ("fourmi_queue_busy_slots", "Slots that are in use", |it| {
            it.workers.iter().map(|worker| f64::from(worker.busy)).sum()
        }),
        ("fourmi_queue_outbox_jobs", "Finished jobs on their way into the records", |it| outbox(it).waiting as f64),
        ("fourmi_queue_workers_memory_bytes", "Memory of live worker processes", |it| {
            it.workers.iter().map(|worker| worker.memory_bytes as f64).sum()
        }),
    ];
    for (name, help, of_queue) in gauges {
        snapshot.gauges(name, help, each(of_queue));
    }
    let counters: [(&str, &str, OfTotals); 5] = [
        ("fourmi_queue_runs_started", "Runs that started", |it| it.started),
        ("fourmi_queue_retries", "Runs after which the job is tried again", |it| it.retries),
        ("fourmi_queue_crashes", "Runs that took their process down", |it| it.crashes),
        ("fourmi_queue_dead_letters", "Jobs that failed for good", |it| it.dead),
        ("fourmi_queue_leases_reclaimed", "Leases that ran out and were taken back", |it| it.reclaimed),
    ];
    let total = |of_queue: OfTotals| {
        let labels = |queue: &QueueName| -> Labels { vec![("queue", queue.to_string())] };
        queues.iter().map(move |(queue, it)| (labels(queue), of_queue(&it.totals) as f64)).collect::<Vec<_>>()
    };
    for (name, help, of_queue) in counters {
        snapshot.counters(name, help, total(of_queue));
    }
    let help = "Finished jobs that were left unrecorded because too many waited";
    snapshot.counters("fourmi_queue_outbox_dropped", help, each(|it| outbox(it).dropped as f64));
}

/// One of a queue's totals.
type OfTotals = fn(&Totals) -> u64;

fn outbox(figures: &Figures) -> OutboxState {
    figures.outbox.unwrap_or(OutboxState { waiting: 0, dropped: 0 })
}

fn add_records(snapshot: &mut Snapshot, ping: Option<Duration>, connections: Connections) {
    snapshot.gauge("fourmi_records_up", "Whether the records answer", f64::from(u8::from(ping.is_some())));
    if let Some(took) = ping {
        snapshot.gauge("fourmi_records_ping_seconds", "How long the records took to answer", took.as_secs_f64());
    }
    let Connections { busy, idle, most } = connections;
    let by_state = [("busy", busy), ("idle", idle)];
    let by_state = by_state.map(|(state, count)| (vec![("state", state.to_owned())], count as f64));
    snapshot.gauges("fourmi_records_connections", "Open connections to the database of the records", by_state);
    snapshot.gauge("fourmi_records_connections_max", "Connections that may be open", most as f64);
}

/// One figure of a provider, if it is known.
type OfProvider = fn(&Provider) -> Option<f64>;

fn add_providers(snapshot: &mut Snapshot, providers: &[Provider], spending: &[Spending]) {
    let account = |name: &str| ("account", name.to_owned());
    let requests = providers.iter().flat_map(|it| {
        let by_outcome = [("answered", it.answers), ("outage", it.outages)];
        by_outcome.map(|(outcome, count)| (vec![account(&it.account), ("outcome", outcome.to_owned())], count as f64))
    });
    let help = "Requests of jobs to providers of messages, by whether they were answered";
    snapshot.counters("fourmi_provider_requests", help, requests);
    let gauges: [(&str, &str, OfProvider); 5] = [
        ("fourmi_provider_up", "Whether jobs are sent to the provider, and not parked because it is down", |it| {
            Some(f64::from(u8::from(it.down_since.is_none())))
        }),
        ("fourmi_provider_latency_seconds", "How long answers of the provider took lately", |it| {
            it.latency_ms.map(|ms| ms as f64 / 1_000.0)
        }),
        ("fourmi_provider_credits", "Credits that are left with the provider", |it| it.credits.map(from_thousandths)),
        ("fourmi_provider_check_ok", "Whether the last check of the provider found nothing wrong", |it| {
            it.check.as_ref().map(|check| f64::from(u8::from(check.status == HealthStatus::Ok)))
        }),
        ("fourmi_provider_checked_timestamp_seconds", "When the provider was checked last, since 1970", |it| {
            it.check.as_ref().map(|check| check.at.as_millisecond() as f64 / 1_000.0)
        }),
    ];
    for (name, help, of_provider) in gauges {
        let known = providers.iter().filter_map(|it| Some((vec![account(&it.account)], of_provider(it)?)));
        snapshot.gauges(name, help, known);
    }
    let spent = spending.iter().map(|Spending { tenant, account: name, amount }| {
        let tenant = tenant.as_ref().map(ToString::to_string).unwrap_or_default();
        (vec![account(name), ("tenant", tenant)], from_thousandths(*amount))
    });
    snapshot.gauges("fourmi_provider_spent_credits", "What was spent with the provider this month of UTC", spent);
}
