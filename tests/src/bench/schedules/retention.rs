//! Deleting a million records of old jobs while others submit.

use std::time::{Duration, Instant};

use fourmi_model::JobRecord;
use fourmi_records::Records;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    Platform,
    bench::{Figure, Goal, Report, quantile},
};

/// Old jobs.
const JOBS: u64 = 1_000_000;

/// Jobs of one transaction while they are made.
const BATCH: u64 = 5_000;

/// Between two submissions: what a busy application does, far from what the API can.
const PACE: Duration = Duration::from_millis(5);

/// How long is submitted while nothing is deleted.
const QUIET: Duration = Duration::from_secs(15);

/// Measurements; a figure is their median.
const ROUNDS: usize = 3;

/// Adds the figures.
pub(super) async fn run(report: &mut Report) {
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (rate, ratio) = round().await;
        rates.push(rate);
        ratios.push(ratio);
    }
    report.add(&Figure::of("retention_rows_per_s", "/s", Goal::AtLeast(50_000.0), &rates));
    report.add(&Figure::of("retention_submit_p99_ratio", "", Goal::AtMost(2.0), &ratios));
}

async fn round() -> (f64, f64) {
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "submit=off")], 0).await;
    eprintln!("{JOBS} records …");
    let records = Records::open(&platform.data().join("records.db")).await.unwrap();
    let ended = Timestamp::now() - SignedDuration::from_hours(24 * 200);
    for first in (0..JOBS).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..first + BATCH).map(|number| record(number, ended)).collect();
        records.archive(&batch).await.unwrap();
    }
    let _worker = platform.maintenance_worker();
    // What is not asked for: adding up is another job.
    let rolled = platform.client.submit_raw("stats.rollup", json!({})).send().await.unwrap();
    rolled.wait().await.unwrap();

    eprintln!("retention …");
    let quiet = submitting(&platform, tokio::time::sleep(QUIET)).await;
    let begun = Instant::now();
    let mut deleted = 0;
    let busy = submitting(&platform, async {
        let payload = json!({"only": ["jobs"]});
        let handle = platform.client.submit_raw("maintenance.retention", payload).send().await.unwrap();
        let result = handle.wait().await.unwrap().result.unwrap();
        deleted = result["classes"][0]["deleted"].as_u64().unwrap();
    })
    .await;
    assert!(deleted >= JOBS, "{deleted}");
    (deleted as f64 / begun.elapsed().as_secs_f64(), p99(busy) / p99(quiet))
}

/// How long submissions took, one after the other, until something was over.
async fn submitting(platform: &Platform, work: impl Future<Output = ()>) -> Vec<f64> {
    let over = CancellationToken::new();
    let submitting = async {
        let (mut latencies, mut paces) = (Vec::new(), interval(PACE));
        paces.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while over.run_until_cancelled(paces.tick()).await.is_some() {
            let sent = Instant::now();
            let payload = json!({"source": {"url": "https://example.org/a.mp3"}});
            assert_eq!(platform.submit("audio.extract", payload).await.status(), 202);
            latencies.push(sent.elapsed().as_secs_f64());
        }
        latencies
    };
    let working = async {
        work.await;
        over.cancel();
    };
    tokio::join!(submitting, working).0
}

fn p99(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    quantile(&latencies, 0.99)
}

/// A job as most are: a small payload and result, a tag in one of ten.
fn record(number: u64, ended: Timestamp) -> JobRecord {
    let time = ended + SignedDuration::from_millis(i64::try_from(number).unwrap() * 10);
    let tags: &[&str] = if number.is_multiple_of(10) { &["nightly"] } else { &[] };
    let job: Value = json!({
        "id": format!("media-0198c0de-0000-7000-8000-{number:012x}"), "kind": "audio.extract", "schema_version": 1,
        "queue": "media", "state": "succeeded", "version": 3, "priority": "normal", "tags": tags, "run": 1, "attempts": 1,
        "crashes": 0, "created_at": time, "started_at": time, "finished_at": time, "submitted_by": "key-0198c0de",
        "payload": {"source": {"url": format!("https://example.org/{number}.mp4")}}, "result": {"bytes": number},
    });
    JobRecord {
        job: serde_json::from_value(job).unwrap(),
        worker: Some("w1".into()),
        waited_ms: Some(3),
        runs: Vec::new(),
    }
}
