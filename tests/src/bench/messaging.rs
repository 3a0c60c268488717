//! Messages by servers on this machine: how soon a text message is handed over, and a broadcast to a million devices.

use std::time::{Duration, Instant};

use fourmi_model::{DeviceId, DevicePlatform, TokenKind};
use fourmi_records::{Device, Records};
use jiff::Timestamp;
use serde_json::json;

use super::{Figure, Goal, Report, quantile};
use crate::{FcmServer, Platform, SmsServer};

const DEVICES: u64 = 1_000_000;

/// Devices that are registered in one step.
const STEP: u64 = 10_000;

/// The longest that it may take.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// How often the rate is measured.
const LOOK: Duration = Duration::from_secs(1);

/// Text messages that are handed over one after the other.
const MESSAGES: usize = 200;

/// Measurements of them; the figure is their median.
const ROUNDS: usize = 5;

/// Measures them all.
pub async fn run(mut report: Report) -> Report {
    sms(&mut report).await;
    broadcast(&mut report).await;
    report
}

/// How long it takes from the answer that a job is accepted until its provider is asked, while nothing else happens.
async fn sms(report: &mut Report) {
    let server = SmsServer::start().await;
    let settings = [("FOURMI_EGRESS_ALLOW", "127.0.0.1"), ("FOURMI_RATE_LIMITS", "submit=off")];
    let platform = Platform::with(&settings, 0).await;
    std::fs::create_dir_all(platform.data().join("secrets")).unwrap();
    std::fs::write(platform.data().join("secrets/sms"), server.account(json!({})).to_string()).unwrap();
    let _worker = platform.messaging_worker();
    let mut slowest = Vec::new();
    for round in 0..=ROUNDS {
        let mut waits = Vec::new();
        for number in 0..MESSAGES {
            // Each to a number of its own: what one gets in an hour is limited.
            let to = format!("+336{:08}", round * MESSAGES + number + 12_000_000);
            let payload = json!({"to": to, "text": "Your picture is ready.", "purpose": "transactional"});
            assert_eq!(platform.submit("sms.send", payload).await.status(), 202);
            let accepted = Instant::now();
            server.wait_for_posts(round * MESSAGES + number + 1).await;
            waits.push(accepted.elapsed().as_secs_f64() * 1_000.0);
        }
        waits.sort_by(f64::total_cmp);
        // The first round warms up.
        if round > 0 {
            slowest.push(quantile(&waits, 0.95));
        }
    }
    report.add(&Figure::of("sms_path_p95_ms", "ms", Goal::AtMost(100.0), &slowest));
}

/// Sends a broadcast with a quota that holds nothing back, even at the start of its ramp, and measures the rate and the memory of
/// the worker.
async fn broadcast(report: &mut Report) {
    let fcm = FcmServer::counting().await;
    let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", fcm.host())], 0).await;
    let mut account = fcm.account();
    account["messages_per_minute"] = json!(60_000_000);
    std::fs::create_dir_all(platform.data().join("secrets")).unwrap();
    std::fs::write(platform.data().join("secrets/fcm"), account.to_string()).unwrap();
    register(&platform).await;
    let worker = platform.messaging_worker();
    let payload = json!({"audience": "all", "title": "Hello", "body": "World", "priority": "high"});
    let answer = platform.submit("push.fanout", payload).await;
    let job: serde_json::Value = answer.json().await.unwrap();
    let id = job["id"].as_str().unwrap();
    let (started, mut before, mut rates) = (Instant::now(), 0, Vec::new());
    while fcm.count() < DEVICES {
        tokio::time::sleep(LOOK).await;
        let count = fcm.count();
        if before > 0 && count < DEVICES {
            rates.push((count - before) as f64 / LOOK.as_secs_f64());
        }
        before = count;
        assert!(started.elapsed() < PATIENCE, "{count} of {DEVICES} after {:?}", started.elapsed());
    }
    let result = crate::eventually_async("the broadcast is over", async || {
        let job = platform.get(&format!("/jobs/{id}")).await;
        (job["state"] == "succeeded").then(|| job["result"].clone())
    })
    .await;
    assert_eq!(result["sent"], DEVICES, "{result}");
    report.add(&Figure::of("push_sends_per_s", "/s", Goal::AtLeast(5_000.0), &rates));
    report.add(&Figure::of("broadcast_rss_mib", "MiB", Goal::AtMost(100.0), &[peak_rss_mib(worker.pid())]));
}

async fn register(platform: &Platform) {
    let records = Records::open(&platform.data().join("records.db")).await.unwrap();
    let now = Timestamp::now();
    for first in (0..DEVICES).step_by(STEP as usize) {
        let device = |number| Device {
            id: DeviceId::random(),
            tenant: None,
            // As long as Google's.
            token: format!("{number:022}:APA91b{number:0>134}"),
            token_kind: TokenKind::Registration,
            platform: DevicePlatform::Android,
            owner: format!("owner-{number}"),
            app_version: None,
            locale: None,
            failures: 0,
            created_at: now,
            seen_at: now,
        };
        let devices: Vec<_> = (first..first + STEP).map(device).collect();
        records.register_devices(&devices).await.unwrap();
    }
}

/// The most memory that a process has had.
fn peak_rss_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}
