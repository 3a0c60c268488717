//! The bridge to a broker: a real RabbitMQ, the real bridge and the real API.

use std::{collections::BTreeSet, time::Duration};

use fourmi_queue::{Consumer::Broker as BrokerEvents, Queues};
use fourmi_tests::{Platform, Program, RabbitServer, eventually_async};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A platform, a broker, and the bridge between them.
struct Pier {
    platform: Platform,
    rabbit: RabbitServer,
    bridge: Program,
}

impl Pier {
    async fn build() -> Self {
        let rabbit = RabbitServer::start();
        let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "submit=off,any=off")], 0).await;
        let bridge = bridge(&platform, &rabbit);
        Self { platform, rabbit, bridge }
    }

    async fn job_count(&self) -> usize {
        let mut jobs = BTreeSet::new();
        let mut cursor = String::new();
        loop {
            let page = self.platform.get(&format!("/jobs?kind=audio.extract&limit=200{cursor}")).await;
            jobs.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return jobs.len(),
            }
        }
    }
}

fn bridge(platform: &Platform, rabbit: &RabbitServer) -> Program {
    bridge_to(platform, rabbit, "fourmi.events")
}

/// A bridge that publishes events to this exchange.
fn bridge_to(platform: &Platform, rabbit: &RabbitServer, events: &str) -> Program {
    let mut settings = platform.settings().to_vec();
    settings.extend([("AMQP_URL", rabbit.url()), ("FOURMI_URL", platform.url().to_owned())]);
    settings.push(("FOURMI_AMQP_EVENTS", events.to_owned()));
    let bridge = Program::start("fourmi-amqp", &[], settings);
    bridge.wait_for_line("ready");
    bridge
}

/// A system that speaks AMQP.
struct Peer {
    channel: Channel,
    _connection: Connection,
}

impl Peer {
    async fn of(rabbit: &RabbitServer) -> Self {
        let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { channel, _connection: connection }
    }

    /// Publishes a submission; whether the broker has it.
    async fn publish(&self, properties: BasicProperties, body: &[u8]) -> bool {
        let properties = properties.with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        match self.channel.basic_publish("".into(), "fourmi.jobs".into(), options, body, properties).await {
            Ok(confirm) => confirm.await.is_ok_and(|confirm| confirm.is_ack()),
            Err(_) => false,
        }
    }

    async fn declare(&self, queue: &str) {
        let declared = self.channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default());
        declared.await.unwrap();
    }

    /// A durable queue of these events.
    async fn bind(&self, queue: &str, key: &str) {
        self.declare(queue).await;
        let options = QueueBindOptions::default();
        let bound =
            self.channel.queue_bind(queue.into(), "fourmi.events".into(), key.into(), options, FieldTable::default());
        bound.await.unwrap();
    }

    async fn consume(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions::default();
        self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
    }
}

async fn next(messages: &mut Consumer) -> Delivery {
    let message = tokio::time::timeout(PATIENCE, messages.next()).await.expect("a message in time");
    let message = message.unwrap().unwrap();
    message.ack(BasicAckOptions::default()).await.unwrap();
    message
}

fn json_of(message: &Delivery) -> Value {
    serde_json::from_slice(&message.data).unwrap()
}

fn later() -> Value {
    let source = json!({"source": {"url": "https://example.org/a.mp3"}});
    json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"})
}

fn named(id: &str) -> BasicProperties {
    BasicProperties::default().with_message_id(id.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_become_jobs_once_and_events_tell_what_becomes_of_them() {
    let mut pier = Pier::build().await;
    let peer = Peer::of(&pier.rabbit).await;
    peer.bind("news", "job.media.audio.extract.*").await;
    peer.declare("replies").await;
    let (mut news, mut replies) = (peer.consume("news").await, peer.consume("replies").await);
    let body = later().to_string();
    let asking = named("order-7").with_reply_to("replies".into()).with_correlation_id("c-1".into());
    assert!(peer.publish(asking.clone(), body.as_bytes()).await);
    let reply = next(&mut replies).await;
    assert_eq!(reply.properties.correlation_id().as_ref().map(ToString::to_string).as_deref(), Some("c-1"));
    let job = json_of(&reply)["id"].as_str().unwrap().to_owned();
    assert_eq!(json_of(&reply)["replayed"], false);
    assert_eq!(pier.platform.get(&format!("/jobs/{job}")).await["state"], "scheduled");
    // The same message again is the same job.
    assert!(peer.publish(asking, body.as_bytes()).await);
    assert_eq!(json_of(&next(&mut replies).await), json!({"id": job, "replayed": true}));

    let born = next(&mut news).await;
    assert_eq!(born.routing_key.as_str(), "job.media.audio.extract.scheduled");
    assert_eq!(json_of(&born)["data"]["id"], job.as_str());
    let cancelled = pier.platform.request("POST", &format!("/jobs/{job}/cancel")).send().await.unwrap();
    assert!(cancelled.status().is_success());
    let ended = next(&mut news).await;
    assert_eq!(ended.routing_key.as_str(), "job.media.audio.extract.cancelled");
    let event = json_of(&ended);
    assert_eq!((&event["type"], &event["data"]["state"]), (&json!("job.cancelled"), &json!("cancelled")));
    let id = ended.properties.message_id().as_ref().unwrap().to_string();
    assert_eq!((id.as_str(), event["id"].as_str()), (&*format!("{job}.2"), Some(&*id)));
    assert!(event["data"].get("payload").is_none());

    // A bridge that publishes no events takes submissions all the same, and nothing is put aside for it.
    let settings = pier.platform.settings();
    let redis = &settings.iter().find(|(name, _)| *name == "REDIS_URL").unwrap().1;
    let queues = Queues::connect(redis).await.unwrap();
    let media = "media".parse().unwrap();
    assert!(queues.outbox(&media, BrokerEvents).await.unwrap().is_some());
    pier.bridge.kill();
    pier.bridge = bridge_to(&pier.platform, &pier.rabbit, "off");
    assert!(peer.publish(named("order-8").with_reply_to("replies".into()), body.as_bytes()).await);
    assert_eq!(json_of(&next(&mut replies).await)["replayed"], false);
    assert_eq!(queues.outbox(&media, BrokerEvents).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_become_no_job_is_a_dead_letter_with_the_reason() {
    let pier = Pier::build().await;
    let peer = Peer::of(&pier.rabbit).await;
    let mut dead = peer.consume("fourmi.dead").await;
    let mut unknown = later();
    unknown["kind"] = json!("audio.nothing");
    let mut wrong = later();
    wrong["payload"] = json!({"source": 7});
    let large = vec![b' '; 300_000];
    for (properties, body, code) in [
        (named("a"), &b"no json"[..], "invalid_json"),
        (named("b"), b"[1, 2]", "invalid_json"),
        (named("c"), b"", "invalid_json"),
        (named("d"), b"\xff\xfe\x00", "invalid_json"),
        (BasicProperties::default(), later().to_string().as_bytes(), "message_id_missing"),
        (named("e"), unknown.to_string().as_bytes(), "unknown_kind"),
        (named("f"), wrong.to_string().as_bytes(), "invalid_payload"),
        (named("g"), br#"{"kind": 7, "payload": {}}"#, "invalid_request"),
        (named("h"), &large, "payload_too_large"),
    ] {
        assert!(peer.publish(properties, body).await);
        let letter = next(&mut dead).await;
        assert_eq!(letter.data, body, "{code}");
        let headers = letter.properties.headers().as_ref().unwrap().inner().clone();
        let text = |name: &str| match &headers[name] {
            AMQPValue::LongString(text) => text.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text("x-fourmi-code"), code, "{}", text("x-fourmi-reason"));
        assert!(!text("x-fourmi-reason").is_empty());
    }
    assert_eq!(pier.job_count().await, 0);
    // Who waits for a reply is told; and what comes after is taken.
    peer.declare("replies").await;
    let mut replies = peer.consume("replies").await;
    assert!(peer.publish(named("i").with_reply_to("replies".into()), b"{}").await);
    assert!(json_of(&next(&mut replies).await)["error"]["code"].is_string());
    assert!(peer.publish(named("j").with_reply_to("replies".into()), later().to_string().as_bytes()).await);
    assert!(json_of(&next(&mut replies).await)["id"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_broker_bridge_and_api_are_killed() {
    let mut pier = Pier::build().await;
    Peer::of(&pier.rabbit).await.bind("news", "job.#").await;
    const JOBS: usize = 240;
    for (round, first) in (0..JOBS).step_by(40).enumerate() {
        // Whatever is not confirmed is sent again, as a careful system does it.
        let mut peer = Peer::of(&pier.rabbit).await;
        for number in first..first + 40 {
            let (id, body) = (format!("order-{number}"), later().to_string());
            if number == first + 20 {
                match round % 3 {
                    0 => {
                        pier.rabbit.kill();
                        pier.rabbit.restart();
                        peer = Peer::of(&pier.rabbit).await;
                    }
                    1 => {
                        pier.bridge.kill();
                        pier.bridge = bridge(&pier.platform, &pier.rabbit);
                    }
                    _ => {
                        pier.platform.api.kill();
                        pier.platform.restart_api();
                    }
                }
            }
            while !peer.publish(named(&id), body.as_bytes()).await {
                peer = Peer::of(&pier.rabbit).await;
            }
        }
    }
    eventually_async("every message is a job", async || (pier.job_count().await == JOBS).then_some(())).await;
    let all = json!({"action": "cancel", "filter": {"kind": "audio.extract", "state": ["scheduled"]}});
    let cancelled = pier.platform.request("POST", "/jobs/actions").json(&all).send().await.unwrap();
    assert!(cancelled.status().is_success());
    pier.rabbit.kill();
    pier.rabbit.restart();

    // Every job was born once and ended once, and each event has its own id.
    let peer = Peer::of(&pier.rabbit).await;
    let mut news = peer.consume("news").await;
    let (mut born, mut ended, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    while born.len() < JOBS || ended.len() < JOBS {
        let event = json_of(&next(&mut news).await);
        ids.insert(event["id"].as_str().unwrap().to_owned());
        let of = event["data"]["id"].as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "job.scheduled" => born.insert(of),
            "job.cancelled" => ended.insert(of),
            other => panic!("{other}"),
        };
    }
    assert_eq!((born.len(), ended.len(), ids.len()), (JOBS, JOBS, 2 * JOBS));
    assert_eq!(pier.job_count().await, JOBS);
}
