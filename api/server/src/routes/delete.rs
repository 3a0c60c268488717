//! Forgetting a job.

use std::sync::Arc;

use fourmi_model::{JobId, Scope, State};
use fourmi_queue::Deleted;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};

use crate::{
    caller::Caller,
    operation::{Operation, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::jobs::{Jobs, identified, unknown_job},
};

const DELETE: &str = "Forgets a job that is over, with its log, its runs, its result and its record. Its files stay. Jobs that wait \
    for it still hear how it ended.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        identified("delete_job", Method::DELETE, "/api/v1/jobs/{id}", delete_job)
            .needs(&[Scope::JobsControl])
            .says("Deletes a job that is over", DELETE)
            .answers_empty(StatusCode::NO_CONTENT, "It is forgotten.")
            .fails(&[Code::NotOver, Code::RecordsUnavailable]),
    ]
}

#[handler]
async fn delete_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    match in_time(jobs.queues.delete(&id)).await? {
        Deleted::NotOver(state) => return Err(not_over(state)),
        Deleted::Unknown if jobs.record(&id).await?.is_none() => return Err(unknown_job()),
        // What is about to be recorded of it is kept out from now on.
        Deleted::Now | Deleted::Unknown => jobs.delete_records(std::slice::from_ref(&id)).await?,
    }
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

fn not_over(state: State) -> Problem {
    Problem::new(Code::NotOver, format!("It is {state}: cancel it first."))
}

impl Jobs {
    /// Removes what is recorded of jobs, or will be.
    pub(super) async fn delete_records(&self, ids: &[JobId]) -> Result<(), Problem> {
        self.records.delete(ids).await?;
        Ok(())
    }
}
