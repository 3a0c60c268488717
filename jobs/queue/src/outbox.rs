//! Outboxes: what has become of finished jobs, until those who must know of it do.

use std::{collections::HashMap, time::Duration};

use fourmi_model::{JobId, JobRecord, KindName, QueueName, State};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    QueueError, Queues,
    link::Link,
    queues::{STEP, milliseconds},
    read::{self, meta_key},
    scripts,
};

/// The consumer group of each outbox.
const GROUP: &str = "history";

/// Who must know what has become of finished jobs. Each has an outbox of its own, so that none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    /// The records, of the jobs whose kinds want them kept.
    Records,
    /// Webhooks, of all jobs.
    Webhooks,
    /// A message broker, of all jobs and of their other transitions too: see [`Outbox::take_events`].
    Broker,
}

impl Consumer {
    /// The stream, and the field of the queue that says how much it holds.
    const fn name(self) -> &'static str {
        match self {
            Self::Records => "out",
            Self::Webhooks => "hooks",
            Self::Broker => "wire",
        }
    }
}

/// An entry of the stream: its id, its fields.
type Entry = (String, HashMap<String, String>);

/// The finished jobs of one queue, for one consumer. Any number of processes may take from it: an entry goes to one of
/// them, and to another if it is not acknowledged in time. So whoever consumes it must bear to see it twice.
///
/// A queue fills an outbox from the first [`Outbox::take`] on, and again after Redis has lost everything, until
/// [`Outbox::close`].
#[derive(Clone)]
pub struct Outbox {
    link: Link,
    queue: QueueName,
    consumer: Consumer,
    config: OutboxConfig,
}

/// How an outbox is consumed.
#[derive(Debug, Clone, Copy)]
pub struct OutboxConfig {
    /// Entries that it holds at most, to within some hundred. The oldest go above that, and are counted.
    pub most: u64,
    /// How long a taken entry belongs to whoever took it.
    pub redeliver_after: Duration,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { most: 100_000, redeliver_after: Duration::from_secs(5) }
    }
}

/// What was taken from an outbox, to be acknowledged as a whole.
#[derive(Debug, Default)]
pub struct Batch {
    /// The finished jobs.
    pub records: Vec<JobRecord>,
    /// Why further entries cannot be read. They go with the rest.
    pub unreadable: Vec<QueueError>,
    /// Entries that were dropped so far because the outbox was full.
    pub dropped: u64,
    entries: Vec<String>,
}

impl Batch {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there was nothing to take.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A transition of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum QueueEvent {
    /// It is over.
    Ended(Box<JobRecord>),
    /// It is in another state, or something else about it has changed.
    Moved {
        /// The job.
        id: JobId,
        /// Its version with it.
        version: u64,
        /// Its state.
        state: State,
        /// Runs started so far.
        run: u64,
        /// When it happened.
        at: Timestamp,
    },
}

/// Events that were taken from an outbox, to be acknowledged as a whole.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// The events, in the order in which they happened.
    pub events: Vec<QueueEvent>,
    /// Entries that were dropped so far because the outbox was full.
    pub dropped: u64,
    entries: Vec<String>,
}

/// How full an outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxState {
    /// Entries that are not acknowledged yet.
    pub waiting: u64,
    /// Entries that were dropped so far because it was full.
    pub dropped: u64,
}

impl Outbox {
    /// The outbox of `queue` for `consumer`.
    ///
    /// # Errors
    /// If Redis does not answer or keeps this queue in another layout.
    pub async fn of(
        queues: &Queues,
        queue: QueueName,
        consumer: Consumer,
        config: OutboxConfig,
    ) -> Result<Self, QueueError> {
        queues.link().check_layout(&queue).await?;
        Ok(Self { link: queues.link().clone(), queue, consumer, config })
    }

    /// The queue.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Takes up to `limit` (at most 1,000) entries, oldest first; does not wait for any.
    ///
    /// # Errors
    /// If Redis does not answer; what it had handed out then comes again.
    pub async fn take(&self, limit: u64) -> Result<Batch, QueueError> {
        let (dropped, entries) = self.take_entries(limit).await?;
        let mut batch = Batch { dropped, ..Batch::default() };
        for (id, fields) in entries {
            batch.entries.push(id);
            match read::record(&self.queue, fields) {
                Ok(record) => batch.records.push(record),
                Err(error) => batch.unreadable.push(error),
            }
        }
        Ok(batch)
    }

    /// As [`Self::take`], for [`Consumer::Broker`]. What cannot be read is left out, and goes with the rest; an entry holds all
    /// transitions of one call.
    ///
    /// # Errors
    /// If Redis does not answer; what it had handed out then comes again.
    pub async fn take_events(&self, limit: u64) -> Result<EventBatch, QueueError> {
        let (dropped, entries) = self.take_entries(limit).await?;
        let mut batch = EventBatch { dropped, ..EventBatch::default() };
        for (entry, mut fields) in entries {
            let ms = entry.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
            let at = read::timestamp(ms).unwrap_or_default();
            batch.entries.push(entry);
            match fields.remove("moves") {
                Some(lines) => batch.events.extend(lines.lines().filter_map(|line| self.moved(line, at))),
                None => match read::record(&self.queue, fields) {
                    Ok(record) => batch.events.push(QueueEvent::Ended(Box::new(record))),
                    Err(error) => {
                        tracing::error!(queue = %self.queue, %error, "an event cannot be read, and is left out")
                    }
                },
            }
        }
        Ok(batch)
    }

    /// '<id> <version> <state> <run>'
    fn moved(&self, line: &str, at: Timestamp) -> Option<QueueEvent> {
        let mut parts = line.split(' ');
        let id = JobId::from_parts(self.queue.clone(), Uuid::try_parse(parts.next()?).ok()?);
        let (version, state, run) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(QueueEvent::Moved { id, version, state, run, at })
    }

    /// The kinds of jobs, as far as the queue knows them still.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn kinds(&self, ids: &[JobId]) -> Result<HashMap<JobId, KindName>, QueueError> {
        #[derive(serde::Deserialize)]
        struct Kind {
            kind: KindName,
        }
        let mut known = HashMap::new();
        for ids in ids.chunks(200) {
            let mut envelopes = redis::cmd("MGET");
            for id in ids {
                envelopes.arg(read::key(&self.queue, format_args!("b:{}", id.uuid().hyphenated())));
            }
            let envelopes: Vec<Option<String>> = self.link.query(&envelopes).await?;
            for (id, envelope) in ids.iter().zip(envelopes) {
                if let Some(Kind { kind }) = envelope.and_then(|envelope| serde_json::from_str(&envelope).ok()) {
                    known.insert(id.clone(), kind);
                }
            }
        }
        Ok(known)
    }

    async fn take_entries(&self, limit: u64) -> Result<(u64, Vec<Entry>), QueueError> {
        let limit = limit.clamp(1, STEP);
        let dropped = self.open_if_closed().await?;
        match self.read(limit).await {
            Ok(entries) => Ok((dropped, entries)),
            Err(error) => {
                // The consumer group may have gone with the stream: what follows finds it again.
                self.open().await?;
                Err(error)
            }
        }
    }

    /// Opens the outbox if Redis has lost it, or was told another size; gives how many entries were dropped so far.
    async fn open_if_closed(&self) -> Result<u64, QueueError> {
        let (most, dropped) = settings(&self.link, &self.queue, self.consumer).await?;
        if most != Some(self.config.most) {
            self.open().await?;
        }
        Ok(dropped)
    }

    /// Has the queue fill the outbox from now on.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn open(&self) -> Result<(), QueueError> {
        self.say(&self.config.most.to_string()).await
    }

    /// Empties the outbox, and has the queue fill it no more.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn close(&self) -> Result<(), QueueError> {
        self.say("").await
    }

    async fn say(&self, most: &str) -> Result<(), QueueError> {
        let mut call = scripts::CONSUME.key(meta_key(&self.queue));
        let _said: u8 = self.link.invoke(call.arg(self.consumer.name()).arg(most)).await?;
        Ok(())
    }

    /// First what others have taken and not acknowledged in time, then what nobody has taken.
    async fn read(&self, limit: u64) -> Result<Vec<Entry>, QueueError> {
        let stream = read::key(&self.queue, self.consumer.name());
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&stream).arg(GROUP).arg(GROUP).arg(milliseconds(self.config.redeliver_after));
        claim.arg("0-0").arg("COUNT").arg(limit);
        let (_next, mut entries, _dropped): (String, Vec<Entry>, Vec<String>) = self.link.query(&claim).await?;
        let left = limit.saturating_sub(entries.len() as u64);
        if left > 0 {
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg(GROUP).arg("COUNT").arg(left).arg("STREAMS").arg(&stream).arg(">");
            let new: Option<Vec<(String, Vec<Entry>)>> = self.link.query(&read).await?;
            entries.extend(new.into_iter().flatten().flat_map(|(_stream, entries)| entries));
        }
        Ok(entries)
    }

    /// Removes what was taken: it is stored, or whatever its consumer does.
    ///
    /// # Errors
    /// If Redis does not answer; the entries may come again then.
    pub async fn acknowledge(&self, batch: &Batch) -> Result<(), QueueError> {
        self.remove(&batch.entries).await
    }

    /// Removes events that were taken.
    ///
    /// # Errors
    /// If Redis does not answer; the entries may come again then.
    pub async fn acknowledge_events(&self, batch: &EventBatch) -> Result<(), QueueError> {
        self.remove(&batch.entries).await
    }

    async fn remove(&self, entries: &[String]) -> Result<(), QueueError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut call = scripts::ACKNOWLEDGE.key(meta_key(&self.queue));
        call.arg(self.consumer.name()).arg(entries);
        let _removed: u64 = self.link.invoke(&call).await?;
        Ok(())
    }
}

/// How full an outbox of a queue is; `None` if nobody consumes it.
pub(crate) async fn state(
    link: &Link,
    queue: &QueueName,
    consumer: Consumer,
) -> Result<Option<OutboxState>, QueueError> {
    let (most, dropped) = settings(link, queue, consumer).await?;
    if most.is_none() {
        return Ok(None);
    }
    let waiting = link.query(redis::cmd("XLEN").arg(read::key(queue, consumer.name()))).await?;
    Ok(Some(OutboxState { waiting, dropped }))
}

/// How many entries an outbox may hold, if somebody consumes it, and how many were dropped so far.
async fn settings(link: &Link, queue: &QueueName, consumer: Consumer) -> Result<(Option<u64>, u64), QueueError> {
    let mut fields = redis::cmd("HMGET");
    fields.arg(meta_key(queue)).arg(consumer.name()).arg(format!("{}:dropped", consumer.name()));
    let (most, dropped): (Option<u64>, Option<u64>) = link.query(&fields).await?;
    Ok((most, dropped.unwrap_or(0)))
}
