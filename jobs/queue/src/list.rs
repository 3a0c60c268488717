//! Lists of jobs: a walk through the indexes of their states.

use std::collections::HashSet;

use fourmi_model::{Job, QueueName};
use uuid::Uuid;

use crate::{
    JobFilter, Page, QueueError,
    link::Link,
    read::{jobs, meta_key},
    walk::{self, Place, Way},
};

/// Entries that one page looks at, at most, to within a batch: a filter that matches little must not hold Redis up.
pub(crate) const ENTRIES_A_PAGE: usize = 5_000;

/// A page of jobs. The cursor names the entry that was looked at last: what leaves or comes meanwhile moves nothing else.
pub(crate) async fn list(
    link: &Link,
    queue: &QueueName,
    filter: &JobFilter,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page, QueueError> {
    let limit = limit.clamp(1, 200);
    let unreadable = || QueueError::Corrupt("the cursor is none of this list's".into());
    let mut place = cursor.map_or(Some(Place::default()), Place::read).ok_or_else(unreadable)?;
    let mut page = Page { jobs: Vec::new(), next: None, looked_at: 0 };
    // A job that was cancelled and retried stands in its lane twice.
    let mut met = HashSet::new();
    if cursor.is_none() && !is_used(link, queue).await? {
        return Ok(page);
    }
    while let Some(index) = place.index(filter) {
        if page.jobs.len() == limit || page.looked_at >= ENTRIES_A_PAGE {
            return Ok(Page { next: Some(place.write()), ..page });
        }
        let entries = walk::entries(link, queue, index, Way::AsListed, &place).await?;
        let ids: Vec<Uuid> = entries.found.iter().map(|entry| entry.id).collect();
        page.looked_at += ids.len();
        for (job, entry) in jobs(link, queue, &ids).await?.into_iter().zip(entries.found) {
            if page.jobs.len() == limit {
                return Ok(Page { next: Some(place.write()), ..page });
            }
            place.pass(entry);
            let wanted = |job: &Job| index.states.contains(&job.state) && matches(filter, job);
            page.jobs.extend(job.filter(|job| wanted(job) && met.insert(job.id.uuid())));
        }
        if !entries.more {
            place.leave_index();
        }
    }
    Ok(page)
}

/// Whether anything has ever been put into a queue.
async fn is_used(link: &Link, queue: &QueueName) -> Result<bool, QueueError> {
    link.query(redis::cmd("EXISTS").arg(meta_key(queue))).await
}

pub(crate) fn matches(filter: &JobFilter, job: &Job) -> bool {
    let error = job.error.as_ref().map(|error| &error.code);
    (filter.states.is_empty() || filter.states.contains(&job.state))
        && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
        && filter.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
        && (filter.tenant.is_none() || filter.tenant == job.tenant)
        && (filter.submitted_by.is_none() || filter.submitted_by == job.submitted_by)
        && (filter.error.is_none() || filter.error.as_ref() == error)
        && (filter.parked_reason.is_none() || filter.parked_reason == job.parked_reason)
        && filter.created_after.is_none_or(|start| job.created_at >= start)
        && filter.created_before.is_none_or(|stop| job.created_at < stop)
        && filter.finished_after.is_none_or(|start| job.finished_at.is_some_and(|end| end >= start))
        && filter.finished_before.is_none_or(|stop| job.finished_at.is_some_and(|end| end < stop))
}
