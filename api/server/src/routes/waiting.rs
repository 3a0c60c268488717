//! Jobs that have not started: why, and how urgent they are.

use std::sync::Arc;

use fourmi_model::{Block, Job, NoEstimate, Priority, Scope, Why};
use fourmi_queue::Prioritized;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    body,
    caller::Caller,
    operation::{JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::jobs::{Jobs, already_over, answer, identified, unknown_job},
};

/// What to change of a job.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JobPatch {
    /// How urgent it is from now on.
    priority: Priority,
}

const WHY: &str = "Everything that blocks it at this moment, the most decisive first, and an estimate of when it starts: from \
    how many jobs of its queue have started in the last minute, and how many go before it. The estimate is missing where \
    the pace says nothing; `no_estimate` is the reason then.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        identified("explain_job", Method::GET, "/api/v1/jobs/{id}/why", explain_job)
            .needs(&[Scope::JobsRead])
            .says("Says why a job does not run yet", WHY)
            .answers(StatusCode::OK, JSON, schema::<Why>, "What blocks it."),
        identified("change_job", Method::PATCH, "/api/v1/jobs/{id}", change_job)
            .needs(&[Scope::JobsControl])
            .says(
                "Changes how urgent a job is that has not started",
                "One that waits goes to the end of the lane of its new priority.",
            )
            .reads(JSON, schema::<JobPatch>)
            .answers(StatusCode::OK, JSON, schema::<Job>, "The job.")
            .with_headers(&["ETag"])
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::AlreadyStarted, Code::AlreadyOver, Code::RedisFull]),
    ]
}

#[handler]
async fn explain_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let id = jobs.seen_by(&caller, request).await?;
    let mut why = match in_time(jobs.queues.why(&id)).await? {
        Some(why) => why,
        None => {
            let state = jobs.record(&id).await?.ok_or_else(unknown_job)?.job.state;
            let (blocks, no_estimate) = (vec![Block::Finished], Some(NoEstimate::Finished));
            Why { job: id, state, blocks, estimated_start: None, no_estimate }
        }
    };
    if !caller.sees_all() {
        why.blocks.iter_mut().for_each(hide_others);
    }
    body::write(response, StatusCode::OK, &why)
}

/// Takes out which jobs of others it are that stand in the way; how many is still told.
fn hide_others(block: &mut Block) {
    match block {
        Block::LimitReached { holders, .. } => holders.clear(),
        Block::NoFreeSlot { workers, .. } => workers.clear(),
        _ => {}
    }
}

#[handler]
async fn change_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    let JobPatch { priority } = body::parse(body::read(request).await?)?;
    let changed = in_time(jobs.queues.set_priority(id.queue(), std::slice::from_ref(&id), priority)).await?;
    match changed.first() {
        Some(Prioritized::Changed) => {}
        Some(Prioritized::NotPossible(state)) if state.is_final() => return Err(already_over(*state)),
        Some(Prioritized::NotPossible(state)) => {
            return Err(Problem::new(Code::AlreadyStarted, format!("It is {state}.")));
        }
        Some(Prioritized::Unknown) | None => {
            let record = jobs.record(&id).await?;
            return Err(record.map_or_else(unknown_job, |record| already_over(record.job.state)));
        }
    }
    answer(response, StatusCode::OK, &jobs.read(&id, None).await?.ok_or_else(unknown_job)?)
}
