//! The queues: how they are, and what steers each as a whole.

use std::collections::BTreeMap;

use fourmi_kinds::catalogue;
use fourmi_model::{ParkReason, QueueName, Scope, State};
use fourmi_queue::{Consumer, Control, ControlChange, QueueError, Queues};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    body,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::{dead, limits, obliterate, parked, promote, scale},
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
    /// Whether no job of it is started; what runs goes on.
    paused: bool,
    /// Its running jobs at most, of all worker processes together.
    cap: Option<u32>,
    /// The slots of all its worker processes together, shared out among them; each has its own number if this is `null`.
    slots: Option<u32>,
    /// Its waiting and scheduled jobs at most: further ones are refused.
    limit: Option<u64>,
    /// Its live worker processes.
    workers: u64,
    /// The slots that these have, those that drain left out.
    worker_slots: u64,
    /// When the oldest job was accepted that waits at the head of a lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    oldest_waiting_at: Option<Timestamp>,
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

/// What to change of a queue; what is left out stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QueuePatch {
    /// Pause or go on.
    #[serde(default)]
    paused: Option<bool>,
    /// Its running jobs at most; `null`: as many as there are slots.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u32>")]
    cap: Option<Option<u32>>,
    /// The slots of all its worker processes together; `null`: each has its own number.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u32>")]
    slots: Option<Option<u32>>,
    /// Its waiting and scheduled jobs at most; `null`: any number.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u64>")]
    limit: Option<Option<u64>>,
}

/// Tells a field that is `null` from one that is left out.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The routes.
pub fn group(queues: Queues) -> Group {
    table().sharing(queues)
}

const PATCH: &str = "It is in force at once: `paused` and `cap` for the next job that would start, `limit` for the next that \
    is submitted, `slots` within two seconds in every worker process. What runs is not touched.";

pub(crate) fn table() -> Group {
    let mut operations = vec![
        Operation::new("list_queues", Method::GET, "/api/v1/queues", list_queues)
            .needs(&[Scope::QueuesRead])
            .says("Lists the queues, how many jobs they hold and what steers them", "")
            .answers(StatusCode::OK, JSON, schema::<QueueList>, "All queues.")
            .fails(&[Code::RedisUnavailable]),
        of_queue("get_queue", Method::GET, "/api/v1/queues/{queue}", get_queue)
            .needs(&[Scope::QueuesRead])
            .says("Reads a queue", "")
            .answers(StatusCode::OK, JSON, schema::<QueueDocument>, "The queue."),
        of_queue("steer_queue", Method::PATCH, "/api/v1/queues/{queue}", steer_queue)
            .needs(&[Scope::QueuesAdmin])
            .says("Pauses a queue or lets it go on, and sets how much it may do", PATCH)
            .reads(JSON, schema::<QueuePatch>)
            .answers(StatusCode::OK, JSON, schema::<QueueDocument>, "The queue.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest]),
    ];
    operations.extend(dead::operations());
    operations.extend(parked::operations());
    operations.extend(promote::operations());
    operations.extend(obliterate::operations());
    operations.extend(limits::operations());
    operations.extend(scale::operations());
    Group::new("queues", "Where jobs wait.", operations)
}

/// A route about one queue.
pub(super) fn of_queue(
    id: &'static str,
    method: Method,
    path: &'static str,
    handler: impl salvo::Handler,
) -> Operation {
    Operation::new(id, method, path, handler)
        .takes(Place::Path, "queue", schema::<QueueName>, "The queue.")
        .fails(&[Code::UnknownQueue, Code::RedisUnavailable])
}

/// The queue that the address names.
pub(super) fn queue_of(request: &Request) -> Result<QueueName, Problem> {
    let name = request.param::<String>("queue").unwrap_or_default();
    let known = catalogue().queues();
    known.iter().find(|queue| queue.as_str() == name).cloned().ok_or_else(|| unknown_queue(&known))
}

pub(super) fn unknown_queue(known: &[QueueName]) -> Problem {
    let known: Vec<&str> = known.iter().map(QueueName::as_str).collect();
    Problem::new(Code::UnknownQueue, format!("Known are: {}.", known.join(", ")))
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
        documents.push(in_time(document(&queues, name)).await?);
    }
    body::write(response, StatusCode::OK, &QueueList { queues: documents })
}

#[handler]
async fn get_queue(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    body::write(response, StatusCode::OK, &in_time(document(&queues, queue_of(request)?)).await?)
}

#[handler]
async fn steer_queue(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let QueuePatch { paused, cap, slots, limit } = body::parse(body::read(request).await?)?;
    in_time(queues.set_control(&queue, &ControlChange { paused, cap, slots, limit, ..ControlChange::default() }))
        .await?;
    body::write(response, StatusCode::OK, &in_time(document(&queues, queue)).await?)
}

async fn document(queues: &Queues, name: QueueName) -> Result<QueueDocument, QueueError> {
    let counts = queues.counts(&name).await?.0;
    let is_parked = counts.get(&State::Parked).is_some_and(|count| *count > 0);
    let parked = if is_parked { queues.parked(&name).await? } else { BTreeMap::new() };
    let Control { paused, cap, slots, limit, .. } = queues.control(&name).await?;
    let workers = queues.workers(&name).await?;
    let outbox =
        queues.outbox(&name, Consumer::Records).await?.map_or((0, 0), |outbox| (outbox.waiting, outbox.dropped));
    Ok(QueueDocument {
        counts,
        parked,
        paused,
        cap,
        slots,
        limit,
        workers: workers.len() as u64,
        worker_slots: workers.iter().filter(|worker| !worker.draining).map(|worker| u64::from(worker.slots)).sum(),
        oldest_waiting_at: queues.oldest_waiting(&name).await?,
        outbox: OutboxDocument { waiting: outbox.0, dropped: outbox.1 },
        name,
    })
}
