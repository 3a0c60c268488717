//! Parked jobs of a queue: releasing them, a bounded step a call.

use fourmi_model::{ParkReason, QueueName, Scope};
use fourmi_queue::{Queues, Unparked};
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

/// Which parked jobs of a queue.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Unpark {
    /// Those that wait for this.
    reason: ParkReason,
    /// Where the step starts: `next` of the step before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What a step did. It releases a thousand jobs at most.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Unparked")]
struct UnparkedDocument {
    /// Jobs that wait for a worker now.
    released: u64,
    /// Where the next step starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("unpark", Method::POST, "/api/v1/queues/{queue}/unpark", unpark)
            .needs(&[Scope::QueuesAdmin])
.says(
                "Lets parked jobs of a queue run",
                "What they waited for is there. One step releases a thousand jobs at most: call again with `next` as \
                 `cursor` until it is `null`. Jobs that are parked again meanwhile are not released by the following steps. \
                 One job is released by `retry_job`.",
            )
            .takes(Place::Path, "queue", schema::<QueueName>, "The queue.")
            .reads(JSON, schema::<Unpark>)
            .answers(StatusCode::OK, JSON, schema::<UnparkedDocument>, "What was done.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::InvalidCursor, Code::UnknownQueue])
            .fails(&[Code::PayloadTooLarge, Code::InvalidRequest, Code::RedisFull, Code::RedisUnavailable]),
    ]
}

#[handler]
async fn unpark(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let Unpark { reason, cursor } = body::parse(body::read(request).await?)?;
    let step = queues.unpark(&queue, reason, cursor.as_deref());
    let step = in_time(async { Ok(step.await) }).await?;
    let Unparked { released, next } = step.map_err(|error| cursor_problem(error, cursor.is_some()))?;
    body::write(response, StatusCode::OK, &UnparkedDocument { released, next })
}
