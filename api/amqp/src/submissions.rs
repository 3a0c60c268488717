//! From a queue of the broker to the API.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::Backoff;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use lapin::{
    BasicProperties, Consumer, PublisherConfirm,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::{Instant, sleep, timeout_at};

use crate::broker::{Broker, confirmed};

/// Submissions that are handed on together.
const BATCH: usize = 500;

/// How long the first of them waits for others.
const LINGER: Duration = Duration::from_millis(5);

/// Batches that are answered at once, while another is handed on.
const ANSWERED_AT_ONCE: usize = 2;

/// The largest submission, in bytes: the API takes none that is larger.
const LARGEST: usize = 256 * 1024;

/// Bytes of one request: the API takes 8 MiB.
const LARGEST_BATCH: usize = 6 * 1024 * 1024;

/// How long the API may take for one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause after the API did not answer, or asked to wait.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(15) };

/// The way into the API.
pub(crate) struct Door {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// What the API says of one submission.
#[derive(Deserialize)]
struct Answer {
    status: u16,
    id: Option<String>,
    #[serde(default)]
    idempotency_replayed: bool,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Answers {
    results: Vec<Answer>,
}

/// Why a message can become no job: a stable word, and a sentence.
struct Poison {
    code: String,
    reason: String,
}

impl Poison {
    fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.to_owned(), reason: reason.into() }
    }

    fn of(error: Option<&Value>) -> Self {
        let word = |name: &str| error.and_then(|error| error[name].as_str()).unwrap_or_default().to_owned();
        let errors = error.and_then(|error| error.get("errors")).map(Value::to_string).unwrap_or_default();
        Self { code: word("code"), reason: format!("{} {errors}", word("detail")).trim().to_owned() }
    }
}

/// A message that may become a job.
struct Submission {
    delivery: Delivery,
    text: String,
}

impl Door {
    pub(crate) fn new(url: &str, key: &str) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        Ok(Self { http, url: format!("{url}/api/v1/jobs/bulk"), key: key.to_owned() })
    }

    /// Hands submissions on until the API has said something of each.
    async fn submit(&self, submissions: &[Submission]) -> Vec<Answer> {
        let mut failures = 0;
        loop {
            match self.try_to_submit(submissions).await {
                Ok(answers) => return answers,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        let error = format_args!("{error:#}");
                        tracing::warn!(error, "submissions cannot be handed on; trying again until they can");
                    }
                    sleep(BACKOFF.delay(failures, rand::random())).await;
                }
            }
        }
    }

    async fn try_to_submit(&self, submissions: &[Submission]) -> anyhow::Result<Vec<Answer>> {
        let texts: Vec<&str> = submissions.iter().map(|submission| submission.text.as_str()).collect();
        let body = format!("[{}]", texts.join(","));
        let request = self.http.post(&self.url).bearer_auth(&self.key).header("content-type", "application/json");
        let answer = request.body(body).send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        if status != StatusCode::OK {
            let text = answer.text().await.unwrap_or_default();
            anyhow::bail!("the API answers {status} {text}");
        }
        let Answers { results } = answer.json().await.map_err(reqwest::Error::without_url)?;
        anyhow::ensure!(results.len() == submissions.len(), "the API has answered another number of jobs");
        Ok(results)
    }
}

/// Takes submissions until the connection breaks; gives why.
pub(crate) async fn take(broker: &Broker, door: &Door) -> anyhow::Error {
    match try_to_take(broker, door).await {
        Ok(()) => anyhow::anyhow!("the broker has ended the subscription"),
        Err(error) => error,
    }
}

async fn try_to_take(broker: &Broker, door: &Door) -> anyhow::Result<()> {
    let options = BasicConsumeOptions::default();
    let queue = broker.amqp.queue.as_str();
    let consumer = broker.incoming.basic_consume(queue.into(), "fourmi".into(), options, FieldTable::default());
    let inbox = Inbox { next: Batch::of(consumer.await?), door, waiting: Vec::new(), failures: 0 };
    let told = stream::try_unfold(inbox, async |mut inbox| Ok(inbox.hand_on().await?.map(|told| (told, inbox))));
    // In order into the API, one batch after the other; what it said of one is answered while it has the next.
    let told = told.map_ok(|told| answer(broker, told)).try_buffered(ANSWERED_AT_ONCE);
    told.try_for_each(acknowledge).await
}

/// What the API has said of messages.
struct Told {
    /// Each with the answer to whom it may concern, or why it can become no job.
    messages: Vec<(Delivery, Result<Value, Poison>)>,
    /// Whether it has said its last word of every message that came before the last of these.
    is_all: bool,
}

/// The messages on their way into the API.
struct Inbox<'a> {
    next: Batch,
    door: &'a Door,
    /// Messages that the API has taken in hand and not accepted.
    waiting: Vec<Submission>,
    /// How often it has accepted not all of them.
    failures: u32,
}

impl Inbox<'_> {
    /// Hands on the next messages; gives those of which the API has said its last word.
    async fn hand_on(&mut self) -> anyhow::Result<Option<Told>> {
        let mut messages = Vec::new();
        if self.waiting.is_empty() {
            let Some(read) = self.next.take().await? else { return Ok(None) };
            for (delivery, read) in read {
                match read {
                    Ok(text) => self.waiting.push(Submission { delivery, text }),
                    Err(poison) => messages.push((delivery, Err(poison))),
                }
            }
        } else {
            sleep(BACKOFF.delay(self.failures, rand::random())).await;
        }
        if self.waiting.is_empty() {
            return Ok(Some(Told { messages, is_all: true }));
        }
        let answers = self.next.read_while(self.door.submit(&self.waiting)).await;
        for (submission, answer) in std::mem::take(&mut self.waiting).into_iter().zip(answers) {
            match answer.id {
                Some(id) => {
                    let reply = json!({ "id": id, "replayed": answer.idempotency_replayed });
                    messages.push((submission.delivery, Ok(reply)));
                }
                // The queue is full, Redis is away: what is held here keeps more from coming.
                None if matches!(answer.status, 429 | 500..) => self.waiting.push(submission),
                None => messages.push((submission.delivery, Err(Poison::of(answer.error.as_ref())))),
            }
        }
        self.failures = if self.waiting.is_empty() { 0 } else { self.failures + 1 };
        Ok(Some(Told { messages, is_all: self.waiting.is_empty() }))
    }
}

/// The messages that are handed on together: the first, and what comes right after it.
struct Batch {
    messages: Consumer,
    /// What has come, and what it says.
    read: Vec<(Delivery, Result<String, Poison>)>,
    bytes: usize,
    /// Whether nothing comes any more, and why.
    end: Option<Result<(), lapin::Error>>,
}

impl Batch {
    fn of(messages: Consumer) -> Self {
        Self { messages, read: Vec::new(), bytes: 0, end: None }
    }

    /// The next messages; none if nothing comes any more.
    async fn take(&mut self) -> anyhow::Result<Option<Vec<(Delivery, Result<String, Poison>)>>> {
        // Those that came while others were handed on have waited for more already.
        let linger = if self.read.is_empty() { LINGER } else { Duration::ZERO };
        if self.read.is_empty() {
            self.read_next().await;
        }
        let until = Instant::now() + linger;
        while self.has_room() && timeout_at(until, self.read_next()).await.is_ok() {}
        self.bytes = 0;
        let read = std::mem::take(&mut self.read);
        match self.end.take() {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(())) if read.is_empty() => Ok(None),
            end => {
                self.end = end;
                Ok(Some(read))
            }
        }
    }

    /// Waits for something else, and reads the next messages meanwhile.
    async fn read_while<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        while self.has_room() {
            tokio::select! {
                done = &mut other => return done,
                () = self.read_next() => {}
            }
        }
        other.await
    }

    fn has_room(&self) -> bool {
        self.end.is_none() && self.read.len() < BATCH && self.bytes < LARGEST_BATCH
    }

    /// Reads a message, if one comes. Nothing is lost if it is given up.
    async fn read_next(&mut self) {
        match self.messages.next().await {
            Some(Ok(delivery)) => {
                self.bytes += delivery.data.len();
                let said = read(&delivery);
                self.read.push((delivery, said));
            }
            Some(Err(error)) => self.end = Some(Err(error)),
            None => self.end = Some(Ok(())),
        }
    }
}

/// Tells who waits for replies, and puts what can become no job where dead letters go.
async fn answer(broker: &Broker, told: Told) -> anyhow::Result<Told> {
    let replies = told.messages.iter().map(async |(delivery, said)| match said {
        Ok(reply) => Ok(reply_to(broker, delivery, reply).await?.into_iter().collect()),
        Err(poison) => bury(broker, delivery, poison).await,
    });
    let confirms: Vec<Vec<PublisherConfirm>> = try_join_all(replies).await?;
    confirmed(confirms.into_iter().flatten()).await?;
    Ok(told)
}

/// Says that messages are answered; those that came before them are.
async fn acknowledge(told: Told) -> anyhow::Result<()> {
    let Told { messages, is_all } = told;
    // One word for all of them, where the broker could not take it to mean others as well.
    let last = messages.iter().map(|(delivery, _)| delivery).max_by_key(|delivery| delivery.delivery_tag);
    if let Some(last) = last.filter(|_| is_all) {
        last.ack(BasicAckOptions { multiple: true }).await?;
    } else {
        try_join_all(messages.iter().map(|(delivery, _)| delivery.ack(BasicAckOptions::default()))).await?;
    }
    Ok(())
}

/// The submission, with the message's id as its idempotency key if it names none.
fn read(delivery: &Delivery) -> Result<String, Poison> {
    if delivery.data.len() > LARGEST {
        return Err(Poison::new("payload_too_large", format!("a submission may have {LARGEST} bytes at most")));
    }
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&delivery.data)
        .map_err(|error| Poison::new("invalid_json", format!("the body is no JSON object: {error}")))?;
    let id = delivery.properties.message_id().as_ref().map(|id| id.to_string()).filter(|id| !id.is_empty());
    if !fields.contains_key("idempotency_key") {
        let id = id.ok_or_else(|| {
            let reason = "a message that is sent again must not become a second job: give it a message_id";
            Poison::new("message_id_missing", reason)
        })?;
        let unwritable = |error: serde_json::Error| Poison::new("invalid_json", error.to_string());
        fields.insert("idempotency_key".to_owned(), serde_json::value::to_raw_value(&id).map_err(unwritable)?);
    }
    serde_json::to_string(&fields).map_err(|error| Poison::new("invalid_json", error.to_string()))
}

/// Puts a message that can become no job where dead letters go, with the reason; tells who waits for a reply.
async fn bury(broker: &Broker, delivery: &Delivery, poison: &Poison) -> anyhow::Result<Vec<PublisherConfirm>> {
    tracing::warn!(code = poison.code, "a message can become no job, and is a dead letter");
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    // A field of the frame holds no more than a frame, which may be 4 KiB.
    let reason: String = poison.reason.chars().take(500).collect();
    for (name, value) in [("x-fourmi-code", poison.code.clone()), ("x-fourmi-reason", reason)] {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    }
    let properties = delivery.properties.clone().with_headers(headers);
    let mut confirms = vec![broker.publish(&broker.amqp.dead, "", properties, &delivery.data).await?];
    let error = json!({ "error": { "code": poison.code, "detail": poison.reason } });
    confirms.extend(reply_to(broker, delivery, &error).await?);
    Ok(confirms)
}

async fn reply_to(broker: &Broker, delivery: &Delivery, reply: &Value) -> anyhow::Result<Option<PublisherConfirm>> {
    let Some(queue) = delivery.properties.reply_to() else { return Ok(None) };
    let mut properties = BasicProperties::default().with_content_type("application/json".into());
    let of_request = delivery.properties.correlation_id().as_ref().or(delivery.properties.message_id().as_ref());
    if let Some(id) = of_request {
        properties = properties.with_correlation_id(id.clone());
    }
    Ok(Some(broker.publish("", queue.as_str(), properties, reply.to_string().as_bytes()).await?))
}
