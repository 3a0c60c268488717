//! Moves finished jobs from the outboxes of the queues into the records, from where they can be read when the queue has
//! forgotten them. Several servers may do it at once: they share the work, and a batch that comes twice changes nothing.

use std::time::Duration;

use fourmi_model::Backoff;
use fourmi_queue::{Outbox, OutboxConfig, QueueError, Queues};
use fourmi_records::{Records, RecordsError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Jobs of one batch: about ten milliseconds of work, of which flushing to the disk is half.
const BATCH: u64 = 500;

/// The pause after the outbox was empty.
const POLL: Duration = Duration::from_millis(500);

/// The pause after a batch could not be moved.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// Moves what is in the outboxes of these queues until `stop` is cancelled.
///
/// # Errors
/// If Redis does not answer now or keeps a queue in another layout.
pub(crate) async fn start(
    queues: &Queues,
    records: &Records,
    config: OutboxConfig,
    stop: &CancellationToken,
) -> Result<(), QueueError> {
    for queue in fourmi_kinds::catalogue().queues() {
        let archiver = Archiver { outbox: Outbox::of(queues, queue, config).await?, records: records.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(archiver.run()));
    }
    Ok(())
}

struct Archiver {
    outbox: Outbox,
    records: Records,
}

#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl Archiver {
    async fn run(self) {
        let queue = self.outbox.queue();
        let (mut failures, mut dropped) = (0, None);
        loop {
            match self.move_batch(&mut dropped).await {
                Ok(moved) => {
                    if failures > 0 {
                        tracing::info!(%queue, "finished jobs are recorded again");
                    }
                    failures = 0;
                    if moved < BATCH {
                        sleep(POLL).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(%queue, %error, "finished jobs cannot be recorded; trying again until they can");
                    }
                    sleep(BACKOFF.delay(failures, rand::random())).await;
                }
            }
        }
    }

    /// Whoever dies in between leaves the batch in the outbox: it comes again, to this server or another.
    async fn move_batch(&self, dropped: &mut Option<u64>) -> Result<u64, ArchiveError> {
        let queue = self.outbox.queue();
        let batch = self.outbox.take(BATCH).await?;
        if batch.dropped > dropped.unwrap_or(batch.dropped) {
            let total = batch.dropped;
            tracing::warn!(%queue, outbox.dropped = total, "finished jobs were left unrecorded: the outbox was full (FOURMI_OUTBOX_LIMIT)");
        }
        *dropped = Some(batch.dropped);
        if let Some(error) = batch.unreadable.first() {
            let jobs = batch.unreadable.len();
            tracing::error!(%queue, jobs, %error, "finished jobs cannot be read, and go unrecorded");
        }
        if !batch.records.is_empty() {
            self.records.archive(&batch.records).await?;
        }
        self.outbox.acknowledge(&batch).await?;
        Ok(batch.len() as u64)
    }
}
