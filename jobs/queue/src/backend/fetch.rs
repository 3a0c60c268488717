//! Brings jobs: whenever there is room, something woke us, a delayed job is due, or a slow poll is up.

use std::{sync::Arc, time::Duration};

use fourmi_model::{Backoff, Envelope, ErrorClass, Failure, JobId, Retention};
use redis::Value;
use tokio::{sync::mpsc, time::sleep};
use uuid::Uuid;

use super::{Delivery, Held, Outcome, Shared, Stop, StopSignal};
use crate::{
    QueueError,
    queues::milliseconds,
    read::{meta_key, number, text},
    scripts,
    subscription::{Signal, subscribe},
};

/// Jobs that one call fetches at most: about two milliseconds of Redis's time.
pub(super) const BATCH: usize = 200;

/// The pause after a failed call.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

struct Fetched {
    deliveries: Vec<Delivery>,
    /// When the next delayed job is due.
    next_due: Option<Duration>,
    /// A suspect waits for this process to be idle.
    must_be_idle: bool,
}

pub(super) async fn run(shared: Arc<Shared>, sender: mpsc::Sender<Delivery>, poll: Duration) {
    let mut failures = 0;
    let mut must_be_idle = false;
    while !shared.draining.is_cancelled() {
        let want = shared.room().min(BATCH);
        if want == 0 || (must_be_idle && !shared.is_idle()) {
            tokio::select! {
                () = shared.changed.notified() => continue,
                () = shared.draining.cancelled() => return,
            }
        }
        match fetch(&shared, want).await {
            Ok(fetched) => {
                failures = 0;
                must_be_idle = fetched.must_be_idle;
                let full = fetched.deliveries.len() == want;
                for delivery in fetched.deliveries {
                    if sender.send(delivery).await.is_err() {
                        return;
                    }
                }
                if !full && !must_be_idle {
                    idle(&shared, fetched.next_due, poll).await;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(queue = %shared.queue, %error, "jobs cannot be fetched; trying again until they can");
                }
                sleep(BACKOFF.delay(failures, rand::random())).await;
            }
        }
    }
}

/// Waits until there may be something to fetch.
async fn idle(shared: &Shared, next_due: Option<Duration>, poll: Duration) {
    // Idle workers must not all look at the same moment.
    let poll = poll.mul_f64(0.75 + 0.5 * rand::random::<f64>());
    let pause = next_due.map_or(poll, |due| due.min(poll));
    tokio::select! {
        () = shared.wake.notified() => {}
        () = sleep(pause) => {}
        () = shared.draining.cancelled() => {}
    }
}

async fn fetch(shared: &Shared, want: usize) -> Result<Fetched, QueueError> {
    let mut call = scripts::FETCH.key(meta_key(&shared.queue));
    call.arg(&shared.worker)
        .arg(want)
        .arg(milliseconds(shared.lease))
        .arg(u8::from(shared.is_idle()))
        .arg(milliseconds(Retention::default().failed));
    let answer: Vec<Value> = shared.link.invoke(&call).await?;
    let [next_due, must_be_idle, jobs @ ..] = answer.as_slice() else {
        return Err(QueueError::Corrupt("the answer to a fetch".into()));
    };
    let deliveries = jobs.chunks_exact(6).filter_map(|job| take(shared, job)).collect();
    Ok(Fetched {
        deliveries,
        next_due: u64::try_from(number(next_due)).ok().map(Duration::from_millis),
        must_be_idle: text(must_be_idle) == "1",
    })
}

/// A run is ours from here on. One that cannot be read is given up at once, so that it blocks nothing.
fn take(shared: &Shared, job: &[Value]) -> Option<Delivery> {
    let [id, run, attempts, crashes, alone, envelope] = job else { return None };
    let id = Uuid::try_parse(text(id)).ok()?;
    let run = u64::try_from(number(run)).ok()?;
    let stop = StopSignal::default();
    shared.hold(id, Held { run, alone: text(alone) == "1", stop: stop.clone() });
    match serde_json::from_str::<Envelope>(text(envelope)) {
        Ok(envelope) => Some(Delivery {
            id: JobId::from_parts(shared.queue.clone(), id),
            run,
            attempts: number(attempts).try_into().unwrap_or(u32::MAX),
            crashes: number(crashes).try_into().unwrap_or(u32::MAX),
            envelope: Arc::new(envelope),
            stop,
        }),
        Err(error) => {
            let failure = Failure::permanent("corrupt_envelope", "the job cannot be read").because(error);
            let error = failure.class(ErrorClass::Internal).report();
            shared.settle(id, run, Outcome::Failed { error, keep: Retention::default().failed });
            None
        }
    }
}

/// Hears of new jobs and of cancellations. What is missed here is found by the slow poll and by the next renewal.
pub(super) async fn listen(shared: Arc<Shared>) {
    let name = |channel: &str| format!("{{{}}}:{channel}", shared.queue);
    let (wake, control) = (name("wake"), name("ctl"));
    let mut signals = subscribe(shared.link.clone(), vec![wake.clone(), control]);
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Subscribed => shared.wake.notify_one(),
            Signal::Message(channel, _) if channel == wake => shared.wake.notify_one(),
            Signal::Message(_, order) => obey(&shared, &order),
        }
    }
}

/// 'cancel <id> <run>'
fn obey(shared: &Shared, order: &str) {
    let mut words = order.split(' ');
    if let (Some("cancel"), Some(id), Some(run)) = (words.next(), words.next(), words.next())
        && let (Ok(id), Ok(run)) = (Uuid::try_parse(id), run.parse())
    {
        shared.stop_run(id, run, Stop::Cancelled);
    }
}
