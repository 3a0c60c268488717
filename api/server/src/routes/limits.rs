//! What limits the jobs of a queue, and how much of their turn its tenants get.

use std::collections::BTreeMap;

use fourmi_model::{Limit, LimitName, LimitState, QueueName, Rate, Scope, TenantName};
use fourmi_queue::{MAX_QUEUE_LIMITS, MAX_WEIGHT, Queues};
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
    routes::queues::queue_of,
};

/// The limits of a queue, and the weights of its tenants.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Limits")]
struct LimitsDocument {
    /// The limits, by name, and how far they are used. What each value of a class (`host/*`) uses is not told.
    limits: Vec<LimitState>,
    /// How many jobs of a tenant start in its turn, where that is not 1.
    weights: BTreeMap<TenantName, u32>,
}

/// A limit of a queue. With neither `concurrency` nor `rate` it is taken away.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewLimit {
    /// What it is about: `kind/audio.extract`, `tenant/acme`, `host/example.org` and the like for what jobs name; `host/*`
    /// for each value of a class that has no limit of its own; `queue` for the rate of all jobs.
    name: LimitName,
    /// Jobs that may run at the same time.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    concurrency: Option<u32>,
    /// How many may start in a time.
    #[serde(default)]
    rate: Option<Rate>,
}

/// The weight of a tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewWeight {
    /// The tenant.
    tenant: TenantName,
    /// How many of its jobs start in its turn: 1, as everybody's, to 100.
    #[schemars(range(min = 1, max = 100))]
    weight: u32,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("list_limits", Method::GET, "/api/v1/queues/{queue}/limits", list_limits)
            .needs(&[Scope::QueuesRead])
.says("Shows the limits of a queue and how far they are used", "")
            .takes(Place::Path, "queue", schema::<QueueName>, "The queue.")
            .answers(StatusCode::OK, JSON, schema::<LimitsDocument>, "The limits.")
            .fails(&[Code::UnknownQueue, Code::RedisUnavailable]),
        Operation::new("set_limit", Method::PUT, "/api/v1/queues/{queue}/limits", set_limit)
            .needs(&[Scope::QueuesAdmin])
.says(
                "Sets or takes away a limit of a queue",
                "In force within a second, for all processes and for jobs that wait already. What runs goes on, and jobs \
                 that started before there was a limit do not count against it. A job is bound by the limits of its \
                 tenant, its kind and those that it names.",
            )
            .takes(Place::Path, "queue", schema::<QueueName>, "The queue.")
            .reads(JSON, schema::<NewLimit>)
            .answers(StatusCode::OK, JSON, schema::<LimitsDocument>, "The limits now.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::UnknownQueue, Code::PayloadTooLarge])
            .fails(&[Code::InvalidRequest, Code::RedisFull, Code::RedisUnavailable]),
        Operation::new("set_weight", Method::PUT, "/api/v1/queues/{queue}/weights", set_weight)
            .needs(&[Scope::QueuesAdmin])
.says(
                "Sets how many jobs of a tenant start in its turn",
                "The lanes of a queue's tenants take turns. A tenant with weight 3 gets three jobs where others get one.",
            )
            .takes(Place::Path, "queue", schema::<QueueName>, "The queue.")
            .reads(JSON, schema::<NewWeight>)
            .answers(StatusCode::OK, JSON, schema::<LimitsDocument>, "The limits and weights now.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::UnknownQueue, Code::PayloadTooLarge])
            .fails(&[Code::InvalidRequest, Code::RedisFull, Code::RedisUnavailable]),
    ]
}

#[handler]
async fn list_limits(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    answer(&state_of(depot)?, &queue_of(request)?, response).await
}

#[handler]
async fn set_limit(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let NewLimit { name, concurrency, rate } = body::parse(body::read(request).await?)?;
    let limit = Limit { concurrency, rate };
    if let Some(problem) = limit.problem() {
        let (path, message) = problem.split_once(' ').unwrap_or(("", problem));
        return Err(Problem::field(Code::InvalidRequest, path, message));
    }
    if name == LimitName::queue() && concurrency.is_some() {
        let message = "of a whole queue is its cap: PATCH /api/v1/queues/{queue} with {\"cap\": …}";
        return Err(Problem::field(Code::InvalidRequest, "concurrency", message));
    }
    let limit = Some(limit).filter(|limit| *limit != Limit::default());
    if !in_time(queues.set_limit(&queue, &name, limit)).await? {
        let message =
            format!("would be one of more than {MAX_QUEUE_LIMITS}: set a limit for its class, such as host/*");
        return Err(Problem::field(Code::InvalidRequest, "name", message));
    }
    answer(&queues, &queue, response).await
}

#[handler]
async fn set_weight(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let NewWeight { tenant, weight } = body::parse(body::read(request).await?)?;
    if !(1..=MAX_WEIGHT).contains(&weight) {
        return Err(Problem::field(Code::InvalidRequest, "weight", format!("must be between 1 and {MAX_WEIGHT}")));
    }
    in_time(queues.set_weight(&queue, &tenant, weight)).await?;
    answer(&queues, &queue, response).await
}

async fn answer(queues: &Queues, queue: &QueueName, response: &mut Response) -> Result<(), Problem> {
    let limits = in_time(queues.limits(queue)).await?;
    let weights = in_time(queues.weights(queue)).await?;
    body::write(response, StatusCode::OK, &LimitsDocument { limits, weights })
}
