//! Doing something with many jobs, of all queues, a bounded step a call.

use std::{collections::BTreeSet, sync::Arc};

use fourmi_kinds::catalogue;
use fourmi_model::{JobId, KindName, ParkReason, Priority, QueueName, Scope, State, TenantName};
use fourmi_queue::{ActionStep, JobAction, JobFilter};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    caller::Caller,
    operation::{JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::{
        job_list::{Cursor, Start, unknown_cursor},
        jobs::Jobs,
        submission::invalid,
    },
};

/// The most jobs that a call names.
const MOST_IDS: usize = 1_000;

/// What to do, and with which jobs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JobsAction {
    /// What to do.
    action: Action,
    /// The priority to give them (`prioritize`).
    #[serde(default)]
    priority: Option<Priority>,
    /// Which jobs, of those for which the action is. All that is said must fit; `{}` means all.
    filter: JobSelection,
    /// Count them, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Where the step starts: `next` of the step before, of the same call otherwise.
    #[serde(default)]
    cursor: Option<String>,
}

/// What is done with each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "JobAction")]
enum Action {
    /// Stop those that are not over; those that run are asked to.
    Cancel,
    /// Let those run now that have failed or were cancelled, again from the start, and those that wait for a time or a cause.
    Retry,
    /// Let those run now that wait for their time (`scheduled`, `retrying`).
    Promote,
    /// Give those that have not started another priority.
    Prioritize,
    /// Forget those that are over, with all that is known of them.
    Delete,
}

/// Which jobs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct JobSelection {
    /// Only these.
    #[schemars(length(max = 1_000))]
    ids: Option<Vec<JobId>>,
    /// Only these states.
    state: Vec<State>,
    /// Only this kind.
    kind: Option<KindName>,
    /// Only this queue.
    queue: Option<QueueName>,
    /// Only jobs with this tag.
    tag: Option<String>,
    /// Only jobs of this tenant.
    tenant: Option<TenantName>,
    /// Only jobs that were submitted with the key of this id.
    submitted_by: Option<String>,
    /// Only jobs whose newest error has this code.
    error: Option<String>,
    /// Only jobs that are parked for this reason.
    parked_reason: Option<ParkReason>,
    /// Only jobs that were accepted at this time or later.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    created_after: Option<Timestamp>,
    /// Only jobs that were accepted before this time.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    created_before: Option<Timestamp>,
    /// Only jobs that were over at this time or later.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    finished_after: Option<Timestamp>,
    /// Only jobs that were over before this time.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    finished_before: Option<Timestamp>,
}

/// What a step did. It looks at some thousands of jobs at most.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "ActionStep")]
pub(super) struct ActionStepDocument {
    /// Jobs that were meant: the filter wants them, and there is something to do with them.
    matched: u64,
    /// Those of them with which it was done: all but those that somebody else has changed meanwhile.
    done: u64,
    /// Where the next step starts: the next call's `cursor`. `null` at the end.
    pub(super) next: Option<String>,
}

const STEPS: &str = "One step looks at a bounded number of jobs: call again with `next` as `cursor` until it is `null`. Each job is met \
    once: those that come, start or end after the first step of their queue began are not met by the following ones, so that it comes to \
    an end. Of a batch that is cancelled, those of its jobs that are not over are cancelled too. Of what is deleted, files stay.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("act_on_jobs", Method::POST, "/api/v1/jobs/actions", act_on_jobs)
            .needs(&[Scope::JobsControl])
            .says("Cancels, retries, promotes, prioritizes or deletes many jobs", STEPS)
            .reads(JSON, schema::<JobsAction>)
            .answers(StatusCode::OK, JSON, schema::<ActionStepDocument>, "What was done.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::InvalidCursor, Code::PayloadTooLarge])
            .fails(&[Code::InvalidRequest, Code::RedisFull, Code::RedisUnavailable, Code::RecordsUnavailable]),
    ]
}

#[handler]
async fn act_on_jobs(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let JobsAction { action, priority, filter, dry_run, cursor } = body::parse(body::read(request).await?)?;
    let action = action.with(priority)?;
    let (ids, queue, filter) = filter.read(cursor.is_some())?;
    let start = cursor.map(|text| text.parse()).transpose()?;
    let act = match Caller::of(depot)?.narrow(filter) {
        Some(filter) => Act { jobs: &jobs, action, filter, queue, dry_run },
        None => return body::write(response, StatusCode::OK, &ActionStepDocument::default()),
    };
    let done = match ids {
        Some(ids) => act.on_ids(&ids).await?,
        None => act.step(start).await?,
    };
    body::write(response, StatusCode::OK, &done)
}

impl Action {
    fn with(self, priority: Option<Priority>) -> Result<JobAction, Problem> {
        match (self, priority) {
            (Self::Prioritize, Some(priority)) => Ok(JobAction::Prioritize(priority)),
            (Self::Prioritize, None) => Err(invalid("priority", "is missing")),
            (_, Some(_)) => Err(invalid("priority", "is for the action prioritize")),
            (Self::Cancel, None) => Ok(JobAction::Cancel),
            (Self::Retry, None) => Ok(JobAction::Retry),
            (Self::Promote, None) => Ok(JobAction::Promote),
            (Self::Delete, None) => Ok(JobAction::Delete),
        }
    }
}

/// The ids that are named, the queue that is meant, and what else is said.
type Selected = (Option<Vec<JobId>>, Option<QueueName>, JobFilter);

impl JobSelection {
    /// The ids that are named, the queue that is meant, and what else is said.
    fn read(self, has_cursor: bool) -> Result<Selected, Problem> {
        if self.ids.as_ref().is_some_and(|ids| ids.len() > MOST_IDS) {
            return Err(invalid("filter.ids", format!("must be {MOST_IDS} at most")));
        }
        if self.ids.is_some() && has_cursor {
            return Err(invalid("cursor", "cannot be given together with ids"));
        }
        let filter = JobFilter {
            states: self.state,
            kind: self.kind,
            tag: self.tag,
            tenant: self.tenant,
            submitted_by: self.submitted_by,
            error: self.error,
            parked_reason: self.parked_reason,
            created_after: self.created_after,
            created_before: self.created_before,
            finished_after: self.finished_after,
            finished_before: self.finished_before,
        };
        Ok((self.ids, self.queue, filter))
    }
}

/// Something that is done with the jobs that the caller means and sees.
pub(super) struct Act<'a> {
    pub(super) jobs: &'a Jobs,
    pub(super) action: JobAction,
    pub(super) filter: JobFilter,
    pub(super) queue: Option<QueueName>,
    pub(super) dry_run: bool,
}

/// Records that a step looks at.
const RECORDS: usize = 200;

impl Act<'_> {
    fn queues(&self) -> Vec<QueueName> {
        let mut queues = catalogue().queues();
        queues.retain(|queue| self.queue.as_ref().is_none_or(|wanted| wanted == queue));
        queues
    }

    async fn on_ids(&self, ids: &[JobId]) -> Result<ActionStepDocument, Problem> {
        let ids: BTreeSet<&JobId> = ids.iter().collect();
        let mut total = ActionStepDocument::default();
        for queue in self.queues() {
            let ids: Vec<JobId> = ids.iter().filter(|id| *id.queue() == queue).map(|id| (*id).clone()).collect();
            let forgotten = self.forgotten(&ids).await?;
            let step = self.jobs.queues.act_on_ids(&queue, self.action, &self.filter, self.dry_run, &ids);
            self.add(in_time(step).await?, &mut total).await?;
            self.delete_forgotten(forgotten, &mut total).await?;
        }
        Ok(total)
    }

    /// Those of these jobs of which there is only a record, if it is to be deleted.
    async fn forgotten(&self, ids: &[JobId]) -> Result<Vec<JobId>, Problem> {
        if self.action != JobAction::Delete {
            return Ok(Vec::new());
        }
        let are_live = in_time(self.jobs.queues.are_there(ids)).await?;
        let mut forgotten = Vec::new();
        for (id, _) in ids.iter().zip(are_live).filter(|(_, is_live)| !is_live) {
            let record = self.jobs.record(id).await?;
            forgotten.extend(record.filter(|record| self.filter.wants(&record.job)).map(|record| record.job.id));
        }
        Ok(forgotten)
    }

    /// Goes from queue to queue until one is left over; what is only recorded comes behind them.
    pub(super) async fn step(&self, start: Option<Start>) -> Result<ActionStepDocument, Problem> {
        let mut total = ActionStepDocument::default();
        let start = match start {
            Some(Start::Archived(inside)) => return self.archived(inside.as_deref(), total).await,
            Some(Start::Live(cursor)) => Some(cursor),
            None => None,
        };
        let queues = self.queues();
        let mut at = Cursor::start(start, &queues)?;
        while let Some(place) = at {
            let step =
                self.jobs.queues.act(&place.queue, self.action, &self.filter, self.dry_run, place.inside.as_deref());
            let step = in_time(async { Ok(step.await) }).await?.map_err(|error| place.problem(error))?;
            let inside = self.add(step, &mut total).await?;
            let is_left_over = inside.is_some();
            at = place.next(inside, &queues);
            if is_left_over {
                total.next = at.map(|place| place.to_string());
                return Ok(total);
            }
        }
        if self.action == JobAction::Delete { self.archived(None, total).await } else { Ok(total) }
    }

    /// A step through the jobs that the queues have forgotten.
    async fn archived(
        &self,
        start: Option<&str>,
        mut total: ActionStepDocument,
    ) -> Result<ActionStepDocument, Problem> {
        if self.action != JobAction::Delete {
            return Err(unknown_cursor());
        }
        let (jobs, next) = self.jobs.archived(&self.filter, self.queue.as_ref(), start, RECORDS).await?;
        self.delete_forgotten(jobs.into_iter().map(|job| job.id).collect(), &mut total).await?;
        total.next = next.map(|inside| Start::Archived(Some(inside)).to_string());
        Ok(total)
    }

    async fn delete_forgotten(&self, ids: Vec<JobId>, total: &mut ActionStepDocument) -> Result<(), Problem> {
        let count = ids.len() as u64;
        let done = if self.dry_run { 0 } else { count };
        let deleted = if self.dry_run { Vec::new() } else { ids };
        self.add(ActionStep { matched: count, done, deleted, next: None }, total).await.map(drop)
    }

    /// Counts a step, removes what is recorded of the jobs that it has deleted, and gives where the next one starts.
    async fn add(&self, step: ActionStep, total: &mut ActionStepDocument) -> Result<Option<String>, Problem> {
        total.matched += step.matched;
        total.done += step.done;
        if !step.deleted.is_empty() {
            self.jobs.delete_records(&step.deleted).await?;
        }
        Ok(step.next)
    }
}
