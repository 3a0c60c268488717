//! Keeps what is ours, takes back what others lost, forgets what is old.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Shared, Stop};
use crate::{Lease, QueueError, Run};

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
                tracing::warn!(queue = %shared.queue(), %error, "leases cannot be renewed; trying again until they can");
            }
        }
    }
}

async fn renew_runs(shared: &Shared, runs: &[Run]) -> Result<(), QueueError> {
    let leases = shared.transitions.renew(shared.lease, runs).await?;
    for (run, lease) in runs.iter().zip(leases) {
        match lease {
            Lease::Lost => shared.stop_run(*run, Stop::LeaseLost),
            Lease::StopRequested => shared.stop_run(*run, Stop::Cancelled),
            Lease::Renewed => {}
        }
    }
    Ok(())
}

/// Keeps house every second.
pub(super) async fn keep_house(shared: Arc<Shared>, kept: (u64, u64)) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = shared.transitions.keep_house(shared.lease, kept).await {
            tracing::debug!(queue = %shared.queue(), %error, "housekeeping has to wait");
        }
    }
}
