//! The queues.

use std::collections::BTreeMap;

use fourmi_kinds::catalogue;
use fourmi_model::{ParkReason, QueueName, State};
use fourmi_queue::{QueueError, Queues};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    operation::{Group, JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::{dead, limits, parked},
};

/// A queue.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
struct QueueDocument {
    /// The name.
    name: QueueName,
    /// How many of its jobs are in each state.
    counts: BTreeMap<State, u64>,
    /// How many of its parked jobs wait for what.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parked: BTreeMap<ParkReason, u64>,
    /// Its finished jobs on their way into the records.
    outbox: OutboxDocument,
}

/// Finished jobs on their way into the records.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Outbox")]
struct OutboxDocument {
    /// How many are not recorded yet.
    waiting: u64,
    /// How many were left unrecorded so far because too many waited (`FOURMI_OUTBOX_LIMIT`).
    dropped: u64,
}

/// All queues.
#[derive(Serialize, JsonSchema)]
struct QueueList {
    /// The queues, by name.
    queues: Vec<QueueDocument>,
}

/// The routes.
pub fn group(queues: Queues) -> Group {
    table().sharing(queues)
}

pub(crate) fn table() -> Group {
    let mut operations = vec![
        Operation::new("list_queues", Method::GET, "/api/v1/queues", list_queues)
            .says("Lists the queues and how many jobs they hold", "")
            .answers(StatusCode::OK, JSON, schema::<QueueList>, "All queues.")
            .fails(&[Code::RedisUnavailable]),
    ];
    operations.extend(dead::operations());
    operations.extend(parked::operations());
    operations.extend(limits::operations());
    Group::new("queues", "Where jobs wait.", operations)
}

/// The queue that the address names.
pub(super) fn queue_of(request: &Request) -> Result<QueueName, Problem> {
    let name = request.param::<String>("queue").unwrap_or_default();
    let known = catalogue().queues();
    known.iter().find(|queue| queue.as_str() == name).cloned().ok_or_else(|| {
        let known: Vec<&str> = known.iter().map(QueueName::as_str).collect();
        Problem::new(Code::UnknownQueue, format!("Known are: {}.", known.join(", ")))
    })
}

/// A cursor that the queue cannot read came from the caller.
pub(super) fn cursor_problem(error: QueueError, has_cursor: bool) -> Problem {
    match error {
        QueueError::Corrupt(_) if has_cursor => {
            Problem::new(Code::InvalidCursor, "Use `next` of the answer before, or leave it out to start again.")
        }
        error => error.into(),
    }
}

#[handler]
async fn list_queues(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let mut documents = Vec::new();
    for name in catalogue().queues() {
        let counts = in_time(queues.counts(&name)).await?.0;
        let is_parked = counts.get(&State::Parked).is_some_and(|count| *count > 0);
        let parked = if is_parked { in_time(queues.parked(&name)).await? } else { BTreeMap::new() };
        let outbox = in_time(queues.outbox(&name)).await?;
        let outbox = outbox.map_or((0, 0), |outbox| (outbox.waiting, outbox.dropped));
        let outbox = OutboxDocument { waiting: outbox.0, dropped: outbox.1 };
        documents.push(QueueDocument { name, counts, parked, outbox });
    }
    body::write(response, StatusCode::OK, &QueueList { queues: documents })
}
