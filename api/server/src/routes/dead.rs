//! The dead letter of a queue: replaying and purging what failed, a bounded step a call.

use fourmi_model::{JobId, KindName, QueueName, Scope};
use fourmi_queue::{ActionStep, DeadAction, JobFilter, Queues};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    operation::{JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::queues::{cursor_problem, queue_of},
};

/// The most jobs that a call names.
const MOST_IDS: usize = 1_000;

/// Which failed jobs of a queue; all of them, if nothing is said.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeadSelection {
    /// Only these, of which those count that have failed.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    ids: Option<Vec<JobId>>,
    /// Only this kind.
    #[serde(default)]
    kind: Option<KindName>,
    /// Only with this error code.
    #[serde(default)]
    error: Option<String>,
    /// Only with this tag.
    #[serde(default)]
    tag: Option<String>,
    /// Only those that failed at this time or later.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    finished_after: Option<Timestamp>,
    /// Only those that failed before this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    finished_before: Option<Timestamp>,
    /// Count them, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Where the step starts: `next` of the step before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What a step did. It looks at a thousand jobs at most.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeadStep")]
struct DeadStepDocument {
    /// Jobs that were meant.
    matched: u64,
    /// Those of them that were replayed or purged: all but those that somebody else has changed meanwhile.
    done: u64,
    /// Where the next step starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

const STEPS: &str = "One step looks at a thousand failed jobs at most: call again with `next` as `cursor` until it is `null`. \
    Jobs that fail after the first step began are not met by the following ones.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        operation("replay_dead", "/api/v1/queues/{queue}/dead/replay", replay)
            .needs(&[Scope::QueuesAdmin])
            .says("Runs failed jobs of a queue again", STEPS),
        operation("purge_dead", "/api/v1/queues/{queue}/dead/purge", purge)
            .needs(&[Scope::QueuesAdmin])
            .says("Forgets failed jobs of a queue, with all that is known of them", STEPS),
    ]
}

fn operation(id: &'static str, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, Method::POST, path, handler)
        .takes(Place::Path, "queue", schema::<QueueName>, "The queue.")
        .reads(JSON, schema::<DeadSelection>)
        .answers(StatusCode::OK, JSON, schema::<DeadStepDocument>, "What was done.")
        .fails(&[Code::BadRequest, Code::InvalidJson, Code::InvalidCursor, Code::UnknownQueue])
        .fails(&[Code::PayloadTooLarge, Code::InvalidRequest, Code::RedisFull, Code::RedisUnavailable])
}

#[handler]
async fn replay(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    step(DeadAction::Replay, request, depot, response).await
}

#[handler]
async fn purge(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    step(DeadAction::Purge, request, depot, response).await
}

async fn step(
    action: DeadAction,
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let selection: DeadSelection = body::parse(body::read(request).await?)?;
    let action = if selection.dry_run { DeadAction::Count } else { action };
    let ActionStep { matched, done, next, .. } = match &selection.ids {
        Some(ids) => {
            check_ids(ids, &queue, &selection.others())?;
            in_time(queues.dead_jobs(&queue, action, ids)).await?
        }
        None => {
            let cursor = selection.cursor.clone();
            let filter = selection.filter();
            let step = queues.dead_step(&queue, action, &filter, cursor.as_deref());
            in_time(async { Ok(step.await) }).await?.map_err(|error| cursor_problem(error, cursor.is_some()))?
        }
    };
    body::write(response, StatusCode::OK, &DeadStepDocument { matched, done, next })
}

impl DeadSelection {
    fn filter(self) -> JobFilter {
        JobFilter {
            kind: self.kind,
            tag: self.tag,
            error: self.error,
            finished_after: self.finished_after,
            finished_before: self.finished_before,
            ..JobFilter::default()
        }
    }

    /// What else is said beside ids.
    fn others(&self) -> [(&'static str, bool); 6] {
        [
            ("kind", self.kind.is_some()),
            ("error", self.error.is_some()),
            ("tag", self.tag.is_some()),
            ("finished_after", self.finished_after.is_some()),
            ("finished_before", self.finished_before.is_some()),
            ("cursor", self.cursor.is_some()),
        ]
    }
}

/// Whether jobs of a queue can be named like this, together with `others` that are given or not.
pub(super) fn check_ids(ids: &[JobId], queue: &QueueName, others: &[(&'static str, bool)]) -> Result<(), Problem> {
    let invalid = |path: String, message: &str| Problem::field(Code::InvalidRequest, path, message);
    if ids.len() > MOST_IDS {
        return Err(invalid("ids".into(), "must be 1000 at most"));
    }
    if let Some(other) = ids.iter().position(|id| id.queue() != queue) {
        return Err(invalid(format!("ids[{other}]"), "is of another queue"));
    }
    match others.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(invalid((*name).into(), "cannot be given together with ids")),
        None => Ok(()),
    }
}
