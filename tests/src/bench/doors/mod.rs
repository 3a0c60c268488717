//! How much goes through the doors for other systems.

mod amqp;
mod http_workers;
mod metrics;
mod webhooks;

use std::time::Duration;

use serde_json::json;

use crate::{Platform, bench::Report};

/// Nobody is to be slowed down on purpose.
pub(super) const LIMITS: (&str, &str) = ("FOURMI_RATE_LIMITS", "submit=off,read=off,any=off");

/// How long a measurement may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Measures the doors.
pub async fn run(mut report: Report) -> Report {
    webhooks::run(&mut report).await;
    amqp::run(&mut report).await;
    http_workers::run(&mut report).await;
    metrics::run(&mut report).await;
    report
}

/// Submits jobs that wait for ever, and ends them all.
pub(super) async fn end_many(platform: &Platform, jobs: usize) {
    let source = json!({"source": {"url": "https://example.org/a.mp3"}});
    let job = json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"});
    for first in (0..jobs).step_by(5_000) {
        let many = vec![job.clone(); (jobs - first).min(5_000)];
        let answer = platform.request("POST", "/jobs/bulk").json(&many).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
    let mut action = json!({"action": "cancel", "filter": {"kind": "audio.extract", "state": ["scheduled"]}});
    loop {
        let answer = platform.request("POST", "/jobs/actions").json(&action).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        match answer["next"].as_str() {
            Some(next) => action["cursor"] = json!(next),
            None => return,
        }
    }
}
