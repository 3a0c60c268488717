//! Writes outcomes and progress. An outcome is tried until Redis has taken or refused it; its run stays ours until then.

use std::{sync::Arc, time::Duration};

use fourmi_model::{Backoff, ErrorReport};
use redis::ScriptInvocation;
use tokio::{sync::mpsc, time::sleep};
use uuid::Uuid;

use super::{Outcome, Settlement, Shared};
use crate::{QueueError, queues::milliseconds, read::meta_key, scripts};

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
            shared.let_go(settlement.id, settlement.run);
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
        tracing::debug!(queue = %shared.queue, %error, "progress was not recorded");
    }
    let (released, settled): (Vec<_>, Vec<_>) =
        batch.iter().partition(|settlement| matches!(settlement.outcome, Outcome::Released { .. }));
    if !settled.is_empty() {
        persist(shared, &settled, &settle_call(shared, &settled)).await;
    }
    if !released.is_empty() {
        persist(shared, &released, &release_call(shared, &released)).await;
    }
}

async fn persist(shared: &Shared, batch: &[&Settlement], call: &ScriptInvocation<'_>) {
    let mut failures = 0;
    loop {
        match shared.link.invoke::<Vec<u8>>(call).await {
            Ok(answers) => {
                for (settlement, answer) in batch.iter().zip(answers) {
                    // After a failed call the outcome may have been written: then the second try is refused.
                    if answer == 0 && failures == 0 {
                        tracing::warn!(
                            queue = %shared.queue, job.uuid = %settlement.id, job.run = settlement.run,
                            "the outcome of a run was refused: its lease was lost"
                        );
                    }
                }
                return;
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(queue = %shared.queue, %error, "outcomes cannot be written; trying again until they can");
                }
                sleep(BACKOFF.delay(failures, rand::random())).await;
            }
        }
    }
}

fn settle_call<'a>(shared: &Shared, batch: &[&Settlement]) -> ScriptInvocation<'a> {
    let mut call = scripts::SETTLE.key(meta_key(&shared.queue));
    let mut uuid = Uuid::encode_buffer();
    for settlement in batch {
        let (outcome, number, text, reason) = match &settlement.outcome {
            Outcome::Succeeded { result, keep } => ("succeeded", *keep, result.clone(), String::new()),
            Outcome::Failed { error, keep } => ("failed", *keep, json(error), String::new()),
            Outcome::Cancelled { error, keep } => ("cancelled", *keep, json(error), String::new()),
            Outcome::Retrying { error, delay, keep } => ("retrying", *delay, json(error), milliseconds(*keep).to_string()),
            Outcome::Parked { error, reason, keep } => ("parked", *keep, json(error), reason.clone()),
            Outcome::Crashed { error, delay, keep } => ("crashed", *delay, json(error), milliseconds(*keep).to_string()),
            Outcome::Released { .. } => continue,
        };
        call.arg(&*settlement.id.hyphenated().encode_lower(&mut uuid))
            .arg(settlement.run)
            .arg(outcome)
            .arg(milliseconds(number))
            .arg(text)
            .arg(reason);
    }
    call
}

fn release_call<'a>(shared: &Shared, batch: &[&Settlement]) -> ScriptInvocation<'a> {
    let mut call = scripts::RELEASE.key(meta_key(&shared.queue));
    call.arg(milliseconds(fourmi_model::Retention::default().done));
    for settlement in batch {
        if let Outcome::Released { delay } = settlement.outcome {
            call.arg(settlement.id.hyphenated().to_string()).arg(settlement.run).arg(milliseconds(delay));
        }
    }
    call
}

fn json(error: &ErrorReport) -> String {
    // Strings, numbers and plain enums always become JSON.
    serde_json::to_string(error).unwrap_or_default()
}

pub(super) async fn report_progress(shared: Arc<Shared>) {
    loop {
        shared.progressed.notified().await;
        if let Err(error) = send_progress(&shared).await {
            tracing::debug!(queue = %shared.queue, %error, "progress was not recorded");
        }
        sleep(PROGRESS_EVERY).await;
    }
}

async fn send_progress(shared: &Shared) -> Result<(), QueueError> {
    let news = shared.take_progress();
    if news.is_empty() {
        return Ok(());
    }
    let mut call = scripts::PROGRESS.key(meta_key(&shared.queue));
    for (id, run, json) in &news {
        call.arg(id.hyphenated().to_string()).arg(*run).arg(json);
    }
    let _: Vec<u8> = shared.link.invoke(&call).await?;
    Ok(())
}
