//! The outbox: what has become of finished jobs, until somebody has stored it.

use std::{collections::HashMap, time::Duration};

use fourmi_model::{JobRecord, QueueName};

use crate::{
    QueueError, Queues,
    link::Link,
    queues::{STEP, milliseconds},
    read::{self, meta_key},
    scripts,
};

/// The consumer group that moves finished jobs into the records.
const GROUP: &str = "history";

/// An entry of the stream: its id, its fields.
type Entry = (String, HashMap<String, String>);

/// The finished jobs of one queue, for whoever stores them. Any number of processes may take from it: an entry goes to
/// one of them, and to another if it is not acknowledged in time. So whoever stores it must bear to see it twice.
///
/// A queue fills its outbox from the first [`Outbox::take`] on, and again after Redis has lost everything.
#[derive(Clone)]
pub struct Outbox {
    link: Link,
    queue: QueueName,
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

/// How full an outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxState {
    /// Entries that are not acknowledged yet.
    pub waiting: u64,
    /// Entries that were dropped so far because it was full.
    pub dropped: u64,
}

impl Outbox {
    /// The outbox of `queue`.
    ///
    /// # Errors
    /// If Redis does not answer or keeps this queue in another layout.
    pub async fn of(queues: &Queues, queue: QueueName, config: OutboxConfig) -> Result<Self, QueueError> {
        queues.link().check_layout(&queue).await?;
        Ok(Self { link: queues.link().clone(), queue, config })
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
        let limit = limit.clamp(1, STEP);
        let dropped = self.open_if_closed().await?;
        let entries = match self.read(limit).await {
            Ok(entries) => entries,
            Err(error) => {
                // The consumer group may have gone with the stream: what follows finds it again.
                self.open().await?;
                return Err(error);
            }
        };
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

    /// Opens the outbox if Redis has lost it, or was told another size; gives how many entries were dropped so far.
    async fn open_if_closed(&self) -> Result<u64, QueueError> {
        let (most, dropped) = settings(&self.link, &self.queue).await?;
        if most != Some(self.config.most) {
            self.open().await?;
        }
        Ok(dropped)
    }

    async fn open(&self) -> Result<(), QueueError> {
        let mut call = scripts::CONSUME.key(meta_key(&self.queue));
        let _opened: u8 = self.link.invoke(call.arg(GROUP).arg(self.config.most)).await?;
        Ok(())
    }

    /// First what others have taken and not acknowledged in time, then what nobody has taken.
    async fn read(&self, limit: u64) -> Result<Vec<Entry>, QueueError> {
        let stream = read::key(&self.queue, "out");
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

    /// Removes what was taken: it is stored.
    ///
    /// # Errors
    /// If Redis does not answer; the entries may come again then.
    pub async fn acknowledge(&self, batch: &Batch) -> Result<(), QueueError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut call = scripts::ACKNOWLEDGE.key(meta_key(&self.queue));
        call.arg(GROUP).arg(&batch.entries);
        let _removed: u64 = self.link.invoke(&call).await?;
        Ok(())
    }
}

/// How full the outbox of a queue is; `None` if nobody consumes it.
pub(crate) async fn state(link: &Link, queue: &QueueName) -> Result<Option<OutboxState>, QueueError> {
    let (most, dropped) = settings(link, queue).await?;
    if most.is_none() {
        return Ok(None);
    }
    let waiting = link.query(redis::cmd("XLEN").arg(read::key(queue, "out"))).await?;
    Ok(Some(OutboxState { waiting, dropped }))
}

/// How many entries the outbox may hold, if somebody consumes it, and how many were dropped so far.
async fn settings(link: &Link, queue: &QueueName) -> Result<(Option<u64>, u64), QueueError> {
    let mut fields = redis::cmd("HMGET");
    fields.arg(meta_key(queue)).arg("out").arg("out:dropped");
    let (most, dropped): (Option<u64>, Option<u64>) = link.query(&fields).await?;
    Ok((most, dropped.unwrap_or(0)))
}
