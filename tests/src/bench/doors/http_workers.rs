//! Workers of other systems: jobs that are leased and settled by HTTP, in batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Platform,
    bench::{Figure, Goal, Report},
};

/// Workers at the same time; each has one connection.
const WORKERS: usize = 4;

/// Jobs that one lease asks for.
const BATCH: usize = 100;

/// Jobs of a measurement.
const JOBS: usize = 20_000;

/// Measurements; the figure is their median.
const ROUNDS: usize = 5;

/// Keys are checked and limits are counted; they are not reached.
const LIMITS: (&str, &str) = ("FOURMI_RATE_LIMITS", "submit=1000000000/60,read=1000000000/60,work=1000000000/60");

/// Adds the figure: jobs leased, worked on for no time, and settled with a result.
pub(super) async fn run(report: &mut Report) {
    let platform = Arc::new(Platform::with(&[LIMITS], 0).await);
    let schema = json!({"type": "object", "required": ["n", "text"], "properties": {"n": {"type": "integer"}}});
    let kind = json!({"summary": "Does nothing.", "payload_schema": schema});
    ask(&platform, "PUT", "/kinds/x.nothing", &kind).await;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        submit(&platform).await;
        let (started, left) = (Instant::now(), Arc::new(AtomicUsize::new(JOBS)));
        let mut workers = JoinSet::new();
        for number in 0..WORKERS {
            workers.spawn(work(platform.clone(), format!("w{number}"), left.clone()));
        }
        workers.join_all().await;
        rates.push(JOBS as f64 / started.elapsed().as_secs_f64());
    }
    report.add(&Figure::of("http_worker_jobs_per_s", "/s", Goal::AtLeast(3_000.0), &rates));
}

async fn submit(platform: &Platform) {
    let text = "x".repeat(150);
    let jobs: Vec<_> = (0..JOBS / 2).map(|n| json!({"kind": "x.nothing", "payload": {"n": n, "text": text}})).collect();
    for _ in 0..2 {
        let answer = ask(platform, "POST", "/jobs/bulk", &json!(jobs)).await;
        assert_eq!(answer["refused"], 0);
    }
}

/// Leases and settles until no job is left.
async fn work(platform: Arc<Platform>, name: String, left: Arc<AtomicUsize>) {
    while left.load(SeqCst) > 0 {
        let wanted = json!({"worker": name, "kinds": {"x.nothing": 1}, "max": BATCH, "lease_ms": 60_000});
        let leased = ask(&platform, "POST", "/work/lease", &wanted).await;
        let jobs = leased["jobs"].as_array().unwrap();
        if jobs.is_empty() {
            // The rest is with the others.
            return;
        }
        let end =
            |job: &Value| json!({"id": job["id"], "run": job["run"], "outcome": "succeeded", "result": {"ok": true}});
        let ends: Vec<_> = jobs.iter().map(end).collect();
        let answer = ask(&platform, "POST", "/work/settle", &json!({"outcomes": ends})).await;
        assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == 200), "{answer}");
        left.fetch_sub(jobs.len(), SeqCst);
    }
}

async fn ask(platform: &Platform, method: &str, path: &str, body: &Value) -> Value {
    let answer = platform.request(method, path).json(body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}
