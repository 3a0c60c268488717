//! Leasing jobs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fourmi_model::{Envelope, ErrorClass, Failure, JobId, KindName, Policy, Retention};
use fourmi_queue::{Claim, Listener, Outcome, Pulse, Settlement, WorkerName};
use jiff::Timestamp;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::time::{Instant, sleep_until};

use super::{Work, worker_name};
use crate::{
    body,
    caller::Caller,
    operation::state_of,
    problem::{Code, Problem},
    redis::in_time,
    routes::submission::invalid,
};

/// The most jobs of an answer.
const MAX_JOBS: u32 = 200;

/// The most kinds that a worker names.
const MAX_KINDS: usize = 100;

/// The longest wait for jobs.
const MAX_WAIT_S: u32 = 20;

/// How often whoever waits looks even if nothing was heard: a cap, a pause or a limit may have gone. Between looks it also
/// says that it lives.
const LOOK: Duration = Duration::from_secs(2);

/// A job of a newer schema version than the worker reads goes back for about this long: a newer worker may read it.
const UNKNOWN_DELAY: Duration = Duration::from_secs(5);

/// What a worker wants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseRequest {
    /// Its name, one of its own within its tenant: 1 to 64 letters, digits, `.`, `_` and `-`.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    worker: String,
    /// The kinds that it runs, each with the newest version of the payload's schema that it reads; registered ones.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 100))]
    kinds: BTreeMap<KindName, u32>,
    /// The most jobs that it takes now.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 200))]
    max: u32,
    /// How many it runs already.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    busy: u32,
    /// How long it waits if there are none, in seconds.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    wait_s: u32,
    /// How long it may do without a renewal, in milliseconds; if nothing is said, as long as the platform's own workers
    /// (`FOURMI_LEASE_MS`).
    #[serde(default)]
    #[schemars(range(min = 500, max = 3_600_000))]
    lease_ms: Option<u64>,
}

fn one() -> u32 {
    1
}

/// The jobs that a worker gets.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LeaseAnswer {
    /// The jobs; none if nothing came.
    jobs: Vec<LeasedJob>,
    /// Whether the worker shall lease no more, and end when its runs have.
    drain: bool,
}

/// A job and the run that was leased.
#[derive(Serialize, JsonSchema)]
struct LeasedJob {
    /// The job.
    id: JobId,
    /// The number of the run, which every later call about it names.
    run: u64,
    /// The kind.
    kind: KindName,
    /// The version of the schema by which the payload was checked.
    schema_version: u32,
    /// What is to be done.
    #[schemars(with = "Value")]
    payload: Box<RawValue>,
    /// Runs that count against the retry budget, this one included.
    attempts: u32,
    /// Earlier runs that took their worker down.
    crashes: u32,
    /// Whether its last run may have taken its worker down: it comes alone, and is best run alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    alone: bool,
    /// The longest that the run may take, in milliseconds.
    timeout_ms: u64,
    /// When the lease runs out, by the clock of the API.
    #[schemars(with = "String", extend("format" = "date-time"))]
    lease_until: Timestamp,
    /// Labels for lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// Runs through all logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// The jobs that it has waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<JobId>,
    /// Who submitted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_by: Option<String>,
}

#[handler]
pub(super) async fn lease_jobs(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let work: Arc<Work> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let wanted: LeaseRequest = body::parse(body::read(request).await?)?;
    let answer = Leasing::of(&work, &caller, &wanted)?.answer().await?;
    body::write(response, StatusCode::OK, &answer)
}

/// A request for jobs that was checked.
struct Leasing<'a> {
    work: &'a Work,
    caller: &'a Caller,
    wanted: &'a LeaseRequest,
    worker: WorkerName,
    lease: Duration,
    listener: Listener,
}

impl<'a> Leasing<'a> {
    fn of(work: &'a Work, caller: &'a Caller, wanted: &'a LeaseRequest) -> Result<Self, Problem> {
        let worker = worker_name(&wanted.worker, caller)?;
        let lease = work.lease(wanted.lease_ms)?;
        if !(1..=MAX_JOBS).contains(&wanted.max) {
            return Err(invalid("max", format!("must be between 1 and {MAX_JOBS}")));
        }
        if wanted.wait_s > MAX_WAIT_S {
            return Err(invalid("wait_s", format!("must be {MAX_WAIT_S} at most: ask again")));
        }
        if wanted.busy > 100_000 {
            return Err(invalid("busy", "must be 100000 at most"));
        }
        if wanted.kinds.is_empty() || wanted.kinds.len() > MAX_KINDS {
            return Err(invalid("kinds", format!("must be 1 to {MAX_KINDS}")));
        }
        for (kind, version) in &wanted.kinds {
            if work.kinds.registered(caller.tenant(), kind).is_none() {
                let message = "is no kind that was registered: PUT /api/v1/kinds/{name} registers one";
                return Err(Problem::field(Code::UnknownKind, format!("kinds.{kind}"), message));
            }
            if *version == 0 {
                return Err(invalid(
                    format!("kinds.{kind}"),
                    "must be 1 or more: the newest version that the worker reads",
                ));
            }
        }
        let listener = work.external.listen(caller.tenant(), wanted.kinds.keys());
        Ok(Self { work, caller, wanted, worker, lease, listener })
    }

    /// Looks for jobs, again and again until there are some or the wait is over.
    async fn answer(&self) -> Result<LeaseAnswer, Problem> {
        let end = Instant::now() + Duration::from_secs(self.wanted.wait_s.into());
        if let Some(answer) = self.look().await? {
            return Ok(answer);
        }
        let nothing = || LeaseAnswer { jobs: Vec::new(), drain: false };
        if self.wanted.wait_s == 0 {
            return Ok(nothing());
        }
        let permit = self.work.streams.admit(self.caller)?;
        let mut logged_out = std::pin::pin!(permit.end());
        while Instant::now() < end {
            tokio::select! {
                () = self.listener.heard() => {}
                () = sleep_until(end.min(Instant::now() + LOOK)) => {}
                () = self.work.stop.cancelled() => break,
                () = &mut logged_out => break,
            }
            if let Some(answer) = self.look().await? {
                return Ok(answer);
            }
        }
        Ok(nothing())
    }

    /// An answer, if there are jobs now or the worker shall drain.
    async fn look(&self) -> Result<Option<LeaseAnswer>, Problem> {
        let LeaseRequest { max, busy, kinds, .. } = self.wanted;
        let pulse = Pulse { slots: Some(busy + max), kinds: Some(kinds), busy: *busy };
        let orders = in_time(self.work.external.beat(&self.worker, pulse)).await?;
        if orders.drain {
            return Ok(Some(LeaseAnswer { jobs: Vec::new(), drain: true }));
        }
        // The queue may share out fewer slots than the worker has.
        let want = orders.slots.saturating_sub(*busy).min(*max);
        if want == 0 {
            return Ok(None);
        }
        let fetch = self.work.external.fetch(&self.worker, &self.listener, want as usize, self.lease);
        let claims = in_time(fetch).await?;
        let until = Timestamp::now().checked_add(self.lease).map_err(Problem::internal)?;
        let mut jobs = Vec::with_capacity(claims.len());
        let mut back = Vec::new();
        for claim in claims {
            let run = claim.key();
            match self.leased(claim, until) {
                Ok(job) => jobs.push(job),
                Err(outcome) => back.push(Settlement { run, outcome: *outcome }),
            }
        }
        if !back.is_empty() {
            in_time(self.work.external.transitions().settle(&back)).await?;
        }
        Ok((!jobs.is_empty()).then_some(LeaseAnswer { jobs, drain: false }))
    }

    /// A job as its worker gets it, or what becomes of one that the worker cannot read.
    fn leased(&self, claim: Claim, until: Timestamp) -> Result<LeasedJob, Box<Outcome>> {
        let envelope = claim.envelope.map_err(|error| {
            let failure = Failure::permanent("corrupt_envelope", "the job cannot be read").because(error);
            let error = failure.class(ErrorClass::Internal).report();
            Box::new(Outcome::Failed { error, keep: Retention::default().failed })
        })?;
        let Envelope { kind, schema_version, .. } = &envelope;
        let known = self.wanted.kinds.get(kind).copied().unwrap_or_default();
        if *schema_version > known {
            let message = format!(
                "the worker that had the job reads {kind} up to version {known}, not {schema_version}: it waits for a newer worker"
            );
            let error = Failure::retry("unknown_schema_version", message).report();
            let delay = UNKNOWN_DELAY.mul_f64(0.5 + rand::random::<f64>());
            return Err(Box::new(Outcome::Misdirected { error, delay }));
        }
        let timeout = self.work.policy(self.caller, &envelope).timeout;
        Ok(LeasedJob {
            id: claim.id,
            run: claim.run,
            attempts: claim.attempts,
            crashes: claim.crashes,
            alone: claim.alone,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            lease_until: until,
            kind: envelope.kind,
            schema_version: envelope.schema_version,
            payload: envelope.payload,
            tags: envelope.tags,
            correlation_id: envelope.correlation_id,
            after: envelope.after,
            submitted_by: envelope.submitted_by,
        })
    }
}

impl Work {
    /// How a job of the caller's tenant is treated. The kind may have been removed since.
    pub(super) fn policy(&self, caller: &Caller, envelope: &Envelope) -> Policy {
        let kind = self.kinds.registered(caller.tenant(), &envelope.kind);
        kind.map(|kind| kind.policy.clone()).unwrap_or_default().with(&envelope.policy)
    }
}
