//! The queues.

use std::collections::BTreeMap;

use fourmi_kinds::catalogue;
use fourmi_model::{QueueName, State};
use fourmi_queue::Queues;
use salvo::{
    Depot, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    operation::{Group, JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
};

/// A queue.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
struct QueueDocument {
    /// The name.
    name: QueueName,
    /// How many of its jobs are in each state.
    counts: BTreeMap<State, u64>,
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
    Group::new(
        "queues",
        "Where jobs wait.",
        vec![
            Operation::new("list_queues", Method::GET, "/api/v1/queues", list_queues)
                .says("Lists the queues and how many jobs they hold", "")
                .answers(StatusCode::OK, JSON, schema::<QueueList>, "All queues.")
                .fails(&[Code::RedisUnavailable]),
        ],
    )
}

#[handler]
async fn list_queues(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let mut documents = Vec::new();
    for name in catalogue().queues() {
        let counts = in_time(queues.counts(&name)).await?.0;
        let outbox = in_time(queues.outbox(&name)).await?;
        let outbox = outbox.map_or((0, 0), |outbox| (outbox.waiting, outbox.dropped));
        let outbox = OutboxDocument { waiting: outbox.0, dropped: outbox.1 };
        documents.push(QueueDocument { name, counts, outbox });
    }
    body::write(response, StatusCode::OK, &QueueList { queues: documents })
}
