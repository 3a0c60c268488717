//! Brings jobs: whenever there is room, something woke us, a delayed job is due, or a slow poll is up.

use std::{sync::Arc, time::Duration};

use fourmi_model::{Backoff, ErrorClass, Failure, Retention};
use tokio::{sync::mpsc, time::sleep};
use uuid::Uuid;

use super::{Delivery, Held, Shared, Stop, StopSignal};
use crate::{
    Claim, Outcome, Run, flows,
    subscription::{Signal, subscribe},
};

/// Jobs that one call fetches at most: about two milliseconds of Redis's time.
pub(super) const BATCH: usize = 200;

/// The pause after a failed call.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

pub(super) async fn run(shared: Arc<Shared>, sender: mpsc::Sender<Delivery>, poll: Duration) {
    let mut failures = 0;
    let mut must_be_idle = false;
    while !shared.draining.is_cancelled() {
        let want = shared.room().min(BATCH);
        if want == 0 || (must_be_idle && !shared.is_idle()) {
            tokio::select! {
                () = shared.changed.notified() => continue,
                () = shared.draining.cancelled() => return,
                // It says so again, or the others would believe that it is dead and stop fetching too; and it hears when
                // the suspect has found another worker.
                () = sleep(shared.lease / 3), if want > 0 => {}
            }
        }
        match shared.transitions.fetch(&shared.worker, want, shared.lease, shared.is_idle()).await {
            Ok(fetched) => {
                failures = 0;
                must_be_idle = fetched.must_be_idle;
                let full = fetched.claims.len() == want;
                // All are ours before the first is handed out: what is held is renewed.
                let deliveries: Vec<_> = fetched.claims.into_iter().filter_map(|claim| take(&shared, claim)).collect();
                for delivery in deliveries {
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
                    tracing::warn!(queue = %shared.queue(), %error, "jobs cannot be fetched; trying again until they can");
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

/// A run is ours from here on. One that cannot be read is given up at once, so that it blocks nothing.
fn take(shared: &Shared, claim: Claim) -> Option<Delivery> {
    let stop = StopSignal::default();
    let run = claim.key();
    shared.hold(run, Held { number: claim.run, alone: claim.alone, stop: stop.clone() });
    match claim.envelope {
        Ok(envelope) => Some(Delivery {
            id: claim.id,
            run: claim.run,
            attempts: claim.attempts,
            crashes: claim.crashes,
            waited: claim.waited,
            envelope: Arc::new(envelope),
            stop,
        }),
        Err(error) => {
            let failure = Failure::permanent("corrupt_envelope", "the job cannot be read").because(error);
            let error = failure.class(ErrorClass::Internal).report();
            shared.settle(run, Outcome::Failed { error, keep: Retention::default().failed });
            None
        }
    }
}

/// Hears of new jobs and of cancellations. What is missed here is found by the slow poll and by the next renewal.
pub(super) async fn listen(shared: Arc<Shared>) {
    let name = |channel: &str| format!("{{{}}}:{channel}", shared.queue());
    let (wake, control, relay) = (name("wake"), name("ctl"), name(flows::CHANNEL));
    let mut signals = subscribe(shared.transitions.link().clone(), vec![wake.clone(), control, relay.clone()]);
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Subscribed => {
                shared.wake.notify_one();
                shared.telling.notify_one();
            }
            Signal::Message(channel, _) if channel == relay => shared.telling.notify_one(),
            Signal::Message(channel, _) if channel == wake => shared.wake.notify_one(),
            Signal::Message(_, order) => obey(&shared, &order),
        }
    }
}

/// 'cancel <id> <run>', 'drain <worker>', 'beat'
fn obey(shared: &Shared, order: &str) {
    match order.split(' ').collect::<Vec<_>>()[..] {
        ["cancel", id, run] => {
            if let (Ok(job), Ok(number)) = (Uuid::try_parse(id), run.parse()) {
                shared.stop_run(Run { job, number }, Stop::Cancelled);
            }
        }
        ["drain", worker] if worker == shared.worker => shared.told_to_drain.cancel(),
        ["beat"] => shared.beat_now.notify_one(),
        // Another's, or of a newer version.
        _ => {}
    }
}
