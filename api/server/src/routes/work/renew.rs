//! Renewing leases.

use std::{sync::Arc, time::Duration};

use fourmi_model::{ErrorClass, Failure};
use fourmi_queue::{Lease, Outcome, Pulse, Run, Settlement};
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Work,
    runs::{Answer, Batch, RunName, Said, WorkResult, lease_lost, results},
    worker_name,
};
use crate::{
    body,
    caller::Caller,
    operation::state_of,
    problem::{Code, Problem},
    redis::in_time,
};

/// What a worker still runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewRequest<'a> {
    /// The name of the worker.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    worker: String,
    /// How long it may do without the next renewal, in milliseconds; if nothing is said, as long as the platform's own
    /// workers.
    #[serde(default)]
    #[schemars(range(min = 500, max = 3_600_000))]
    lease_ms: Option<u64>,
    /// The runs.
    #[serde(borrow)]
    #[schemars(with = "Vec<RunName>", length(min = 1, max = 1_000))]
    runs: Vec<&'a RawValue>,
}

/// How the leases are.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RenewAnswer {
    /// In the order in which they were sent.
    #[schemars(with = "Vec<WorkResult<'static>>")]
    results: Vec<Box<RawValue>>,
    /// Whether the worker shall lease no more, and end when its runs have.
    drain: bool,
}

#[handler]
pub(super) async fn renew_leases(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let work: Arc<Work> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let wanted: RenewRequest<'_> = body::parse(body::read(request).await?)?;
    let worker = worker_name(&wanted.worker, &caller)?;
    let lease = work.lease(wanted.lease_ms)?;
    let mut batch = Batch::<RunName>::read(&work, &caller, "runs", &wanted.runs).await?;
    batch.refuse_lost();
    end_late_ones(&work, &caller, &mut batch).await?;

    let runs: Vec<Run> = batch.said.iter().map(|said| said.run).collect();
    let leases = in_time(work.external.transitions().renew(lease, &runs)).await?;
    for (said, lease) in batch.said.iter().zip(leases) {
        batch.answers[said.index] = Some(match lease {
            Lease::Lost => Answer::Refused(lease_lost()),
            lease => Answer::Counts { stop_requested: lease == Lease::StopRequested },
        });
    }
    let busy = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    let orders = in_time(work.external.beat(&worker, Pulse { busy, ..Pulse::default() })).await?;
    let answer = RenewAnswer { results: results(batch.answers)?, drain: orders.drain };
    body::write(response, StatusCode::OK, &answer)
}

/// Ends runs that have gone on for longer than they may, as a worker of our own would.
async fn end_late_ones(work: &Work, caller: &Caller, batch: &mut Batch<RunName>) -> Result<(), Problem> {
    let mut late = Vec::new();
    let mut in_good_time = Vec::with_capacity(batch.said.len());
    for said in batch.said.drain(..) {
        match outcome_if_late(work, caller, &said) {
            Some((limit, outcome)) => {
                late.push(Settlement { run: said.run, outcome });
                let detail = format!("Stop it: it took longer than {} ms (`timeout_ms`).", limit.as_millis());
                batch.answers[said.index] = Some(Answer::Refused(Problem::new(Code::LeaseLost, detail)));
            }
            None => in_good_time.push(said),
        }
    }
    batch.said = in_good_time;
    if !late.is_empty() {
        // Whoever has settled such a run in this moment was faster, which is as good.
        in_time(work.external.transitions().settle(&late)).await?;
    }
    Ok(())
}

fn outcome_if_late(work: &Work, caller: &Caller, said: &Said<RunName>) -> Option<(Duration, Outcome)> {
    let mut policy = work.policy(caller, said.standing.envelope.as_ref()?);
    if said.standing.lasted <= policy.timeout {
        return None;
    }
    policy.retention = said.standing.retention;
    let limit = policy.timeout;
    let message = format!("the run took longer than {} s and was stopped", limit.as_secs_f64());
    let failure = Failure::retry("timeout", message).class(ErrorClass::Timeout);
    Some((limit, Outcome::of_failure(&failure, &policy, said.standing.attempts)))
}
