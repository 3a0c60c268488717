//! Taking finished jobs out of an outbox, whatever is done with them.

use std::{fmt::Display, time::Duration};

use fourmi_model::{Backoff, JobRecord};
use fourmi_queue::{Outbox, QueueError};
use tokio::time::sleep;

/// Jobs of one batch: about ten milliseconds of work, of which flushing to the disk is half.
const BATCH: u64 = 500;

/// The pause after a batch could not be dealt with.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// What is done with finished jobs.
pub(crate) trait Consume: Send + Sync {
    /// The pause after the outbox was empty.
    const POLL: Duration;

    /// What is done, as a past participle: "recorded".
    const DONE: &'static str;

    /// Why it cannot be done now.
    type Error: Display + From<QueueError> + Send;

    /// Deals with jobs, of which some may come a second time.
    fn consume(&self, records: &[JobRecord]) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Takes from the outbox for ever. Whoever dies in between leaves the batch there: it comes again, to this server or another.
pub(crate) async fn run<C: Consume>(outbox: &Outbox, consumer: &C) {
    let queue = outbox.queue();
    let (mut failures, mut dropped) = (0, None);
    loop {
        match batch(outbox, consumer, &mut dropped).await {
            Ok(done) => {
                if failures > 0 {
                    tracing::info!(%queue, "finished jobs are {} again", C::DONE);
                }
                failures = 0;
                if done < BATCH {
                    sleep(C::POLL).await;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(%queue, %error, "finished jobs cannot be {}; trying again until they can", C::DONE);
                }
                sleep(BACKOFF.delay(failures, rand::random())).await;
            }
        }
    }
}

async fn batch<C: Consume>(outbox: &Outbox, consumer: &C, dropped: &mut Option<u64>) -> Result<u64, C::Error> {
    let queue = outbox.queue();
    let batch = outbox.take(BATCH).await?;
    if batch.dropped > dropped.unwrap_or(batch.dropped) {
        let total = batch.dropped;
        tracing::warn!(
            %queue, outbox.dropped = total,
            "finished jobs were not {}: the outbox was full (FOURMI_OUTBOX_LIMIT)", C::DONE
        );
    }
    *dropped = Some(batch.dropped);
    if let Some(error) = batch.unreadable.first() {
        let jobs = batch.unreadable.len();
        tracing::error!(%queue, jobs, %error, "finished jobs cannot be read, and are not {}", C::DONE);
    }
    if !batch.records.is_empty() {
        consumer.consume(&batch.records).await?;
    }
    outbox.acknowledge(&batch).await?;
    Ok(batch.len() as u64)
}
