//! A scrape of a worker that has run fifty kinds.

use std::time::Instant;

use fourmi_model::{JobId, Submission};
use fourmi_queue::Queues;
use serde_json::{json, value::to_raw_value};

use crate::{
    Program, RedisServer,
    bench::{Figure, Goal, Report},
    eventually_async,
    kinds::{MANY, QUEUE},
};

const SCRAPES: usize = 25;

const TOKEN: &str = "a-token-of-the-bench";

/// Measures the page as its reader does: a connection, the request, all of the answer.
pub(super) async fn run(report: &mut Report) {
    let (redis, data) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let settings = vec![
        ("REDIS_URL", redis.url()),
        ("FOURMI_DATA", data.path().display().to_string()),
        ("FOURMI_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
        ("FOURMI_METRICS_TOKEN", TOKEN.to_owned()),
        ("TEST_WORKER_KNOWS_MANY", "1".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    let worker = Program::start("fourmi-test-worker", &[], settings);
    let line = worker.wait_for_line("figures are shown");
    let url = format!("http://{}/metrics", line.split("address=").nth(1).unwrap().trim());
    let queues = Queues::connect(&redis.url()).await.unwrap();
    for kind in MANY {
        let submission = Submission::new(kind.parse().unwrap(), to_raw_value(&json!({})).unwrap());
        queues.push(JobId::new(QUEUE.parse().unwrap()), submission).await.unwrap().unwrap();
    }
    let page = async || {
        let answer = reqwest::Client::new().get(&url).bearer_auth(TOKEN).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    };
    let has_run = |page: &str, kind: &str| page.contains(&format!(r#"kind="{kind}",outcome="succeeded"}} 1"#));
    let is_there = |page: &str| MANY.iter().all(|kind| has_run(page, kind));
    eventually_async("all kinds have run", async || is_there(&page().await).then_some(())).await;
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let started = Instant::now();
        page().await;
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    report.add(&Figure::of("metrics_scrape_ms", "ms", Goal::AtMost(50.0), &times));
}
