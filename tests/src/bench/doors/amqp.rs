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
    let (mut incoming, mut both, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let rabbit = RabbitServer::start();
        let platform = Platform::with(&[LIMITS], 0).await;
        let mut settings = platform.settings().to_vec();
        settings.extend([("AMQP_URL", rabbit.url()), ("FOURMI_URL", platform.url().to_owned())]);
        let bridge = |events: &str| {
            let mut settings = settings.clone();
            settings.push(("FOURMI_AMQP_EVENTS", events.to_owned()));
            let bridge = Program::start("fourmi-amqp", &[], settings);
            bridge.wait_for_line("ready");
            bridge
        };
        // It declares the queue.
        let mut first = bridge("off");
        first.kill();
        let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let source = json!({"source": {"url": "https://example.org/a.mp3"}});
        let body =
            json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"}).to_string();
        let publish = async |round: &str| {
            for start in (0..MESSAGES).step_by(AT_ONCE) {
                let mut confirms = Vec::new();
                for number in start..start + AT_ONCE {
                    let id = format!("{round}-{number}");
                    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
                    let options = BasicPublishOptions::default();
                    let sent =
                        channel.basic_publish("".into(), "fourmi.jobs".into(), options, body.as_bytes(), properties);
                    confirms.push(sent.await.unwrap());
                }
                assert!(join_all(confirms).await.into_iter().all(|confirm| confirm.unwrap().is_ack()));
            }
        };
        let scheduled = async || platform.get("/queues/media").await["counts"]["scheduled"].as_u64().unwrap();
        let taken = async |jobs: usize| {
            let started = Instant::now();
            eventually_async("all are jobs", async || (scheduled().await >= jobs as u64).then_some(())).await;
            MESSAGES as f64 / started.elapsed().as_secs_f64()
        };

        publish("alone").await;
        let mut second = bridge("off");
        incoming.push(taken(MESSAGES).await);
        second.kill();
        // The same, while an event of each job is published.
        publish("both").await;
        let mut third = bridge("fourmi.events");
        both.push(taken(2 * MESSAGES).await);
        third.kill();

        // Events of the ends of these jobs, with nobody to publish them yet.
        let declared = channel.queue_declare("news".into(), QueueDeclareOptions::durable(), FieldTable::default());
        declared.await.unwrap();
        let bind = QueueBindOptions::default();
        let key = "job.#.cancelled";
        let bound = channel.queue_bind("news".into(), "fourmi.events".into(), key.into(), bind, FieldTable::default());
        bound.await.unwrap();
        super::end_many(&platform, 0).await;
        let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut news = channel.basic_consume("news".into(), "".into(), consume, FieldTable::default()).await.unwrap();
        let _fourth = bridge("fourmi.events");
        let started = Instant::now();
        for _ in 0..2 * MESSAGES {
            tokio::time::timeout(PATIENCE, news.next()).await.unwrap().unwrap().unwrap();
        }
        outgoing.push(2.0 * MESSAGES as f64 / started.elapsed().as_secs_f64());
    }
    report.add(&Figure::of("amqp_in_per_s", "/s", Goal::AtLeast(10_000.0), &incoming));
    report.add(&Figure::of("amqp_in_with_events_per_s", "/s", Goal::None, &both));
    report.add(&Figure::of("amqp_out_per_s", "/s", Goal::AtLeast(10_000.0), &outgoing));
}
