//! Keeps what is ours, takes back what others lost, forgets what is old.

use std::{sync::Arc, time::Duration};

use fourmi_model::Retention;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::{Shared, Stop};
use crate::{
    QueueError,
    queues::{STEP, milliseconds},
    read::meta_key,
    scripts,
};

/// Runs that one call renews at most.
const BATCH: usize = 500;

/// Renews all leases three times as often as they run out. Depends neither on handlers nor on fetching.
pub(super) async fn renew(shared: Arc<Shared>) {
    let mut ticks = interval(shared.lease / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for runs in shared.held_runs().chunks(BATCH) {
            if let Err(error) = renew_runs(&shared, runs).await {
                tracing::warn!(queue = %shared.queue, %error, "leases cannot be renewed; trying again until they can");
            }
        }
    }
}

async fn renew_runs(shared: &Shared, runs: &[(Uuid, u64)]) -> Result<(), QueueError> {
    let mut call = scripts::RENEW.key(meta_key(&shared.queue));
    call.arg(milliseconds(shared.lease));
    for (id, run) in runs {
        call.arg(id.hyphenated().to_string()).arg(*run);
    }
    let answers: Vec<u8> = shared.link.invoke(&call).await?;
    for ((id, run), answer) in runs.iter().zip(answers) {
        match answer {
            0 => shared.stop_run(*id, *run, Stop::LeaseLost),
            2 => shared.stop_run(*id, *run, Stop::Cancelled),
            _ => {}
        }
    }
    Ok(())
}

/// Every second: takes back expired leases, lets due jobs run, trims finished ones. Any process may do it for all.
pub(super) async fn keep_house(shared: Arc<Shared>, kept: (u64, u64)) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep(&shared, kept).await {
            tracing::debug!(queue = %shared.queue, %error, "housekeeping has to wait");
        }
    }
}

async fn sweep(shared: &Shared, kept: (u64, u64)) -> Result<(), QueueError> {
    let meta = meta_key(&shared.queue);
    let lease = milliseconds(shared.lease);
    let mut reclaim = scripts::RECLAIM.key(&meta);
    // Half a lease without a tick means that nobody could renew either.
    let gap = (lease / 2).max(2_000);
    reclaim.arg(STEP).arg(lease).arg(gap).arg(milliseconds(Retention::default().failed));
    while shared.link.invoke::<u64>(&reclaim).await? == STEP {}

    let mut promote = scripts::PROMOTE.key(&meta);
    promote.arg(STEP);
    while shared.link.invoke::<(u64, i64)>(&promote).await?.0 == STEP {}

    let mut trim = scripts::TRIM.key(&meta);
    trim.arg(STEP).arg(kept.0).arg(kept.1);
    while shared.link.invoke::<u64>(&trim).await? == STEP {}
    Ok(())
}
