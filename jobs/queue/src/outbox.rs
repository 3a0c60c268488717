//! The outbox: what has become of finished jobs, until somebody has stored it.

use std::{collections::HashMap, time::Duration};

use fourmi_model::{JobRecord, QueueName};
use redis::{FromRedisValue, Value};

use crate::{
    QueueError, Queues,
    link::Link,
    queues::{STEP, milliseconds},
    read::{self, meta_key, number},
    scripts,
};

/// The consumer group that moves finished jobs into the records.
const GROUP: &str = "history";

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
        let mut call = scripts::TAKE.key(meta_key(&self.queue));
        call.arg(GROUP).arg(limit.clamp(1, STEP)).arg(milliseconds(self.config.redeliver_after)).arg(self.config.most);
        let answer: Vec<Value> = self.link.invoke(&call).await?;
        let mut answer = answer.into_iter();
        let dropped = answer.next().map_or(0, |value| number(&value));
        let mut batch = Batch { dropped: u64::try_from(dropped).unwrap_or(0), ..Batch::default() };
        for entry in answer {
            let (id, fields): (String, HashMap<String, String>) = FromRedisValue::from_redis_value(entry)?;
            batch.entries.push(id);
            match read::record(&self.queue, fields) {
                Ok(record) => batch.records.push(record),
                Err(error) => batch.unreadable.push(error),
            }
        }
        Ok(batch)
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
    let mut fields = redis::cmd("HMGET");
    fields.arg(meta_key(queue)).arg("out").arg("out:dropped");
    let (most, dropped): (Option<u64>, Option<u64>) = link.query(&fields).await?;
    if most.is_none() {
        return Ok(None);
    }
    let waiting = link.query(redis::cmd("XLEN").arg(read::key(queue, "out"))).await?;
    Ok(Some(OutboxState { waiting, dropped: dropped.unwrap_or(0) }))
}
