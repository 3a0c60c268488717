//! How much goes through the doors for other systems.

mod amqp;
mod http_workers;
mod metrics;
mod webhooks;

use std::time::Duration;

use clap::ValueEnum as _;
use serde_json::json;

use crate::{Platform, bench::Report};

/// Nobody is to be slowed down on purpose.
pub(super) const LIMITS: (&str, &str) = ("FOURMI_RATE_LIMITS", "submit=off,read=off,any=off");

/// How long a measurement may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Door {
    /// Messages to webhooks.
    Webhooks,
    /// Submissions from a broker and events to it.
    Amqp,
    /// Jobs that are leased and settled by HTTP.
    HttpWorkers,
    /// A scrape.
    Metrics,
}

/// Measures the doors, or one of them.
pub async fn run(mut report: Report, only: Option<Door>) -> Report {
    for door in Door::value_variants().iter().filter(|door| only.is_none_or(|only| only == **door)) {
        match door {
            Door::Webhooks => webhooks::run(&mut report).await,
            Door::Amqp => amqp::run(&mut report).await,
            Door::HttpWorkers => http_workers::run(&mut report).await,
            Door::Metrics => metrics::run(&mut report).await,
        }
    }
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
