//! What the queue costs, beside what Redis itself can do.

use std::{
    ops::Range,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fourmi_kinds::JobKind;
use fourmi_model::{JobId, QueueName, State, Submission};
use fourmi_queue::Queues;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tempfile::TempDir;

use super::{Figure, Goal, Report};
use crate::{Program, RedisServer, eventually_async};

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

/// Measures everything, once without and once with an append-only file.
pub async fn run(mut report: Report) -> Report {
    for (suffix, options) in [
        ("", ["--appendonly", "no", "--appendfsync", "no"]),
        ("_aof", ["--appendonly", "yes", "--appendfsync", "everysec"]),
    ] {
        run_on(&mut report, suffix, &options).await;
    }
    report
}

async fn run_on(report: &mut Report, suffix: &str, options: &[&str]) {
    let jobs = 300_000;
    let name = |name: &str| format!("{name}{suffix}");
    eprintln!("redis itself{suffix} …");
    let redis = RedisServer::with(options);
    let lpush: Vec<f64> = (0..3).map(|_| lpush(&redis)).collect();
    let base = Figure::of(name("redis_lpush_50"), "/s", Goal::None, &lpush);
    let lpush = base.value;
    report.add(&base);

    eprintln!("enqueue{suffix} …");
    let queues = Queues::connect(&redis.url()).await.unwrap();
    let one: Vec<f64> = [rate(20_000, enqueue(&queues, 0..20_000, How::Seq, 1)).await].into();
    report.add(&Figure::of(name("enqueue_one_by_one"), "/s", Goal::None, &one));
    let mut many = Vec::new();
    for _ in 0..3 {
        many.push(rate(jobs, enqueue(&queues, 0..jobs, How::Conc, 64)).await);
    }
    report.add(&Figure::of(name("enqueue_64"), "/s", Goal::AtLeast((0.9 * lpush).round()), &many));
    drop(redis);

    for workers in [1, 2] {
        eprintln!("drain with {workers}{suffix} …");
        let mut drains = Vec::new();
        for _ in 0..3 {
            let redis = RedisServer::with(options);
            drains.push(drain(&redis, jobs, workers).await);
        }
        let goal = if workers == 1 { Goal::AtLeast((0.5 * lpush).round()) } else { Goal::None };
        report.add(&Figure::of(
            name(&format!("drain_{workers}_worker{}", if workers > 1 { "s" } else { "" })),
            "/s",
            goal,
            &drains,
        ));
    }
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

/// Processor time of this process so far.
pub fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Jobs a second that worker processes take from a full queue, from their first to their last.
async fn drain(redis: &RedisServer, jobs: u64, workers: usize) -> f64 {
    let queues = Queues::connect(&redis.url()).await.unwrap();
    let data = TempDir::new().unwrap();
    enqueue(&queues, 0..jobs, How::Bulk, 10_000).await;
    let programs: Vec<Program> = (0..workers)
        .map(|_| {
            let environment = [("REDIS_URL", redis.url()), ("FOURMI_DATA", data.path().display().to_string())];
            Program::start("fourmi-bench", &["worker"], environment)
        })
        .collect();
    let done = async |least: u64| {
        // What is left is counted, because finished jobs are trimmed on the way.
        let counts = queues.counts(&queue()).await.unwrap();
        let done = jobs.saturating_sub(counts.0[&State::Waiting] + counts.0[&State::Running]);
        (done >= least).then_some(done)
    };
    let early = eventually_async("the drain starts", async || done(1).await).await;
    let started = Instant::now();
    eventually_async("the drain ends", async || done(jobs).await).await;
    drop(programs);
    (jobs - early) as f64 / started.elapsed().as_secs_f64().max(Duration::from_millis(1).as_secs_f64())
}
