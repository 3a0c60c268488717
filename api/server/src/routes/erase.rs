//! Erasing what deleted people left behind: their jobs and their files.
//!
//! The records keep who is to be erased until nothing is left, so that no crash and no outage ends it half way.

use std::{sync::Arc, time::Duration};

use fourmi_kinds::catalogue;
use fourmi_queue::{JobAction, JobFilter};
use fourmi_records::Records;
use tokio::time::{MissedTickBehavior, interval};

use super::{actions::Act, jobs::Jobs};
use crate::{problem::Problem, redis::in_time};

/// How often it is looked whether somebody is to be erased.
const LOOK: Duration = Duration::from_secs(2);

/// Erases, until the server stops. All servers do; what one has erased the others do not find.
pub(crate) async fn keep_erasing(jobs: Arc<Jobs>, records: Records) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let pending = match records.erasures().await {
            Ok(pending) => pending,
            Err(error) => {
                tracing::debug!(%error, "it cannot be read who is to be erased");
                continue;
            }
        };
        for who in pending {
            match erase(&jobs, &who).await {
                // Something runs still: the next look.
                Ok(false) => {}
                Ok(true) => match records.erased(&who).await {
                    Ok(()) => tracing::info!(user.id = who, "jobs and files of a deleted person are erased"),
                    Err(error) => tracing::debug!(%error, "it cannot be noted who is erased"),
                },
                Err(problem) => problem.log(),
            }
        }
    }
}

/// One pass; whether nothing is left.
async fn erase(jobs: &Jobs, who: &str) -> Result<bool, Problem> {
    let filter = JobFilter { submitted_by: Some(who.to_owned()), ..JobFilter::default() };
    for action in [JobAction::Cancel, JobAction::Delete] {
        act_on_all(jobs, action, filter.clone()).await?;
    }
    // A run that was asked to stop may still store something.
    if is_any_left(jobs, &filter).await? {
        return Ok(false);
    }
    for file in jobs.blobs.submitted_by(who).await? {
        jobs.blobs.delete(&file).await?;
    }
    Ok(true)
}

async fn is_any_left(jobs: &Jobs, filter: &JobFilter) -> Result<bool, Problem> {
    for queue in catalogue().queues() {
        let mut next = None;
        loop {
            let page = in_time(jobs.queues.list(&queue, filter, next.as_deref(), 1)).await?;
            if !page.jobs.is_empty() {
                return Ok(true);
            }
            match page.next {
                Some(cursor) => next = Some(cursor),
                None => break,
            }
        }
    }
    Ok(false)
}

/// Does something with all jobs that a filter wants.
async fn act_on_all(jobs: &Jobs, action: JobAction, filter: JobFilter) -> Result<(), Problem> {
    let act = Act { jobs, action, filter, queue: None, dry_run: false };
    let mut next = None;
    loop {
        match act.step(next).await?.next {
            Some(cursor) => next = Some(cursor.parse()?),
            None => return Ok(()),
        }
    }
}
