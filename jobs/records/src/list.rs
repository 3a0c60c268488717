//! Lists of finished jobs, newest first.

use fourmi_model::{Job, JobId, KindName, QueueName, State, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    jobs::record,
    row::Cells,
    walk::{Bound, Condition, PAGE, Place, Walk},
};

/// Which finished jobs to list: those to which everything given applies.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Only these states; empty for all. Those of jobs that are not over match nothing.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<KindName>,
    /// Only this queue.
    pub queue: Option<QueueName>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs whose newest error has this code.
    pub error: Option<String>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantName>,
    /// Only jobs that were submitted with the API key of this id.
    pub submitted_by: Option<String>,
    /// Only jobs that were accepted at this time or later.
    pub created_after: Option<Timestamp>,
    /// Only jobs that were accepted before this time.
    pub created_before: Option<Timestamp>,
    /// Only jobs that were over at this time or later.
    pub finished_after: Option<Timestamp>,
    /// Only jobs that were over before this time.
    pub finished_before: Option<Timestamp>,
}

impl Records {
    /// A page of finished jobs, newest first, and the cursor of the next page, if there is one: opaque, URL-safe, and valid
    /// for the same filter. A page has `limit` jobs (200 at most), or fewer, even none, where few of many fit: one page
    /// looks at a bounded number.
    ///
    /// # Errors
    /// If the cursor is none, the database does not answer, or a record cannot be read.
    pub async fn list(
        &self,
        filter: &RecordFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Job>, Option<String>), RecordsError> {
        let start = cursor.map(|cursor| Place::read(cursor, is_id)).transpose()?;
        let Some(walk) = walk(filter, start) else { return Ok((Vec::new(), None)) };
        let (jobs, next) = self.page(&walk, limit.clamp(1, PAGE), job, place_of).await?;
        Ok((jobs, next.map(|place| place.cursor())))
    }

    /// The cursor of what comes after this job in a list: for who takes only a part of a page.
    pub fn cursor_after(job: &Job) -> String {
        place_of(job).cursor()
    }
}

fn job(row: &dyn Cells) -> Result<Job, RecordsError> {
    record(row).map(|record| record.job)
}

fn place_of(job: &Job) -> Place {
    let finished_at = job.finished_at.unwrap_or(job.created_at);
    Place { time: finished_at.as_millisecond(), id: job.id.to_string() }
}

fn is_id(text: &str) -> bool {
    text.parse::<JobId>().is_ok_and(|id| id.to_string() == text)
}

/// The way to the jobs that a filter wants; `None` if nothing can match.
fn walk(filter: &RecordFilter, start: Option<Place>) -> Option<Walk> {
    let states = [State::Succeeded, State::Failed, State::Cancelled];
    let wanted = states.iter().filter(|state| filter.states.is_empty() || filter.states.contains(state));
    let wanted: Vec<State> = wanted.copied().collect();
    if wanted.is_empty() {
        return None;
    }
    let is_rare = !wanted.contains(&State::Succeeded);
    let mut states = (wanted.len() < states.len()).then(|| {
        let values = wanted.iter().map(|state| state.as_str().into()).collect();
        Condition { table: "jobs", column: "state", values }
    });
    // The one that matches least, as a rule, comes first.
    let conditions = [
        Condition::is("job_tags", "tag", filter.tag.as_deref()),
        Condition::is("jobs", "error_code", filter.error.as_deref()),
        Condition::is("jobs", "submitted_by", filter.submitted_by.as_deref()),
        states.take_if(|_| is_rare),
        Condition::is("jobs", "tenant", filter.tenant.as_ref().map(TenantName::as_str)),
        Condition::is("jobs", "kind", filter.kind.as_ref().map(KindName::as_str)),
        states,
        Condition::is("jobs", "queue", filter.queue.as_ref().map(QueueName::as_str)),
    ];
    let mut conditions = conditions.into_iter().flatten();
    let along = conditions.next();

    // What was accepted at a time was over at that time or later.
    let mut bounds: Vec<Bound> = Bound::between("finished_at", filter.created_after, None).collect();
    bounds.extend(Bound::between("finished_at", filter.finished_after, filter.finished_before));
    let mut rest_bounds: Vec<Bound> =
        Bound::between("created_at", filter.created_after, filter.created_before).collect();
    if along.is_none() {
        // The index of all jobs knows it.
        bounds.append(&mut rest_bounds);
    }
    let rest = conditions.collect();
    Some(Walk { table: "jobs", time: "finished_at", start, along, bounds, rest, rest_bounds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::plan;

    #[tokio::test]
    async fn every_list_goes_along_an_index() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let text = || Some("x".to_owned());
        let none = RecordFilter::default();
        let after = Some(Timestamp::UNIX_EPOCH);
        let between = RecordFilter { finished_after: after, finished_before: Some(Timestamp::MAX), ..none.clone() };
        let rare = RecordFilter { tag: text(), kind: Some("media.probe".parse().unwrap()), ..none.clone() };
        for (filter, index) in [
            (none.clone(), "jobs_newest"),
            (RecordFilter { finished_after: after, ..none.clone() }, "jobs_newest"),
            // From one end of a page to the other, not to those of the filter.
            (between, "jobs_newest ((finished_at,id)>(?,?) AND (finished_at,id)<(?,?))"),
            (RecordFilter { created_before: after, ..none.clone() }, "jobs_newest"),
            (RecordFilter { states: vec![State::Failed], ..none.clone() }, "jobs_by_state (state=?"),
            (RecordFilter { states: vec![State::Failed, State::Cancelled], ..none.clone() }, "jobs_by_state (state=?"),
            (RecordFilter { kind: Some("media.probe".parse().unwrap()), ..none.clone() }, "jobs_by_kind (kind=?"),
            (RecordFilter { queue: Some("media".parse().unwrap()), ..none.clone() }, "jobs_by_end (queue=?"),
            (RecordFilter { error: text(), ..none.clone() }, "jobs_by_error (error_code=?"),
            (RecordFilter { tenant: Some("acme".parse().unwrap()), ..none.clone() }, "jobs_by_tenant (tenant=?"),
            (RecordFilter { submitted_by: text(), ..none.clone() }, "jobs_by_key (submitted_by=?"),
            (RecordFilter { tag: text(), ..none }, "jobs_by_tag (tag=?"),
            (rare, "jobs_by_tag (tag=?"),
        ] {
            let start = Place { time: 1, id: "media-0198c0de-0000-7000-8000-000000000001".to_owned() };
            let plan = plan(&records, &walk(&filter, Some(start)).unwrap()).await;
            assert!(plan.contains(&format!("USING COVERING INDEX {index}")), "{filter:?}: {plan}");
            assert!(!plan.contains("SCAN jobs\n") && !plan.contains("SCAN job_tags\n"), "{filter:?}: {plan}");
        }
    }
}
