//! Whether the platform works.

use fourmi_queue::{Queues, RedisHealth};
use salvo::{
    Depot, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    operation::{Group, JSON, Operation, schema, state_of},
    problem::Problem,
    redis::in_time,
};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// It works.
    Ok,
    /// It works, but refuses new jobs.
    Degraded,
    /// It does not work.
    Down,
}

/// That the API answers.
#[derive(Serialize, JsonSchema)]
struct Ping {
    /// Always `ok`.
    status: Status,
}

/// How the platform is.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// The platform as a whole.
    status: Status,
    /// Redis, which holds the jobs.
    redis: RedisStatus,
}

/// How Redis is.
#[derive(Serialize, JsonSchema)]
struct RedisStatus {
    /// Redis.
    status: Status,
    /// How long it takes to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
}

/// The routes.
pub fn group(queues: Queues) -> Group {
    table().sharing(queues)
}

pub(crate) fn table() -> Group {
    Group::new(
        "health",
        "Whether the platform works. For everyone.",
        vec![
            Operation::new("get_health", Method::GET, "/api/v1/health", get_health)
                .open()
                .says("Says how the platform is", "")
                .answers(StatusCode::OK, JSON, schema::<Health>, "It works, perhaps without taking new jobs.")
                .answers(StatusCode::SERVICE_UNAVAILABLE, JSON, schema::<Health>, "It does not work."),
            Operation::new("ping", Method::GET, "/api/v1/health/ping", ping)
                .open()
                .says("Says that the API answers, without asking anything else", "")
                .answers(StatusCode::OK, JSON, schema::<Ping>, "It answers."),
        ],
    )
}

#[handler]
async fn ping(response: &mut Response) -> Result<(), Problem> {
    body::write(response, StatusCode::OK, &Ping { status: Status::Ok })
}

#[handler]
async fn get_health(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let redis = in_time(queues.health()).await.map_or_else(down, judge);
    let code = if redis.status == Status::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    body::write(response, code, &Health { status: redis.status, redis })
}

/// Why it is down is for the log, not for everyone.
fn down(problem: Problem) -> RedisStatus {
    tracing::warn!(?problem, "Redis is down");
    RedisStatus { status: Status::Down, latency_ms: None }
}

fn judge(health: RedisHealth) -> RedisStatus {
    // From nine tenths on, jobs are refused.
    let full = health.max_memory.is_some_and(|most| health.used_memory >= most / 10 * 9);
    let latency_ms = (health.latency.as_secs_f64() * 1e6).round() / 1e3;
    RedisStatus { status: if full { Status::Degraded } else { Status::Ok }, latency_ms: Some(latency_ms) }
}
