//! Delayed jobs of a queue: letting them run now, a bounded step a call.

use fourmi_model::{JobId, KindName, Scope};
use fourmi_queue::{ActionStep, JobFilter, Queues};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    operation::{JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::{
        dead::check_ids,
        queues::{cursor_problem, of_queue, queue_of},
    },
};

/// Which delayed jobs of a queue; all of them, if nothing is said.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PromoteSelection {
    /// Only these, of which those count that are `scheduled` or `retrying`.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    ids: Option<Vec<JobId>>,
    /// Only this kind.
    #[serde(default)]
    kind: Option<KindName>,
    /// Only with this tag.
    #[serde(default)]
    tag: Option<String>,
    /// Count them, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Where the step starts: `next` of the step before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What a step did. It looks at a thousand jobs at most.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PromoteStep")]
struct PromoteStepDocument {
    /// Jobs that were meant.
    matched: u64,
    /// Those of them that wait for a worker now: all but those that somebody else has changed meanwhile.
    done: u64,
    /// Where the next step starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        of_queue("promote_jobs", Method::POST, "/api/v1/queues/{queue}/promote", promote)
            .needs(&[Scope::QueuesAdmin])
.says(
                "Lets delayed jobs of a queue run now",
                "Those that are `scheduled` or `retrying`. One step looks at a thousand at most: call again with `next` as \
                 `cursor` until it is `null`. A job that fails and is delayed again meanwhile is not met by the following \
                 steps.",
            )
            .reads(JSON, schema::<PromoteSelection>)
            .answers(StatusCode::OK, JSON, schema::<PromoteStepDocument>, "What was done.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::InvalidCursor])
            .fails(&[Code::PayloadTooLarge, Code::InvalidRequest, Code::RedisFull]),
    ]
}

#[handler]
async fn promote(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let PromoteSelection { ids, kind, tag, dry_run, cursor } = body::parse(body::read(request).await?)?;
    let ActionStep { matched, done, next, .. } = match &ids {
        Some(ids) => {
            let others = [("kind", kind.is_some()), ("tag", tag.is_some()), ("cursor", cursor.is_some())];
            check_ids(ids, &queue, &others)?;
            in_time(queues.promote_jobs(&queue, ids, dry_run)).await?
        }
        None => {
            let filter = JobFilter { kind, tag, ..JobFilter::default() };
            let step = queues.promote_step(&queue, &filter, dry_run, cursor.as_deref());
            in_time(async { Ok(step.await) }).await?.map_err(|error| cursor_problem(error, cursor.is_some()))?
        }
    };
    body::write(response, StatusCode::OK, &PromoteStepDocument { matched, done, next })
}
