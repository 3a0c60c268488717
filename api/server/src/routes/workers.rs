//! The worker processes: what they do, and draining one.

use fourmi_kinds::catalogue;
use fourmi_model::{QueueName, Scope, WorkerInfo};
use fourmi_queue::Queues;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
    redis::in_time,
    routes::queues::{of_queue, queue_of, unknown_queue},
};

/// Worker processes.
#[derive(Serialize, JsonSchema)]
struct WorkerList {
    /// The processes, by queue and name; a thousand of a queue at most.
    workers: Vec<WorkerInfo>,
}

/// The routes.
pub fn group(queues: Queues) -> Group {
    table().sharing(queues)
}

const LIST: &str = "Each describes itself every second. One that has been silent for 15 seconds is dead and left out; its jobs \
    go back to their queue when their leases run out.";

const DRAIN: &str = "It starts no more jobs, lets those that run end within its grace time, gives the others back and ends, as \
    SIGTERM would make it. Whoever supervises it may put a fresh one in its place.";

pub(crate) fn table() -> Group {
    let operations = vec![
        Operation::new("list_workers", Method::GET, "/api/v1/workers", list_workers)
            .needs(&[Scope::QueuesRead])
            .says("Lists the live worker processes", LIST)
            .takes(Place::Query, "queue", schema::<QueueName>, "Only those of this queue.")
            .answers(StatusCode::OK, JSON, schema::<WorkerList>, "The processes.")
            .fails(&[Code::InvalidQuery, Code::UnknownQueue, Code::RedisUnavailable]),
        of_queue("list_workers_of_queue", Method::GET, "/api/v1/queues/{queue}/workers", list_of_queue)
            .needs(&[Scope::QueuesRead])
            .says("Lists the live worker processes of a queue", LIST)
            .answers(StatusCode::OK, JSON, schema::<WorkerList>, "The processes."),
        of_queue("drain_worker", Method::POST, "/api/v1/queues/{queue}/workers/{name}/drain", drain)
            .needs(&[Scope::QueuesAdmin])
            .says("Lets a worker process end once its jobs have", DRAIN)
            .takes(Place::Path, "name", schema::<String>, "The process.")
            .answers_empty(StatusCode::ACCEPTED, "It was told.")
            .fails(&[Code::UnknownWorker]),
    ];
    Group::new("workers", "Who runs the jobs.", operations)
}

#[handler]
async fn list_workers(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let known = catalogue().queues();
    let wanted = match Query::of(request, &["queue"])?.one::<QueueName>("queue")? {
        Some(queue) if !known.contains(&queue) => return Err(unknown_queue(&known)),
        Some(queue) => vec![queue],
        None => known,
    };
    answer(&queues, &wanted, response).await
}

#[handler]
async fn list_of_queue(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    answer(&queues, &[queue_of(request)?], response).await
}

async fn answer(queues: &Queues, wanted: &[QueueName], response: &mut Response) -> Result<(), Problem> {
    let mut workers = Vec::new();
    for queue in wanted {
        workers.extend(in_time(queues.workers(queue)).await?);
    }
    body::write(response, StatusCode::OK, &WorkerList { workers })
}

#[handler]
async fn drain(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let name = request.param::<String>("name").unwrap_or_default();
    if !in_time(queues.drain(&queue, &name)).await? {
        return Err(Problem::new(Code::UnknownWorker, "It has ended, or serves another queue."));
    }
    response.status_code(StatusCode::ACCEPTED);
    Ok(())
}
