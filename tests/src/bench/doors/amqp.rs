//! Submissions from a broker and events to it, both confirmed; the broker shares the machine.

use std::time::Instant;

use futures_util::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::json;

use super::{LIMITS, PATIENCE};
use crate::{
    Platform, Program, RabbitServer,
    bench::{Figure, Goal, Report},
    eventually_async,
};

const ROUNDS: usize = 3;

const MESSAGES: usize = 20_000;

/// Messages that are confirmed together.
const AT_ONCE: usize = 1_000;

/// Measures a bridge that finds a full queue, and then full outboxes.
pub(super) async fn run(report: &mut Report) {
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let rabbit = RabbitServer::start();
        let platform = Platform::with(&[LIMITS], 0).await;
        let mut settings = platform.settings().to_vec();
        settings.extend([("AMQP_URL", rabbit.url()), ("FOURMI_URL", platform.url().to_owned())]);
        let bridge = || {
            let bridge = Program::start("fourmi-amqp", &[], settings.clone());
            bridge.wait_for_line("ready");
            bridge
        };
        // It declares the queue and opens the outboxes.
        let mut first = bridge();
        first.kill();
        let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let source = json!({"source": {"url": "https://example.org/a.mp3"}});
        let body =
            json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"}).to_string();
        for start in (0..MESSAGES).step_by(AT_ONCE) {
            let mut confirms = Vec::new();
            for number in start..start + AT_ONCE {
                let properties =
                    BasicProperties::default().with_delivery_mode(2).with_message_id(format!("m-{number}").into());
                let options = BasicPublishOptions::default();
                let sent = channel.basic_publish("".into(), "fourmi.jobs".into(), options, body.as_bytes(), properties);
                confirms.push(sent.await.unwrap());
            }
            assert!(join_all(confirms).await.into_iter().all(|confirm| confirm.unwrap().is_ack()));
        }
        let scheduled = async || platform.get("/queues/media").await["counts"]["scheduled"].as_u64().unwrap();

        let mut second = bridge();
        let started = Instant::now();
        eventually_async("all are jobs", async || (scheduled().await >= MESSAGES as u64).then_some(())).await;
        incoming.push(MESSAGES as f64 / started.elapsed().as_secs_f64());

        // Events of the ends of these jobs, with nobody to publish them yet.
        second.kill();
        let declared = channel.queue_declare("news".into(), QueueDeclareOptions::durable(), FieldTable::default());
        declared.await.unwrap();
        let bind = QueueBindOptions::default();
        let key = "job.#.cancelled";
        let bound = channel.queue_bind("news".into(), "fourmi.events".into(), key.into(), bind, FieldTable::default());
        bound.await.unwrap();
        super::end_many(&platform, 0).await;
        let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut news = channel.basic_consume("news".into(), "".into(), consume, FieldTable::default()).await.unwrap();
        let _third = bridge();
        let started = Instant::now();
        for _ in 0..MESSAGES {
            tokio::time::timeout(PATIENCE, news.next()).await.unwrap().unwrap().unwrap();
        }
        outgoing.push(MESSAGES as f64 / started.elapsed().as_secs_f64());
    }
    report.add(&Figure::of("amqp_in_per_s", "/s", Goal::AtLeast(10_000.0), &incoming));
    report.add(&Figure::of("amqp_out_per_s", "/s", Goal::AtLeast(10_000.0), &outgoing));
}
