//! Jobs: submit, follow, steer.

use std::{str::FromStr, sync::Arc, time::Duration};

use fourmi_blobs::Blobs;
use fourmi_kinds::catalogue;
use fourmi_model::{
    Job, JobId, JobRecord, KindName, LogPage, MAX_LOG_LINES, ParkReason, QueueName, RunReport, Scope, State,
    Submission, TenantName,
};
use fourmi_queue::{Cancelled, Pushed, QueueError, Queues, Refusal, Retried, Update, Watcher};
use fourmi_records::Records;
use fourmi_retention::goes_on_when_full;
use salvo::{
    Depot, Request, Response, handler,
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{ETAG, LOCATION},
    },
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    body,
    caller::Caller,
    disk::Disk,
    door::Doorkeeper,
    headers,
    kinds::Kinds,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
    redis::in_time,
    routes::{
        actions, bulk, delete, events, flows,
        job_list::{self, JobList},
        parents,
        submission::JobSubmission,
        waiting,
    },
    sse::{self, Streams},
};

pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const UNIQUE_CONFLICT: HeaderName = HeaderName::from_static("unique-conflict");
/// How long after Redis did not answer it is asked again.
pub(super) const PUSH_AGAIN: Duration = Duration::from_millis(50);

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The jobs, and what is needed to accept and follow them.
pub struct Jobs {
    /// Where they wait.
    pub queues: Queues,
    /// What is left of those that the queues have forgotten.
    pub records: Records,
    /// What happens to them.
    pub watcher: Watcher,
    /// The streams of what happens to them.
    pub streams: Streams,
    /// The kinds that they may have.
    pub kinds: Arc<Kinds>,
    /// The files that they name.
    pub blobs: Blobs,
    /// Whether there is room for new ones.
    pub disk: Disk,
    /// Who counts what is asked.
    pub keeper: Arc<Doorkeeper>,
    /// Cancelled when the server stops: whoever waits or follows is let go.
    pub stop: CancellationToken,
}

/// The runs of a job that did not succeed.
#[derive(Serialize, JsonSchema)]
struct RunList {
    /// The runs, oldest first; the newest fifty are kept.
    runs: Vec<RunReport>,
}

/// The routes.
pub fn group(jobs: Arc<Jobs>) -> Group {
    table().sharing(jobs)
}

pub(crate) fn table() -> Group {
    let mut operations = vec![
        submit_operation(),
        list_operation(),
        identified("get_job", Method::GET, "/api/v1/jobs/{id}", get_job)
            .needs(&[Scope::JobsRead, Scope::PublicRead])
.says("Reads a job", "With `Prefer: wait=N`, the answer comes when the job is over or N seconds have passed. A finished job that the queue has forgotten is read from its record, if its kind keeps one; it is `archived` then.")
            .takes(Place::Header, "Prefer", schema::<String>, WAIT)
            .takes(Place::Header, "If-None-Match", schema::<String>, "The ETag of what you have.")
            .answers(StatusCode::OK, JSON, schema::<Job>, "The job.")
            .with_headers(&["ETag"])
            .answers_empty(StatusCode::NOT_MODIFIED, "You have it."),
        identified("cancel_job", Method::POST, "/api/v1/jobs/{id}/cancel", cancel_job)
            .needs(&[Scope::JobsControl])
.says("Stops a job", "A job that runs is asked to stop, which takes a moment. With a batch, those of its jobs that are not over are stopped too.")
            .answers(StatusCode::OK, JSON, schema::<Job>, "It had not started, and will not.")
            .answers(StatusCode::ACCEPTED, JSON, schema::<Job>, "Its run was asked to stop.")
            .fails(&[Code::AlreadyOver]),
        identified("retry_job", Method::POST, "/api/v1/jobs/{id}/retry", retry_job)
            .needs(&[Scope::JobsControl])
.says("Lets a job run now", "Again, if it failed or was cancelled; without waiting any longer, if it waits for its time or is parked.")
            .answers(StatusCode::OK, JSON, schema::<Job>, "It waits for a worker.")
            .fails(&[Code::NotRetryable]),
        identified("list_runs", Method::GET, "/api/v1/jobs/{id}/runs", list_runs)
            .needs(&[Scope::JobsRead])
.says("Lists the runs of a job that did not succeed", "")
            .answers(StatusCode::OK, JSON, schema::<RunList>, "The runs."),
        identified("read_log", Method::GET, "/api/v1/jobs/{id}/log", read_log)
            .needs(&[Scope::JobsRead])
.says("Reads the log of a job", "What its runs have written, oldest first; the newest 1,000 lines are kept.")
            .takes(Place::Query, "after", schema::<u64>, "Only lines after the one of this number: `next` of the page before.")
            .takes(Place::Query, "limit", schema::<LogLimit>, "The most lines of a page.")
            .answers(StatusCode::OK, JSON, schema::<LogPage>, "The lines.")
            .fails(&[Code::InvalidQuery]),
    ];
    operations.extend(bulk::operations());
    operations.extend(actions::operations());
    operations.extend(delete::operations());
    operations.extend(waiting::operations());
    operations.extend(flows::operations());
    operations.extend(events::operations());
    Group::new("jobs", "Work to be done, and what became of it.", operations)
}

const WAIT: &str = "`wait=N`: answer when the job is over, or after N seconds (60 at most).";

fn submit_operation() -> Operation {
    Operation::new("submit_job", Method::POST, "/api/v1/jobs", submit_job)
        .needs(&[Scope::JobsSubmit])
        .says("Submits a job", "Once this answers 2xx, the job is not lost.")
        .takes(Place::Header, "Idempotency-Key", schema::<String>, "Sent twice with the same job, it is accepted once.")
        .takes(Place::Header, "Prefer", schema::<String>, WAIT)
        .reads(JSON, schema::<JobSubmission<'static>>)
        .answers(StatusCode::ACCEPTED, JSON, schema::<Job>, "It is accepted.")
        .with_headers(&["Location", "ETag", "Idempotency-Replayed", "Unique-Conflict", "Preference-Applied"])
        .answers(StatusCode::OK, JSON, schema::<Job>, "It is over already (`Prefer: wait`, or the key was known).")
        .with_headers(&["Location", "ETag", "Idempotency-Replayed", "Unique-Conflict", "Preference-Applied"])
        .fails(&[Code::BadRequest, Code::InvalidHeader, Code::InvalidJson, Code::UnknownJob])
        .fails(&[Code::KindInternal, Code::KindStaffOnly, Code::KindOperatorsOnly])
        .fails(&[Code::IdempotencyConflict, Code::PayloadTooLarge])
        .fails(&[Code::InvalidRequest, Code::UnknownKind, Code::InvalidPayload, Code::MissingFile, Code::UnknownParent])
        .fails(&[Code::QueueFull, Code::RedisFull, Code::RedisUnavailable, Code::RecordsUnavailable, Code::DiskFull])
}

fn list_operation() -> Operation {
    Operation::new("list_jobs", Method::GET, "/api/v1/jobs", job_list::list_jobs)
        .needs(&[Scope::JobsRead])
        .says(
            "Lists jobs",
            "Queue by queue: live jobs in the order in which they will run, then finished ones, newest first. After those of all \
             queues come the jobs that the queues have forgotten and that are recorded (`archived`), newest first.",
        )
        .takes(Place::Query, "state", schema::<Vec<State>>, "Only these states.")
        .takes(Place::Query, "kind", schema::<KindName>, "Only this kind.")
        .takes(Place::Query, "queue", schema::<QueueName>, "Only this queue.")
        .takes(Place::Query, "tag", schema::<String>, "Only jobs with this tag.")
        .takes(Place::Query, "tenant", schema::<TenantName>, "Only jobs of this tenant.")
        .takes(Place::Query, "submitted_by", schema::<String>, "Only jobs that were submitted with the key of this id.")
        .takes(Place::Query, "error", schema::<String>, "Only jobs whose newest error has this code.")
        .takes(Place::Query, "parked_reason", schema::<ParkReason>, "Only jobs that are parked for this reason.")
        .takes(Place::Query, "created_after", body::time, "Only jobs that were accepted at this time or later.")
        .takes(Place::Query, "created_before", body::time, "Only jobs that were accepted before this time.")
        .takes(Place::Query, "finished_after", body::time, "Only jobs that were over at this time or later.")
        .takes(Place::Query, "finished_before", body::time, "Only jobs that were over before this time.")
        .takes(Place::Query, "limit", schema::<job_list::Limit>, "The most jobs of a page.")
        .takes(Place::Query, "cursor", schema::<String>, "Where the page starts: `next` of the page before.")
        .answers(StatusCode::OK, JSON, schema::<JobList>, "A page.")
        .fails(&[Code::InvalidQuery, Code::InvalidCursor, Code::RedisUnavailable, Code::RecordsUnavailable])
}

pub(super) fn identified(
    id: &'static str,
    method: Method,
    path: &'static str,
    handler: impl salvo::Handler,
) -> Operation {
    let operation = Operation::new(id, method, path, handler);
    let operation = operation.takes(Place::Path, "id", schema::<JobId>, "The job.");
    operation.fails(&[Code::UnknownJob, Code::RedisUnavailable, Code::RecordsUnavailable])
}

#[handler]
async fn submit_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let wait = headers::wait(request.headers());
    let key = headers::idempotency_key(request.headers())?;
    let wanted: JobSubmission<'_> = body::parse(body::read(request).await?)?;
    let caller = Caller::of(depot)?;
    jobs.keeper.limits().count_kind(&wanted.kind, &caller).await?;
    let (id, submission) = check(&jobs, &caller, wanted, key).await?;
    let pushed = in_time(jobs.push(&id, &submission)).await??;
    let job = jobs.accepted(&pushed, &submission, wait).await?;
    if !caller.sees_job(&job) {
        return Err(unseen_like());
    }

    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/jobs/{}", job.id))?);
    if pushed.id != id {
        let why = if pushed.is_like { UNIQUE_CONFLICT } else { IDEMPOTENCY_REPLAYED };
        response.headers_mut().insert(why, HeaderValue::from_static("true"));
    }
    say_waited(response, wait);
    answer(response, if job.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED }, &caller.show(job))
}

/// The job as the queue takes it, if there is everything that it needs and waits for.
pub(super) async fn check(
    jobs: &Jobs,
    caller: &Caller,
    mut wanted: JobSubmission<'_>,
    key: Option<String>,
) -> Result<(JobId, Submission), Problem> {
    jobs.check_room(&wanted.kind)?;
    if wanted.name.is_some() {
        return Err(Problem::field(Code::InvalidRequest, "name", "is for the jobs of a flow (POST /api/v1/flows)"));
    }
    let after = parents::ids(&std::mem::take(&mut wanted.after))?;
    let policy = wanted.on_parent_failure;
    let (id, mut submission) = wanted.check(&jobs.kinds, jobs, caller, key).await?;
    let named = after.iter().enumerate().map(|(index, id)| (format!("after[{index}]"), id, policy)).collect();
    submission.known_parents = parents::look_up(jobs, caller, named).await?;
    submission.envelope.after = after;
    Ok((id, submission))
}

#[handler]
async fn get_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let wait = headers::wait(request.headers());
    let caller = Caller::of(depot)?;
    let id = job_id(request)?;
    let job = match jobs.read(&id, wait).await? {
        Some(job) => job,
        None => jobs.record(&id).await?.ok_or_else(unknown_job)?.job,
    };
    if !caller.sees_job(&job) {
        return Err(unknown_job());
    }
    say_waited(response, wait);
    if headers::has_already(request.headers(), &etag(&job)) {
        response.headers_mut().insert(ETAG, headers::value(etag(&job))?);
        response.status_code(StatusCode::NOT_MODIFIED);
        return Ok(());
    }
    answer(response, StatusCode::OK, &caller.show(job))
}

#[handler]
async fn cancel_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    let cancelled = in_time(jobs.queues.cancel(&id)).await?;
    if matches!(cancelled, Cancelled::Now | Cancelled::AlreadyOver(State::Cancelled)) {
        // Of a batch: a step is bounded, and what an earlier call could not finish this one does.
        while in_time(jobs.queues.cancel_members(&id)).await? {}
    }
    let status = match cancelled {
        Cancelled::Now => StatusCode::OK,
        Cancelled::Requested => StatusCode::ACCEPTED,
        Cancelled::AlreadyOver(state) => return Err(already_over(state)),
        Cancelled::Unknown => {
            let record = jobs.record(&id).await?;
            return Err(record.map_or_else(unknown_job, |record| already_over(record.job.state)));
        }
    };
    answer(response, status, &jobs.read(&id, None).await?.ok_or_else(unknown_job)?)
}

#[handler]
async fn retry_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    match in_time(jobs.queues.retry(&id)).await? {
        Retried::Waiting => {}
        Retried::NotPossible(state @ (State::Failed | State::Cancelled)) => {
            let detail = format!("It is {state}, and another job of its like, which it would exclude, is there.");
            return Err(Problem::new(Code::NotRetryable, detail));
        }
        Retried::NotPossible(state) => return Err(Problem::new(Code::NotRetryable, format!("It is {state}."))),
        Retried::Unknown => {
            let archived = || Problem::new(Code::NotRetryable, "The queue has forgotten it: submit it anew.");
            return Err(jobs.record(&id).await?.map_or_else(unknown_job, |_| archived()));
        }
    }
    answer(response, StatusCode::OK, &jobs.read(&id, None).await?.ok_or_else(unknown_job)?)
}

#[handler]
async fn list_runs(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    let mut runs = in_time(jobs.queues.runs(&id)).await?;
    if runs.is_empty() && jobs.read(&id, None).await?.is_none() {
        runs = jobs.record(&id).await?.ok_or_else(unknown_job)?.runs;
    }
    body::write(response, StatusCode::OK, &RunList { runs })
}

/// The most lines of a page.
#[derive(JsonSchema)]
#[schemars(inline, extend("default" = 200))]
struct LogLimit(#[schemars(range(min = 1, max = 1_000))] usize);

impl FromStr for LogLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| (1..=MAX_LOG_LINES).contains(number));
        number.map(Self).ok_or("must be a number from 1 to 1000")
    }
}

#[handler]
async fn read_log(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let query = Query::of(request, &["after", "limit"])?;
    let after = query.one("after")?.unwrap_or(0);
    let LogLimit(limit) = query.one("limit")?.unwrap_or(LogLimit(200));
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    let page = in_time(jobs.queues.log(&id, after, limit)).await?.ok_or_else(unknown_job)?;
    body::write(response, StatusCode::OK, &page)
}

/// The job that the address names. What is no id, or names a queue that does not exist, names none.
pub(super) fn job_id(request: &Request) -> Result<JobId, Problem> {
    let id: JobId = request.param::<String>("id").unwrap_or_default().parse().map_err(|_| unknown_job())?;
    if catalogue().queues().contains(id.queue()) { Ok(id) } else { Err(unknown_job()) }
}

pub(super) fn unknown_job() -> Problem {
    Problem::new(Code::UnknownJob, "It was never submitted, or has not been kept any longer.")
}

/// Another job excludes its like, and the caller does not see it.
pub(super) fn unseen_like() -> Problem {
    Problem::new(Code::UniqueConflict, "Wait until that one is over, or change what makes them alike.")
}

pub(super) fn already_over(state: State) -> Problem {
    Problem::new(Code::AlreadyOver, format!("It is {state}."))
}

fn etag(job: &Job) -> String {
    format!("\"{}\"", sse::Place::of_job(job))
}

fn say_waited(response: &mut Response, wait: Option<Duration>) {
    let applied = wait.and_then(|wait| HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok());
    response.headers_mut().extend(applied.map(|applied| (PREFERENCE_APPLIED, applied)));
}

pub(super) fn answer(response: &mut Response, status: StatusCode, job: &Job) -> Result<(), Problem> {
    response.headers_mut().insert(ETAG, headers::value(etag(job))?);
    body::write(response, status, job)
}

impl Jobs {
    /// Refuses new jobs of this kind while a disk is full, unless operators make room by them.
    pub(super) fn check_room(&self, kind: &str) -> Result<(), Problem> {
        if goes_on_when_full(kind) { Ok(()) } else { self.disk.check() }
    }

    /// Puts a job into its queue, again and again while Redis does not answer: the id is the same, so that it is
    /// accepted once, and a connection that broke unnoticed does not cost the caller an error.
    pub(super) async fn push(
        &self,
        id: &JobId,
        submission: &Submission,
    ) -> Result<Result<Pushed, Refusal>, QueueError> {
        loop {
            match self.queues.push(id.clone(), submission.clone()).await {
                Err(QueueError::Unavailable(_)) => tokio::time::sleep(PUSH_AGAIN).await,
                answer => return answer,
            }
        }
    }

    /// The job as it is now, or when it is over or the wait is.
    pub(super) async fn read(&self, id: &JobId, wait: Option<Duration>) -> Result<Option<Job>, Problem> {
        match wait {
            Some(wait) if !wait.is_zero() => self.read_when_over(id, wait).await,
            _ => in_time(self.queues.get(id)).await,
        }
    }

    /// The job that the address names, if the caller sees it.
    pub(super) async fn seen_by(&self, caller: &Caller, request: &Request) -> Result<JobId, Problem> {
        let id = job_id(request)?;
        if caller.sees_all() || self.get(&id).await?.is_some_and(|job| caller.sees_job(&job)) {
            return Ok(id);
        }
        Err(unknown_job())
    }

    /// The job, or what is left of it.
    pub(super) async fn get(&self, id: &JobId) -> Result<Option<Job>, Problem> {
        match in_time(self.queues.get(id)).await? {
            Some(job) => Ok(Some(job)),
            None => Ok(self.record(id).await?.map(|record| record.job)),
        }
    }

    /// What is left of a job that its queue has forgotten.
    pub(super) async fn record(&self, id: &JobId) -> Result<Option<JobRecord>, Problem> {
        Ok(self.records.job(id).await?)
    }

    async fn read_when_over(&self, id: &JobId, wait: Duration) -> Result<Option<Job>, Problem> {
        let Some((mut job, mut watch)) = in_time(self.watcher.watch(id)).await? else { return Ok(None) };
        let over = async {
            while let Some(update) = watch.next().await {
                if let Update::State(newer) = update {
                    job = *newer;
                }
            }
        };
        tokio::select! {
            () = over => {}
            () = tokio::time::sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
        if job.state.is_final() { Ok(Some(job)) } else { in_time(self.queues.get(id)).await }
    }

    /// A job that was just accepted. Whatever happens to Redis from here on, the caller is told its id.
    async fn accepted(&self, pushed: &Pushed, submission: &Submission, wait: Option<Duration>) -> Result<Job, Problem> {
        // What it waits for may have moved it already.
        let is_known = !pushed.existing() && submission.envelope.after.is_empty();
        if is_known && wait.is_none_or(|wait| wait.is_zero()) {
            return Ok(pushed.job(submission)?);
        }
        match self.read(&pushed.id, wait).await {
            Ok(Some(job)) => Ok(job),
            // It, or the one that excludes it, was accepted before and has been forgotten since.
            Ok(None) if pushed.existing() => Ok(self.record(&pushed.id).await?.ok_or_else(unknown_job)?.job),
            Ok(None) | Err(_) => Ok(pushed.job(submission)?),
        }
    }
}
