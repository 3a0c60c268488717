//! Whether the platform works.

use fourmi_model::{HealthStatus, Scope};
use salvo::{
    Depot, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    health::{Checkup, Report},
    operation::{Group, JSON, Operation, schema, state_of},
    problem::Problem,
};

/// That the API answers.
#[derive(Serialize, JsonSchema)]
struct Ping {
    /// Always `ok`.
    status: HealthStatus,
}

/// How the platform is.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// The platform as a whole.
    status: HealthStatus,
    /// Redis, which holds the jobs.
    redis: PartStatus,
    /// The database of what jobs leave behind.
    records: PartStatus,
    /// The files.
    files: PartStatus,
    /// The worker processes of all queues: as the one that is worst off.
    workers: PartStatus,
}

/// How a part is.
#[derive(Serialize, JsonSchema)]
struct PartStatus {
    /// The part.
    status: HealthStatus,
}

/// The routes.
pub fn group(checkup: Checkup) -> Group {
    table().sharing(checkup)
}

pub(crate) fn table() -> Group {
    Group::new(
        "health",
        "Whether the platform works.",
        vec![
            Operation::new("get_health", Method::GET, "/api/v1/health", get_health)
                .open()
                .says("Says how the platform is", "For everyone. The answer may be a second old.")
                .answers(StatusCode::OK, JSON, schema::<Health>, "It works, perhaps not as it should (`degraded`).")
                .answers(StatusCode::SERVICE_UNAVAILABLE, JSON, schema::<Health>, "It does not work."),
            Operation::new("get_health_details", Method::GET, "/api/v1/health/detailed", get_details)
                .needs(&[Scope::QueuesRead])
                .says("Says how each part of the platform is", "The answer may be a second old.")
                .answers(StatusCode::OK, JSON, schema::<Report>, "It works, perhaps not as it should (`degraded`).")
                .answers(StatusCode::SERVICE_UNAVAILABLE, JSON, schema::<Report>, "It does not work."),
            Operation::new("ping", Method::GET, "/api/v1/health/ping", ping)
                .open()
                .uncounted()
                .says("Says that the API answers, without asking anything else", "For everyone.")
                .answers(StatusCode::OK, JSON, schema::<Ping>, "It answers."),
        ],
    )
}

#[handler]
async fn ping(response: &mut Response) -> Result<(), Problem> {
    body::write(response, StatusCode::OK, &Ping { status: HealthStatus::Ok })
}

#[handler]
async fn get_health(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let checkup: Checkup = state_of(depot)?;
    let report = checkup.report().await;
    let workers = report.workers.iter().map(|queue| queue.status).max().unwrap_or(HealthStatus::NotConfigured);
    let part = |status| PartStatus { status };
    let health = Health {
        status: report.status,
        redis: part(report.redis.status),
        records: part(report.records.status),
        files: part(report.files.status),
        workers: part(workers),
    };
    body::write(response, code(report.status), &health)
}

#[handler]
async fn get_details(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let checkup: Checkup = state_of(depot)?;
    let report = checkup.report().await;
    body::write(response, code(report.status), &*report)
}

fn code(status: HealthStatus) -> StatusCode {
    if status == HealthStatus::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}
