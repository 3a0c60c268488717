//! Messages to a receiver on this machine: with connections kept, and the log of deliveries written.

use std::time::Instant;

use serde_json::json;

use super::{LIMITS, PATIENCE, end_many};
use crate::{
    Platform, Receiver,
    bench::{Figure, Goal, Report},
    eventually_async,
};

const ROUNDS: usize = 3;

const MESSAGES: usize = 10_000;

/// Measures from the moment when messages wait and a worker is ready to the last message that has come.
pub(super) async fn run(report: &mut Report) {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let receiver = Receiver::counting().await;
        let platform = Platform::with(&[LIMITS, ("FOURMI_EGRESS_ALLOW", receiver.host())], 0).await;
        let webhook = json!({"url": format!("{}/hooks", receiver.url())});
        let made = platform.request("POST", "/webhooks").json(&webhook).send().await.unwrap();
        assert!(made.status().is_success());
        // What holds back a slow receiver is not what is measured.
        let limit = json!({"name": "webhook/*", "concurrency": 1_000});
        platform.request("PUT", "/queues/messaging/limits").json(&limit).send().await.unwrap();
        end_many(&platform, MESSAGES).await;
        eventually_async("all messages wait", async || {
            let queue = platform.get("/queues/messaging").await;
            (queue["counts"]["waiting"] == MESSAGES).then_some(())
        })
        .await;
        let started = Instant::now();
        let _worker = platform.messaging_worker();
        tokio::time::timeout(PATIENCE, receiver.wait_for(MESSAGES)).await.unwrap();
        rates.push(MESSAGES as f64 / started.elapsed().as_secs_f64());
    }
    report.add(&Figure::of("webhook_deliveries_per_s", "/s", Goal::AtLeast(2_000.0), &rates));
}
