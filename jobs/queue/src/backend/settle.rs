//! Writes outcomes and progress. An outcome is tried until Redis has taken or refused it; its run stays ours until then.

use std::{sync::Arc, time::Duration};

use fourmi_model::Backoff;
use tokio::{sync::mpsc, time::sleep};

use super::{Shared, log};
use crate::{QueueError, Settlement};

/// Outcomes that one call writes at most: about two milliseconds of Redis's time.
const BATCH: usize = 200;

/// The pause after a failed call.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// Progress goes out this often at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Ends when fetching has stopped and nothing is held.
pub(super) async fn run(shared: Arc<Shared>, mut outcomes: mpsc::UnboundedReceiver<Settlement>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            received = outcomes.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = nothing_left(&shared) => return,
        }
        write(&shared, &batch).await;
        for settlement in batch.drain(..) {
            shared.let_go(settlement.run);
        }
        shared.changed.notify_one();
    }
}

/// Waits until this process has drained and holds nothing any more.
async fn nothing_left(shared: &Shared) {
    shared.handed_out.cancelled().await;
    while !shared.is_idle() {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn write(shared: &Shared, batch: &[Settlement]) {
    // What a run said last belongs before its outcome; afterwards it would be dropped.
    if let Err(error) = send_progress(shared).await {
        tracing::debug!(queue = %shared.queue(), %error, "progress was not recorded");
    }
    let mut failures = 0;
    loop {
        let written = match log::send(shared).await {
            Ok(()) => shared.transitions.settle(batch).await,
            // Lines come before the outcome of their run: afterwards they would be dropped.
            Err(error) => Err(error),
        };
        match written {
            Ok(written) => {
                // After a failed call the outcome may have been written: then the second try is refused.
                let refused = batch.iter().zip(written).filter(|(_, written)| !written && failures == 0);
                for (settlement, _) in refused {
                    let (job, run) = (settlement.run.job, settlement.run.number);
                    tracing::warn!(queue = %shared.queue(), job.uuid = %job, job.run = run, "the outcome of a run was refused: its lease was lost");
                }
                return;
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(queue = %shared.queue(), %error, "outcomes cannot be written; trying again until they can");
                }
                sleep(BACKOFF.delay(failures, rand::random())).await;
            }
        }
    }
}

pub(super) async fn report_progress(shared: Arc<Shared>) {
    loop {
        shared.progressed.notified().await;
        if let Err(error) = send_progress(&shared).await {
            tracing::debug!(queue = %shared.queue(), %error, "progress was not recorded");
        }
        sleep(PROGRESS_EVERY).await;
    }
}

async fn send_progress(shared: &Shared) -> Result<(), QueueError> {
    let news = shared.take_progress();
    if news.is_empty() {
        return Ok(());
    }
    shared.transitions.progress(&news).await?;
    Ok(())
}
