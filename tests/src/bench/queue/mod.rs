//! What the queue costs, beside what Redis itself can do.

mod sketch;
mod steered;

use std::{
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fourmi_kinds::JobKind;
use fourmi_model::{JobId, QueueName, State, Submission};
use fourmi_queue::{Outcome, Queues, Settlement, Transitions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tempfile::TempDir;

use super::{Figure, Goal, Report};
use crate::{OtlpReceiver, Program, RedisServer, eventually_async};

/// The queue of the jobs that are only counted.
pub const QUEUE: &str = "bench";

/// A job that does nothing, with a payload of about 200 bytes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tick {
    /// Its number.
    pub id: u64,
    /// When it was made, on the monotonic clock, in nanoseconds.
    pub t0: u64,
    /// 150 characters.
    pub pad: String,
}

impl JobKind for Tick {
    const NAME: &'static str = "bench.tick";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Does nothing.";
    type Output = ();
}

impl Tick {
    /// A job made now.
    pub fn now(id: u64) -> Self {
        Self { id, t0: monotonic_ns(), pad: "x".repeat(150) }
    }

    /// It as a submission.
    pub fn submission(&self) -> Submission {
        let payload: Box<RawValue> = serde_json::value::to_raw_value(self).unwrap();
        Submission::new(Self::NAME.parse().unwrap(), payload)
    }
}

/// The monotonic clock, in nanoseconds; the same for all processes.
pub fn monotonic_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

/// The queue's name.
pub fn queue() -> QueueName {
    QUEUE.parse().unwrap()
}

/// Jobs of a drain, and of an enqueue that is not one by one.
const JOBS: u64 = 300_000;

/// Measures everything, once without and once with an append-only file; `full` adds what takes minutes.
pub async fn run(mut report: Report, full: bool) -> Report {
    for (suffix, options) in [
        ("", ["--appendonly", "no", "--appendfsync", "no"]),
        ("_aof", ["--appendonly", "yes", "--appendfsync", "everysec"]),
    ] {
        let bench = Bench { options: &options, suffix, full };
        bench.run(&mut report).await;
    }
    report
}

/// Measures only what traces cost a worker.
pub async fn traces(mut report: Report) -> Report {
    let bench = Bench { options: &["--appendonly", "no", "--appendfsync", "no"], suffix: "", full: false };
    bench.traced(&mut report).await;
    report
}

/// What is measured with one way of keeping Redis's data.
struct Bench<'a> {
    options: &'a [&'a str],
    suffix: &'a str,
    full: bool,
}

impl Bench<'_> {
    async fn run(&self, report: &mut Report) {
        let lpush = self.redis_itself(report);
        self.enqueue(report, lpush).await;
        self.drain(report, lpush).await;
        self.traced(report).await;
        self.loaded(report).await;
        self.fairness(report).await;
        self.changes(report).await;
        self.steady(report).await;
        self.latency(report).await;
        self.sizes(report).await;
        self.backlog(report).await;
    }

    fn redis(&self) -> RedisServer {
        RedisServer::with(self.options)
    }

    fn add(&self, report: &mut Report, name: &str, unit: &'static str, goal: Goal, values: &[f64]) -> f64 {
        let figure = Figure::of(format!("{name}{}", self.suffix), unit, goal, values);
        report.add(&figure);
        figure.value
    }

    fn redis_itself(&self, report: &mut Report) -> f64 {
        eprintln!("redis itself{} …", self.suffix);
        let redis = self.redis();
        let rates: Vec<f64> = (0..3).map(|_| lpush(&redis)).collect();
        self.add(report, "redis_lpush_50", "/s", Goal::None, &rates)
    }

    async fn enqueue(&self, report: &mut Report, lpush: f64) {
        eprintln!("enqueue{} …", self.suffix);
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let empty = used_memory(&redis);
        let one = rate(20_000, enqueue(&queues, 0..20_000, How::Seq, 1)).await;
        self.add(report, "enqueue_one_by_one", "/s", Goal::None, &[one]);
        let goal = Goal::AtLeast((0.9 * lpush).round());
        for (name, how, size, goal) in
            [("enqueue_64", How::Conc, 64, goal), ("enqueue_bulk", How::Bulk, 500, Goal::None)]
        {
            let (mut rates, mut ours, mut its) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..3 {
                clear(&redis);
                let before = (cpu_seconds(), cpu_of(redis.pid()));
                rates.push(rate(JOBS, enqueue(&queues, 0..JOBS, how, size)).await);
                ours.push(micros(cpu_seconds() - before.0, JOBS));
                its.push(micros(cpu_of(redis.pid()) - before.1, JOBS));
            }
            self.add(report, name, "/s", goal, &rates);
            self.add(report, &format!("{name}_client_cpu"), "us/job", Goal::None, &ours);
            self.add(report, &format!("{name}_redis_cpu"), "us/job", Goal::None, &its);
        }
        let payload = Tick::now(0).submission().envelope.payload.get().len();
        let bytes = (used_memory(&redis) - empty) / JOBS as f64;
        let most = Goal::AtMost(600.0 + payload as f64);
        self.add(report, "redis_bytes_per_waiting_job", "B", most, &[bytes]);
    }

    async fn drain(&self, report: &mut Report, lpush: f64) {
        for (name, workers) in [("drain_1_worker", 1), ("drain_2_workers", 2)] {
            eprintln!("drain with {workers}{} …", self.suffix);
            let (mut rates, mut ours, mut its) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..3 {
                let drained = drain(&self.redis(), JOBS, workers).await;
                rates.push(drained.rate);
                ours.push(drained.workers_us);
                its.push(drained.redis_us);
            }
            let goal = if workers == 1 { Goal::AtLeast((0.5 * lpush).round()) } else { Goal::None };
            self.add(report, name, "/s", goal, &rates);
            self.add(report, &format!("{name}_cpu"), "us/job", Goal::None, &ours);
            self.add(report, &format!("{name}_redis_cpu"), "us/job", Goal::None, &its);
        }
        eprintln!("the sketch{} …", self.suffix);
        let rates: Vec<f64> = (0..3).map(|_| sketch::drain(&self.redis(), JOBS)).collect();
        self.add(report, "sketch_drain", "/s", Goal::None, &rates);
    }

    /// The drain of a worker that traces one run of a hundred, and of one that traces none. In turns, because the machine is
    /// not always the same.
    async fn traced(&self, report: &mut Report) {
        eprintln!("drain with traces{} …", self.suffix);
        let collector = OtlpReceiver::start().await;
        let mut settings = collector.settings().to_vec();
        settings.push(("OTEL_TRACES_SAMPLER_ARG", "0.01"));
        let (mut ratios, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let (plain, traced) = (self.drain_with(&[]).await, self.drain_with(&settings).await);
            ratios.push(traced.rate / plain.rate);
            costs.push(traced.workers_us - plain.workers_us);
        }
        assert!(!collector.spans().is_empty(), "runs were traced");
        self.add(report, "drain_traced_ratio", "x", Goal::AtLeast(0.97), &ratios);
        self.add(report, "drain_traced_more_cpu", "us/job", Goal::None, &costs);
    }

    /// The drain of one worker with these settings.
    async fn drain_with(&self, settings: &[(&'static str, &str)]) -> Drained {
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        enqueue(&queues, 0..JOBS, How::Bulk, 10_000).await;
        drain_of(&redis, &queues, JOBS, 1, settings).await
    }

    /// A minute of pushing and draining at once; what is over is forgotten on the way, so Redis must not grow.
    async fn steady(&self, report: &mut Report) {
        eprintln!("a steady minute{} …", self.suffix);
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let (_worker, _data) = worker(&redis, None);
        let pushed = Arc::new(AtomicU64::new(0));
        let pushing = tokio::spawn(push_on(queues.clone(), pushed.clone()));
        let done = async || {
            let counts = queues.counts(&queue()).await.unwrap();
            pushed.load(Relaxed).saturating_sub(counts.0[&State::Waiting] + counts.0[&State::Running])
        };
        // As many as are kept, so that the rest of the minute forgets as many as it finishes.
        eventually_async("the first jobs are done", async || (done().await > 200_000).then_some(())).await;
        let (before, started) = (done().await, Instant::now());
        let mut memory = Vec::new();
        while started.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            memory.push(used_memory(&redis));
        }
        let rate = (done().await - before) as f64 / started.elapsed().as_secs_f64();
        pushing.abort();
        self.add(report, "drain_steady", "/s", Goal::None, &[rate]);
        let (first, second) = memory.split_at(memory.len() / 2);
        let usual = |part: &[f64]| Figure::of("", "B", Goal::None, part).value;
        self.add(report, "drain_steady_memory_growth", "x", Goal::AtMost(1.05), &[usual(second) / usual(first)]);
    }

    /// From the call that pushes a job to its handler, one job every 10 ms and a worker that has nothing else to do.
    async fn latency(&self, report: &mut Report) {
        eprintln!("latency{} …", self.suffix);
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let (worker, _data) = worker(&redis, Some(log.path()));
        self.add(report, "worker_rss_mib", "MiB", Goal::AtMost(30.0), &[resident(worker.pid())]);
        let jobs = 2_000;
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for id in 0..jobs {
            ticks.tick().await;
            enqueue(&queues, id..id + 1, How::Seq, 1).await;
        }
        let size = jobs * 24;
        let written = async || (log.as_file().metadata().unwrap().len() >= size).then_some(());
        eventually_async("all jobs run", written).await;
        let mut waits: Vec<f64> = std::fs::read(log.path())
            .unwrap()
            .chunks_exact(24)
            .map(|line| {
                let at = |n: usize| u64::from_le_bytes(line[n..n + 8].try_into().unwrap());
                (at(16) - at(8)) as f64 / 1e6
            })
            .collect();
        waits.sort_by(f64::total_cmp);
        for (name, share, goal) in
            [("p50", 0.5, Goal::AtMost(0.4)), ("p95", 0.95, Goal::None), ("p99", 0.99, Goal::AtMost(1.0))]
        {
            self.add(report, &format!("start_latency_{name}_ms"), "ms", goal, &[super::quantile(&waits, share)]);
        }
    }

    async fn sizes(&self, report: &mut Report) {
        let jobs = 90_000; // Fewer than are kept.
        let redis = self.redis();
        let empty = used_memory(&redis);
        drain(&redis, jobs, 1).await;
        let bytes = (used_memory(&redis) - empty) / jobs as f64;
        self.add(report, "redis_bytes_per_finished_job", "B", Goal::None, &[bytes]);
    }

    /// What a job costs Redis from its fetch to its end with a long queue behind it, against a short one.
    async fn backlog(&self, report: &mut Report) {
        if !self.full {
            return;
        }
        eprintln!("a million{} …", self.suffix);
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let short = self.cost_with_backlog(1_000).await;
            ratios.push(self.cost_with_backlog(1_000_000).await / short);
        }
        self.add(report, "drain_1m_ratio", "x", Goal::AtMost(1.25), &ratios);
    }

    /// Processor time of Redis per job, while as many jobs wait.
    async fn cost_with_backlog(&self, backlog: u64) -> f64 {
        let (jobs, step) = (100_000, 200);
        let redis = self.redis();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, queue()).await.unwrap();
        enqueue(&queues, 0..backlog, How::Bulk, 10_000).await;
        let mut cost = 0.0;
        for _ in 0..jobs / step {
            let before = cpu_nanos(redis.pid());
            let fetched = transitions.fetch("bench", 200, Duration::from_secs(60), false).await.unwrap();
            let settlements: Vec<_> = fetched
                .claims
                .iter()
                .map(|claim| Settlement {
                    run: claim.key(),
                    outcome: Outcome::Succeeded { result: String::new(), keep: Duration::from_secs(3600) },
                })
                .collect();
            assert_eq!(settlements.len() as u64, step);
            transitions.settle(&settlements).await.unwrap();
            cost += (cpu_nanos(redis.pid()) - before) as f64 / 1e3;
            transitions.trim(1_000, (0, 0)).await.unwrap();
            enqueue(&queues, 0..step, How::Bulk, step).await;
        }
        cost / jobs as f64
    }
}

/// Pushes as fast as the worker follows.
async fn push_on(queues: Queues, pushed: Arc<AtomicU64>) {
    loop {
        let waiting = queues.counts(&queue()).await.unwrap().0[&State::Waiting];
        if waiting > 20_000 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let from = pushed.load(Relaxed);
        enqueue(&queues, from..from + 5_000, How::Conc, 64).await;
        pushed.store(from + 5_000, Relaxed);
    }
}

/// A worker that is ready, and its folder.
fn worker(redis: &RedisServer, log: Option<&Path>) -> (Program, TempDir) {
    let data = TempDir::new().unwrap();
    let mut environment = vec![("REDIS_URL", redis.url()), ("FOURMI_DATA", data.path().display().to_string())];
    environment.extend(log.map(|log| ("BENCH_LOG", log.display().to_string())));
    let program = Program::start("fourmi-bench", &["worker"], environment);
    program.wait_for_line("ready");
    (program, data)
}

fn micros(seconds: f64, jobs: u64) -> f64 {
    seconds * 1e6 / jobs as f64
}

fn clear(redis: &RedisServer) {
    let () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
}

fn used_memory(redis: &RedisServer) -> f64 {
    let info: String = redis::cmd("INFO").arg("memory").query(&mut redis.connection()).unwrap();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).unwrap()
}

/// Resident memory of a process, in MiB.
pub(in crate::bench) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Processor time of all threads of a process so far, in seconds; to the hundredth.
pub(super) fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Processor time of the main thread of a process so far, in nanoseconds.
fn cpu_nanos(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn lpush(redis: &RedisServer) -> f64 {
    let socket = redis.url().trim_start_matches("redis+unix://").to_owned();
    let output = Command::new("redis-benchmark")
        .args(["-s", &socket, "-t", "lpush", "-d", "200", "-c", "50", "-n", "300000", "--csv"])
        .stderr(Stdio::null())
        .output()
        .expect("redis-tools is installed by scripts/setup");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("\"LPUSH\"")).unwrap();
    let rate = line.split(',').nth(1).unwrap().trim_matches('"').parse().unwrap();
    let () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    rate
}

async fn rate(jobs: u64, work: impl Future<Output = ()>) -> f64 {
    let started = Instant::now();
    work.await;
    jobs as f64 / started.elapsed().as_secs_f64()
}

/// How jobs are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum How {
    /// One after the other.
    Seq,
    /// Many calls at a time, one job each.
    Conc,
    /// Many jobs in a call.
    Bulk,
}

/// Pushes jobs of these numbers, `size` at a time.
pub async fn enqueue(queues: &Queues, ids: Range<u64>, how: How, size: u64) {
    if how == How::Bulk {
        for start in ids.clone().step_by(usize::try_from(size).unwrap()) {
            let batch: Vec<_> = (start..ids.end.min(start + size))
                .map(|id| (JobId::new(queue()), Tick::now(id).submission()))
                .collect();
            queues.push_many(&queue(), &batch).await.unwrap();
        }
        return;
    }
    let next = Arc::new(AtomicU64::new(ids.start));
    let callers: Vec<_> = (0..size)
        .map(|_| {
            let (queues, next, end) = (queues.clone(), next.clone(), ids.end);
            tokio::spawn(async move {
                while let id = next.fetch_add(1, Relaxed)
                    && id < end
                {
                    let pushed = queues.push(JobId::new(queue()), Tick::now(id).submission()).await;
                    pushed.unwrap().unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Pushes jobs of these numbers, ten thousand at a time.
async fn enqueue_with(queues: &Queues, ids: Range<u64>, job: impl Fn(u64) -> Submission) {
    for start in ids.clone().step_by(10_000) {
        let batch: Vec<_> = (start..ids.end.min(start + 10_000)).map(|id| (JobId::new(queue()), job(id))).collect();
        queues.push_many(&queue(), &batch).await.unwrap();
    }
}

/// Processor time of this process so far.
pub fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// What a drain took.
struct Drained {
    /// Jobs a second.
    rate: f64,
    /// Processor time of all workers per job, in microseconds.
    workers_us: f64,
    /// The same of Redis.
    redis_us: f64,
}

/// Worker processes empty a full queue; measured from their first job to their last.
async fn drain(redis: &RedisServer, jobs: u64, workers: usize) -> Drained {
    let queues = Queues::connect(&redis.url()).await.unwrap();
    enqueue(&queues, 0..jobs, How::Bulk, 10_000).await;
    drain_of(redis, &queues, jobs, workers, &[]).await
}

/// The same for jobs that wait already, with these settings of the workers.
async fn drain_of(
    redis: &RedisServer,
    queues: &Queues,
    jobs: u64,
    workers: usize,
    settings: &[(&'static str, &str)],
) -> Drained {
    let data = TempDir::new().unwrap();
    let programs: Vec<Program> = (0..workers)
        .map(|_| {
            let mut environment = vec![("REDIS_URL", redis.url()), ("FOURMI_DATA", data.path().display().to_string())];
            environment.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
            Program::start("fourmi-bench", &["worker"], environment)
        })
        .collect();
    let done = async |least: u64| {
        // What is left is counted, because finished jobs are trimmed on the way.
        let counts = queues.counts(&queue()).await.unwrap();
        let done = jobs.saturating_sub(counts.0[&State::Waiting] + counts.0[&State::Running]);
        (done >= least).then_some(done)
    };
    let cpu = || (programs.iter().map(|program| cpu_of(program.pid())).sum::<f64>(), cpu_of(redis.pid()));
    let early = eventually_async("the drain starts", async || done(1).await).await;
    let (before, started) = (cpu(), Instant::now());
    eventually_async("the drain ends", async || done(jobs).await).await;
    let (elapsed, after) = (started.elapsed().max(Duration::from_millis(1)), cpu());
    let drained = jobs - early;
    Drained {
        rate: drained as f64 / elapsed.as_secs_f64(),
        workers_us: micros(after.0 - before.0, drained),
        redis_us: micros(after.1 - before.1, drained),
    }
}
