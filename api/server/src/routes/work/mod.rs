//! Jobs for workers of other systems: leasing them, and saying what becomes of them.
//!
//! A worker is bound to its tenant, and a run to its number: both are checked here for each of the many runs that a request
//! may be about, and each is answered by itself.

mod lease;
mod log;
mod progress;
mod renew;
mod runs;
mod settle;

use std::{sync::Arc, time::Duration};

use fourmi_model::Scope;
use fourmi_queue::{External, WorkerName};
use salvo::http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;

use self::{
    lease::{LeaseAnswer, LeaseRequest},
    log::LogRequest,
    progress::ProgressRequest,
    renew::{RenewAnswer, RenewRequest},
    runs::WorkAnswer,
    settle::SettleRequest,
};
use crate::{
    caller::Caller,
    kinds::Kinds,
    operation::{Group, JSON, Operation, SchemaOf, schema},
    problem::{Code, Problem},
    routes::submission::invalid,
    sse::Streams,
};

/// How long a lease may be: half a second to an hour.
const LEASES: std::ops::RangeInclusive<u64> = 500..=3_600_000;

/// What workers of other systems need.
pub struct Work {
    /// The jobs.
    pub external: External,
    /// The kinds that they may have.
    pub kinds: Arc<Kinds>,
    /// How long a lease is if a worker does not say.
    pub lease: Duration,
    /// Whoever waits for jobs takes a place among the streams.
    pub streams: Streams,
    /// Cancelled when the server stops: whoever waits is let go.
    pub stop: CancellationToken,
}

/// The routes.
pub fn group(work: Arc<Work>) -> Group {
    table().sharing(work)
}

const LEASE: &str = "Jobs of the caller's tenant (of none, if it is bound to none) and of these kinds, each with the number of its run, \
    which every later call names. Whoever does not renew a lease before it runs out loses the run, and the job goes back to its \
    queue. If nothing waits, the answer comes when something does, or after `wait_s`. A job that had been alone in its \
    answer (`alone`) three times when its worker was lost has failed (`crashed`). The worker is listed by `list_workers` while \
    it leases and renews; with `drain` it shall end.";

const RENEW: &str =
    "Each lease runs anew from now. A run that has gone on for longer than its kind allows is ended here.";

const PROGRESS: &str = "Ten times a second is often enough. The percentage never goes back within a run.";

const LOG: &str = "Each line has 2,000 characters at most; the newest 1,000 of a job are kept.";

const SETTLE: &str = "What became of runs. Sent again, it changes nothing: `settled_before` says so. A failed run is tried again if it is \
    `retryable` and attempts are left.";

pub(crate) fn table() -> Group {
    let operations = vec![
        post("lease_jobs", "/api/v1/work/lease", lease::lease_jobs)
            .says("Leases jobs", LEASE)
            .reads(JSON, schema::<LeaseRequest>)
            .answers(StatusCode::OK, JSON, schema::<LeaseAnswer>, "The jobs.")
            .fails(&[Code::UnknownKind, Code::TooManyStreams]),
        post("renew_leases", "/api/v1/work/renew", renew::renew_leases)
            .says("Renews leases", RENEW)
            .reads(JSON, schema::<RenewRequest<'static>>)
            .answers(StatusCode::OK, JSON, schema::<RenewAnswer>, "How each is."),
        about_runs(
            "report_progress",
            "/api/v1/work/progress",
            progress::report_progress,
            schema::<ProgressRequest<'static>>,
        )
        .says("Says how far runs are", PROGRESS),
        about_runs("write_log", "/api/v1/work/log", log::write_log, schema::<LogRequest<'static>>)
            .says("Writes lines to the logs of jobs", LOG)
            .fails(&[Code::RedisFull]),
        about_runs("settle_runs", "/api/v1/work/settle", settle::settle_runs, schema::<SettleRequest<'static>>)
            .says("Settles runs", SETTLE),
    ];
    Group::new("work", "Jobs for workers of other systems, which lease them by HTTP.", operations)
}

fn post(id: &'static str, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, Method::POST, path, handler)
        .needs(&[Scope::JobsWork])
        .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
        .fails(&[Code::RedisUnavailable])
}

fn about_runs(id: &'static str, path: &'static str, handler: impl salvo::Handler, body: SchemaOf) -> Operation {
    let each = "What became of each, in the order in which they were sent.";
    post(id, path, handler).reads(JSON, body).answers(StatusCode::OK, JSON, schema::<WorkAnswer>, each)
}

impl Work {
    /// The length of a lease.
    fn lease(&self, wanted_ms: Option<u64>) -> Result<Duration, Problem> {
        let Some(ms) = wanted_ms else { return Ok(self.lease) };
        if LEASES.contains(&ms) {
            return Ok(Duration::from_millis(ms));
        }
        Err(invalid("lease_ms", format!("must be between {} and {} (an hour)", LEASES.start(), LEASES.end())))
    }
}

/// How the registry knows a worker of the caller.
fn worker_name(name: &str, caller: &Caller) -> Result<WorkerName, Problem> {
    let form = || invalid("worker", "must be 1 to 64 letters, digits, '.', '_' or '-'");
    WorkerName::new(name, caller.tenant()).ok_or_else(form)
}
