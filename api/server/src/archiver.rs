//! Moves finished jobs from the outboxes of the queues into the records, from where they can be read when the queue has
//! forgotten them. Several servers may do it at once: they share the work, and a batch that comes twice changes nothing.

use std::time::Duration;

use fourmi_model::JobRecord;
use fourmi_queue::{Consumer, Outbox, OutboxConfig, QueueError, Queues};
use fourmi_records::{Records, RecordsError};
use tokio_util::sync::CancellationToken;

use crate::outbox::{self, Consume};

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
        let outbox = Outbox::of(queues, queue, Consumer::Records, config).await?;
        let archiver = Archiver(records.clone());
        let archiving = async move { outbox::run(&outbox, &archiver).await };
        tokio::spawn(stop.clone().run_until_cancelled_owned(archiving));
    }
    Ok(())
}

struct Archiver(Records);

#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl Consume for Archiver {
    const POLL: Duration = Duration::from_millis(500);
    const DONE: &'static str = "recorded";
    type Error = ArchiveError;

    async fn consume(&self, records: &[JobRecord]) -> Result<(), ArchiveError> {
        self.0.archive(records).await?;
        Ok(())
    }
}
