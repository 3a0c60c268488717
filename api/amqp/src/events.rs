//! From the outboxes of the queues to an exchange of the broker.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use fourmi_model::{JobId, KindName};
use fourmi_queue::{EventBatch, Outbox, QueueError, QueueEvent};
use futures_util::future::{select_all, try_join_all};
use jiff::Timestamp;
use lapin::{BasicProperties, PublisherConfirm};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::{Broker, confirmed};

/// Entries of one batch; each holds the transitions of one call.
const BATCH: u64 = 500;

/// Batches that are under way at once: while the broker writes one down, the next is taken and published.
const UNDER_WAY: usize = 4;

/// While a batch waits longer than this for the broker, no other is taken: an outbox gives out again what nobody
/// acknowledges in time, and that must not be what is under way here.
const OVERDUE: Duration = Duration::from_secs(1);

/// The pause after an outbox was empty.
const POLL: Duration = Duration::from_millis(100);

/// The pause after Redis did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The word that stands for the kind of a job that the queue has forgotten.
const FORGOTTEN: &str = "unknown";

/// Publishes events to an exchange until the connection breaks; gives why.
pub(crate) async fn publish(broker: &Broker, exchange: &str, outboxes: &[Outbox]) -> anyhow::Error {
    let publishing = outboxes.iter().map(|outbox| Box::pin(publish_all(broker, exchange, outbox)));
    select_all(publishing).await.0
}

async fn publish_all(broker: &Broker, exchange: &str, outbox: &Outbox) -> anyhow::Error {
    let mut way = Way::default();
    let mut dropped = None;
    loop {
        let published = async {
            way.make_room().await?;
            publish_batch(broker, exchange, outbox, &mut dropped).await
        };
        match published.await {
            Ok(None) => sleep(POLL).await,
            Ok(Some(published)) => way.push(published.into_end(outbox.clone())),
            Err(error) => match error.downcast::<QueueError>() {
                Ok(error) => {
                    tracing::warn!(queue = %outbox.queue(), %error, "events cannot be taken; trying again until they can");
                    sleep(PAUSE).await;
                }
                Err(broken) => return broken,
            },
        }
    }
}

/// Batches that are published and not confirmed yet, in order.
#[derive(Default)]
struct Way(VecDeque<(Instant, AbortOnDropHandle<anyhow::Result<()>>)>);

impl Way {
    /// Waits until another batch may go out.
    ///
    /// # Errors
    /// If one that is under way cannot come to its end; it stays in the outbox and comes again.
    async fn make_room(&mut self) -> anyhow::Result<()> {
        while let Some((since, end)) = self.0.pop_front() {
            if self.0.len() + 1 < UNDER_WAY && since.elapsed() < OVERDUE && !end.is_finished() {
                self.0.push_front((since, end));
                break;
            }
            end.await??;
        }
        Ok(())
    }

    fn push(&mut self, end: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.push_back((Instant::now(), AbortOnDropHandle::new(tokio::spawn(end))));
    }
}

/// What the broker has not confirmed yet.
struct Published {
    batch: EventBatch,
    confirms: Vec<PublisherConfirm>,
}

impl Published {
    async fn into_end(self, outbox: Outbox) -> anyhow::Result<()> {
        confirmed(self.confirms).await?;
        Ok(outbox.acknowledge_events(&self.batch).await?)
    }
}

/// Publishes the next batch, if there is one. Until it is confirmed it stays in the outbox.
async fn publish_batch(
    broker: &Broker,
    exchange: &str,
    outbox: &Outbox,
    dropped: &mut Option<u64>,
) -> anyhow::Result<Option<Published>> {
    let batch = outbox.take_events(BATCH).await?;
    if batch.dropped > dropped.unwrap_or(batch.dropped) {
        let (queue, total) = (outbox.queue(), batch.dropped);
        tracing::warn!(%queue, outbox.dropped = total, "events were not published: the outbox was full (FOURMI_OUTBOX_LIMIT)");
    }
    *dropped = Some(batch.dropped);
    if batch.events.is_empty() {
        // What could not be read must not come for ever.
        outbox.acknowledge_events(&batch).await?;
        return Ok(None);
    }
    let moved = batch.events.iter().filter_map(|event| match event {
        QueueEvent::Moved { id, .. } => Some(id.clone()),
        QueueEvent::Ended(_) => None,
    });
    let mut ids: Vec<JobId> = moved.collect();
    ids.sort();
    ids.dedup();
    let kinds = outbox.kinds(&ids).await?;
    let messages: Vec<Message> = batch.events.iter().map(|event| Message::of(event, &kinds)).collect();
    let confirms = try_join_all(messages.iter().map(|message| message.publish(broker, exchange))).await?;
    Ok(Some(Published { batch, confirms }))
}

/// An event as it is published.
struct Message {
    /// By which doubles are dropped: the job and its version.
    id: String,
    kind_of_event: String,
    /// `job.<queue>.<kind>.<state>`
    key: String,
    body: String,
}

impl Message {
    fn of(event: &QueueEvent, kinds: &HashMap<JobId, KindName>) -> Self {
        match event {
            QueueEvent::Ended(record) => {
                let job = &record.job;
                let at = job.finished_at.unwrap_or(job.created_at);
                Self::new(&job.id, job.version, job.kind.as_str(), job.state.as_str(), at, job.news())
            }
            QueueEvent::Moved { id, version, state, run, at } => {
                let kind = kinds.get(id).map_or(FORGOTTEN, KindName::as_str);
                let data = json!({
                    "id": id, "queue": id.queue(), "kind": kind, "state": state, "version": version, "run": run,
                });
                Self::new(id, *version, kind, state.as_str(), *at, data)
            }
        }
    }

    /// What is published side by side goes out in the order in which it was begun.
    async fn publish(&self, broker: &Broker, exchange: &str) -> Result<PublisherConfirm, lapin::Error> {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(self.id.as_str().into())
            .with_type(self.kind_of_event.as_str().into())
            .with_app_id("fourmi".into());
        broker.publish(exchange, &self.key, properties, self.body.as_bytes()).await
    }

    fn new(job: &JobId, version: u64, kind: &str, state: &str, at: Timestamp, data: Value) -> Self {
        let (id, kind_of_event) = (format!("{job}.{version}"), format!("job.{state}"));
        let body = json!({ "id": id, "type": kind_of_event, "timestamp": at, "data": data }).to_string();
        Self { key: format!("job.{}.{kind}.{state}", job.queue()), id, kind_of_event, body }
    }
}
