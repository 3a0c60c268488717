//! The end of a list: jobs that their queues have forgotten.

use fourmi_model::{Job, QueueName};
use fourmi_queue::JobFilter;
use fourmi_records::{RecordFilter, Records, RecordsError};

use crate::{
    problem::Problem,
    redis::in_time,
    routes::{
        job_list::{MOST_ENTRIES, unknown_cursor},
        jobs::Jobs,
    },
};

/// Records that are read together: many of them may be of jobs that are still in their queue, and are passed over.
const STEP: usize = 200;

impl Jobs {
    /// Up to `limit` recorded jobs that their queues have forgotten, newest first, and where more may be. Those that are
    /// still in their queue are in its own part of the list.
    pub(super) async fn archived(
        &self,
        filter: &JobFilter,
        queue: Option<&QueueName>,
        start: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Job>, Option<String>), Problem> {
        if filter.parked_reason.is_some() {
            return Ok((Vec::new(), None));
        }
        let filter = of_records(filter, queue);
        let (mut found, mut at, mut looked_at) = (Vec::new(), start.map(str::to_owned), 0);
        loop {
            let (page, next) = self.records.list(&filter, at.as_deref(), STEP).await.map_err(list_problem)?;
            looked_at += page.len();
            found.extend(self.forgotten(page).await?);
            if found.len() > limit {
                found.truncate(limit);
                let next = found.last().map(Records::cursor_after);
                return Ok((found, next));
            }
            if next.is_none() || looked_at >= MOST_ENTRIES {
                return Ok((found, next));
            }
            at = next;
        }
    }

    /// Those of these jobs that are no longer in their queues.
    async fn forgotten(&self, jobs: Vec<Job>) -> Result<impl Iterator<Item = Job>, Problem> {
        let ids: Vec<_> = jobs.iter().map(|job| job.id.clone()).collect();
        let are_live = in_time(self.queues.are_there(&ids)).await?;
        Ok(jobs.into_iter().zip(are_live).filter(|(_, is_live)| !is_live).map(|(job, _)| job))
    }
}

fn of_records(filter: &JobFilter, queue: Option<&QueueName>) -> RecordFilter {
    RecordFilter {
        states: filter.states.clone(),
        kind: filter.kind.clone(),
        queue: queue.cloned(),
        tag: filter.tag.clone(),
        error: filter.error.clone(),
        tenant: filter.tenant.clone(),
        submitted_by: filter.submitted_by.clone(),
        created_after: filter.created_after,
        created_before: filter.created_before,
        finished_after: filter.finished_after,
        finished_before: filter.finished_before,
    }
}

/// A cursor that the records cannot read came from the caller.
fn list_problem(error: RecordsError) -> Problem {
    match error {
        RecordsError::Cursor => unknown_cursor(),
        error => error.into(),
    }
}
