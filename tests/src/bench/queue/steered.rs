//! What tenants, limits, uniqueness and history cost together, how long one tenant waits for another, and how soon a change
//! is in force.

use std::time::{Duration, Instant};

use fourmi_model::{JobId, Limit, LimitName, State, Submission, TenantName, Unique, UniqueUntil};
use fourmi_queue::{Consumer, Outbox, OutboxConfig, Queues, Transitions};
use tempfile::TempDir;

use super::{Bench, Drained, Tick, drain_of, enqueue_with, queue};
use crate::{Program, RedisServer, bench::Goal, bench::Report, bench::quantile, eventually_async};

/// Jobs of a drain.
const JOBS: u64 = 100_000;

const TENANTS: u64 = 100;

/// Jobs that are over and kept: few, so that the drain forgets as many as it finishes.
const KEPT: &str = "10000";

impl Bench<'_> {
    /// The drain of jobs of a hundred tenants in lanes, under one limit that counts every run, each of which excludes its
    /// like, with their records taken out of the outbox and finished jobs forgotten on the way; and the plain drain of as
    /// many, with as many forgotten. In turns, because the machine is not always the same.
    pub(super) async fn loaded(&self, report: &mut Report) {
        eprintln!("drain with everything on{} …", self.suffix);
        let (mut ratios, mut rates, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let plain = drain_forgetting(&self.redis(), |id| Tick::now(id).submission(), false).await;
            let redis = self.redis();
            let queues = Queues::connect(&redis.url()).await.unwrap();
            let limit = Limit { concurrency: Some(2_000), rate: None };
            assert!(queues.set_limit(&queue(), &host(), Some(limit)).await.unwrap());
            let loaded = drain_forgetting(&redis, everything, true).await;
            ratios.push(loaded.rate / plain.rate);
            rates.push(loaded.rate);
            costs.push(loaded.redis_us);
        }
        self.add(report, "drain_loaded", "/s", Goal::None, &rates);
        self.add(report, "drain_loaded_redis_cpu", "us/job", Goal::None, &costs);
        self.add(report, "drain_loaded_ratio", "x", Goal::AtLeast(0.4), &ratios);
    }

    /// How many jobs start between the push of a tenant's only job and its start, while another has 100,000 and a hundred
    /// others have some.
    pub(super) async fn fairness(&self, report: &mut Report) {
        eprintln!("fairness{} …", self.suffix);
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, queue()).await.unwrap();
        enqueue_with(&queues, 0..100_000, |id| of_tenant(id, "big")).await;
        enqueue_with(&queues, 0..50_000, |id| of_tenant(id, &format!("t{}", id % TENANTS))).await;
        let mut delays = Vec::new();
        for single in 0..500 {
            let job = of_tenant(single, &format!("single{single}"));
            let id = queues.push(JobId::new(queue()), job).await.unwrap().unwrap().id;
            let mut before = 0;
            loop {
                let fetched = transitions.fetch("bench", 1, Duration::from_secs(60), false).await.unwrap();
                if fetched.claims.iter().any(|claim| claim.id == id) {
                    break;
                }
                before += fetched.claims.len();
            }
            delays.push(before as f64);
        }
        delays.sort_by(f64::total_cmp);
        // A turn of the ring: the big one, a hundred others, and those singles that have not left it yet.
        let turn = Goal::AtMost(TENANTS as f64 + 2.0);
        self.add(report, "fair_delay_jobs_p99", "jobs", turn, &[quantile(&delays, 0.99)]);
    }

    /// From the call that changes a cap, or the slots of all processes, until it is so.
    pub(super) async fn changes(&self, report: &mut Report) {
        eprintln!("changes{} …", self.suffix);
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let data = TempDir::new().unwrap();
        let worker = || {
            let environment = [
                ("REDIS_URL", redis.url()),
                ("FOURMI_DATA", data.path().display().to_string()),
                ("FOURMI_SLOTS", "8".to_owned()),
                ("BENCH_WORK_MS", "20".to_owned()),
            ];
            let program = Program::start("fourmi-bench", &["worker"], environment);
            program.wait_for_line("ready");
            program
        };
        let _workers = [worker(), worker()];
        enqueue_with(&queues, 0..20_000, |id| Tick::now(id).submission()).await;
        let running = async || queues.counts(&queue()).await.unwrap().0[&State::Running];
        let (mut caps, mut shares) = (Vec::new(), Vec::new());
        for cap in [2, 12, 4, 16, 1, 10] {
            queues.set_cap(&queue(), Some(cap)).await.unwrap();
            let changed = Instant::now();
            let reached = async || (running().await == u64::from(cap)).then_some(());
            eventually_async("as many run as the cap says", reached).await;
            caps.push(changed.elapsed().as_secs_f64() * 1e3);
        }
        queues.set_cap(&queue(), None).await.unwrap();
        for slots in [4, 10, 2, 16, 6, 12] {
            queues.set_slots(&queue(), Some(slots)).await.unwrap();
            let changed = Instant::now();
            let reached = async || (running().await == u64::from(slots)).then_some(());
            eventually_async("as many run as there are slots", reached).await;
            shares.push(changed.elapsed().as_secs_f64() * 1e3);
        }
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        self.add(report, "scale_settle_cap_ms", "ms", Goal::AtMost(2_000.0), &[most(&caps)]);
        self.add(report, "scale_settle_ms", "ms", Goal::AtMost(2_000.0), &[most(&shares)]);
    }
}

fn host() -> LimitName {
    "host/bench".parse().unwrap()
}

fn of_tenant(id: u64, tenant: &str) -> Submission {
    Submission { tenant: Some(tenant.parse::<TenantName>().unwrap()), ..Tick::now(id).submission() }
}

fn everything(id: u64) -> Submission {
    Submission {
        limits: vec![host()],
        unique: Some(Unique { until: UniqueUntil::Finished, by: Vec::new() }),
        ..of_tenant(id, &format!("t{}", id % TENANTS))
    }
}

/// One worker empties a queue of such jobs; `recorded` if somebody takes them out of the outbox meanwhile.
async fn drain_forgetting(redis: &RedisServer, job: impl Fn(u64) -> Submission, recorded: bool) -> Drained {
    let queues = Queues::connect(&redis.url()).await.unwrap();
    let outbox = Outbox::of(&queues, queue(), Consumer::Records, OutboxConfig::default()).await.unwrap();
    let taking = recorded.then(|| {
        tokio::spawn(async move {
            loop {
                let batch = outbox.take(500).await.unwrap();
                if batch.is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                outbox.acknowledge(&batch).await.unwrap();
            }
        })
    });
    enqueue_with(&queues, 0..JOBS, job).await;
    let drained = drain_of(redis, &queues, JOBS, 1, &[("FOURMI_KEEP_DONE", KEPT)]).await;
    if let Some(taking) = taking {
        taking.abort();
    }
    drained
}
